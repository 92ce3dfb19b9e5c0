//! Before DynamoOnly it is asked whether rows can be found by their id and numbered there.

use lockstep_coordinator::ready;
use lockstep_core::Phase;
use lockstep_tests::World;
use lockstep_tests::world::rows::logs;

async fn refusals(world: &World) -> String {
    ready(&world.migration(), Phase::DynamoOnly).await.expect("asked").refusals()
}

#[tokio::test]
async fn a_sequence_that_counts_down_is_refused_before_dynamo_only_and_one_that_counts_up_is_not() {
    let world = World::start().await;
    world.sql(&logs(1, 10)).await;
    world.migrated_to(Phase::HybridRead).await.close().await;
    assert!(!refusals(&world).await.contains("can be numbered"), "{}", refusals(&world).await);
    let downwards = "INCREMENT BY -1 MINVALUE -1000 START 1000 RESTART 1000";
    world.sql(&format!("ALTER SEQUENCE integration_logs_log_id_seq {downwards}")).await;
    let refused = refusals(&world).await;
    assert!(refused.contains("can be numbered") && refused.contains("goes on by -1"), "{refused}");
}

#[tokio::test]
async fn ids_that_a_program_took_in_a_block_are_not_handed_out_again() {
    let world = World::start().await;
    world.sql(&logs(1, 10)).await;
    world.migrated_to(Phase::HybridRead).await.close().await;
    // As Hibernate does: one call takes fifty ids.
    world.sql("ALTER SEQUENCE integration_logs_log_id_seq INCREMENT BY 50 RESTART 1001").await;
    let taken: i64 = world.value("SELECT nextval('integration_logs_log_id_seq')").await;
    let world = {
        world.truth_in_target().await;
        world
    };
    let block = world.control().take_ids("integration_logs", 1).await.expect("seeded");
    assert!(block.first >= taken + 50, "{block:?} is in the block that begins with {taken}");
}
