//! An upgrade of schema `lockstep` under processes that work.

use lockstep_core::Phase;
use lockstep_tests::World;
use lockstep_tests::world::rows::logs;

/// 1. A process has read what is recorded of its tables, by every session that it has. 2. Another one
/// upgrades the schema, and a table has a column more. 3. Statements that sessions have kept are
/// refused.
#[tokio::test]
async fn a_column_that_an_upgrade_adds_ends_no_process_that_has_read_the_table_before() {
    let world = World::start().await;
    world.sql(&logs(1, 20)).await;
    let coordinator = world.migrated_to(Phase::DualWrite).await;
    let read = async || {
        for _ in 0..3 {
            world
                .source
                .table_state("integration_logs")
                .await
                .expect("the record of a table")
                .expect("captured");
            world.source.table_states().await.expect("the records");
            world.source.ranges("integration_logs").await.expect("its ranges");
            world.source.journal(20).await.expect("the journal");
        }
    };
    read().await;
    for table in ["tables", "ranges", "journal"] {
        world.sql(&format!("ALTER TABLE lockstep.{table} ADD COLUMN of_an_upgrade integer")).await;
    }
    read().await;
    coordinator.close().await;
}
