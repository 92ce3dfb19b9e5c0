//! Sessions with the source: none is left inside a forgotten transaction, and none is left at all after
//! closing.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use lockstep::store::Store;
use lockstep_core::Phase;
use lockstep_integration_logs::IntegrationLogs;
use lockstep_postgres::{Source, SourceOptions, Swept, barrier};
use lockstep_tests::World;
use lockstep_tests::world::rows::{log, log_key};
use lockstep_tests::world::{LOGS, eventually, run};

use crate::store::{applied, row};

/// Or else: 1. A sweep waits for the barrier until its lock time-out. 2. Its BEGIN went out with that wait,
/// so the session is inside a failed transaction, which the driver never counted. 3. Every later intent on
/// that session fails.
#[tokio::test]
async fn a_session_that_failed_while_it_began_is_not_used_again() {
    let world = World::start().await;
    world.migrated_to(Phase::HybridRead).await.close().await;
    world.sql(&log(1, "u")).await;
    let mut phantom = world.stranger().await;
    run(&mut phantom, "BEGIN").await;
    let xid: String = sqlx::query_scalar("SELECT pg_current_xact_id()::text")
        .fetch_one(&mut phantom)
        .await
        .expect("a transaction's number");
    run(&mut phantom, "ROLLBACK").await;
    let key = log_key(1, "u");
    let repair = "nextval('lockstep.version_seq') + ((SELECT epoch FROM lockstep.control) << 40)";
    world
        .sql(&format!(
            "INSERT INTO lockstep.intents (xid, table_name, key, repair_version) VALUES ('{xid}', '{LOGS}', '{key}', {repair})"
        ))
        .await;
    let (class, object) = barrier();
    let mut step = world.stranger().await;
    run(&mut step, &format!("SELECT pg_advisory_lock({class}, {object})")).await;
    let waited = world.source.sweep_intents(Duration::ZERO).await.expect("swept");
    assert_eq!(waited, Swept { waiting: 1, ..Swept::default() }, "the barrier is closed");
    run(&mut step, &format!("SELECT pg_advisory_unlock({class}, {object})")).await;
    let swept = world.source.sweep_intents(Duration::ZERO).await.expect("swept");
    assert_eq!(swept, Swept { aborted: 1, ..Swept::default() });
    assert_eq!(world.intents().await, 0, "and committed, as a stranger sees");
    applied(&world.log_store().put(&row(2, "u")).await.expect("written"));
    world.assert_converged().await;
}

/// The long way of a write waits for the barrier in the same round trip that begins it.
#[tokio::test]
async fn who_is_cut_short_while_beginning_leaves_no_transaction() {
    let world = World::start().await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    world.sql(&log(1, "u")).await;
    let (class, object) = barrier();
    let mut step = world.stranger().await;
    run(&mut step, &format!("SELECT pg_advisory_lock({class}, {object})")).await;
    let store = world.log_store();
    let write =
        tokio::spawn(
            async move { store.update(1, |row| row.user_id = Some("late".to_owned())).await.map(drop) },
        );
    let ours = "application_name = 'lockstep under test' AND datname = current_database()";
    eventually("the write waits for the barrier", || async {
        world
            .value::<bool>(&format!(
                "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE {ours} AND wait_event = 'advisory')"
            ))
            .await
    })
    .await;
    write.abort();
    assert!(write.await.expect_err("cut short").is_cancelled());
    run(&mut step, &format!("SELECT pg_advisory_unlock({class}, {object})")).await;
    eventually("no session of ours is in a transaction", || async {
        world
            .value::<bool>(&format!(
                "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE {ours} AND xact_start IS NOT NULL)"
            ))
            .await
    })
    .await;
    applied(&world.log_store().put(&row(1, "later")).await.expect("written"));
    world.assert_converged().await;
}

#[tokio::test]
async fn many_writers_take_turns_with_few_sessions_and_closing_leaves_none() {
    let world = World::start().await;
    world.migrated_to(Phase::HybridRead).await.close().await;
    let name = "few sessions".to_owned();
    let options =
        SourceOptions { connections_max: 4, application_name: name.clone(), ..world.source_options() };
    let source = Source::connect(&options).await.expect("connects");
    let store = Store::<IntegrationLogs>::new(
        source.clone(),
        world.target.clone(),
        Arc::default(),
        world.logs_table(),
    );
    let writes: FuturesUnordered<_> = (1..=64)
        .map(|id| {
            let store = store.clone();
            async move { store.put(&row(id, "u")).await }
        })
        .collect();
    writes.for_each(|outcome| async move { applied(&outcome.expect("written")) }).await;
    let sessions = || async {
        let sql = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = '{name}' AND datname = current_database()"
        );
        world.value::<i64>(&sql).await
    };
    assert!((1..=8).contains(&sessions().await), "as many as allowed, and those for intents");
    source.close().await;
    eventually("no session is left", || async { sessions().await == 0 }).await;
    assert!(store.put(&row(100, "u")).await.is_err(), "what is closed takes no more writes");
    assert_eq!(world.count(LOGS).await, 64);
    world.assert_converged().await;
}

/// Sessions that wait for the next write go with the last handle, wherever that is dropped.
#[test]
fn the_last_handle_may_be_dropped_without_a_runtime() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let (world, source) = runtime.block_on(async {
        let world = World::start().await;
        world.migrated_to(Phase::PostgresOnly).await.close().await;
        let source = world.another_source().await;
        let store = Store::<IntegrationLogs>::new(
            source.clone(),
            world.target.clone(),
            Arc::default(),
            world.logs_table(),
        );
        store.put(&row(1, "u")).await.expect("written");
        (world, source)
    });
    let dropped = std::thread::spawn(move || drop(source)).join();
    runtime.block_on(async move { drop(world) });
    dropped.expect("no panic");
}
