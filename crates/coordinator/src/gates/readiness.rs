//! Readiness: may this step be taken now?

use lockstep_core::Advice::{
    Acknowledging, Backfill, BackfillAgain, DeadLetters, Doctor, Relay, RepairState, RepairStateAtOnce,
    Retrying, ReverseBackfill,
};
use lockstep_core::{Doing, Epoch, Kind, Phase, Truth, truth};
use lockstep_postgres::{CaptureState, Relation, TableBinding, control_schema};

use crate::gate::{Collector, GateReport, GateResult, Observer};
use crate::truth::set_back;

use crate::error::{CoordinatorError, Result};
use crate::feed_alarm::closed;
use crate::journal::REPAIR_STATE;
use crate::options::MigrationContext;
use crate::records::how_set_back;
use crate::records::is_current;

use super::compared::{fresh_verdict, shadow_reads};
use super::riders::rides_along;

/// Checks what docs/phases.md asks for before a step. A step back has few gates, and returns early; a step
/// forward asks the preflight first.
pub(crate) async fn readiness(
    migration: &MigrationContext,
    from: Phase,
    to: Phase,
    epoch: Epoch,
    observer: &dyn Observer,
) -> Result<GateReport> {
    let mut gates = Collector::new(observer);
    if from == Phase::DynamoOnly {
        gates.add(control_table(migration).await?);
        gates.add(state_is_whole(migration).await?);
        for binding in &migration.tables {
            for gate in way_back(migration, binding).await? {
                gates.add(gate.of(binding.name()));
            }
        }
        return Ok(gates.report);
    }
    if to < from {
        // Going back is always right: PostgreSQL is the truth, capture stays on, and the target only stops
        // being read.
        gates.add(GateResult::pass(
            "way back",
            "PostgreSQL is the truth and capture stays on; no new backfill will be needed",
        ));
        return Ok(gates.report);
    }
    let preflight = super::preflight(migration, observer).await?;
    gates.report.results.extend(preflight.results);
    gates.add(state_is_whole(migration).await?);
    let wrong = migration.source.versions_out_of_order().await?;
    gates.add(GateResult::check(
        "versions are in order",
        wrong.is_none(),
        wrong.unwrap_or_else(|| format!("{}.version_seq has no cache", control_schema())),
        format!("run {Doctor}, which says how to put the sequence back"),
    ));
    for binding in &migration.tables {
        migration.source.record_shape(binding).await?;
        let captured = migration.source.capture_state(binding).await?;
        gates.add(capture_is_on(&captured, format!("run {Backfill}, which installs it")).of(binding.name()));
        gates.add(backfilled(migration, binding.name(), to).await?.of(binding.name()));
        if to >= Phase::HybridRead {
            gates.add(super::target_table::is_expiring(migration, binding).await?.of(binding.name()));
            gates.add(drained(migration, binding.name()).await?.of(binding.name()));
            gates.add(no_dead_letters(migration, binding.name()).await?.of(binding.name()));
        }
    }
    if to >= Phase::HybridRead {
        gates.add(fresh_verdict(migration, epoch).await?);
    }
    if to == Phase::HybridRead {
        gates.add(shadow_reads(migration, epoch).await?);
        gates.add(GateResult::pass("way back", "HybridRead → DualWrite is possible at once"));
    }
    if to == Phase::DynamoOnly {
        for binding in &migration.tables {
            for gate in frozen_source(migration, binding).await? {
                gates.add(gate.of(binding.name()));
            }
            for gate in rides_along(migration, binding).await? {
                gates.add(gate.of(binding.name()));
            }
            gates.add(super::ids::can_be_found(binding).of(binding.name()));
            super::ids::tell_of_several_texts(migration, binding, observer).await?;
            gates.add(super::ids::can_be_made(migration, binding, observer).await?.of(binding.name()));
        }
        warn_of_protection(migration, observer).await?;
        let detail = "DynamoOnly → HybridRead through the reverse feed, which is begun and seen through before the step";
        gates.add(GateResult::pass("way back", detail));
    }
    Ok(gates.report)
}

/// Warns of tables that one call would delete, or that could not be restored. The control table is one of
/// them: without it no id is handed out, and no application knows the phase. It is made by the step, if it is
/// missing.
async fn warn_of_protection(migration: &MigrationContext, observer: &dyn Observer) -> Result<()> {
    if migration.target.is_emulator() {
        return Ok(());
    }
    for table in migration.tables.iter().map(|binding| binding.target_name.as_str()) {
        if let Some(missing) = migration.target.protection(table).await?.missing() {
            observer.note(&format!("WARNING: {table} is to be the truth, and {missing}"));
        }
    }
    let control = migration.target.control();
    match migration.target.protection(control.table()).await {
        Err(error) if error.kind == Kind::Misconfigured => {}
        asked => {
            if let Some(missing) = asked?.missing() {
                observer.note(&format!(
                    "WARNING: {} is to say where the truth is, and {missing}",
                    control.table()
                ));
            }
        }
    }
    Ok(())
}

/// Returns what a step to `to` would be asked now, without taking it. The writes that a step tries out are
/// not among them.
///
/// # Errors
/// [`CoordinatorError::NotAdjacent`]; the stores'.
#[crate::boxed]
pub async fn ready(migration: &MigrationContext, to: Phase) -> Result<GateReport> {
    let control = migration.source.control().await?;
    if !control.phase.is_next_to(to) {
        return Err(CoordinatorError::NotAdjacent { from: control.phase, to });
    }
    readiness(migration, control.phase, to, control.epoch, &()).await
}

/// Checks what must hold of the source before it is frozen.
async fn frozen_source(migration: &MigrationContext, binding: &TableBinding) -> Result<Vec<GateResult>> {
    let current = is_current(migration, binding).await?;
    let detail = if current {
        "they know DynamoOnly"
    } else {
        "those of an older Lockstep would let raw writers through"
    };
    let triggers = GateResult::check(
        "triggers are of this version",
        current,
        detail,
        format!("run {Backfill}, which brings them up to date"),
    );
    // A row that refers to one of ours is refused until the feed has brought ours, and holds up its deletion
    // after.
    let depending = migration.source.describe(binding).await?.dependents;
    // By the table and not by how it is printed: 1. A name has capitals, or a partition has a key of its own.
    // 2. Printed, it is in quotes, or it is the partition's. 3. It is taken for a table that stays.
    let ours =
        |by: Option<&Relation>| by.is_some_and(|by| migration.tables.iter().any(|t| t.relation == *by));
    let inbound: Vec<&str> = depending
        .iter()
        .filter(|d| d.kind == "foreign key" && !ours(d.by.as_ref()))
        .map(|d| d.name.as_str())
        .collect();
    let detail = if inbound.is_empty() { "none".to_owned() } else { inbound.join(", ") };
    let next = "drop these constraints first: PostgreSQL follows a moment behind in DynamoOnly, so they would refuse rows";
    Ok(vec![triggers, GateResult::check("foreign keys from other tables", inbound.is_empty(), detail, next)])
}

/// Without the record it is unknown which instance still has a lease to write there, nor which ids were
/// handed out: a step back over a lost one would have to take the phase, the leases and the counters for what
/// they were never seen to be.
async fn control_table(migration: &MigrationContext) -> Result<GateResult> {
    let (source, control) = (&migration.source, migration.target.control());
    let (now, record) = (source.control().await?, control.record().await?);
    let wrong = match (truth(&now, record.as_ref()), record) {
        (Truth::InTarget, Some(record)) => {
            let doing = "asking for ids";
            let mut connection = source.pool().acquire().await.doing(doing)?;
            let behind = set_back(&mut connection, &control, &migration.tables).await?;
            let how = how_set_back(&record, source.newest_target_epoch().await?, &behind);
            how.map(|how| format!("it was set back: {how}"))
        }
        _ => Some("its control record was lost: it does not say that it is the truth".to_owned()),
    };
    let next = format!("run {Doctor}, then {RepairState}");
    let ok = "its record is the newest, and its ids are free";
    Ok(GateResult::check(
        "DynamoDB's control table",
        wrong.is_none(),
        wrong.unwrap_or_else(|| ok.to_owned()),
        next,
    ))
}

/// Checks that every change is captured. `install` says what installs capture where it never was; what was on
/// and is not may have missed changes, and is the doctor's.
fn capture_is_on(captured: &CaptureState, install: String) -> GateResult {
    let name = "capture is on";
    match captured {
        CaptureState::On => GateResult::pass(name, "every change is captured"),
        CaptureState::Absent => GateResult::fail(name, "capture was never installed", install),
        CaptureState::Broken(how) => GateResult::fail(
            name,
            how.clone(),
            format!("run {Doctor}, then {RepairStateAtOnce}, which installs it: it may have missed some"),
        ),
    }
}

/// Checks what must hold before the truth goes back. How far the feed is, is seen later.
async fn way_back(migration: &MigrationContext, binding: &TableBinding) -> Result<Vec<GateResult>> {
    migration.source.record_shape(binding).await?;
    let captured = migration.source.capture_state(binding).await?;
    let next = format!(
        "run {Doctor}, then {RepairStateAtOnce}, which installs it: changes would not be known after the step"
    );
    let mut gates = vec![capture_is_on(&captured, next)];
    let captured = migration
        .source
        .table_state(binding.name())
        .await?
        .map(|state| state.fingerprint)
        .unwrap_or_default();
    gates.push(super::source_tables::is_captured(&captured, &migration.source.fingerprint(binding).await?));
    let standing = migration.source.reverse_standing(binding.name()).await?;
    gates.push(match standing.as_ref().map(closed) {
        None => GateResult::fail("reverse feed", "it was never begun", format!("run {ReverseBackfill}")),
        Some(Some(why)) => GateResult::fail("reverse feed", why, format!("run {ReverseBackfill}")),
        Some(None) => GateResult::pass("reverse feed", "nothing was lost"),
    });
    Ok(gates)
}

async fn backfilled(migration: &MigrationContext, table: &str, to: Phase) -> Result<GateResult> {
    let ranges = migration.source.ranges(table).await?;
    let state = migration.source.table_state(table).await?;
    let planned = state.as_ref().is_some_and(|state| state.planned_at.is_some());
    let windowed =
        state.as_ref().is_some_and(|state| state.window_start.is_some() || state.window_end.is_some());
    let open = ranges.iter().filter(|range| !range.done).count();
    let detail = match (planned, open) {
        (false, _) => "never started".to_owned(),
        (true, 0) => format!("all {} ranges done", ranges.len()),
        (true, open) => format!("{open} of {} ranges are not done", ranges.len()),
    };
    if state.as_ref().is_some_and(|state| state.importing) {
        let next = format!("run {Backfill}, which goes on with it");
        return Ok(GateResult::fail("backfill", "an import is making the target table", next));
    }
    let done = planned && open == 0;
    if done && windowed && to >= Phase::HybridRead {
        let next = format!("run {BackfillAgain} without a window");
        return Ok(GateResult::fail(
            "backfill",
            "only a window of days was backfilled; reads would miss the rest",
            next,
        ));
    }
    Ok(GateResult::check("backfill", done, detail, format!("run {Backfill}")))
}

/// Name of the gate of what waits for a relay.
const DRAINED: &str = "pending set is drained";

async fn drained(migration: &MigrationContext, table: &str) -> Result<GateResult> {
    let lag = migration.source.lag(table).await?;
    let steps = &migration.options.steps;
    let passed = lag.keys <= steps.pending_keys_max && lag.oldest_s <= steps.pending_age_max.as_secs_f64();
    let keys = format!("{} keys pending, the oldest for {:.1} s", lag.keys, lag.oldest_s);
    if passed {
        return Ok(GateResult::pass(DRAINED, keys));
    }
    // A caller that is told to run one, and runs one, looks for what is wrong with the wrong thing.
    let relays = migration.source.relays().await?;
    let live = relays.iter().filter(|relay| relay.is_live()).count();
    Ok(match live {
        0 => GateResult::fail(
            DRAINED,
            format!("{keys}, and no relay is running"),
            format!("run {Relay}, or the daemon, beside the application until the lag is small"),
        ),
        _ => GateResult::fail(
            DRAINED,
            format!("{keys}, with {live} at work delivering them"),
            "wait until the lag is small; what holds a relay up is in its output, and the daemon shows it",
        ),
    })
}

async fn no_dead_letters(migration: &MigrationContext, table: &str) -> Result<GateResult> {
    let (all, unacknowledged) = migration.source.count_dead_letters(table).await?;
    let detail = format!("{all} dead letters, {unacknowledged} not acknowledged");
    let next = format!(
        "look at them with {DeadLetters}; repair and `{Retrying}` them, or accept that \
        they stay behind with `{Acknowledging}`"
    );
    Ok(GateResult::check("dead letters", unacknowledged == 0, detail, next))
}

/// Returns the gate that keeps a step from being taken over a repair that was broken off: one forward, and
/// the one back from DynamoOnly, where a repair fills PostgreSQL with what it lacks.
pub(crate) async fn state_is_whole(migration: &MigrationContext) -> Result<GateResult> {
    let next = format!("run {RepairStateAtOnce} again: it goes on where it stopped");
    let is_open = migration.source.open_intents().await?.iter().any(|entry| entry.step == REPAIR_STATE);
    Ok(match is_open {
        false => GateResult::pass("state is whole", "no repair of the state was broken off"),
        true => GateResult::fail("state is whole", "a repair of the state was broken off", next),
    })
}
