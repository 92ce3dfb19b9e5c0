//! Settling a step that was broken off: by a crash, a bound that was missed, a reply that was lost.
//!
//! The records decide, and the journal says what they may not be. Before writes were let go on in DynamoDB, a
//! step there is undone, for that needs to wait for no instance; before the decision a step back is undone;
//! everything later is finished.
//!
//! Where writes were let go on, DynamoDB may have what no other store has. 1. A step back dies, and the
//! control table is lost. 2. PostgreSQL says DynamoOnly, and nothing else says anything, as in a step there
//! that was decided and not copied. 3. Undone as such, the truth goes back to PostgreSQL, and what the feed
//! has not brought is gone. So that is done only where the journal shows that no application has written, and
//! is refused otherwise until the table is created again.

use lockstep_core::{Control, Epoch, Error as StoreError, Kind, Phase, TargetRecord, Truth, Writes, truth};
use lockstep_postgres::{Entry, IntentId, Source};

use crate::reverse_feed::once_brought_back;
use crate::truth::copy_to_source;

use crate::error::{CoordinatorError, Result};
use crate::journal::{CHANGE_PHASE, Intent};
use crate::options::MigrationContext;

use super::{OPEN, STOP, part};

/// Number of requests of one dead coordinator that can arrive late: a pause, a permission to go on, a
/// decision.
const LOOKS_MAX: usize = 4;

/// Way on with a truth that both records say is in DynamoDB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum InTarget {
    /// Writes go on, and nothing is under way that could stop them.
    Leave,
    /// They were never let go on there: the step there is undone.
    GoBack,
    /// A step back has paused them.
    LetGoOn,
    /// A step back may have sent a pause that has not arrived.
    OutrunPause,
}

fn in_target(record: &TargetRecord, written: bool, may_pause: bool) -> InTarget {
    match record.writes {
        // Each pause after the first is an epoch of its own. A table that was set back may be in the first
        // one again.
        Writes::Paused if record.epoch == record.since && !written => InTarget::GoBack,
        Writes::Paused => InTarget::LetGoOn,
        Writes::Open if may_pause => InTarget::OutrunPause,
        Writes::Open => InTarget::Leave,
    }
}

/// Tells whether DynamoDB may have been written as the truth when the step `id` from `from` was broken off:
/// before a step back it was, and in a step there it is from the note on that is made before writes are let
/// go on.
///
/// # Errors
/// The source's.
pub(crate) async fn may_be_written(source: &Source, id: IntentId, from: Phase) -> Result<bool> {
    Ok(from == Phase::DynamoOnly || source.was_noted(id, &part(OPEN)).await?)
}

/// Brings both records to an end of the step `id` from `from`, and says what PostgreSQL's says then.
/// Repeated, it changes nothing more than once.
///
/// # Errors
/// The stores': then applications may be unable to write, and the caller repeats it. [`Kind::Misconfigured`]
/// where a record was lost.
pub(crate) async fn settle(migration: &MigrationContext, id: IntentId, from: Phase) -> Result<Control> {
    let (source, control, tables) = (&migration.source, migration.target.control(), &migration.tables);
    // A feed's transaction holds the barrier now and then, and never for long.
    let steps = &migration.options.steps;
    let written = may_be_written(source, id, from).await?;
    for _ in 0..LOOKS_MAX {
        let attempt = || crate::truth::settle(source, &control, tables, steps.lock_timeout, written);
        while let Some(did) = once_brought_back(migration, attempt).await? {
            tracing::info!("{did}");
        }
        match look(migration, id, from, written).await {
            // A request of a coordinator that is gone has arrived meanwhile, so something else is to be done
            // now: a decision would have to be copied first.
            Err(CoordinatorError::Store(error)) if error.kind == Kind::Refused => {
                tracing::debug!("looked at again: {error}")
            }
            done => return done,
        }
    }
    let message =
        "another process changes DynamoDB's control record again and again; is another Lockstep at work?";
    Err(CoordinatorError::Store(StoreError::target(Kind::Refused, "settling a step", message)))
}

/// Does what the records ask for, where both agree where the truth is.
async fn look(migration: &MigrationContext, id: IntentId, from: Phase, written: bool) -> Result<Control> {
    let (source, control) = (&migration.source, migration.target.control());
    let (now, there) = (source.control_behind_barrier().await?, control.record().await?);
    let record = match (truth(&now, there.as_ref()), there) {
        (Truth::InSource, _) => return Ok(now),
        (Truth::InTarget, Some(record)) => record,
        (_, there) => {
            let message = format!(
                "PostgreSQL says {} in epoch {}, and DynamoDB says {there:?} since",
                now.phase, now.epoch
            );
            return Err(CoordinatorError::Store(StoreError::target(
                Kind::Refused,
                "settling a step",
                message,
            )));
        }
    };
    let may_pause = from == Phase::DynamoOnly && source.was_noted(id, &part(STOP)).await?;
    match in_target(&record, written, may_pause) {
        InTarget::Leave => return Ok(now),
        InTarget::LetGoOn => control.open_writes(record.epoch).await?,
        InTarget::OutrunPause => {
            // 1. A pause is sent and its sender dies. 2. Writes go on, and the step is called undone. 3. The
            //    pause arrives, and no coordinator is there to let writes go on. A pause of our own takes away
            //    what it starts from.
            source.note_target_epoch(Epoch(record.epoch.0 + 1)).await?;
            let paused = control.pause_writes(record.epoch).await?;
            control.open_writes(paused).await?;
        }
        InTarget::GoBack => {
            control.leave(record.epoch, Phase::HybridRead).await?;
            copy_back(migration).await?;
        }
    }
    Ok(source.control_behind_barrier().await?)
}

/// No application has written DynamoDB as the truth, so PostgreSQL has everything.
async fn copy_back(migration: &MigrationContext) -> Result<()> {
    let steps = &migration.options.steps;
    let (source, control) = (&migration.source, migration.target.control());
    let copied =
        steps.while_busy(|| copy_to_source(source, &control, &migration.tables, steps.lock_timeout)).await;
    copied.map_err(|error| match error {
        CoordinatorError::Store(error) if error.kind == Kind::Busy => {
            let message =
                "a transaction is open for long (see pg_stat_activity), and no application can write until \
                 the truth is back; try again";
            CoordinatorError::Store(StoreError::source(Kind::Busy, "undoing the step to DynamoOnly", message))
        }
        other => other,
    })
}

/// Tells whether one of `open` is a step in which DynamoDB may have been written as the truth: its record
/// says so, or was lost.
///
/// # Errors
/// The source's.
pub(crate) async fn has_written_target(source: &Source, open: &[Entry]) -> Result<bool> {
    for entry in open.iter().filter(|entry| entry.step == CHANGE_PHASE) {
        let Ok(intent) = serde_json::from_value::<Intent>(entry.detail.clone()) else { continue };
        if intent.moves_truth() && may_be_written(source, IntentId(entry.id), intent.from).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_there_is_undone_until_writes_were_let_go_on_and_a_step_back_until_it_was_decided() {
        let record = |epoch, writes| TargetRecord {
            phase: Phase::DynamoOnly,
            epoch: Epoch(epoch),
            writes,
            since: Epoch(5),
            changed_at: chrono::DateTime::UNIX_EPOCH,
            completed_at: None,
        };
        assert_eq!(in_target(&record(5, Writes::Paused), false, false), InTarget::GoBack);
        assert_eq!(in_target(&record(5, Writes::Paused), true, false), InTarget::LetGoOn);
        assert_eq!(in_target(&record(5, Writes::Open), true, false), InTarget::Leave);
        assert_eq!(in_target(&record(5, Writes::Open), true, true), InTarget::OutrunPause);
        assert_eq!(in_target(&record(6, Writes::Paused), true, true), InTarget::LetGoOn);
        assert_eq!(in_target(&record(6, Writes::Open), true, true), InTarget::OutrunPause);
    }
}
