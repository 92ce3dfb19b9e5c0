//! Calls of an application on its stores beside single rows: transactions of its own, batches of new rows,
//! counting.

use lockstep::store::{Delivery, Store, WriteMode, WriteOptions};
use lockstep_core::{Kind, Phase};
use lockstep_integration_logs::{IntegrationLog, IntegrationLogs};
use lockstep_payments::Payments;
use lockstep_tests::World;
use lockstep_tests::world::rows::{log_row, logs, payment_row};
use lockstep_tests::world::{LOGS, PAYMENTS};

const STAYS: &str = "CREATE TABLE ledger (entry text PRIMARY KEY)";

fn free() -> WriteOptions {
    WriteOptions::default()
}

fn strict() -> WriteOptions {
    WriteOptions { dual_write: WriteMode::Strict, ..WriteOptions::default() }
}

async fn entries(world: &World) -> i64 {
    world.count("ledger").await
}

#[tokio::test]
async fn own_sql_and_moved_rows_commit_together_and_are_delivered_by_the_mode() {
    for writes in [free(), strict()] {
        let world = World::start().await;
        world.sql(STAYS).await;
        world.migrated_to(Phase::DualWrite).await.close().await;
        let app = world.app(writes);
        let (logs, payments) = (app.store::<IntegrationLogs>(), app.store::<Payments>());
        let mut transaction = app.begin().await.expect("begun");
        sqlx::query("INSERT INTO ledger VALUES ('paid')").execute(transaction.sql()).await.expect("own SQL");
        let log = transaction.insert(&logs, &log_row(0, "own")).await.expect("inserted");
        transaction.put(&payments, &payment_row(7, 3, "own")).await.expect("put");
        let changed =
            transaction.update(&payments, 7_i64, |row| row.payment_status = "Settled".to_owned()).await;
        assert!(changed.expect("updated").is_some());
        assert_eq!((entries(&world).await, world.count(PAYMENTS).await), (0, 0), "nothing is seen before");
        let outcome = transaction.commit().await.expect("committed");
        assert!(matches!(outcome.target, Delivery::Applied) && outcome.keys == 2, "{outcome:?}");
        assert_eq!((entries(&world).await, world.count(PAYMENTS).await), (1, 1));
        assert_eq!((world.live_items(LOGS).await, world.live_items(PAYMENTS).await), (1, 1));
        assert!(log.log_id > 0, "PostgreSQL gave the key");
        world.assert_converged().await;
        app.shutdown().await;
    }
}

#[tokio::test]
async fn what_is_rolled_back_or_dropped_or_fails_is_in_neither_store() {
    let world = World::start().await;
    world.sql(STAYS).await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    let app = world.app(free());
    let payments = app.store::<Payments>();
    for way in ["rollback", "drop", "failed statement", "savepoint"] {
        let mut transaction = app.begin().await.expect("begun");
        sqlx::query("INSERT INTO ledger VALUES ('x')").execute(transaction.sql()).await.expect("own SQL");
        match way {
            "savepoint" => {
                sqlx::query("SAVEPOINT before").execute(transaction.sql()).await.expect("own SQL");
                transaction.put(&payments, &payment_row(7, 3, "own")).await.expect("put");
                sqlx::query("ROLLBACK TO before").execute(transaction.sql()).await.expect("own SQL");
                sqlx::query("DELETE FROM ledger").execute(transaction.sql()).await.expect("own SQL");
                transaction.commit().await.expect("committed, with nothing in it");
            }
            "rollback" => {
                transaction.put(&payments, &payment_row(7, 3, "own")).await.expect("put");
                transaction.rollback().await;
            }
            "failed statement" => {
                transaction.put(&payments, &payment_row(7, 3, "own")).await.expect("put");
                sqlx::query("SELECT 1 / 0").execute(transaction.sql()).await.expect_err("fails");
                transaction.commit().await.expect_err("a transaction that failed does not commit");
            }
            _ => {
                transaction.put(&payments, &payment_row(7, 3, "own")).await.expect("put");
                drop(transaction);
            }
        }
        assert_eq!((entries(&world).await, world.count(PAYMENTS).await), (0, 0), "{way}");
        assert_eq!(world.live_items(PAYMENTS).await, 0, "{way}");
    }
    world.assert_converged().await;
    app.shutdown().await;
}

#[tokio::test]
async fn a_transaction_that_own_sql_has_ended_is_told_and_its_rows_are_delivered_all_the_same() {
    let world = World::start().await;
    world.sql(STAYS).await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    let app = world.app(free());
    let payments = app.store::<Payments>();
    let mut transaction = app.begin().await.expect("begun");
    transaction.put(&payments, &payment_row(7, 3, "own")).await.expect("put");
    sqlx::raw_sql("COMMIT").execute(transaction.sql()).await.expect("own SQL");
    let error = transaction.commit().await.expect_err("it is over");
    assert_eq!(error.kind, Kind::Invalid, "{error}");
    world.relay_until_empty().await;
    assert_eq!((world.count(PAYMENTS).await, world.live_items(PAYMENTS).await), (1, 1));
    world.assert_converged().await;
    app.shutdown().await;
}

#[tokio::test]
async fn in_dynamo_only_a_transaction_of_ones_own_is_refused_and_nothing_is_done() {
    let world = World::start().await;
    world.migrated_to(Phase::DynamoOnly).await.close().await;
    let app = world.app(free());
    let error = app.begin().await.err().expect("refused");
    assert!(error.kind == Kind::Refused && error.message.contains("Operation::run"), "{error}");
    // And the handle works on.
    app.store::<Payments>().put(&payment_row(7, 3, "own")).await.expect("put");
    app.shutdown().await;
}

fn new_rows(number: usize) -> Vec<IntegrationLog> {
    (0..number).map(|nth| log_row(0, &format!("user {nth}"))).collect()
}

/// Inserts rows and looks whether each outcome is of its own row.
async fn inserted(logs: &Store<IntegrationLogs>, number: usize) -> Vec<i64> {
    let rows = new_rows(number);
    let outcomes = logs.insert_batch(&rows).await;
    assert_eq!(outcomes.len(), number);
    let mut ids = Vec::new();
    for (outcome, row) in outcomes.into_iter().zip(&rows) {
        let written = outcome.expect("written").row.expect("with its key");
        assert_eq!(written.user_id, row.user_id, "outcomes are in the order of the rows");
        ids.push(written.log_id);
    }
    let mut once = ids.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), number, "each has an id of its own");
    ids
}

#[tokio::test]
async fn a_batch_of_new_rows_gets_its_ids_and_is_counted_in_every_phase() {
    let world = World::start().await;
    world.sql(&logs(1, 5)).await;
    world.sql("SELECT setval(pg_get_serial_sequence('integration_logs', 'log_id'), 1000)").await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    let app = world.app(WriteOptions { batch_rows_max: 40, ..free() });
    let logs = app.store::<IntegrationLogs>();
    inserted(&logs, 90).await;
    assert_eq!((logs.count().await.expect("counted"), world.live_items(LOGS).await), (95, 95));
    app.writer().acknowledged().await;
    for phase in [Phase::HybridRead, Phase::DynamoOnly] {
        world.stepped_to(phase).await;
        inserted(&logs, 7).await;
    }
    assert_eq!(logs.count().await.expect("counted"), 109);
    app.shutdown().await;
}

#[tokio::test]
async fn a_batch_in_which_a_trigger_swallows_a_row_is_written_row_by_row() {
    let world = World::start().await;
    world
        .sql(
            "CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN IF NEW.user_id = 'user 1' THEN RETURN NULL; END IF; RETURN NEW; END $$",
        )
        .await;
    world
        .sql(
            "CREATE TRIGGER aa_swallow BEFORE INSERT ON integration_logs FOR EACH ROW EXECUTE FUNCTION \
    swallow()",
        )
        .await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    let app = world.app(free());
    let outcomes = app.store::<IntegrationLogs>().insert_batch(&new_rows(3)).await;
    let found: Vec<bool> =
        outcomes.iter().map(|outcome| outcome.as_ref().is_ok_and(|one| one.found)).collect();
    assert_eq!(found, [true, false, true]);
    assert_eq!(world.count("integration_logs").await, 2);
    world.assert_converged().await;
    app.shutdown().await;
}

/// 1. An application's own statement sets something for its session. 2. The session goes to another write:
/// one that is answered before it is on disk, or as another role. What is set for the transaction alone
/// keeps it.
#[tokio::test]
async fn what_own_sql_has_set_for_its_session_is_no_other_writes() {
    let world = World::start().await;
    world.sql(STAYS).await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    world.sql("CREATE ROLE own_tenant; GRANT own_tenant TO CURRENT_USER").await;
    let app = world.app(free());
    let session = async || {
        let mut transaction = app.begin().await.expect("begun");
        let found: (i32, String) = sqlx::query_as(
            "SELECT pg_backend_pid(), concat_ws(' ', current_user = session_user,
                 current_setting('synchronous_commit'), current_setting('lock_timeout'),
                 current_setting('search_path') = current_setting('lockstep.path'))",
        )
        .fetch_one(transaction.sql())
        .await
        .expect("asked");
        transaction.rollback().await;
        found
    };
    let (mut pid, made) = session().await;
    assert_eq!(made, "t on 0 t");
    for (set, ends, is_kept) in [
        ("SET LOCAL lock_timeout = '1s'", "commit", true),
        ("SELECT 1", "commit", true),
        ("SET lock_timeout = '1s'", "rollback", true),
        ("SET lock_timeout = '1s'", "commit", false),
        ("SET synchronous_commit = off", "commit", false),
        ("SET ROLE own_tenant; RESET ROLE", "commit", true),
        ("SET ROLE own_tenant", "commit", false),
        ("SET search_path = pg_temp", "commit", false),
        ("SET lock_timeout = '1s'; COMMIT", "commit", false),
        ("SET lock_timeout = '1s'; COMMIT", "rollback", false),
        ("SET lock_timeout = '1s'; COMMIT", "drop", false),
    ] {
        let mut transaction = app.begin().await.expect("begun");
        sqlx::raw_sql(set).execute(transaction.sql()).await.expect("own SQL");
        match ends {
            "commit" => assert_eq!(transaction.commit().await.is_ok(), !set.contains("COMMIT"), "{set}"),
            "rollback" => transaction.rollback().await,
            _ => drop(transaction),
        }
        let (next, found) = session().await;
        assert_eq!(found, made, "{set}, {ends}");
        assert_eq!(next == pid, is_kept, "{set}, {ends}");
        pid = next;
    }
    app.shutdown().await;
}

/// A commit is on disk before it is answered and its version goes to DynamoDB, whatever its own SQL has set.
#[tokio::test]
async fn a_commit_is_durable_whatever_own_sql_has_set() {
    let world = World::start().await;
    world
        .sql(
            "CREATE TABLE ledger (entry text PRIMARY KEY); CREATE TABLE seen (how text);
        CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            INSERT INTO seen VALUES (current_setting('synchronous_commit')); RETURN NULL; END $$;
        CREATE CONSTRAINT TRIGGER looks AFTER INSERT ON ledger DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION look()",
        )
        .await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    let app = world.app(free());
    for (set, how) in [
        ("SET LOCAL synchronous_commit = off", "on"),
        ("SET LOCAL synchronous_commit = remote_apply", "remote_apply"),
    ] {
        let mut transaction = app.begin().await.expect("begun");
        sqlx::raw_sql(set).execute(transaction.sql()).await.expect("own SQL");
        sqlx::query("INSERT INTO ledger VALUES ($1)")
            .bind(set)
            .execute(transaction.sql())
            .await
            .expect("own SQL");
        transaction.commit().await.expect("committed");
        let seen: String = world.value("DELETE FROM seen RETURNING how").await;
        assert_eq!(seen, how, "{set}");
    }
    app.shutdown().await;
}
