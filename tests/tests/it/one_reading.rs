//! The image that leaves under a version is the row as it is after all that a write set off: triggers,
//! cascades, later statements (I14); what PostgreSQL does instead of a write is committed in every phase, and
//! what it computes itself is left to it.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use lockstep::migration::Migration;
use lockstep::operation::Operation;
use lockstep::store::{Store, WriteMode, WriteOptions};
use lockstep_core::{Item, Json, MigratableTable, Phase, Result, TargetKey, TargetSchema, Unholdable};
use lockstep_integration_logs::{IntegrationLog, IntegrationLogs, LogKey, OperationLogs};
use lockstep_payments::Payments;
use lockstep_postgres::TableBinding;
use lockstep_tests::World;
use lockstep_tests::world::rows::{payment_row, payments};
use lockstep_tests::world::{LOGS, PAYMENTS};

use crate::store::{applied, row};

/// The payment just written gets a reference from a trigger.
const NUMBER_IT: [&str; 2] = [
    "CREATE FUNCTION number_it() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
         UPDATE payments SET transaction_reference = 'REF-' || NEW.payment_id
         WHERE payment_id = NEW.payment_id AND transaction_reference IS DISTINCT FROM 'REF-' || NEW.payment_id;
         RETURN NULL; END $$",
    "CREATE TRIGGER number_it AFTER INSERT OR UPDATE ON payments FOR EACH ROW EXECUTE FUNCTION number_it()",
];

const MODES: [WriteMode; 2] = [WriteMode::BestEffort, WriteMode::Strict];

/// A world in DualWrite with these objects in its source, and an application that writes in this mode.
async fn world(mode: WriteMode, objects: &[&str]) -> (World, Migration) {
    let world = World::start().await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    for object in objects {
        world.sql(object).await;
    }
    let app = world.app(WriteOptions { dual_write: mode, ..WriteOptions::default() });
    (world, app)
}

/// Every key was delivered by its writer, and as it is: no relay has come by.
async fn assert_delivered(world: &World, app: &Migration) {
    app.store::<Payments>().writer().acknowledged().await;
    assert_eq!(
        (world.pending(PAYMENTS).await.len(), world.pending(LOGS).await.len()),
        (0, 0),
        "delivered by the writer"
    );
    let wrong = world.disagreements().await;
    assert!(wrong.is_empty(), "I14: {}", wrong.join("\n"));
}

#[tokio::test]
async fn a_trigger_that_changes_the_row_just_written_is_in_the_item() {
    for mode in MODES {
        let (world, app) = world(mode, &NUMBER_IT).await;
        let store = app.store::<Payments>();
        let put = store.put(&payment_row(101, 1, "mine")).await.expect("put");
        applied(&put);
        assert_eq!(
            put.row.expect("a row").transaction_reference.as_deref(),
            Some("REF-101"),
            "the row as it is"
        );
        applied(&store.insert(&payment_row(0, 2, "mine")).await.expect("inserted"));
        applied(
            &store
                .update(101, |p| p.transaction_reference = Some("again".to_owned()))
                .await
                .expect("updated"),
        );
        for outcome in store.put_batch(&[payment_row(3, 3, "mine"), payment_row(4, 4, "mine")]).await {
            applied(&outcome.expect("put"));
        }
        assert_delivered(&world, &app).await;
        world.assert_converged().await;
    }
}

#[tokio::test]
async fn a_row_that_a_trigger_puts_back_is_no_tombstone() {
    const PUT_BACK: [&str; 2] = [
        "CREATE FUNCTION put_back() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             INSERT INTO payments SELECT OLD.*; RETURN NULL; END $$",
        "CREATE TRIGGER put_back AFTER DELETE ON payments FOR EACH ROW EXECUTE FUNCTION put_back()",
    ];
    for mode in MODES {
        let (world, app) = world(mode, &PUT_BACK).await;
        let store = app.store::<Payments>();
        applied(&store.put(&payment_row(1, 1, "a")).await.expect("put"));
        applied(&store.put(&payment_row(2, 2, "b")).await.expect("put"));
        applied(&store.delete(1).await.expect("deleted, and put back"));
        let sink = Arc::new(OperationLogs::of("payments"));
        let done =
            Operation::run(&app, sink, "Forget", "op-1", async |operation| operation.delete(&store, 2).await);
        assert!(done.await.expect("the same, the long way").0);
        assert_eq!(world.count(PAYMENTS).await, 2);
        assert_delivered(&world, &app).await;
        world.assert_converged().await;
    }
}

#[tokio::test]
async fn a_row_that_a_trigger_takes_away_or_moves_leaves_no_item_behind() {
    const TAKE_AWAY: [&str; 2] = [
        "CREATE FUNCTION take_away() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             IF NEW.payment_id % 2 = 0 THEN DELETE FROM payments WHERE payment_id = NEW.payment_id;
             ELSE UPDATE payments SET customer_id = 7 WHERE payment_id = NEW.payment_id AND customer_id <> 7; END IF;
             RETURN NULL; END $$",
        "CREATE TRIGGER take_away AFTER INSERT OR UPDATE ON payments FOR EACH ROW EXECUTE FUNCTION take_away()",
    ];
    for mode in MODES {
        let (world, app) = world(mode, &TAKE_AWAY).await;
        let store = app.store::<Payments>();
        for id in 1..=4 {
            assert!(store.put(&payment_row(id, 1, "mine")).await.expect("put").found);
        }
        assert!(store.update(1, |p| p.customer_id = 9).await.expect("updated, and moved on").found);
        store.writer().acknowledged().await;
        assert_eq!(world.count(PAYMENTS).await, 2);
        world.assert_converged().await;
    }
}

#[tokio::test]
async fn a_later_statement_of_an_operation_counts_for_the_rows_before_it() {
    const FAIL_IT: [&str; 2] = [
        "CREATE FUNCTION fail_it() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             UPDATE payments SET payment_status = 'Failed' WHERE payment_id = NEW.application_id; RETURN NULL; END $$",
        "CREATE TRIGGER fail_it AFTER INSERT ON integration_logs FOR EACH ROW EXECUTE FUNCTION fail_it()",
    ];
    for mode in MODES {
        let (world, app) = world(mode, &FAIL_IT).await;
        let (store, logs) = (app.store::<Payments>(), app.store::<IntegrationLogs>());
        let sink = Arc::new(OperationLogs::of("payments"));
        let done = Operation::run(&app, sink, "Pay", "op-1", async |operation| {
            operation.put(&store, &payment_row(1, 1, "mine")).await?;
            operation.insert(&logs, &IntegrationLog { application_id: Some(1), ..row(0, "u") }).await
        });
        done.await.expect("committed");
        let status: String = world.value("SELECT payment_status FROM payments").await;
        assert_eq!(status, "Failed");
        assert_delivered(&world, &app).await;
        world.assert_converged().await;
    }
}

#[tokio::test]
async fn a_row_that_a_cascade_of_the_same_operation_deletes_is_a_tombstone() {
    const CASCADE: [&str; 1] = ["ALTER TABLE integration_logs ADD CONSTRAINT of_payment
         FOREIGN KEY (application_id) REFERENCES payments ON DELETE CASCADE"];
    for mode in MODES {
        let (world, app) = world(mode, &CASCADE).await;
        let (store, logs) = (app.store::<Payments>(), app.store::<IntegrationLogs>());
        applied(&store.put(&payment_row(1, 1, "mine")).await.expect("put"));
        let sink = Arc::new(OperationLogs::of("payments"));
        let done = Operation::run(&app, sink, "Void", "op-1", async |operation| {
            operation.put(&logs, &IntegrationLog { application_id: Some(1), ..row(100, "u") }).await?;
            operation.delete(&store, 1).await
        });
        assert!(done.await.expect("committed").0);
        let left: i64 = world.value("SELECT count(*) FROM integration_logs WHERE log_id = 100").await;
        assert_eq!(left, 0);
        assert_delivered(&world, &app).await;
        world.assert_converged().await;
    }
}

#[tokio::test]
async fn what_a_deferred_trigger_does_at_the_commit_stays_pending_for_the_relay() {
    let deferred = NUMBER_IT[1].replace("CREATE TRIGGER", "CREATE CONSTRAINT TRIGGER");
    let deferred = deferred.replace("ON payments", "ON payments DEFERRABLE INITIALLY DEFERRED");
    for mode in MODES {
        let (world, app) = world(mode, &[NUMBER_IT[0], &deferred]).await;
        let store = app.store::<Payments>();
        store.put(&payment_row(1, 1, "mine")).await.expect("put at once");
        store.put(&payment_row(2, 2, "REF-2")).await.expect("put as the trigger wants it");
        for outcome in store.put_batch(&[payment_row(3, 3, "mine")]).await {
            outcome.expect("put the long way");
        }
        store.writer().acknowledged().await;
        let pending: Vec<String> =
            world.pending(PAYMENTS).await.into_keys().map(|key| key[..2].to_owned()).collect();
        assert_eq!(pending, ["[1", "[3"], "changed after they left");
        world.assert_converged().await;
    }
}

#[tokio::test]
async fn what_a_trigger_does_instead_of_a_write_is_committed_in_every_phase() {
    let world = World::start().await;
    let coordinator = world.migrated_to(Phase::PostgresOnly).await;
    let statements = [
        "CREATE FUNCTION keep_it() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             IF TG_OP = 'DELETE' THEN
                 UPDATE payments SET payment_status = 'Deleted' WHERE payment_id = OLD.payment_id;
             ELSIF NEW.payment_id < 1000 OR EXISTS (SELECT FROM payments WHERE payment_id = NEW.payment_id) THEN
                 RETURN NEW;
             ELSE
                 UPDATE payments SET payment_status = 'Elsewhere' WHERE payment_id = NEW.payment_id - 1000;
             END IF;
             RETURN NULL; END $$",
        "CREATE TRIGGER keep_it BEFORE DELETE OR INSERT ON payments FOR EACH ROW EXECUTE FUNCTION keep_it()",
    ];
    for statement in statements {
        world.sql(statement).await;
    }
    world.sql(&payments(1, 6)).await;
    for (place, phase) in [Phase::PostgresOnly, Phase::DualWrite, Phase::HybridRead].into_iter().enumerate() {
        if phase != Phase::PostgresOnly {
            world.step_to(&coordinator, phase).await;
        }
        let app = world.app(WriteOptions::default());
        let store = app.store::<Payments>();
        let (deleted, elsewhere) = (1 + 2 * place as i64, 2 + 2 * place as i64);
        assert!(!store.delete(deleted).await.expect("kept").found);
        assert!(!store.put(&payment_row(1000 + elsewhere, 1, "mine")).await.expect("elsewhere").found);
        for (id, status) in [(deleted, "Deleted"), (elsewhere, "Elsewhere")] {
            let found: String =
                world.value(&format!("SELECT payment_status FROM payments WHERE payment_id = {id}")).await;
            assert_eq!(found, status, "in {phase:?}");
        }
        store.writer().acknowledged().await;
        world.assert_converged().await;
    }
    coordinator.close().await;
}

#[tokio::test]
async fn columns_that_postgresql_computes_are_left_to_it_and_read_back() {
    let world = World::start().await;
    for statement in [
        "ALTER TABLE payments ALTER payment_id SET GENERATED ALWAYS",
        "ALTER TABLE integration_logs ALTER log_id SET GENERATED ALWAYS",
        "ALTER TABLE payments DROP COLUMN transaction_reference",
        "ALTER TABLE payments ADD COLUMN transaction_reference text GENERATED ALWAYS AS ('REF-' || payment_id::text) STORED",
    ] {
        world.sql(statement).await;
    }
    let coordinator = world.migrated_to(Phase::PostgresOnly).await;
    let functions = "SELECT string_agg(proname, ', ' ORDER BY proname) FROM pg_proc
                     WHERE pronamespace = 'lockstep'::regnamespace AND proname ~ '^(upsert|insert|delete)_payments'";
    let functions: String = world.value(functions).await;
    for (place, phase) in [Phase::PostgresOnly, Phase::DualWrite, Phase::HybridRead].into_iter().enumerate() {
        if phase != Phase::PostgresOnly {
            world.step_to(&coordinator, phase).await;
        }
        let app = world.app(WriteOptions::default());
        let (store, id) = (app.store::<Payments>(), 100 + place as i64);
        let put = store.put(&payment_row(id, 1, "mine")).await.expect("the caller's id");
        assert_eq!(put.row.expect("a row").transaction_reference, Some(format!("REF-{id}")));
        let put = store.put(&payment_row(id, 2, "mine")).await.expect("replaced");
        assert_eq!(put.row.expect("a row").customer_id, 2);
        let inserted =
            store.insert(&payment_row(0, 3, "mine")).await.expect("PostgreSQL's id").row.expect("a row");
        assert_eq!(inserted.transaction_reference, Some(format!("REF-{}", inserted.payment_id)));
        let changed = store.update(id, |p| p.payment_status = "Completed".to_owned()).await.expect("updated");
        assert!(changed.found);
        for outcome in store.put_batch(&[payment_row(id, 4, "mine"), payment_row(200 + id, 5, "mine")]).await
        {
            assert!(outcome.expect("the long way").found);
        }
        assert!(store.delete(id).await.expect("deleted").found);
        assert!(app.store::<IntegrationLogs>().put(&row(id, "u")).await.expect("put").found);
        store.writer().acknowledged().await;
        world.assert_converged().await;
    }
    // The functions that a coordinator installs are those that a store calls.
    assert_eq!(functions.split(", ").count(), 3, "{functions}");
    for function in functions.split(", ") {
        let calls: i64 =
            world.value(&format!("SELECT count(*) FROM pg_proc WHERE proname = '{function}'")).await;
        assert_eq!(calls, 1);
    }
    coordinator.close().await;
}

lockstep::row! {
    /// The row of the logs with two columns of one type the other way round, and all columns in another
    /// order.
    pub struct SwappedLog {
        pub service_name: String,
        pub log_type: String,
        pub log_id: i64,
        pub application_id: Option<i32>,
        pub request_data: Option<Json>,
        pub response_data: Option<Json>,
        pub status_code: Option<String>,
        pub is_success: bool,
        pub error_message: Option<String>,
        pub processing_time_ms: Option<i32>,
        pub log_timestamp: DateTime<Utc>,
        pub correlation_id: Option<String>,
        pub user_id: Option<String>,
    }
}

impl SwappedLog {
    fn of(log: IntegrationLog) -> Self {
        Self {
            service_name: log.service_name,
            log_type: log.log_type,
            log_id: log.log_id,
            application_id: log.application_id,
            request_data: log.request_data,
            response_data: log.response_data,
            status_code: log.status_code,
            is_success: log.is_success,
            error_message: log.error_message,
            processing_time_ms: log.processing_time_ms,
            log_timestamp: log.log_timestamp,
            correlation_id: log.correlation_id,
            user_id: log.user_id,
        }
    }
}

/// The logs as the next version of a program has them.
#[derive(Default)]
struct SwappedLogs(IntegrationLogs);

impl MigratableTable for SwappedLogs {
    type Row = SwappedLog;
    type Key = LogKey;

    const NAME: &'static str = IntegrationLogs::NAME;
    const TARGET: TargetSchema = IntegrationLogs::TARGET;

    fn key(row: &SwappedLog) -> LogKey {
        LogKey {
            log_id: row.log_id,
            service_name: row.service_name.clone(),
            log_timestamp: row.log_timestamp,
        }
    }

    fn target_key(&self, key: &LogKey) -> Result<TargetKey, Unholdable> {
        self.0.target_key(key)
    }

    fn index_attributes(&self, row: &SwappedLog, item: &mut Item) -> Result<(), Unholdable> {
        let as_before =
            IntegrationLog { service_name: row.service_name.clone(), is_success: true, ..row_of(row) };
        self.0.index_attributes(&as_before, item)
    }

    fn expires(&self) -> bool {
        self.0.expires()
    }

    fn expiry(&self) -> String {
        self.0.expiry()
    }

    fn expires_at(&self, row: &SwappedLog) -> Option<DateTime<Utc>> {
        self.0.expires_at(&row_of(row))
    }

    fn layout(&self) -> String {
        self.0.layout()
    }
}

fn row_of(swapped: &SwappedLog) -> IntegrationLog {
    IntegrationLog {
        log_id: swapped.log_id,
        log_timestamp: swapped.log_timestamp,
        correlation_id: swapped.correlation_id.clone(),
        application_id: swapped.application_id,
        ..row(0, "")
    }
}

#[tokio::test]
async fn programs_with_their_columns_in_another_order_do_not_call_each_others_functions() {
    let world = World::start().await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    let swapped = TableBinding { table: Arc::new(SwappedLogs::default()), ..world.logs_table() };
    let old = world.log_store();
    // During a rolling upgrade both are at work: first without functions for the new one, then with.
    for id in [10, 20] {
        let new = Store::new(
            world.source.clone(),
            world.target.clone(),
            Arc::new(SwappedLogs::default()),
            swapped.clone(),
        );
        applied(&old.put(&row(id, "u")).await.expect("written"));
        applied(&new.put(&SwappedLog::of(row(id + 1, "u"))).await.expect("written"));
        let inserted = new.insert(&SwappedLog::of(row(0, "u"))).await.expect("written").row.expect("a row");
        assert_eq!((inserted.log_type.as_str(), inserted.service_name.as_str()), ("Check", "a"));
        assert!(
            new.delete(id).await.expect("deleted").found
                && old.delete(inserted.log_id).await.expect("deleted").found
        );
        let wrong: i64 = world
            .value("SELECT count(*) FROM integration_logs WHERE (log_type, service_name) <> ('Check', 'a')")
            .await;
        assert_eq!(wrong, 0, "values were swapped");
        assert_eq!(
            world.source.refresh_capture(&swapped).await.expect("asked"),
            id == 10,
            "once, and then there is nothing to do"
        );
    }
    let both: i64 = world
        .value("SELECT count(*) FROM pg_proc WHERE proname ~ '^(upsert|insert|delete)_integration_logs'")
        .await;
    assert_eq!(both, 6);
    old.writer().acknowledged().await;
    world.assert_converged().await;
}

#[tokio::test]
async fn live_writers_over_triggers_of_others_converge() {
    const TOUCH_BOTH: [&str; 2] = [
        "CREATE FUNCTION touch_both() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             UPDATE payments SET payment_status = 'Completed', customer_id = 1 + (customer_id + 1) % 9
             WHERE payment_id = NEW.application_id; RETURN NULL; END $$",
        "CREATE TRIGGER touch_both AFTER INSERT OR UPDATE ON integration_logs FOR EACH ROW EXECUTE FUNCTION touch_both()",
    ];
    for mode in MODES {
        let (world, app) = world(mode, &NUMBER_IT).await;
        for object in TOUCH_BOTH {
            world.sql(object).await;
        }
        let (payments, logs) = (app.store::<Payments>(), app.store::<IntegrationLogs>());
        let writer = async |own: i64| {
            for turn in 0..25_i64 {
                let id = 1 + (own * 7 + turn * 3) % 6;
                let log = IntegrationLog { application_id: Some(id as i32), ..row(own * 100 + turn, "u") };
                // Each may lose a race for a lock; what it leaves behind is what this test is about.
                drop(payments.put(&payment_row(id, 1 + turn % 5, "mine")).await);
                drop(logs.put(&log).await);
                let sink = Arc::new(OperationLogs::of("payments"));
                let done = Operation::run(&app, sink, "Pay", "op", async |operation| {
                    operation.update(&payments, id, |p| p.payment_status = "Pending".to_owned()).await?;
                    operation.put(&logs, &log).await
                });
                drop(done.await);
                if turn % 4 == own {
                    drop(payments.delete(id).await);
                }
            }
        };
        tokio::join!(writer(0), writer(1), writer(2), writer(3));
        assert!(world.count(LOGS).await >= 100, "they have written");
        world.assert_converged().await;
        app.shutdown().await;
    }
}
