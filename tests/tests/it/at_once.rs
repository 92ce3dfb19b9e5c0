//! Writing a row in one round trip: only while what the store believes of the phase is so, and never otherwise than the long
//! way would have done it.

use lockstep::store::Delivery;
use lockstep_core::Phase;
use lockstep_postgres::flip_phase;
use lockstep_tests::World;
use lockstep_tests::world::LOGS;

use crate::store::{applied, row};

const FUNCTIONS: [&str; 3] = ["upsert_integration_logs", "insert_integration_logs", "delete_integration_logs"];

#[tokio::test]
async fn who_believes_in_a_phase_that_is_over_writes_under_the_present_one() {
    let world = World::start().await;
    let coordinator = world.migrated_to(Phase::PostgresOnly).await;
    let store = world.log_store();
    assert!(matches!(store.put(&row(1, "u")).await.expect("written").target, Delivery::NotDue), "it knows the phase now");
    // Behind the store's back and within its lease: a step by itself would wait for that.
    let mut flip = world.source.begin("flipping").await.expect("a transaction");
    let epoch = flip_phase(&mut flip, Phase::DualWrite).await.expect("flipped");
    flip.commit().await.expect("committed");
    let outcome = store.put(&row(2, "u")).await.expect("written");
    assert_eq!((outcome.control.phase, outcome.control.epoch), (Phase::DualWrite, epoch));
    applied(&outcome);
    coordinator.close().await;
    world.assert_converged().await;
}

#[tokio::test]
async fn without_the_functions_writes_go_the_long_way() {
    let world = World::start().await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    for function in FUNCTIONS {
        world.sql(&format!("DROP FUNCTION lockstep.{function}")).await;
    }
    let store = world.log_store();
    applied(&store.put(&row(100, "u")).await.expect("written"));
    applied(&store.insert(&row(0, "u")).await.expect("written"));
    assert!(store.delete(100).await.expect("deleted").found);
    assert_eq!(world.count(LOGS).await, 1);
    world.assert_converged().await;
}

#[tokio::test]
async fn a_default_of_repeatable_read_is_no_way_round_the_barrier() {
    let world = World::start().await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    // Of this world's database: the role is everybody's.
    let alter = "ALTER DATABASE %I SET default_transaction_isolation = ''repeatable read''";
    world.sql(&format!("DO $$ BEGIN EXECUTE format('{alter}', current_database()); END $$")).await;
    let source = world.another_source().await;
    let shown: String = sqlx::query_scalar("SHOW transaction_isolation").fetch_one(source.pool()).await.expect("shown");
    assert_eq!(shown, "read committed", "sessions of ours set it");
    // A session that does not is refused by the function, before anything is written.
    let mut session = source.pool().begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ").await.expect("begun");
    let epoch = world.source.control().await.expect("the phase").epoch.0;
    let call = format!("SELECT * FROM lockstep.delete_integration_logs(1, {epoch}, false, false)");
    let error = sqlx::raw_sql(sqlx::AssertSqlSafe(call)).execute(&mut *session).await.expect_err("refused");
    assert_eq!(error.as_database_error().and_then(|e| e.code()).as_deref(), Some("LK001"), "{error}");
    drop(session);
    world.assert_converged().await;
}
