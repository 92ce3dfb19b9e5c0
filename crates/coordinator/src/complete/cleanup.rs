//! Dropping the source tables: the one thing that nothing undoes.
//!
//! Only after completion, and only right after a command of the operator's has said that there is a
//! backup: it ends with 0.

use lockstep_core::Advice::{Complete, Doctor};
use lockstep_core::{Error as StoreError, Kind};
use lockstep_postgres::{EntryKind, control_schema};
use serde::Serialize;
use serde_json::json;

use crate::error::Result;
use crate::gate::Observer;
use crate::options::MigrationContext;
use crate::waves;

/// Name of the step in the journal.
const STEP: &str = "drop source";

/// Relations that were dropped.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Dropped {
    /// Relations that were dropped by this run.
    pub dropped: Vec<String>,
    /// Relations that were gone already.
    pub gone: Vec<String>,
}

/// Drops every source table of a migration that is complete, if `backed_up` says yes now.
///
/// # Errors
/// [`Kind::Refused`] where the migration is not complete, both stores do not say the same of it, there is no
/// backup, or a table is not one that was left; the source's, as when something depends on a table.
///
/// # Cancel safety
/// Run it again: what is gone is gone, and the backup is checked again.
pub async fn drop_source(
    migration: &MigrationContext,
    backed_up: impl AsyncFnOnce() -> std::result::Result<String, String>,
    observer: &dyn Observer,
) -> Result<Dropped> {
    let source = &migration.source;
    let refused = |message: String| StoreError::source(Kind::Refused, "dropping the source tables", message);
    // Another migration may have begun in this database since.
    waves::claim(source, &migration.target).await?;
    let record = migration.target.control().record().await?;
    let record = record.filter(|record| record.completed_at.is_some());
    let completed = match record {
        Some(record) => waves::named_completion(migration, record.epoch).await?,
        None => None,
    };
    let (Some(completed), Some(record)) = (completed, record) else {
        return Err(refused(format!("the migration is not complete; {Complete} comes first")).into());
    };
    let who = (completed.migration_id.as_deref(), migration.actor.as_str());
    if completed.epoch != record.epoch.0 || source.has_schema().await? {
        let message = format!(
            "PostgreSQL says that it was completed in epoch {}, DynamoDB says {}, \
                and schema {} {}: run {Complete} again, or {Doctor}",
            completed.epoch,
            record.epoch,
            control_schema(),
            if source.has_schema().await? { "is there" } else { "is gone" }
        );
        return Err(refused(message).into());
    }
    let tables: Vec<String> = migration.tables.iter().map(|binding| binding.relation.to_string()).collect();
    let id = source.archive_entry(who, EntryKind::Intent, None, STEP, &json!({ "tables": tables })).await?;
    let backup = match backed_up().await {
        Ok(said) => said,
        Err(why) => {
            source
                .archive_entry(who, EntryKind::Refused, Some(id), STEP, &json!({ "backup_check": why }))
                .await?;
            return Err(refused(format!("the backup check did not pass: {why}; nothing was dropped")).into());
        }
    };
    source
        .archive_entry(who, EntryKind::Note, None, "backup check", &json!({ "passed": true, "said": backup }))
        .await?;
    let mut dropped = Dropped::default();
    for binding in &migration.tables {
        let relation = binding.relation.to_string();
        if source.drop_left(binding, migration.options.steps.lock_timeout).await? {
            observer.note(&format!("{relation} is dropped"));
            dropped.dropped.push(relation);
        } else {
            dropped.gone.push(relation);
        }
    }
    source.archive_entry(who, EntryKind::Done, Some(id), STEP, &json!(dropped)).await?;
    Ok(dropped)
}
