//! Bringing back what PostgreSQL forgot: the row is made from its item, or deleted where DynamoDB has its
//! deletion, for each finding of which an operator has decided so.

use std::time::Duration;

use lockstep_core::Advice::DeadLetters;
use lockstep_core::{AnyRow, Error as StoreError, Kind, SourceKey, TargetKey, is_tombstone};
use lockstep_postgres::reverse::{FedTable, Undelivered};
use lockstep_postgres::{EntryKind, TableBinding};
use lockstep_validator::FindingClass;
use serde::Serialize;
use serde_json::json;

use crate::error::Result;
use crate::options::MigrationContext;
use crate::repair_rows::Repairable;

/// Name of the step in the journal.
const STEP: &str = "take from target";
/// Longest wait for an item: the barrier is closed meanwhile, so applications wait as long.
const READ_WITHIN: Duration = Duration::from_secs(1);

const READING: &str = "reading an item";

/// Counts of what was brought back.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RowsTaken {
    /// Rows that were written to PostgreSQL as their items are, or deleted as DynamoDB says.
    pub rows: u64,
    /// Findings that have no item to take, whose row was changed since, or whose row PostgreSQL refused, and
    /// why.
    pub left: Vec<String>,
}

/// Writes the rows of these findings to PostgreSQL as DynamoDB has them. They are captured like any other
/// write. A row of which DynamoDB lacks a change is left: the findings may be old, and what was acknowledged
/// since must not be overwritten.
///
/// # Errors
/// [`Kind::Refused`] where PostgreSQL is not the truth; [`Kind::Busy`] where an application has a write
/// transaction open for long, or a row locked; [`Kind::Unavailable`] where DynamoDB does not answer at once;
/// [`crate::CoordinatorError::HistoryLost`]; the stores'. Rows before the one that failed are written.
///
/// # Cancel safety
/// Each row is a transaction of its own; taken twice it is the same row.
#[crate::boxed]
pub async fn take_target(migration: &MigrationContext, findings: &[Repairable]) -> Result<RowsTaken> {
    let phase = migration.source.control().await?.phase;
    if !phase.writes_both() {
        return Err(StoreError::source(
            Kind::Refused,
            "taking rows from DynamoDB",
            format!("not in {phase}"),
        )
        .into());
    }
    crate::continuity::require_kept(migration).await?;
    let mut taken = RowsTaken::default();
    let keys: Vec<_> = findings.iter().map(|finding| json!([finding.table, finding.key])).collect();
    let id = migration.source.journal_intent(&migration.actor, STEP, &json!({ "keys": keys })).await?;
    for binding in &migration.tables {
        let table = migration.source.fed_table(binding).await?;
        for finding in findings.iter().filter(|finding| finding.table == binding.name()) {
            match take_one(migration, &table, finding).await? {
                None => taken.rows += 1,
                Some(why) => {
                    taken.left.push(format!("{} {}: {why}", finding.table, finding.key.join(", ")));
                }
            }
        }
    }
    migration.source.journal_outcome(&migration.actor, id, EntryKind::Done, STEP, &json!(taken)).await?;
    Ok(taken)
}

/// Brings one row back; if it was left, says why.
async fn take_one(
    migration: &MigrationContext,
    table: &FedTable,
    finding: &Repairable,
) -> Result<Option<String>> {
    let binding = table.binding();
    let left = |why: &str| Ok(Some(why.to_owned()));
    match finding.class {
        FindingClass::Extra | FindingClass::Different => {}
        FindingClass::Missing if finding.may_be_deleted() => {}
        FindingClass::Missing if finding.deletion.is_some() => {
            return left(
                "DynamoDB has only its deletion, of a time that PostgreSQL knows: the row was written since, \
                 and that was not captured",
            );
        }
        _ => return left("DynamoDB has nothing of it"),
    }
    // Before the barrier is closed, as it takes a session of its own, which may have to be waited for.
    let Some(place) = place_of(migration, binding, &finding.key).await? else {
        return left("it has no place in DynamoDB");
    };
    let put = match migration.source.begin_put_back(table, &finding.key).await? {
        Ok(put) => put,
        Err(Undelivered::Pending) => return left("it was changed since the comparison: compare again"),
        Err(Undelivered::DeadLetter) => {
            return Ok(Some(format!(
                "its last change is a dead letter, so DynamoDB lacks it: see {DeadLetters}"
            )));
        }
    };
    let row = match read_row(migration, binding, &place, finding.may_be_deleted()).await? {
        Ok(row) => row,
        Err(why) => {
            put.leave().await?;
            return Ok(Some(why));
        }
    };
    let written = match row {
        Some(row) => put.put(row.as_ref()).await,
        None => put.delete(&finding.key).await,
    };
    match written {
        Ok(()) => Ok(None),
        Err(error) if error.kind == Kind::Invalid => Ok(Some(error.to_string())),
        Err(error) => Err(error.into()),
    }
}

/// Reads the row that the item at a place holds, or says why it holds none, while writers wait. `deleted`:
/// the finding was that the row was deleted, and `None` says that it still is.
async fn read_row(
    migration: &MigrationContext,
    binding: &TableBinding,
    place: &TargetKey,
    deleted: bool,
) -> Result<std::result::Result<Option<Box<dyn AnyRow>>, String>> {
    let reading = migration.target.get(&binding.target_name, place);
    let Ok(item) = tokio::time::timeout(READ_WITHIN, reading).await else {
        let message = format!(
            "no answer within {} ms, and applications wait meanwhile. Nothing of this row was written: run \
             the same command again",
            READ_WITHIN.as_millis()
        );
        return Err(StoreError::target(Kind::Unavailable, READING, message).into());
    };
    let item = item?;
    if deleted {
        return Ok(match item {
            Some(item) if is_tombstone(&item) => Ok(None),
            _ => Err("its deletion is not there any more: compare again".to_owned()),
        });
    }
    let Some(item) = item.filter(|item| !is_tombstone(item)) else {
        return Ok(Err("its item is gone by now".to_owned()));
    };
    // 1. A program puts the item of B where A's belongs. 2. We looked for changes of A, and would write B.
    if binding.table.place_of_item(&item).is_ok_and(|own| own != *place) {
        return Ok(Err("its item says that it is another row's".to_owned()));
    }
    let row = binding.table.row_of_item(&item);
    Ok(row.map(Some).map_err(|why| StoreError::target(Kind::Invalid, READING, why.to_string()).to_string()))
}

async fn place_of(
    migration: &MigrationContext,
    binding: &TableBinding,
    key: &[String],
) -> Result<Option<TargetKey>> {
    let named: Vec<SourceKey> = migration.source.source_keys(binding, &[key.to_vec()]).await?;
    Ok(named.first().and_then(|key| binding.table.target_key(key).ok()))
}
