//! What the records of both stores say of a migration, for gates, steps and the doctor alike.

use lockstep_core::{Epoch, Error as StoreError, Kind, TargetRecord};
use lockstep_postgres::{CAPTURE_VERSION, Shape, SourceTransaction, TableBinding};

use crate::error::{Error, Result};
use crate::options::Migration;

/// Refuses to move anything in a migration that is complete. A target that does not answer cannot say so.
///
/// # Errors
/// [`Kind::Refused`], with what is left to do.
pub(crate) async fn require_going_on(migration: &Migration) -> Result<()> {
    let Ok(Some(record)) = migration.target.control().record().await else { return Ok(()) };
    match record.completed_at {
        None => Ok(()),
        Some(since) => {
            let message = format!(
                "the migration is complete since {}: DynamoDB is the truth for good, and nothing is moved any more. `complete` again \
                 finishes what it may have left; `cleanup --drop-source` drops the source tables",
                since.format("%Y-%m-%d %H:%M:%S UTC")
            );
            Err(StoreError::target(Kind::Refused, "going on with the migration", message).into())
        }
    }
}

/// Whether a table has the triggers of this version: those of an older one know nothing of DynamoOnly and would let raw
/// writers through.
pub(crate) async fn is_current(migration: &Migration, binding: &TableBinding) -> Result<bool> {
    let state = migration.source.table_state(binding.name()).await?;
    Ok(state.is_some_and(|state| state.capture_version == CAPTURE_VERSION))
}

/// What shows that a record of the right phase is older than what PostgreSQL remembers of it: `newest` is the newest epoch in which
/// DynamoDB may have been written, `ids` are the tables whose counters are behind.
pub(crate) fn how_set_back(record: &TargetRecord, newest: Option<Epoch>, ids: &[String]) -> Option<String> {
    // PostgreSQL is told of the epoch of a pause before DynamoDB is, so it may be one ahead.
    match (newest.filter(|newest| newest.0 > record.epoch.0 + 1), ids) {
        (None, []) => None,
        (Some(newest), _) => Some(format!("it says epoch {}, and epoch {newest} has been there", record.epoch)),
        (None, tables) => Some(format!("it would hand out ids of {} that are in use", tables.join(" and "))),
    }
}

/// Keeps a source table as it was captured until the transaction ends, or refuses.
pub(crate) async fn hold_shape(transaction: &mut SourceTransaction, binding: &TableBinding, doing: &str) -> Result<()> {
    let shape = Shape::hold(transaction, binding).await?;
    let Some(wrong) = shape.wrong() else { return Ok(()) };
    let message = format!("{}: {wrong}; {}", binding.relation, shape.next());
    Err(Error::Store(StoreError::source(Kind::Refused, doing, message)))
}
