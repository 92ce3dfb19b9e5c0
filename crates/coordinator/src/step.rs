//! Changing the phase of all tables in one atomic step (R6, I5), and finishing or undoing what a crash left
//! (I9).
//!
//! In reading order: this file (gates, the flip), `settle` (what the records say came of it), `recover`
//! (steps that a crash left open).

mod recover;
mod settle;

pub(crate) use recover::{Recovered, recover_all};

use chrono::{DateTime, Utc};
use lockstep_core::{Control, Doing, Epoch, Kind, Phase};
use lockstep_postgres::{EntryKind, IntentId, flip_phase, take_exclusive};
use serde::Serialize;
use serde_json::json;

use crate::continuity;
use crate::error::{CoordinatorError, Result};
use crate::gate::{GateReport, Observer};
use crate::gates;
use crate::import;
use crate::instances::{self, InstanceWait};
use crate::journal::{CHANGE_PHASE, Intent};
use crate::moving::{self, PauseSummary};
use crate::options::MigrationContext;
use crate::records::{require_flippable, take_in_partitions};
use crate::rehearsal::Rehearsal;
use settle::{Settled, Taken, leases, settle};

/// Result of a step that ended well.
#[derive(Clone, Debug, Serialize)]
pub struct StepOutcome {
    /// Phase that the step came from.
    pub from: Phase,
    /// Phase that the migration is in now.
    pub phase: Phase,
    /// The epoch now.
    pub epoch: Epoch,
    /// Tries for the barrier; 0 when there was nothing to do.
    pub tries: u32,
    /// Time for which the barrier was held, in milliseconds: the longest that a writer was kept waiting by
    /// the flip itself.
    pub barrier_held_ms: f64,
    /// The gates that were asked.
    pub gates: GateReport,
    /// The instances that it waited for, and how each wait ended.
    pub instances: Vec<InstanceWait>,
    /// Time for which no application could write, and its parts; for a step that moves the truth.
    pub pause: Option<PauseSummary>,
    /// After the way back: until when a request of DynamoOnly that its sender has given up may still land.
    /// Until then the reverse feed and a relay must run.
    pub late_until: Option<DateTime<Utc>>,
}

/// Takes one step.
#[tracing::instrument(level = "error", skip_all, fields(to = %to, by = %migration.actor))]
pub(crate) async fn step(
    migration: &MigrationContext,
    to: Phase,
    force: Option<&str>,
    rehearsal: &Rehearsal,
    observer: &dyn Observer,
) -> Result<StepOutcome> {
    let source = &migration.source;
    let control = source.control().await?;
    let from = control.phase;
    if from == to {
        return Ok(nothing_to_do(&control));
    }
    if !from.is_next_to(to) {
        return Err(CoordinatorError::NotAdjacent { from, to });
    }
    require_one_migration(migration, from, to).await?;
    mark_before(migration).await?;
    let gates = all_gates(migration, &control, to, rehearsal, observer).await?;
    let asks_verdict = gates.passed() && from < to && to >= Phase::HybridRead;
    let intent = Intent { from, to, epoch_before: control.epoch, asks_verdict };
    refuse_by(migration, &intent, &gates, force).await?;
    // An instance that is behind now would be two behind after the flip (I6). The step before has waited for
    // every instance, so this only waits where something else changed the phase.
    let epoch = match from {
        // Pauses there are epochs of their own.
        Phase::DynamoOnly => {
            migration.target.control().record().await?.map_or(control.epoch, |record| record.epoch)
        }
        _ => control.epoch,
    };
    instances::wait(&leases(&intent, migration), epoch, observer).await?;
    let mut detail = json!(intent);
    detail["force"] = json!(force);
    detail["gates"] = json!(gates);
    let id = source.journal_intent(&migration.actor, CHANGE_PHASE, &detail).await?;
    let (taken, error) = match take(migration, id, &intent, observer).await {
        Ok(taken) => (taken, None),
        // The commit may have happened although its answer was lost (I8): the control record decides.
        Err(error) => (Taken { tries: 1, ..Taken::default() }, Some(error)),
    };
    let settled = settle(migration, id, &intent, &taken, observer).await;
    outcome(&intent, gates, taken, settled, error)
}

/// Returns the step to where it stands already.
fn nothing_to_do(control: &Control) -> StepOutcome {
    StepOutcome {
        from: control.phase,
        phase: control.phase,
        epoch: control.epoch,
        tries: 0,
        barrier_held_ms: 0.0,
        gates: GateReport::default(),
        instances: Vec::new(),
        pause: None,
        late_until: None,
    }
}

/// Refuses where this process and both stores are not of one migration with one history.
async fn require_one_migration(migration: &MigrationContext, from: Phase, to: Phase) -> Result<()> {
    let source = &migration.source;
    // 1. DynamoDB is the truth, and a coordinator knows fewer tables than the migration has. 2. It drains the
    // feeds of those, and compares those. 3. The flip makes PostgreSQL the truth for the others as well, and
    // it lacks acknowledged writes of theirs (I7). Whether their settings are the migration's is a gate.
    let contract = source.contract().await?;
    if to < from && from != Phase::DynamoOnly {
        // Reads go back to PostgreSQL for all tables, whatever became of one of them.
        contract.require_known(&migration.tables, &migration.unread)?;
    } else {
        contract.require_known(&migration.tables, &[])?;
    }
    if [from, to].contains(&Phase::DynamoOnly) {
        // The control table of another migration is refused before anything is changed, and before the
        // journal has an open step.
        migration.target.control().record().await?;
    }
    if to > from {
        // That the target tables are the ones in use is a gate.
        continuity::require_marks(migration).await?;
    } else {
        continuity::require_kept(migration).await?;
    }
    Ok(())
}

/// Marks both stores before the step, so that a later restore of PostgreSQL to before it is detected. History
/// must have been found kept just before.
async fn mark_before(migration: &MigrationContext) -> Result<()> {
    continuity::mark_now(migration).await?;
    migration.source.replace_times_ahead().await?;
    Ok(())
}

async fn all_gates(
    migration: &MigrationContext,
    control: &Control,
    to: Phase,
    rehearsal: &Rehearsal,
    observer: &dyn Observer,
) -> Result<GateReport> {
    let mut gates = gates::readiness(migration, control.phase, to, control.epoch, observer).await?;
    // The rehearsal writes, so it runs last, and only where every other gate passes.
    if control.phase == Phase::DualWrite && to == Phase::HybridRead && gates.passed() {
        for gate in rehearsal.gates(migration).await? {
            observer.gate(&gate);
            gates.results.push(gate);
        }
    }
    // After those: what differs need not be timed.
    if control.phase < to && to >= Phase::HybridRead && gates.passed() {
        for gate in rehearsal.latency(migration).await? {
            observer.gate(&gate);
            gates.results.push(gate);
        }
    }
    Ok(gates)
}

/// Refuses a step that a gate fails, unless the operator forces one that may be forced.
async fn refuse_by(
    migration: &MigrationContext,
    intent: &Intent,
    gates: &GateReport,
    force: Option<&str>,
) -> Result<()> {
    let (source, Intent { from, to, .. }) = (&migration.source, intent);
    // A step that moves the truth cannot be forced: without a reverse feed, or with lost records, there is no
    // safe way back.
    // Nor can a step that needs a table made by an import. 1. Applications may write to it. 2. The job fails
    // and leaves a table, and they write. 3. The table is deleted, as it must be before the next job, and
    // with it what was acknowledged.
    let needs_import = to > from && import::any(migration).await?;
    if !gates.passed() && (force.is_none() || intent.moves_truth() || needs_import) {
        let detail = json!({ "from": from, "to": to, "gates": gates });
        let id = source.journal_intent(&migration.actor, CHANGE_PHASE, &detail).await?;
        source.journal_outcome(&migration.actor, id, EntryKind::Refused, CHANGE_PHASE, &detail).await?;
        return Err(CoordinatorError::Refused(gates.clone()));
    }
    Ok(())
}

/// Runs the flip: to DynamoDB, back to PostgreSQL, or in place.
async fn take(
    migration: &MigrationContext,
    id: IntentId,
    intent: &Intent,
    observer: &dyn Observer,
) -> Result<Taken> {
    match (intent.from, intent.to) {
        // Boxed: nested, these futures exceed the depth to which the compiler looks by default.
        (_, Phase::DynamoOnly) => {
            Box::pin(moving::to_dynamo(migration, id, intent, observer)).await.map(Taken::from)
        }
        (Phase::DynamoOnly, _) => {
            Box::pin(moving::to_postgres(migration, id, observer)).await.map(Taken::from)
        }
        _ => open_and_flip(migration, id, intent, observer).await,
    }
}

/// Returns the outcome of a step, by what the records say and what went wrong.
fn outcome(
    intent: &Intent,
    gates: GateReport,
    taken: Taken,
    settled: Result<Settled>,
    error: Option<CoordinatorError>,
) -> Result<StepOutcome> {
    match (settled, error) {
        (Ok(Settled { now, instances, late_until }), _) if now.phase == intent.to => Ok(StepOutcome {
            from: intent.from,
            phase: now.phase,
            epoch: now.epoch,
            tries: taken.tries,
            barrier_held_ms: taken.held_ms,
            gates,
            instances,
            pause: taken.pause,
            late_until,
        }),
        (Ok(_), Some(error)) => Err(error),
        (Ok(_), None) => {
            let error = lockstep_core::Error::source(
                Kind::Unknown,
                CHANGE_PHASE,
                "the phase did not change, and the records do not say why; run the same command again",
            );
            Err(CoordinatorError::Store(error))
        }
        // Where not even the records can be read, the intent stays open, and the next coordinator settles it.
        (Err(unsettled), Some(error)) if intent.moves_truth() => {
            Err(CoordinatorError::Unsettled { why: error.to_string(), unsettled: unsettled.to_string() })
        }
        (Err(unsettled), error) => Err(error.unwrap_or(unsettled)),
    }
}

/// Opens the tables for guarded writes where this step begins them, then flips.
async fn open_and_flip(
    migration: &MigrationContext,
    id: IntentId,
    intent: &Intent,
    observer: &dyn Observer,
) -> Result<Taken> {
    if intent.to == Phase::DualWrite && intent.from == Phase::PostgresOnly {
        for binding in &migration.tables {
            migration.source.enable_relay(binding.name()).await?;
        }
    }
    let (tries, held_ms) = flip(migration, id, intent, observer).await?;
    Ok(Taken { tries, held_ms, ..Taken::default() })
}

/// Flips phase and epoch under the exclusive barrier; returns the tries it took and how long the barrier was
/// held.
async fn flip(
    migration: &MigrationContext,
    id: IntentId,
    intent: &Intent,
    observer: &dyn Observer,
) -> Result<(u32, f64)> {
    let steps = &migration.options.steps;
    let again = |tries: u32, _| async move {
        observer.note(&format!(
            "a write transaction is open; the step to {} waits {} ms and tries again (try {tries} of {})",
            intent.to,
            steps.lock_pause.as_millis(),
            steps.lock_tries
        ));
        take_in_partitions(migration).await
    };
    let flipped = steps.tries(|| try_flip(migration, id, intent), again).await;
    flipped.map_err(|error| steps.barrier_busy(error, intent.to))
}

async fn try_flip(migration: &MigrationContext, id: IntentId, intent: &Intent) -> Result<f64> {
    let doing = "changing the phase";
    let mut transaction = migration.source.begin(doing).await?;
    take_exclusive(&mut transaction, migration.options.steps.lock_timeout).await?;
    let held = std::time::Instant::now();
    require_flippable(&mut transaction, migration, id, intent, doing).await?;
    flip_phase(&mut transaction, intent.to).await?;
    transaction.commit().await.doing(doing)?;
    let held_ms = held.elapsed().as_secs_f64() * 1000.0;
    migration.source.tell_of_change().await;
    Ok(held_ms)
}
