//! Dropping the source tables: the one thing that nothing undoes.
//!
//! Only after completion, and only right after a command of the operator's has said that there is a
//! backup: it ends with 0.

use lockstep_core::Advice::{Complete, DeletionProtection, Doctor, DropUnprotected, PointInTimeRecovery};
use lockstep_core::{Error as StoreError, Kind};
use lockstep_postgres::EntryKind;
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

/// Whether the only copy that is left may be one that a call deletes, or that nothing restores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unprotected {
    /// It may not: the source stays until the target is protected.
    Refused,
    /// An operator knows, as of an emulator, which has no protection.
    Known,
}

/// Drops every source table of a migration that is complete, if `backed_up` says yes now, and each table of
/// the target is protected from being deleted by one call and can be restored: it is the only copy from here
/// on. What the target's options switch on is switched on before that is asked.
///
/// # Errors
/// [`Kind::Refused`] where the migration is not complete, both stores do not say the same of it, there is no
/// backup, the target is not protected, or a table is not one that was left; the source's, as when something
/// depends on a table.
///
/// # Cancel safety
/// Run it again: what is gone is gone, and the backup is checked again.
pub async fn drop_source(
    migration: &MigrationContext,
    backed_up: impl AsyncFnOnce() -> std::result::Result<String, String>,
    unprotected: Unprotected,
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
                and Lockstep's schema {}: run {Complete} again, or {Doctor}",
            completed.epoch,
            record.epoch,
            if source.has_schema().await? { "is there" } else { "is gone" }
        );
        return Err(refused(message).into());
    }
    let tables: Vec<String> = migration.tables.iter().map(|binding| binding.relation.to_string()).collect();
    let id = source.archive_entry(who, EntryKind::Intent, None, STEP, &json!({ "tables": tables })).await?;
    let lacks = unproven(migration).await?;
    if !lacks.is_empty() {
        let lacks = lacks.join("; ");
        if unprotected == Unprotected::Refused {
            let detail = json!({ "unprotected": lacks });
            source.archive_entry(who, EntryKind::Refused, Some(id), STEP, &detail).await?;
            let message = format!(
                "the target would be the only copy: {lacks}; nothing was dropped. Set {DeletionProtection} \
                 and {PointInTimeRecovery}, and run it again, which switches both on; where the endpoint \
                 has neither, {DropUnprotected} says that you know"
            );
            return Err(refused(message).into());
        }
        observer.note(&format!("WARNING: the target is the only copy, and {lacks}"));
        let detail = json!({ "known_unprotected": lacks });
        source.archive_entry(who, EntryKind::Note, None, "protection of the target", &detail).await?;
    }
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

/// Protects the tables of the target as its options say, and returns what of each is not proven after that.
/// The control table is one of them: without it no application knows where the truth is.
async fn unproven(migration: &MigrationContext) -> Result<Vec<String>> {
    let target = &migration.target;
    let control = target.control();
    let tables = migration.tables.iter().map(|binding| binding.target_name.as_str());
    let mut lacks = Vec::new();
    for table in tables.chain([control.table()]) {
        target.protect(table).await?;
        if let Some(what) = target.protection(table).await?.unproven() {
            lacks.push(format!("{table}: {what}"));
        }
    }
    Ok(lacks)
}
