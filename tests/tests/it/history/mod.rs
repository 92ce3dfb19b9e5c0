//! Stores that lose history: noticed by a process that starts and by one that runs, explained, mended, and
//! equal again.
//!
//! In reading order: `source` (PostgreSQL lost it), `target` (DynamoDB did), `control` (its control table
//! did), `mending` (what a repair is made of), `way_on` (a way on from what several of these make together),
//! `refilled` (what SQL wrote past the triggers), `returned` (a return that is broken off),
//! `edges` (clock, sequence, catalogue), `clocks` (times that lie ahead), `outranked` (a step back that
//! nothing has shown yet), `foreign` (versions that are none of ours), `undecided` (what only DynamoDB has
//! since).

mod clocks;
mod control;
mod edges;
mod foreign;
mod mending;
mod outranked;
mod refilled;
mod returned;
mod source;
mod target;
mod undecided;
mod way_on;

use std::time::Duration;

use lockstep_coordinator::{
    Coordinator, CoordinatorError, Diagnosis, FeedUntil, MigrationContext, RelayUntil, Remedy, StateRepaired,
    examine, find_repairs, observe, relay, repair, repair_state, status, take_target,
};
use lockstep_core::{Epoch, Phase, version_of};
use lockstep_postgres::{EntryKind, IntentId, TableBinding};
use lockstep_tests::World;
use lockstep_tests::world::rows::{log, log_key, logs, payment, payment_key, payments};
use lockstep_tests::world::{CutShort, LOGS, PAYMENTS, eventually, run, within};
use lockstep_validator::{CancellationToken, FindingClass, ValidateOptions, ValidateSettings};

fn options() -> ValidateOptions {
    ValidateOptions {
        settings: ValidateSettings { scan_segments: 2, ..ValidateSettings::default() },
        wait_for_pending: false,
        ..ValidateOptions::default()
    }
}

pub(crate) async fn diagnosis(world: &World) -> Diagnosis {
    examine(&observe(&world.source, &world.plain_target, &world.tables()).await.expect("observed"))
}

pub(crate) async fn mended(world: &World) -> StateRepaired {
    let migration = world.migration();
    let mending = async { repair_state(&migration, &options(), &(), &CancellationToken::new()).await };
    within(Duration::from_mins(3), mending).await.expect("mended")
}

/// Breaks the repair of the state off, later each time, until it comes to its end; how many awaits that took.
async fn mended_after_many_crashes(migration: &MigrationContext, mut after_each: impl AsyncFnMut()) -> usize {
    let mut polls = 1;
    loop {
        let mending = async { repair_state(migration, &options(), &(), &CancellationToken::new()).await };
        match CutShort::after(polls, mending).await {
            // The one before is not quite gone.
            Some(Err(CoordinatorError::Store(error))) if error.kind == lockstep_core::Kind::Busy => continue,
            Some(ended) => {
                ended.expect("it ended well");
                return polls;
            }
            None => after_each().await,
        }
        polls += 1 + polls / 6;
    }
}

/// Finds what is not as it must be row by row, and has it put right.
pub(crate) async fn repair_rows(world: &World) {
    let (migration, cancel) = (world.migration(), CancellationToken::new());
    let found = find_repairs(&migration, &options(), &cancel).await.expect("searched").repairable;
    repair(&migration, &found, &options(), &cancel).await.expect("repaired");
}

/// Returns what each of those who move something says.
async fn refusals(world: &World) -> Vec<String> {
    let migration = world.migration();
    let cancel = CancellationToken::new();
    let progress = lockstep_coordinator::Progress::new(&migration.tables);
    let said = [
        Coordinator::open(migration.clone()).await.err(),
        relay(&migration, RelayUntil::Empty, &progress, &cancel).await.err(),
        world.feed(FeedUntil::Drained, &cancel).await.err(),
        repair(&migration, &[], &options(), &cancel).await.err(),
    ];
    said.into_iter()
        .map(|error| match error {
            Some(error @ CoordinatorError::HistoryLost(_)) => error.to_string(),
            other => panic!("it went on, or failed at something else: {other:?}"),
        })
        .collect()
}

/// Every command refuses, with `says`; the doctor says so as well, and what would be done.
async fn check(world: &World, says: &str, plan: &[Remedy]) {
    for refusal in refusals(world).await {
        assert!(refusal.contains(says) && refusal.contains("run `doctor`"), "{says}? {refusal}");
    }
    let status =
        status(&world.source, &world.plain_target, &world.tables()).await.expect("status only reads");
    assert!(status.lost.iter().any(|lost| lost.contains(says)), "{:?}", status.lost);
    let diagnosis = diagnosis(world).await;
    assert!(!diagnosis.sound);
    assert!(diagnosis.findings[0].what.contains(says), "{:?}", diagnosis.findings);
    assert_eq!(lockstep_coordinator::remedies(&diagnosis.findings), plan);
}

/// After a repair: whole, in `phase`, and the way forward is open again once it was proven.
async fn goes_on(world: &World, phase: Phase) {
    assert_eq!(world.source.control().await.expect("a phase").phase, phase);
    world.assert_converged().await;
    let diagnosis = diagnosis(world).await;
    assert!(diagnosis.sound, "{:#?}", diagnosis.findings);
    let coordinator = world.coordinator().await;
    for to in Phase::ALL.into_iter().filter(|to| *to > phase && *to <= Phase::HybridRead) {
        world.step_to(&coordinator, to).await;
    }
    coordinator.close().await;
    world.sql("UPDATE integration_logs SET user_id = 'afterwards' WHERE log_id % 2 = 0; UPDATE payments SET loan_id = 3").await;
    world.sql(&log(9_001, "afterwards")).await;
    world.assert_converged().await;
}

/// A source that goes back to a moment in DualWrite, with a step, changes of each kind and deliveries after
/// it.
pub(crate) async fn set_back() -> World {
    let mut world = World::start().await;
    world.sql(&logs(1, 60)).await;
    world.sql(&payments(1, 60)).await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    world.sql("UPDATE integration_logs SET user_id = 'waits' WHERE log_id = 7").await;
    let backup = world.back_up_source().await;
    world.relay_until_empty().await;
    world.stepped_to(Phase::HybridRead).await;
    world.sql("UPDATE integration_logs SET user_id = 'lost' WHERE log_id <= 7; DELETE FROM payments WHERE payment_id <= 5").await;
    world.sql(&log(1_000, "lost")).await;
    world.sql(&payment(1_000, 3)).await;
    world.relay_until_empty().await;
    world.restore_source(backup).await;
    world
}
