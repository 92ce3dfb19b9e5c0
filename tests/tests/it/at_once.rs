//! Writing a row in one round trip: only while what the store believes of the phase is so, and never
//! otherwise than the long way would have done it.

use std::time::Duration;

use lockstep::store::Delivery;
use lockstep_core::Phase;
use lockstep_postgres::{flip_phase, take_exclusive};
use lockstep_tests::World;
use lockstep_tests::world::{LOGS, eventually};

use crate::store::{applied, row};

/// The functions of the logs, by what programs have installed so far.
async fn functions(world: &World) -> Vec<String> {
    let all = "SELECT coalesce(string_agg(proname, ' ' ORDER BY proname), '') FROM pg_proc
               WHERE pronamespace = 'lockstep'::regnamespace AND proname ~ '^(upsert|insert|delete)_integration_logs'";
    world.value::<String>(all).await.split_whitespace().map(str::to_owned).collect()
}

#[tokio::test]
async fn who_believes_in_a_phase_that_is_over_writes_under_the_present_one() {
    let world = World::start().await;
    let coordinator = world.migrated_to(Phase::PostgresOnly).await;
    let store = world.log_store();
    assert!(
        matches!(store.put(&row(1, "u")).await.expect("written").target, Delivery::NotDue),
        "it knows the phase now"
    );
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

/// The call here takes a transaction of several statements.
#[tokio::test]
async fn a_phase_that_is_over_is_noticed_by_the_message_that_begins_an_update() {
    let world = World::start().await;
    let coordinator = world.migrated_to(Phase::PostgresOnly).await;
    let store = world.log_store();
    store.put(&row(1, "u")).await.expect("written");
    store.update(1, |log| log.user_id = Some("v".to_owned())).await.expect("written");
    let mut flip = world.source.begin("flipping").await.expect("a transaction");
    let epoch = flip_phase(&mut flip, Phase::DualWrite).await.expect("flipped");
    flip.commit().await.expect("committed");
    let outcome = store.update(1, |log| log.user_id = Some("w".to_owned())).await.expect("written");
    assert_eq!((outcome.control.phase, outcome.control.epoch), (Phase::DualWrite, epoch));
    applied(&outcome);
    assert!(!store.update(2, |_| {}).await.expect("nothing is there").found);
    coordinator.close().await;
    world.assert_converged().await;
}

#[tokio::test]
async fn without_the_functions_writes_go_the_long_way() {
    let world = World::start().await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    let installed = functions(&world).await;
    assert_eq!(installed.len(), 3, "one a kind of write: {installed:?}");
    for function in installed {
        world.sql(&format!("DROP FUNCTION lockstep.{function}")).await;
    }
    let store = world.log_store();
    applied(&store.put(&row(100, "u")).await.expect("written"));
    applied(&store.insert(&row(0, "u")).await.expect("written"));
    assert!(store.delete(100).await.expect("deleted").found);
    assert_eq!(world.count(LOGS).await, 1);
    // The next coordinator adds what this program calls and does not find.
    world.prepared().await.close().await;
    assert_eq!(functions(&world).await.len(), 3);
    world.assert_converged().await;
}

#[tokio::test]
async fn a_write_that_waits_for_a_step_goes_by_the_phase_after_it() {
    let world = World::start().await;
    let coordinator = world.migrated_to(Phase::PostgresOnly).await;
    let (put, update) = (world.log_store(), world.log_store());
    assert!(
        matches!(put.put(&row(1, "u")).await.expect("written").target, Delivery::NotDue),
        "it knows the phase now"
    );
    assert!(
        matches!(update.put(&row(2, "u")).await.expect("written").target, Delivery::NotDue),
        "and so does this one"
    );
    // The step has the barrier and has not committed: a write that read the phase before the barrier would
    // read the old one.
    let mut flip = world.source.begin("flipping").await.expect("a transaction");
    take_exclusive(&mut flip, Duration::from_secs(5)).await.expect("the barrier");
    let epoch = flip_phase(&mut flip, Phase::DualWrite).await.expect("flipped");
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'advisory'";
    let third = row(3, "u");
    let (at_once, updated, ()) =
        tokio::join!(put.put(&third), update.update(2, |log| log.user_id = Some("v".to_owned())), async {
            eventually("both wait behind the barrier", async || world.value::<i64>(waiting).await >= 2).await;
            flip.commit().await.expect("committed");
        });
    for outcome in [at_once.expect("written"), updated.expect("written")] {
        assert_eq!((outcome.control.phase, outcome.control.epoch), (Phase::DualWrite, epoch), "I5");
        applied(&outcome);
    }
    coordinator.close().await;
    world.assert_converged().await;
}

#[tokio::test]
async fn a_default_of_repeatable_read_is_no_way_round_the_barrier() {
    let world = World::start().await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    // Of this world's database: the role is the whole server's.
    let alter = "ALTER DATABASE %I SET default_transaction_isolation = ''repeatable read''";
    world.sql(&format!("DO $$ BEGIN EXECUTE format('{alter}', current_database()); END $$")).await;
    let source = world.another_source().await;
    let shown: String =
        sqlx::query_scalar("SHOW transaction_isolation").fetch_one(source.pool()).await.expect("shown");
    assert_eq!(shown, "read committed", "sessions of ours set it");
    // A session that does not is refused by the function, before anything is written.
    let mut session = source.pool().begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ").await.expect("begun");
    let epoch = world.source.control().await.expect("the phase").epoch.0;
    let installed = functions(&world).await;
    let delete = installed.iter().find(|name| name.starts_with("delete_")).expect("installed");
    let call = format!("SELECT * FROM lockstep.{delete}(1, {epoch}, false, false)");
    let error = sqlx::raw_sql(sqlx::AssertSqlSafe(call)).execute(&mut *session).await.expect_err("refused");
    assert_eq!(error.as_database_error().and_then(|e| e.code()).as_deref(), Some("LK001"), "{error}");
    drop(session);
    world.assert_converged().await;
}
