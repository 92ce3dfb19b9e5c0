//! Judgement of both stores' records of a migration, for gates, steps and the doctor alike.

use lockstep_core::Advice::{Complete, ControlSchema, ControlTable, DropSource, Uninstall, Validate};
use lockstep_core::{Epoch, Error as StoreError, Kind, Phase, TargetRecord};
use lockstep_postgres::{
    CAPTURE_VERSION, CaptureState, Contract, IntentId, Shape, Source, SourceTransaction, TableBinding,
    control_schema, hold_shapes, latest_verdict_in, read_control, require_open,
};

use crate::error::{CoordinatorError, Result};
use crate::journal::Intent;
use crate::options::MigrationContext;
use crate::waves::require_current;

/// Refuses to move anything in a migration that is complete, or over a control table that is another
/// migration's. A target that does not answer cannot say so.
///
/// # Errors
/// [`Kind::Refused`], with what is left to do; [`Kind::Misconfigured`] over the record of another migration,
/// or one that does not parse.
pub(crate) async fn require_going_on(migration: &MigrationContext) -> Result<()> {
    let control = migration.target.control();
    let record = match control.record().await {
        Ok(Some(record)) => record,
        // Missing credentials are of this kind too, and do not keep a step back from being taken: so it must
        // be readable, and wrong.
        Err(error) if error.kind == Kind::Misconfigured && control.foreign().await.is_ok() => {
            return Err(error.into());
        }
        Ok(None) | Err(_) => return Ok(require_current(&migration.source, &migration.target)?),
    };
    match record.completed_at {
        None => Ok(()),
        Some(since) => {
            let message = format!(
                "the migration is complete since {}: DynamoDB is the truth for good, \
                    and nothing is moved any more. {Complete} again finishes what it \
                    may have left; {DropSource} drops the source tables. A migration of \
                    other tables needs a control table of its own: set {ControlTable}",
                since.format("%Y-%m-%d %H:%M:%S UTC")
            );
            Err(StoreError::target(Kind::Refused, "going on with the migration", message).into())
        }
    }
}

/// Refuses a configuration none of whose tables is of the migration that is under way in this database. 1. A
/// migration of two tables is in HybridRead. 2. Another team configures two tables of its own beside it. 3.
/// There is one phase for all tables: theirs would begin in HybridRead, or a step of theirs would move the
/// reads of the others.
///
/// # Errors
/// [`Kind::Refused`], with the tables of both; the source's.
#[crate::boxed]
pub async fn refuse_a_second(source: &Source, configured: &[&str]) -> std::result::Result<(), StoreError> {
    match other_under_way(source, configured).await? {
        None => Ok(()),
        Some(message) => {
            Err(StoreError::source(Kind::Refused, "looking which migration is under way", message))
        }
    }
}

/// Returns what is said where a migration of other tables is under way in this database; `None` where none
/// is.
///
/// # Errors
/// The source's.
pub(crate) async fn other_under_way(
    source: &Source,
    configured: &[&str],
) -> std::result::Result<Option<String>, StoreError> {
    if !source.has_schema().await? {
        return Ok(None);
    }
    other_recorded(source, configured).await
}

/// The same, for who knows that schema `lockstep` is there.
///
/// # Errors
/// The source's.
pub(crate) async fn other_recorded(
    source: &Source,
    configured: &[&str],
) -> std::result::Result<Option<String>, StoreError> {
    let recorded = source.recorded_tables().await?;
    Ok(beside(&recorded, configured))
}

/// Returns the names of tables.
pub(crate) fn names(tables: &[TableBinding]) -> Vec<&'static str> {
    tables.iter().map(TableBinding::name).collect()
}

/// Returns the message for a migration of which other tables are under way than the configured ones.
fn beside(recorded: &[String], configured: &[&str]) -> Option<String> {
    let is_known = |name: &&str| recorded.iter().any(|recorded| recorded == name);
    if recorded.is_empty() || configured.is_empty() || configured.iter().any(is_known) {
        return None;
    }
    Some(format!(
        "a migration of {} is under way in schema {} of this database, and the configuration \
            names {}: a control schema has one migration at a time. To move these beside \
            those, set {ControlSchema} and {ControlTable} to names of this one's own, in the \
            configuration of its applications too. Or {Complete} it, or take it out with \
            {Uninstall}, before this one begins; or configure these tables with those. If they \
            are the same tables under other names, give them the names they had",
        recorded.join(", "),
        control_schema(),
        configured.join(", ")
    ))
}

/// Tells whether a table has the triggers of this version: those of an older one know nothing of DynamoOnly
/// and would let raw writers through.
pub(crate) async fn is_current(migration: &MigrationContext, binding: &TableBinding) -> Result<bool> {
    let state = migration.source.table_state(binding.name()).await?;
    Ok(state.is_some_and(|state| state.capture_version == CAPTURE_VERSION))
}

/// Returns the sign that a record of the right phase is older than what PostgreSQL remembers of it: `newest`
/// is the newest epoch in which DynamoDB may have been written, `ids` are the tables whose counters are
/// behind.
pub(crate) fn how_set_back(record: &TargetRecord, newest: Option<Epoch>, ids: &[String]) -> Option<String> {
    // PostgreSQL is told of the epoch of a pause before DynamoDB is, so it may be one ahead.
    match (newest.filter(|newest| newest.0 > record.epoch.0 + 1), ids) {
        (None, []) => None,
        (Some(newest), _) => {
            Some(format!("it says epoch {}, and epoch {newest} has been there", record.epoch))
        }
        (None, tables) => Some(format!("it would hand out ids of {} that are in use", tables.join(" and "))),
    }
}

/// Keeps the source tables as they were captured until the transaction ends, or refuses.
async fn hold(transaction: &mut SourceTransaction, tables: &[TableBinding], doing: &str) -> Result<()> {
    for (binding, shape) in tables.iter().zip(hold_shapes(transaction, tables).await?) {
        let Some(wrong) = shape.wrong() else { continue };
        let message = format!("{}: {wrong}; {}", binding.relation, shape.next());
        let kind = if matches!(shape, Shape::Grown(_)) { Kind::Busy } else { Kind::Refused };
        return Err(CoordinatorError::Store(StoreError::source(kind, doing, message)));
    }
    Ok(())
}

/// Refuses a step by a process that does not know every table of the migration by its settings. One that
/// takes reads back to PostgreSQL, which is the truth, asks for names alone, and none of a table that does
/// not read.
fn require_contract(contract: &Contract, migration: &MigrationContext, intent: &Intent) -> Result<()> {
    let known = match intent.to < intent.from && intent.from != Phase::DynamoOnly {
        true => contract.require_known(&migration.tables, &migration.unread),
        false => contract.require_all(&migration.tables),
    };
    Ok(known?)
}

/// Checks what must hold at every flip, again on the connection that holds the barrier: the pool's others may
/// all be waiting for it. From when the barrier is closed no write transaction is in flight anywhere (I5).
///
/// # Errors
/// [`Kind::Refused`] for what has changed since the gates were asked; [`Kind::Busy`] where a table has a new
/// partition.
pub(crate) async fn require_flippable(
    transaction: &mut SourceTransaction,
    migration: &MigrationContext,
    id: IntentId,
    intent: &Intent,
    doing: &str,
) -> Result<()> {
    let refused =
        |message: String| CoordinatorError::Store(StoreError::source(Kind::Refused, doing, message));
    let now = read_control(transaction).await?;
    if now.epoch != intent.epoch_before || now.phase != intent.from {
        return Err(refused(format!("another process changed the phase to {} meanwhile", now.phase)));
    }
    require_open(transaction, id).await?;
    // A process of another build may know fewer tables: the phase would move one that it has not looked at,
    // and what was not drained would never be delivered (I7).
    require_contract(&Contract::read(transaction).await?, migration, intent)?;
    // 1. The gates pass by a verdict. 2. A comparison that was under way ends, and finds something. 3. The
    // step goes on, through a minute of waiting for instances and drains, over what is known to differ.
    if intent.asks_verdict && !latest_verdict_in(transaction).await?.is_some_and(|verdict| verdict.consistent)
    {
        return Err(refused(format!(
            "a comparison has found something since the gates were asked; run {Validate}, and take the \
             step again"
        )));
    }
    if intent.to > intent.from {
        let states = CaptureState::read_all(transaction, &migration.tables).await?;
        for (binding, state) in migration.tables.iter().zip(states) {
            if state != CaptureState::On {
                return Err(refused(format!("capture of {} is not on: {state:?}", binding.name())));
            }
        }
        hold(transaction, &migration.tables, doing).await?;
    }
    Ok(())
}

/// Takes in partitions that were added since. A row that is locked is left for the next time.
pub(crate) async fn take_in_partitions(migration: &MigrationContext) -> Result<()> {
    for at in migration.source.shapes_to_record(&migration.tables).await? {
        let binding = &migration.tables[at];
        match migration.source.record_shape(binding).await {
            Err(error) if error.kind == Kind::Busy => {
                tracing::info!(table = binding.name(), %error, "tried again later")
            }
            done => drop(done?),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use lockstep_core::Advice;

    use super::beside;

    #[test]
    fn a_second_migration_is_one_of_other_tables_only_and_both_are_named() {
        let recorded = ["documents".to_owned(), "payments".to_owned()];
        let refused = beside(&recorded, &["stock", "events"]).expect("other tables");
        let [ends, completes] = [Advice::Uninstall, Advice::Complete].map(|advice| advice.to_string());
        for name in ["documents, payments", "stock, events", &ends, &completes] {
            assert!(refused.contains(name), "{name}: {refused}");
        }
        assert_eq!(beside(&recorded, &["stock", "payments"]), None, "a table beside those of before");
        assert_eq!(beside(&recorded, &["documents"]), None, "one is left out");
        assert_eq!(beside(&[], &["stock"]), None, "nothing is under way");
        assert_eq!(beside(&recorded, &[]), None);
    }
}
