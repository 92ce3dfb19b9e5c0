//! The backfill: whatever the target does it is slower and nothing is lost, and what is finished is never
//! read again.

use std::num::NonZeroU32;
use std::time::Duration;

use lockstep_coordinator::{BackfillSummary, Coordinator, CoordinatorError};
use lockstep_core::Kind;
use lockstep_dynamo::LoadPath;
use lockstep_sample::writers::{WriterOptions, write_until};
use lockstep_tests::World;
use lockstep_tests::faults::{Fault, FaultKind, Gate, Rule};
use lockstep_tests::world::rows::{logs, payments};
use lockstep_tests::world::{LOGS, PAYMENTS, backfill, within};
use tokio_util::sync::CancellationToken;

fn of<'a>(summaries: &'a [BackfillSummary], table: &str) -> &'a BackfillSummary {
    summaries.iter().find(|summary| summary.table == table).expect("every table has a summary")
}

/// Rows that all runs together have read, by the ranges in the source.
async fn rows_read(world: &World, table: &str) -> i64 {
    world.source.ranges(table).await.expect("ranges").iter().map(|range| range.rows_read).sum()
}

#[tokio::test]
async fn history_moves_whole_and_each_row_is_read_once() {
    let world = World::start().await;
    world.sql(&logs(1, 1_700)).await;
    world.sql(&payments(1, 300)).await;
    let coordinator = world.prepared().await;
    let summaries = backfill(&coordinator).await;
    for (table, rows) in [(LOGS, 1_700), (PAYMENTS, 300)] {
        let summary = of(&summaries, table);
        assert_eq!(
            (summary.rows_read, summary.rows_written, summary.rows_present),
            (rows, rows, 0),
            "{table}"
        );
        assert_eq!((summary.load_path, summary.dead_letters), (LoadPath::GuardedBatch, 0));
        assert!(summary.ranges > 1, "{table} is cut into ranges");
        assert_eq!(rows_read(&world, table).await, rows as i64);
    }
    world.assert_converged().await;
}

/// A backfill under faults of one kind converges, and the faults did happen.
async fn check(fault: Fault, operation: &str, every: u64) {
    let kind = fault.kind();
    let world = World::behind_proxy().await;
    world.sql(&logs(1, 900)).await;
    world.sql(&payments(1, 200)).await;
    let coordinator = world.prepared().await;
    // The first batches are the probes for PartiQL, one a table.
    world.proxy().script(Rule::new(fault).on(operation).after(2).every(every));
    let summaries = backfill(&coordinator).await;
    let injected = world.proxy().counts().injected_on(kind, operation);
    // How often a rate is exceeded depends on how fast this machine is; the others come every few requests.
    let least = if kind == FaultKind::WriteUnits { 1 } else { 3 };
    assert!(injected >= least, "{kind:?} happened {injected} times");
    let settled: u64 = summaries.iter().map(|summary| summary.rows_written + summary.rows_present).sum();
    assert_eq!(settled, 1_100, "{kind:?}");
    let progress = coordinator.progress();
    let (throttles, lost): (u64, u64) = progress
        .tables
        .iter()
        .fold((0, 0), |(t, l), table| (t + table.throttles(), l + table.lost_replies()));
    let throttling =
        matches!(kind, FaultKind::Throttle | FaultKind::ThrottleStatements | FaultKind::WriteUnits);
    assert_eq!(throttles > 0, throttling, "{kind:?}: {throttles} throttles counted");
    let loses = matches!(kind, FaultKind::LoseReply | FaultKind::Unavailable | FaultKind::ServerError);
    assert_eq!(lost > 0, loses, "{kind:?}: {lost} lost replies counted");
    world.proxy().clear();
    world.assert_converged().await;
    assert_eq!(world.proxy().counts().upstream_failures, 0);
}

#[tokio::test]
async fn throttled_requests_are_sent_again() {
    check(Fault::Throttle, "BatchExecuteStatement", 4).await;
}

#[tokio::test]
async fn throttled_probes_are_asked_again() {
    let world = World::behind_proxy().await;
    world.sql(&logs(1, 30)).await;
    let coordinator = world.prepared().await;
    world.proxy().script(Rule::new(Fault::Throttle).on("BatchExecuteStatement").times(2));
    world.proxy().script(Rule::new(Fault::LoseReply).on("BatchExecuteStatement").times(1));
    backfill(&coordinator).await;
    let counts = world.proxy().counts();
    assert_eq!((counts.injected(FaultKind::Throttle), counts.injected(FaultKind::LoseReply)), (2, 1));
    world.assert_converged().await;
}

#[tokio::test]
async fn throttled_statements_are_sent_again_and_only_they() {
    check(Fault::ThrottleStatements(7), "BatchExecuteStatement", 4).await;
}

#[tokio::test]
async fn lost_replies_are_looked_up_by_repeating() {
    check(Fault::LoseReply, "BatchExecuteStatement", 4).await;
}

#[tokio::test]
async fn broken_connections_and_server_errors_are_survived() {
    check(Fault::Unavailable, "BatchExecuteStatement", 5).await;
    check(Fault::ServerError, "BatchExecuteStatement", 5).await;
}

#[tokio::test]
async fn a_request_carried_out_twice_changes_nothing() {
    check(Fault::Duplicate, "BatchExecuteStatement", 3).await;
}

#[tokio::test]
async fn a_target_of_little_capacity_is_loaded_slowly_and_whole() {
    check(Fault::WriteUnits(400), "BatchExecuteStatement", 1).await;
}

#[tokio::test]
async fn a_late_write_of_history_does_not_undo_a_newer_state() {
    let world = World::behind_proxy().await;
    world.sql(&logs(1, 20)).await;
    let coordinator = world.prepared().await;
    let gate = Gate::new();
    world.proxy().script(
        Rule::new(Fault::AnswerThenApplyLate(gate.clone()))
            .on("BatchExecuteStatement")
            .table(LOGS)
            .after(1)
            .times(1),
    );
    backfill(&coordinator).await;
    world
        .sql("UPDATE integration_logs SET user_id = 'newer'; DELETE FROM integration_logs WHERE log_id > 10")
        .await;
    world.relay_until_empty().await;
    gate.open();
    within(Duration::from_secs(10), gate.until_done(1)).await;
    world.assert_converged().await;
    assert_eq!(world.live_items(LOGS).await, 10, "I3: what was deleted is not resurrected");
}

#[tokio::test]
async fn without_partiql_history_goes_by_conditional_puts_once_changes_are_delivered() {
    let world = World::behind_proxy().await;
    world.sql(&logs(1, 150)).await;
    let coordinator = world.prepared().await;
    world.proxy().script(Rule::new(Fault::NoPartiQl));
    world.relay_until_empty().await;
    let summaries = backfill(&coordinator).await;
    assert_eq!(of(&summaries, LOGS).load_path, LoadPath::ConditionalPut);
    assert_eq!(of(&summaries, LOGS).rows_written, 150);
    assert_eq!(world.proxy().counts().seen("BatchWriteItem"), 0, "nothing goes without a condition");
    world.assert_converged().await;
}

#[tokio::test]
async fn what_is_behind_a_watermark_is_never_read_again() {
    let world = World::behind_proxy().await;
    world.sql(&logs(1, 4_000)).await;
    let coordinator = world.prepared().await;
    let (gate, cancel) = (Gate::new(), CancellationToken::new());
    world
        .proxy()
        .script(Rule::new(Fault::Delay(gate.clone())).on("BatchExecuteStatement").table(LOGS).after(90));
    let (broken_off, ()) = tokio::join!(coordinator.backfill(&cancel), async {
        gate.until_held(1).await;
        cancel.cancel();
    });
    assert!(matches!(broken_off, Err(CoordinatorError::Interrupted)), "{broken_off:?}");
    coordinator.close().await;
    world.proxy().clear();
    gate.open();
    let before = world.source.ranges(LOGS).await.expect("ranges");
    let settled = rows_read(&world, LOGS).await;
    assert!(
        before.iter().any(|range| range.done) && before.iter().any(|range| !range.done),
        "it was broken off midway"
    );
    let coordinator = world.coordinator().await;
    let summaries = backfill(&coordinator).await;
    let summary = of(&summaries, LOGS);
    assert_eq!(summary.ranges_resumed, before.iter().filter(|range| range.done).count() as u64);
    assert_eq!(
        (summary.rows_resumed, summary.rows_read),
        (settled as u64, 4_000 - settled as u64),
        "I4: read once in all"
    );
    for (then, now) in before.iter().zip(world.source.ranges(LOGS).await.expect("ranges")) {
        assert!(
            now.done && (!then.done || now.rows_read == then.rows_read),
            "range {} was read again",
            then.number
        );
    }
    world.assert_converged().await;
}

#[tokio::test]
async fn a_coordinator_that_is_dropped_midway_is_taken_over() {
    let world = World::behind_proxy().await;
    world.sql(&logs(1, 2_000)).await;
    let coordinator = world.prepared().await;
    let gate = Gate::new();
    world.proxy().script(Rule::new(Fault::Delay(gate.clone())).on("BatchExecuteStatement").after(30));
    let cancel = CancellationToken::new();
    tokio::select! {
        ended = coordinator.backfill(&cancel) => panic!("it waits at the gate, and yet ended: {ended:?}"),
        () = gate.until_held(1) => {}
    }
    drop(coordinator);
    world.proxy().clear();
    gate.open();
    let next = world.coordinator().await;
    assert!(
        next.recovered().iter().any(|what| what.contains("`backfill` was broken off")),
        "{:?}",
        next.recovered()
    );
    backfill(&next).await;
    assert!(world.source.open_intents().await.expect("the journal").is_empty());
    world.assert_converged().await;
}

#[tokio::test]
async fn writers_who_go_on_meanwhile_lose_nothing() {
    let world = World::start().await;
    world.sql(&logs(1, 1_500)).await;
    world.sql(&payments(1, 500)).await;
    world.sql("SELECT setval(pg_get_serial_sequence('integration_logs', 'log_id'), 1500)").await;
    world.sql("SELECT setval(pg_get_serial_sequence('payments', 'payment_id'), 500)").await;
    let stop = CancellationToken::new();
    let options = |seed| WriterOptions { seed, per_second: NonZeroU32::new(300).expect("not zero") };
    let writers =
        [1, 2].map(|seed| tokio::spawn(write_until(world.connect_options(), options(seed), stop.clone())));
    let coordinator = world.prepared().await;
    backfill(&coordinator).await;
    stop.cancel();
    for writer in writers {
        let counts = writer.await.expect("no panic");
        assert!(counts.total().done > 50, "{counts:?}");
        assert_eq!((counts.total().refused, counts.total().given_up), (0, 0), "{counts:?}");
    }
    world.assert_converged().await;
}

#[tokio::test]
async fn a_second_coordinator_is_refused_while_the_first_works() {
    let world = World::start().await;
    let first = world.prepared().await;
    match Coordinator::open(world.migration()).await {
        Err(CoordinatorError::Store(e)) => {
            assert!(e.kind == Kind::Busy && e.message.contains("another Lockstep coordinator"), "{e}")
        }
        other => panic!("two coordinators: {:?}", other.map(|_| ())),
    }
    first.close().await;
    Coordinator::open(world.migration()).await.expect("the lock is free").close().await;
}

/// V37: a table without statistics, as each is after a restore or an upgrade, was taken for empty: all of it
/// was sampled and sorted before the pass that reads it.
#[tokio::test]
async fn a_table_that_was_never_analysed_is_not_taken_for_empty_and_one_that_has_grown_since_for_larger() {
    let world = World::start().await;
    world.sql("ALTER TABLE integration_logs SET (autovacuum_enabled = off)").await;
    world.sql(&logs(1, 4_000)).await;
    let tables = world.tables();
    let binding = tables.iter().find(|table| table.name() == LOGS).expect("the logs");
    let never = world.source.describe(binding).await.expect("described");
    assert_eq!(never.rows_estimate, 0, "what it does not know it does not say");
    assert!((200..=4_000).contains(&never.rows_likely()), "{} of 4,000", never.rows_likely());
    world.sql("ANALYZE integration_logs").await;
    world.sql(&logs(4_001, 12_000)).await;
    let grown = world.source.describe(binding).await.expect("described").rows_estimate;
    assert!((10_000..=14_000).contains(&grown), "{grown} of 12,000");
}
