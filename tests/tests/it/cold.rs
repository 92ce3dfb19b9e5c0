//! The cold load path of earlier versions wrote without a condition. There is none any more: a configuration
//! that asks for it is taken for the guarded one, and what an earlier version broke off is waited out.

use lockstep_coordinator::{LoadPathChoice, MigrationContext};
use lockstep_core::{Kind, Phase};
use lockstep_dynamo::LoadPath;
use lockstep_tests::World;
use lockstep_tests::faults::{Fault, Gate, Rule};
use lockstep_tests::world::rows::logs;
use lockstep_tests::world::{LOGS, WorldOptions, backfill};

fn cold(world: &World) -> MigrationContext {
    let mut migration = world.migration();
    migration.options.backfill.load_path = LoadPathChoice::Cold;
    migration
}

#[tokio::test]
async fn a_load_that_wakes_up_after_the_rows_have_moved_on_overwrites_nothing() {
    let world = World::behind_proxy().await;
    world.sql(&logs(1, 20)).await;
    let coordinator = world.coordinator_of(cold(&world)).await;
    coordinator.prepare(&()).await.expect("nothing refuses");
    // The first request of the load is on its way until long after everything in it was changed and
    // delivered.
    let gate = Gate::new();
    world.proxy().script(
        Rule::new(Fault::AnswerThenApplyLate(gate.clone()))
            .table(LOGS)
            .times(1)
            .on("BatchExecuteStatement")
            .after(1),
    );
    let summaries = backfill(&coordinator).await;
    assert!(summaries.iter().all(|summary| summary.load_path == LoadPath::GuardedBatch), "{summaries:?}");
    gate.until_held(1).await;
    coordinator.step(Phase::DualWrite, None, &()).await.expect("nothing has to be waited out");
    world.sql("UPDATE integration_logs SET user_id = 'newer' WHERE log_id <= 10").await;
    world.sql("DELETE FROM integration_logs WHERE log_id > 10").await;
    world.relay_until_empty().await;
    gate.open();
    gate.until_done(1).await;
    assert_eq!(world.live_items(LOGS).await, 10, "I3: nothing came back");
    world.assert_converged().await;
    coordinator.close().await;
}

#[tokio::test]
async fn a_cold_load_that_an_earlier_version_broke_off_keeps_changes_away_until_its_requests_are_dead() {
    let world = World::start().await;
    world.sql(&logs(1, 20)).await;
    world.prepared().await.close().await;
    world.sql("UPDATE lockstep.tables SET cold_open = true").await;
    let refused = world.source.enable_relay(LOGS).await.expect_err("it is not finished");
    assert!(
        refused.kind == Kind::Busy && refused.message.contains("a cold load is not finished"),
        "{refused}"
    );
    let before: String = world.value("SELECT clock_timestamp()::text").await;
    let coordinator = world.prepared().await;
    backfill(&coordinator).await;
    let lifetime_s = WorldOptions::default().request_lifetime.as_secs();
    let is_noted = format!(
        "SELECT cold_unsafe_until >= timestamptz '{before}' + interval '{lifetime_s} s'
         FROM lockstep.tables WHERE name = '{LOGS}'"
    );
    assert!(world.value::<bool>(&is_noted).await, "for as long as a request of it could still arrive");
    // However long the backfill took.
    world.sql("UPDATE lockstep.tables SET cold_unsafe_until = clock_timestamp() + interval '1 hour'").await;
    let refused = world.source.enable_relay(LOGS).await.expect_err("I8: a request of it could still arrive");
    assert!(refused.kind == Kind::Busy && refused.message.contains("could still arrive until"), "{refused}");
    world.sql("UPDATE lockstep.tables SET cold_unsafe_until = clock_timestamp()").await;
    world.source.enable_relay(LOGS).await.expect("they are dead by now");
    coordinator.close().await;
    world.assert_converged().await;
}
