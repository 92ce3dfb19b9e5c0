//! Bringing back what PostgreSQL forgot: the row is made from its item, for each finding that somebody has
//! decided so.

use lockstep_core::{Error as StoreError, Kind, SourceKey, TargetKey, is_tombstone};
use lockstep_postgres::{EntryKind, TableBinding};
use lockstep_validator::FindingClass;
use serde::Serialize;
use serde_json::json;

use crate::error::Result;
use crate::options::Migration;
use crate::repair::Repairable;

/// Name of the step in the journal.
const STEP: &str = "take from target";

/// What was brought back.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Taken {
    /// Rows that were written to PostgreSQL as their items are.
    pub rows: u64,
    /// Findings that have no item to take, or whose row PostgreSQL refused, and why.
    pub left: Vec<String>,
}

/// Writes the rows of these findings to PostgreSQL as DynamoDB has them. They are captured like any other
/// write.
///
/// # Errors
/// [`Kind::Refused`] where PostgreSQL is not the truth; [`crate::Error::HistoryLost`]; the stores'.
///
/// # Cancel safety
/// Each row is a transaction of its own; taken twice it is the same row.
pub async fn take_target(migration: &Migration, findings: &[Repairable]) -> Result<Taken> {
    let phase = migration.source.control().await?.phase;
    if !phase.writes_both() {
        return Err(StoreError::source(
            Kind::Refused,
            "taking rows from DynamoDB",
            format!("not in {phase}"),
        )
        .into());
    }
    crate::history::require_kept(migration).await?;
    let mut taken = Taken::default();
    let keys: Vec<_> = findings.iter().map(|finding| json!([finding.table, finding.key])).collect();
    let id = migration.source.journal_intent(&migration.actor, STEP, &json!({ "keys": keys })).await?;
    for binding in &migration.tables {
        let table = migration.source.fed_table(binding).await?;
        for finding in findings.iter().filter(|finding| finding.table == binding.name()) {
            let name = format!("{} {}", finding.table, finding.key.join(", "));
            if !matches!(finding.class, FindingClass::Extra | FindingClass::Different) {
                taken.left.push(format!("{name}: DynamoDB has nothing of it"));
                continue;
            }
            let Some(place) = place_of(migration, binding, &finding.key).await? else {
                taken.left.push(format!("{name}: it has no place in DynamoDB"));
                continue;
            };
            let item =
                migration.target.get(&binding.target_name, &place).await?.filter(|item| !is_tombstone(item));
            let Some(item) = item else {
                taken.left.push(format!("{name}: its item is gone by now"));
                continue;
            };
            let put = match binding.table.row_of_item(&item) {
                Ok(row) => migration.source.put_back(&table, row.as_ref()).await,
                Err(why) => Err(StoreError::target(Kind::Invalid, "reading an item", why.to_string())),
            };
            match put {
                Ok(()) => taken.rows += 1,
                Err(error) if error.kind == Kind::Invalid => taken.left.push(format!("{name}: {error}")),
                Err(error) => return Err(error.into()),
            }
        }
    }
    migration.source.journal_outcome(&migration.actor, id, EntryKind::Done, STEP, &json!(taken)).await?;
    Ok(taken)
}

async fn place_of(
    migration: &Migration,
    binding: &TableBinding,
    key: &[String],
) -> Result<Option<TargetKey>> {
    let named: Vec<SourceKey> = migration.source.source_keys(binding, &[key.to_vec()]).await?;
    Ok(named.first().and_then(|key| binding.table.target_key(key).ok()))
}
