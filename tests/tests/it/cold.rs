//! The cold path: writes without a condition, only while nothing else may write the target, and until every one of them that
//! was lost is provably dead.

use std::time::Duration;

use lockstep_coordinator::{Coordinator, Error, LoadPathChoice, Migration};
use lockstep_core::{Kind, Phase};
use lockstep_dynamo::LoadPath;
use lockstep_tests::faults::{Fault, FaultKind, Gate, Rule};
use lockstep_tests::world::rows::logs;
use lockstep_tests::world::{LOGS, backfill, within};
use lockstep_tests::{World, WorldOptions};
use tokio_util::sync::CancellationToken;

fn cold(world: &World) -> Migration {
    let mut migration = world.migration();
    migration.options.backfill.load_path = LoadPathChoice::Cold;
    migration
}

async fn prepared(world: &World) -> Coordinator {
    let coordinator = world.coordinator_of(cold(world)).await;
    coordinator.prepare(&()).await.expect("nothing refuses");
    coordinator
}

#[tokio::test]
async fn a_cold_load_moves_everything_and_unprocessed_items_are_sent_again() {
    let world = World::behind_proxy().await;
    world.sql(&logs(1, 900)).await;
    let coordinator = prepared(&world).await;
    world.proxy().script(Rule::new(Fault::Unprocessed(9)).on("BatchWriteItem").every(3));
    let summaries = backfill(&coordinator).await;
    assert!(summaries.iter().all(|summary| summary.load_path == LoadPath::ColdBatch));
    let counts = world.proxy().counts();
    assert!(counts.injected(FaultKind::Unprocessed) >= 5 && counts.seen("BatchWriteItem") > 900 / 25);
    assert_eq!(world.live_items(LOGS).await, 900);
    world.proxy().clear();
    world.assert_converged().await;
}

#[tokio::test]
async fn a_cold_load_is_refused_once_changes_may_have_been_delivered() {
    let world = World::start().await;
    world.sql(&logs(1, 10)).await;
    let coordinator = prepared(&world).await;
    world.relay_until_empty().await;
    let refused = coordinator.backfill(&CancellationToken::new()).await;
    match refused {
        Err(Error::Store(e)) => assert!(e.message.contains("use the guarded path"), "{e}"),
        other => panic!("changes may be overwritten: {other:?}"),
    }
    assert_eq!(world.live_items(LOGS).await, 0, "nothing was written");
}

#[tokio::test]
async fn changes_wait_until_a_cold_load_is_over() {
    let world = World::behind_proxy().await;
    world.sql(&logs(1, 100)).await;
    let coordinator = prepared(&world).await;
    let gate = Gate::new();
    world.proxy().script(Rule::new(Fault::Delay(gate.clone())).on("BatchWriteItem").times(1));
    let cancel = CancellationToken::new();
    let (loaded, ()) = tokio::join!(coordinator.backfill(&cancel), async {
        gate.until_held(1).await;
        let refused = world.source.enable_relay(LOGS).await.expect_err("I2: a cold write could land on a change");
        assert!(refused.kind == Kind::Busy && refused.message.contains("a cold load is not finished"), "{refused}");
        gate.open();
    });
    loaded.expect("it ends well");
    world.source.enable_relay(LOGS).await.expect("it is over, and nothing was lost");
}

/// A world whose first cold write is lost and applied when the gate opens, told that lost requests live for `lifetime`.
async fn with_a_late_write(lifetime: Duration) -> (World, Coordinator, Gate) {
    let options = WorldOptions { proxied: true, request_lifetime: lifetime, ..WorldOptions::default() };
    let world = World::with(options).await;
    world.sql(&logs(1, 20)).await;
    let coordinator = prepared(&world).await;
    let gate = Gate::new();
    world.proxy().script(Rule::new(Fault::AnswerThenApplyLate(gate.clone())).on("BatchWriteItem").times(1));
    (world, coordinator, gate)
}

#[tokio::test]
async fn changes_wait_until_a_lost_cold_write_is_dead() {
    let (world, coordinator, gate) = with_a_late_write(Duration::from_millis(1_500)).await;
    backfill(&coordinator).await;
    let refused = world.source.enable_relay(LOGS).await.expect_err("I8: it could still arrive");
    assert!(refused.kind == Kind::Busy && refused.message.contains("could still arrive until"), "{refused}");
    world.sql("UPDATE integration_logs SET user_id = 'newer'").await;
    // It arrives at the last moment; the relay, which waits by itself, comes after it.
    gate.open();
    within(Duration::from_secs(10), gate.until_done(1)).await;
    world.assert_converged().await;
}

#[tokio::test]
async fn a_cold_load_that_was_broken_off_keeps_changes_away_from_its_lost_writes() {
    let (world, coordinator, gate) = with_a_late_write(Duration::from_secs(600)).await;
    let cancel = CancellationToken::new();
    let (broken_off, ()) = tokio::join!(coordinator.backfill(&cancel), async {
        gate.until_held(1).await;
        cancel.cancel();
    });
    assert!(broken_off.is_err(), "{broken_off:?}");
    coordinator.close().await;
    assert!(world.source.enable_relay(LOGS).await.is_err(), "it is not finished");
    // The run that finishes it loses nothing itself, and yet the write of the first one is still under way.
    backfill(&prepared(&world).await).await;
    let refused = world.source.enable_relay(LOGS).await.expect_err("I8: the first run's write could still arrive");
    assert!(refused.message.contains("could still arrive until"), "{refused}");
}

#[tokio::test]
async fn the_same_holds_when_one_coordinator_runs_twice() {
    let (world, coordinator, gate) = with_a_late_write(Duration::from_secs(600)).await;
    let cancel = CancellationToken::new();
    let (broken_off, ()) = tokio::join!(coordinator.backfill(&cancel), async {
        gate.until_held(1).await;
        cancel.cancel();
    });
    assert!(broken_off.is_err(), "{broken_off:?}");
    backfill(&coordinator).await;
    let refused = world.source.enable_relay(LOGS).await.expect_err("I8: the first run's write could still arrive");
    assert!(refused.message.contains("could still arrive until"), "{refused}");
}

#[tokio::test]
async fn a_step_that_a_lost_cold_write_refuses_leaves_no_open_intent() {
    let (world, coordinator, _gate) = with_a_late_write(Duration::from_secs(600)).await;
    backfill(&coordinator).await;
    let refused = coordinator.step(Phase::DualWrite, None, &()).await.expect_err("changes could be overwritten");
    assert!(refused.to_string().contains("could still arrive until"), "{refused}");
    assert_eq!(world.source.control().await.expect("a phase").phase, Phase::PostgresOnly);
    assert!(world.source.open_intents().await.expect("the journal").is_empty(), "I9: the step has an outcome");
}
