//! Settles a step by what the control records say, whether its own process does so or a later one (I9).

use chrono::{DateTime, Utc};
use lockstep_core::{Control, Phase, Retry};
use lockstep_dynamo::Backoff;
use lockstep_postgres::{EntryKind, IntentId};
use serde_json::json;

use crate::continuity;
use crate::error::{CoordinatorError, Result};
use crate::gate::Observer;
use crate::instances::{self, InstanceWait, Leases};
use crate::journal::{CHANGE_PHASE, Intent};
use crate::moving::{self, Moved, PauseSummary};
use crate::options::MigrationContext;
use crate::status::late_writes_until;

/// Returns where the leases are of the instances that may serve by the phase before or after.
pub(super) fn leases<'a>(intent: &Intent, migration: &'a MigrationContext) -> Leases<'a> {
    if intent.moves_truth() { Leases::of_both(migration) } else { Leases::of_source(migration) }
}

/// Recovery of an intent whose outcome is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Recovery {
    /// The flip has happened: wait for the instances, then record it.
    Finish,
    /// It has not, and no process works on it any more: record that.
    Undo,
}

/// Decides by the control record alone, for the flip is one transaction. Ordinary steps and recovery both ask
/// it.
pub(super) fn recover(intent: &Intent, control: &Control) -> Recovery {
    if control.epoch > intent.epoch_before && control.phase == intent.to {
        Recovery::Finish
    } else {
        Recovery::Undo
    }
}

/// Result of taking a step.
#[derive(Default)]
pub(super) struct Taken {
    pub(super) tries: u32,
    pub(super) held_ms: f64,
    pub(super) pause: Option<PauseSummary>,
    pub(super) instances: Vec<InstanceWait>,
}

impl From<Moved> for Taken {
    fn from(Moved { tries, pause, instances }: Moved) -> Self {
        Self { tries, held_ms: 0.0, pause: Some(pause), instances }
    }
}

/// State of the records once a step is settled.
pub(super) struct Settled {
    pub(super) now: Control,
    pub(super) instances: Vec<InstanceWait>,
    /// See [`StepOutcome::late_until`](super::StepOutcome::late_until).
    pub(super) late_until: Option<DateTime<Utc>>,
}

/// Settles an intent by what the control record says, and records the outcome.
pub(super) async fn settle(
    migration: &MigrationContext,
    id: IntentId,
    intent: &Intent,
    taken: &Taken,
    observer: &dyn Observer,
) -> Result<Settled> {
    loop {
        // Before the records: what is noted later is not in what they say.
        let parts = migration.source.parts_noted(id).await?;
        if let Some(settled) = settle_once(migration, id, intent, taken, parts, observer).await? {
            return Ok(settled);
        }
    }
}

/// Returns the same, with `parts` of it noted; `None` where another part was begun meanwhile.
async fn settle_once(
    migration: &MigrationContext,
    id: IntentId,
    intent: &Intent,
    taken: &Taken,
    parts: i64,
    observer: &dyn Observer,
) -> Result<Option<Settled>> {
    let source = &migration.source;
    let control = if intent.moves_truth() {
        records(migration, id, intent).await?
    } else {
        source.control_behind_barrier().await?
    };
    let mut detail =
        json!({ "from": intent.from, "to": intent.to, "phase": control.phase, "epoch": control.epoch });
    if let Some(pause) = &taken.pause {
        detail["pause"] = json!(pause);
    }
    let mut late_until = None;
    let mut waited = taken.instances.clone();
    match recover(intent, &control) {
        Recovery::Finish => {
            if intent.from == Phase::DynamoOnly {
                // Noted by the transaction of the flip.
                late_until = late_writes_until(source).await?;
                detail["late_until"] = json!(late_until);
            }
            // Registered instances say when they have followed. Stores without one go on with the phase they
            // know for at most one lease, by their own clocks; waiting it out twice means that no reader is
            // two phases behind when the next step begins (I6). After a crash this is waited again, from now:
            // it is unknown how long the dead one waited.
            let unregistered = tokio::time::sleep(migration.options.steps.phase_lease * 2);
            let leases = leases(intent, migration);
            let (instances, ()) =
                tokio::join!(instances::wait(&leases, control.epoch, observer), unregistered);
            for wait in instances? {
                if !waited.iter().any(|known| known.id == wait.id) {
                    waited.push(wait);
                }
            }
            detail["instances"] = json!(waited);
            source.journal_outcome(&migration.actor, id, EntryKind::Done, CHANGE_PHASE, &detail).await?;
            continuity::mark_now(migration).await?;
        }
        Recovery::Undo => {
            if !source.journal_undone(&migration.actor, id, parts, CHANGE_PHASE, &detail).await? {
                return Ok(None);
            }
        }
    }
    Ok(Some(Settled { now: control, instances: waited, late_until }))
}

/// Brings the records of both stores to an end of the step. Applications may be unable to write meanwhile, so
/// it is tried for as long as that can help.
async fn records(migration: &MigrationContext, id: IntentId, intent: &Intent) -> Result<Control> {
    let mut backoff = Backoff::patient();
    loop {
        match Box::pin(moving::settle(migration, id, intent.from)).await {
            Err(CoordinatorError::Store(error)) if error.kind.retry() != Retry::Never => {
                backoff.pause(error).await?
            }
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests {
    use lockstep_core::Epoch;

    use super::*;

    fn control(phase: Phase, epoch: i64) -> Control {
        Control { phase, epoch: Epoch(epoch), changed_at: chrono::DateTime::UNIX_EPOCH, writes_paused: false }
    }

    #[test]
    fn the_control_record_alone_decides_whether_a_step_is_finished_or_undone() {
        let intent = Intent {
            from: Phase::DualWrite,
            to: Phase::HybridRead,
            epoch_before: Epoch(4),
            asks_verdict: true,
        };
        assert_eq!(recover(&intent, &control(Phase::HybridRead, 5)), Recovery::Finish);
        // A burnt epoch: the sequence moved, the commit did not.
        assert_eq!(recover(&intent, &control(Phase::HybridRead, 6)), Recovery::Finish);
        assert_eq!(recover(&intent, &control(Phase::DualWrite, 4)), Recovery::Undo);
        // Another step went elsewhere since: this one did not bring us there.
        assert_eq!(recover(&intent, &control(Phase::PostgresOnly, 5)), Recovery::Undo);
    }
}
