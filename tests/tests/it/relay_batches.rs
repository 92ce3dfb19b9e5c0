//! New rows go in by the batch: what a batch does not settle is put under the guard, and nothing that was
//! marked meanwhile is acknowledged.

use std::time::Duration;

use lockstep_coordinator::{Progress, RelaySummary, RelayUntil, relay};
use lockstep_core::MigratableTable;
use lockstep_integration_logs::IntegrationLogs;
use lockstep_tests::World;
use lockstep_tests::faults::{Fault, FaultKind, Gate, Rule};
use lockstep_tests::world::rows::{log_key, logs, outgrow};
use lockstep_tests::world::{LOGS, backfill, within};
use tokio_util::sync::CancellationToken;

const BATCH: &str = "BatchExecuteStatement";

async fn no_dead_letters(world: &World) {
    assert_eq!(world.source.count_dead_letters(LOGS).await.expect("counts"), (0, 0));
}

/// Relays with few keys a read, so that several reads are under way at once.
async fn relayed_in_reads_of(world: &World, keys: usize) -> RelaySummary {
    let mut migration = world.migration();
    migration.options.relay.batch_keys = keys;
    let progress = Progress::new(&migration.tables);
    within(
        Duration::from_secs(60),
        relay(&migration, RelayUntil::Empty, &progress, &CancellationToken::new()),
    )
    .await
    .expect("relays")
}

#[tokio::test]
async fn new_rows_take_a_request_for_twenty_five_of_them_and_changed_ones_hardly_a_batch() {
    let world = World::behind_proxy().await;
    world.prepared().await.close().await;
    world.sql(&logs(1, 2_000)).await;
    let (batches, puts) = (world.proxy().seen(BATCH), world.proxy().seen("PutItem"));
    assert_eq!(relayed_in_reads_of(&world, 500).await.delivered, 2_000);
    let (batches, puts) = (world.proxy().seen(BATCH) - batches, world.proxy().seen("PutItem") - puts);
    assert!(batches >= 40 && puts <= 1_000, "{batches} batches and {puts} puts for 2,000 new rows");
    world.assert_converged().await;

    world.sql("UPDATE integration_logs SET user_id = 'changed'").await;
    let (batches, puts) = (world.proxy().seen(BATCH), world.proxy().seen("PutItem"));
    assert_eq!(relayed_in_reads_of(&world, 500).await.delivered, 2_000);
    let (batches, puts) = (world.proxy().seen(BATCH) - batches, world.proxy().seen("PutItem") - puts);
    assert!(batches <= 4 && puts >= 2_000, "{batches} batches and {puts} puts for 2,000 changed rows");
    world.assert_converged().await;
}

#[tokio::test]
async fn whatever_a_batch_is_answered_each_row_is_delivered_once_and_none_is_set_aside() {
    let world = World::behind_proxy().await;
    let coordinator = world.prepared().await;
    // A third of what is marked is in the target already.
    world.sql(&logs(1, 100)).await;
    backfill(&coordinator).await;
    coordinator.close().await;
    world.relay_until_empty().await;
    let answers = [
        Fault::ThrottleStatements(7),
        Fault::Throttle,
        Fault::LoseReply,
        Fault::Unavailable,
        Fault::ServerError,
        Fault::Duplicate,
        Fault::Page(429),
        Fault::PageAfter(503),
        Fault::NoPartiQl,
        Fault::AccessDenied,
        Fault::Code("ValidationException"),
        Fault::Code("SomethingOfNextYearException"),
        Fault::LongStatements(1),
    ];
    for (n, fault) in answers.into_iter().enumerate() {
        let (told, kind) = (format!("{fault:?}"), fault.kind());
        let first = 1_000 * (n as i64 + 1);
        world.sql(&logs(first, first + 199)).await;
        world.sql(&format!("UPDATE integration_logs SET user_id = 'round {n}' WHERE log_id <= 100")).await;
        let before = world.proxy().counts().injected(kind);
        world.proxy().script(Rule::new(fault).on(BATCH).table(LOGS));
        let summary = relayed_in_reads_of(&world, 60).await;
        world.proxy().clear();
        assert!(world.proxy().counts().injected(kind) > before, "{told} never happened");
        assert_eq!((summary.delivered, summary.dead_letters), (300, 0), "{told}");
        no_dead_letters(&world).await;
    }
    world.assert_converged().await;
}

#[tokio::test]
async fn what_is_changed_or_deleted_while_its_batch_is_on_its_way_stays_pending_and_is_delivered() {
    let world = World::behind_proxy().await;
    world.prepared().await.close().await;
    world.sql(&logs(1, 60)).await;
    let gate = Gate::new();
    world.proxy().script(Rule::new(Fault::Delay(gate.clone())).on(BATCH).times(1));
    let (relayed, ()) = tokio::join!(relayed_in_reads_of(&world, 100), async {
        gate.until_held(1).await;
        world.sql("UPDATE integration_logs SET user_id = 'newer' WHERE log_id % 2 = 0").await;
        world.sql("DELETE FROM integration_logs WHERE log_id % 3 = 0").await;
        gate.open();
    });
    assert_eq!(world.proxy().counts().injected(FaultKind::Delay), 1);
    assert_eq!(relayed.delivered, 60 + 40, "the old states, and then those that were marked meanwhile");
    let item = world.live_at(&world.logs_table(), &log_key(2, "service-2")).await;
    assert_eq!(IntegrationLogs::decode(&item).expect("a log").user_id.as_deref(), Some("newer"));
    world.tombstone_at(&world.logs_table(), &log_key(3, "service-3")).await;
    world.assert_converged().await;
}

#[tokio::test]
async fn a_late_batch_of_rows_that_were_deleted_since_brings_none_of_them_back() {
    let world = World::behind_proxy().await;
    world.prepared().await.close().await;
    world.sql(&logs(1, 60)).await;
    let gate = Gate::new();
    world.proxy().script(Rule::new(Fault::AnswerThenApplyLate(gate.clone())).on(BATCH).times(1));
    relayed_in_reads_of(&world, 100).await;
    assert_eq!(world.proxy().counts().injected(FaultKind::AnswerThenApplyLate), 1);
    world.sql("DELETE FROM integration_logs").await;
    relayed_in_reads_of(&world, 100).await;
    gate.open();
    within(Duration::from_secs(10), gate.until_done(1)).await;
    assert_eq!(world.live_items(LOGS).await, 0);
    world.assert_converged().await;
}

#[tokio::test]
async fn a_row_that_cannot_be_held_costs_its_batch_nothing() {
    let world = World::behind_proxy().await;
    world.prepared().await.close().await;
    world.sql(&logs(1, 120)).await;
    world.sql(&outgrow(30)).await;
    let summary = relayed_in_reads_of(&world, 120).await;
    assert_eq!((summary.delivered, summary.dead_letters), (119, 1));
    assert_eq!(world.live_items(LOGS).await, 119);
    world.tombstone_at(&world.logs_table(), &log_key(30, "service-0")).await;
}

#[tokio::test]
async fn reads_that_overlap_deliver_every_key_of_a_set_that_grows_under_them() {
    let world = World::behind_proxy().await;
    world.prepared().await.close().await;
    world.sql(&logs(1, 1_500)).await;
    world.proxy().script(Rule::new(Fault::LoseReply).on(BATCH).on("PutItem").every(7));
    let writing = async {
        for round in 0..20 {
            let from = 1_501 + round * 20;
            world.sql(&logs(from, from + 19)).await;
            world
                .sql(&format!(
                    "UPDATE integration_logs SET user_id = '{round}' WHERE log_id % 13 = {}",
                    round % 13
                ))
                .await;
            world.sql(&format!("DELETE FROM integration_logs WHERE log_id % 97 = {round}")).await;
        }
    };
    let (relayed, ()) = tokio::join!(relayed_in_reads_of(&world, 70), writing);
    assert!(relayed.delivered >= 1_500, "{relayed:?}");
    world.proxy().clear();
    world.assert_converged().await;
}
