//! Before DynamoOnly it is asked whether rows can be found by their id and numbered there.

use std::time::Duration;

use lockstep::migration::Migration;
use lockstep_coordinator::ready;
use lockstep_coordinator::truth::{raise_source_sequences, set_back};
use lockstep_core::Phase;
use lockstep_integration_logs::IntegrationLogs;
use lockstep_tests::World;
use lockstep_tests::world::nowhere;
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
    let block = world.control().take_ids("integration_logs", 1, i64::MAX).await.expect("seeded");
    assert!(block.first >= taken + 50, "{block:?} is in the block that begins with {taken}");
}

/// 1. One row has the greatest id there is, and the sequence stands far below. 2. Above it there is no id to
/// count on from: DynamoDB would refuse each insert, and PostgreSQL each after the way back.
#[tokio::test]
async fn a_row_with_the_greatest_id_keeps_no_other_from_being_numbered_in_either_store() {
    let world = World::start().await;
    world.sql(&logs(1, 10)).await;
    world.sql(&format!("UPDATE integration_logs SET log_id = {} WHERE log_id = 5", i64::MAX)).await;
    world.migrated_to(Phase::HybridRead).await.close().await;
    assert!(!refusals(&world).await.contains("can be numbered"), "{}", refusals(&world).await);
    world.truth_in_target().await;
    let app = Migration::connect(world.production(&nowhere(), Duration::from_secs(10))).await.expect("there");
    let store = app.store::<IntegrationLogs>();
    let insert = async || {
        let written = store.insert(&crate::store::row(0, "counted")).await.expect("numbered");
        written.row.expect("the row with its key").log_id
    };
    assert_eq!(insert().await, 11);
    // Chosen there, it keeps none back either.
    store.put(&crate::store::row(i64::MAX - 1, "chosen")).await.expect("written");
    let before = insert().await;
    assert!(before < 10_000, "{before}");
    assert!(
        set_back(&mut world.source.pool().acquire().await.expect("one"), &world.control(), &world.tables())
            .await
            .expect("asked")
            .is_empty(),
        "no counter counts as set back"
    );
    let mut connection = world.source.pool().acquire().await.expect("a connection");
    raise_source_sequences(&mut connection, &world.control(), &world.tables()).await.expect("raised");
    let next: i64 = world.value("SELECT nextval('integration_logs_log_id_seq')").await;
    assert!(next > before && next < 10_000, "{next}");
}

#[tokio::test]
async fn a_sequence_that_has_come_to_the_end_of_its_type_is_refused_before_dynamo_only() {
    let world = World::start().await;
    world.sql(&logs(1, 10)).await;
    world.migrated_to(Phase::HybridRead).await.close().await;
    world.sql(&format!("SELECT setval('integration_logs_log_id_seq', {})", i64::MAX - 5)).await;
    let refused = refusals(&world).await;
    assert!(refused.contains("can be numbered") && refused.contains("end of bigint"), "{refused}");
}
