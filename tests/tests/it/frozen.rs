//! Source in DynamoOnly: the reverse feed writes it, and nothing else does.

use lockstep_core::{Kind, Phase};
use lockstep_integration_logs::IntegrationLogs;
use lockstep_postgres::{CAPTURE_VERSION, CaptureState, flip_phase, take_exclusive};
use lockstep_tests::World;
use lockstep_tests::world::rows::{log, payment};
use lockstep_tests::world::{LOGS, PAYMENTS, run};

use lockstep::store::WriteOptions;
use std::time::Duration;

use crate::store::row;

async fn captured() -> World {
    let world = World::start().await;
    world.prepared().await.close().await;
    world.sql(&log(1, "a")).await;
    world.sql(&payment(1, 7)).await;
    world.relay_until_empty().await;
    world
}

fn message_of(error: sqlx::Error) -> (String, String) {
    let sqlx::Error::Database(error) = error else { panic!("not PostgreSQL's: {error}") };
    let error = error.downcast::<sqlx::postgres::PgDatabaseError>();
    (error.message().to_owned(), error.hint().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn every_raw_write_is_refused_and_told_the_phase_and_what_to_do() {
    let world = captured().await;
    let epoch = world.flip(Phase::DynamoOnly).await;
    let (new_log, new_payment) = (log(2, "b"), payment(2, 8));
    for sql in [
        new_log.as_str(),
        "UPDATE integration_logs SET user_id = 'raw'",
        "DELETE FROM integration_logs",
        "TRUNCATE integration_logs",
        "SET session_replication_role = replica; DELETE FROM integration_logs",
        new_payment.as_str(),
        "UPDATE payments SET payment_status = 'Failed'",
        "DELETE FROM payments",
        "TRUNCATE payments",
    ] {
        let (message, hint) = message_of(world.try_sql(sql).await.expect_err(sql));
        let table = if sql.contains(PAYMENTS) { PAYMENTS } else { LOGS };
        for text in [
            &format!("public.{table}"),
            "integration_logs, payments",
            "DynamoOnly",
            &format!("epoch {epoch}"),
        ] {
            assert!(message.contains(text), "{sql}: `{text}` is not in: {message}");
        }
        assert!(message.ends_with(&format!("DynamoDB table {table} is the truth")), "{message}");
        // By whatever program it is run: this is SQL, and knows none.
        assert!(hint.contains("command `rollback`") && !hint.contains("cargo"), "{hint}");
    }
    assert_eq!((world.count(LOGS).await, world.count(PAYMENTS).await), (1, 1));
    // Tables that stay behind are not guarded.
    world.sql("UPDATE customers SET country = 'DE' WHERE customer_id = 1").await;
    world.flip(Phase::HybridRead).await;
    world.sql("UPDATE integration_logs SET user_id = 'again'").await;
    assert_eq!(world.pending(LOGS).await.len(), 1, "and is captured again");
}

#[tokio::test]
async fn a_transaction_whose_snapshot_is_older_than_the_flip_is_refused_as_well() {
    let world = captured().await;
    let mut stranger = world.stranger().await;
    run(&mut stranger, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM payments").await;
    world.flip(Phase::DynamoOnly).await;
    let late = sqlx::raw_sql(sqlx::AssertSqlSafe(log(2, "late"))).execute(&mut stranger).await;
    let sqlx::Error::Database(error) = late.expect_err("its snapshot says HybridRead") else {
        panic!("not PostgreSQL's")
    };
    assert_eq!(error.code().as_deref(), Some("40001"), "{error}");
    run(&mut stranger, "ROLLBACK").await;
    assert_eq!(world.count(LOGS).await, 1);
}

#[tokio::test]
async fn a_flip_that_was_rolled_back_refuses_no_write() {
    let world = captured().await;
    let mut transaction = world.source.begin("flipping").await.expect("begins");
    take_exclusive(&mut transaction, Duration::from_secs(5)).await.expect("the barrier");
    flip_phase(&mut transaction, Phase::DynamoOnly).await.expect("flips");
    transaction.rollback().await.expect("rolls back");
    world.sql(&log(2, "b")).await;
    let serializable =
        format!("BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT count(*) FROM payments; {}; COMMIT", log(3, "c"));
    world.sql(&serializable).await;
    world.assert_converged().await;
}

#[tokio::test]
async fn no_role_passes_for_the_feed_without_rights_on_its_table() {
    let world = captured().await;
    world.flip(Phase::DynamoOnly).await;
    world.sql("CREATE ROLE frozen_app LOGIN; GRANT USAGE ON SCHEMA lockstep TO frozen_app; GRANT ALL ON integration_logs TO frozen_app").await;
    world
        .sql("GRANT SELECT, INSERT, UPDATE, DELETE ON lockstep.pending, lockstep.intents, lockstep.instances TO frozen_app")
        .await;
    let attempt = async |sql: String| {
        let mut app = world.stranger().await;
        run(&mut app, "SET ROLE frozen_app; BEGIN").await;
        message_of(
            sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut app).await.expect_err("it is not the feed"),
        )
        .0
    };
    let forged =
        attempt("INSERT INTO lockstep.reverse_writers VALUES (pg_current_xact_id())".to_owned()).await;
    assert!(forged.contains("permission denied for table reverse_writers"), "{forged}");
    let plain = attempt(log(2, "plain")).await;
    assert!(plain.contains("DynamoOnly"), "{plain}");
    // A right to write is one transaction's: another one that runs meanwhile has none of it.
    let mut feed = world.stranger().await;
    run(&mut feed, "BEGIN; INSERT INTO lockstep.reverse_writers VALUES (pg_current_xact_id())").await;
    run(&mut feed, "UPDATE integration_logs SET user_id = 'fed'").await;
    world.try_sql(&log(2, "beside")).await.expect_err("it is not the feed");
    run(&mut feed, "ROLLBACK").await;
}

#[tokio::test]
async fn capture_of_an_older_version_gets_the_refusal_without_a_gap() {
    let world = captured().await;
    world.sql("UPDATE lockstep.tables SET capture_version = 1").await;
    let old = "CREATE OR REPLACE FUNCTION lockstep.capture_integration_logs() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$";
    world.sql(old).await;
    world.coordinator().await.close().await;
    let state = world.source.table_state(LOGS).await.expect("reads").expect("is there");
    assert_eq!(state.capture_version, CAPTURE_VERSION);
    assert_eq!(world.source.capture_state(&world.logs_table()).await.expect("reads"), CaptureState::On);
    world.sql(&log(2, "captured again")).await;
    assert_eq!(world.pending(LOGS).await.len(), 1);
    world.flip(Phase::DynamoOnly).await;
    world.try_sql(&log(3, "refused")).await.expect_err("the new function is in force");
}

#[tokio::test]
async fn writes_in_one_round_trip_are_refused_as_all_others() {
    let world = captured().await;
    let app = world.app(WriteOptions { pause_wait_ms_max: 100, ..WriteOptions::default() });
    let store = app.store::<IntegrationLogs>();
    store.put(&row(5, "knows the phase")).await.expect("it is the source's");
    let epoch = world.flip(Phase::DynamoOnly).await;
    // The store believes in the phase before; a caller of the functions themselves may even know the present
    // epoch. DynamoDB's record does not let an application write yet, so a store waits, and then says so.
    let believes = store.put(&row(6, "u")).await.expect_err("the source is frozen");
    assert!(believes.kind == Kind::Busy && believes.message.contains("paused"), "{believes}");
    let deleted = store.delete(1).await.expect_err("the source is frozen");
    assert!(deleted.kind == Kind::Busy && deleted.message.contains("paused"), "{deleted}");
    let named = "SELECT proname::text FROM pg_proc WHERE proname LIKE 'delete_integration_logs_%'";
    let function: String = world.value(named).await;
    let called = world.try_sql(&format!("SELECT * FROM lockstep.{function}(1, {epoch}, true, false)")).await;
    let (message, _) = message_of(called.expect_err("the source is frozen"));
    assert!(message.contains("DELETE of public.integration_logs is refused"), "{message}");
    assert_eq!((world.count(LOGS).await, world.pending(LOGS).await.len()), (2, 1));
}
