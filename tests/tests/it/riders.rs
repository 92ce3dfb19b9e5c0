//! Triggers and actions that an application has on its tables and the feed sets off (P4, F18, F19): whatever
//! they do, PostgreSQL is what DynamoDB says before the truth goes back, or the way back waits and says for
//! what.

use std::time::Duration;

use lockstep_coordinator::truth::copy_to_source;
use lockstep_coordinator::{CoordinatorError, FeedUntil, StepOptions, drained};
use lockstep_core::{Epoch, Kind, MigratableTable, Phase};
use lockstep_integration_logs::IntegrationLogs;
use lockstep_payments::Payments;
use lockstep_postgres::Source;
use lockstep_tests::World;
use lockstep_tests::world::rows::{self, logs, payment_row, payments};
use lockstep_tests::world::{LOGS, PAYMENTS, backfill, eventually};
use tokio_util::sync::CancellationToken;

use crate::reverse_feed::log_row;

const LEASE: Duration = Duration::from_secs(10);

/// Logs 1 to 6 refer to payments of the same number; the action of the key comes after it.
const REFERRING: &str = "UPDATE integration_logs SET application_id = log_id WHERE log_id <= 6;
    ALTER TABLE integration_logs ADD CONSTRAINT of_payment FOREIGN KEY (application_id) REFERENCES payments
        (payment_id)";

/// A world in DynamoOnly, past every gate, with `sql` done before capture.
async fn stage(sql: &str) -> (World, Epoch) {
    let world = World::start().await;
    world.sql(&format!("{}; {}; {sql}", logs(1, 30), payments(1, 30))).await;
    let coordinator = world.prepared().await;
    backfill(&coordinator).await;
    world.relay_until_empty().await;
    coordinator.close().await;
    world.feed_until_drained().await;
    let epoch = world.flip(Phase::DynamoOnly).await;
    (world, epoch)
}

/// Runs the feed until something is done beside it.
pub(crate) async fn beside_a_feed<V>(world: &World, work: impl Future<Output = V>) -> V {
    let cancel = CancellationToken::new();
    let work = async {
        let done = work.await;
        cancel.cancel();
        done
    };
    let (fed, done) = tokio::join!(world.feed(FeedUntil::Cancelled, &cancel), work);
    fed.expect("the feed goes on");
    done
}

fn payment_at(payment_id: i64) -> <Payments as MigratableTable>::Key {
    Payments::key(&payment_row(payment_id, 1 + payment_id % 50, ""))
}

pub(crate) async fn tried(world: &World, what: &str) {
    let sql = format!("SELECT EXISTS (SELECT FROM lockstep.reverse_again WHERE {what} AND tries > 1)");
    eventually(what, || async { world.value::<bool>(&sql).await }).await;
}

#[tokio::test]
async fn what_a_cascade_took_along_waits_for_what_it_refers_to_and_comes_back_with_it() {
    let (world, epoch) = stage(&format!("{REFERRING} ON DELETE CASCADE")).await;
    beside_a_feed(&world, async {
        world.delete_item(&Payments::default(), &payment_at(3), epoch).await;
        tried(&world, "ridden").await;
        assert_eq!(world.count("integration_logs WHERE log_id = 3").await, 0, "PostgreSQL has cascaded");
        let migration = world.migration();
        let answer = drained(&migration, &migration.tables[0], Duration::from_secs(3)).await.expect("asked");
        let waits = answer.waits_for.join("; ");
        assert!(!answer.through && waits.contains("of_payment"), "{waits}");
        world.put_item(&Payments::default(), &payment_row(3, 4, "again"), epoch).await;
    })
    .await;
    world.feed_until_drained().await;
    assert_eq!(world.count("integration_logs").await, 30);
    world.assert_fed().await;
}

/// The other actions, and a key within one table, which no trigger can tell from the feed's own writes.
#[tokio::test]
async fn a_reference_that_was_cleared_or_is_within_one_table_is_brought_back_as_well() {
    for action in ["ON DELETE SET NULL", "ON DELETE SET DEFAULT"] {
        let (world, epoch) = stage(&format!("{REFERRING} {action}")).await;
        beside_a_feed(&world, async {
            world.delete_item(&Payments::default(), &payment_at(3), epoch).await;
            tried(&world, "ridden").await;
            world.put_item(&Payments::default(), &payment_row(3, 4, "again"), epoch).await;
        })
        .await;
        world.feed_until_drained().await;
        assert_eq!(world.count("integration_logs WHERE application_id = 3").await, 1, "{action}");
        world.assert_fed().await;
    }
    let within = "UPDATE integration_logs SET application_id = 1 WHERE log_id BETWEEN 2 AND 6;
        ALTER TABLE integration_logs ADD CONSTRAINT of_log FOREIGN KEY (application_id) REFERENCES
            integration_logs (log_id)
            ON DELETE CASCADE";
    let (world, epoch) = stage(within).await;
    let first = rows::log_row(1, "u");
    let first = lockstep_integration_logs::IntegrationLog { service_name: "service-1".to_owned(), ..first };
    beside_a_feed(&world, async {
        world.delete_item(&IntegrationLogs::default(), &IntegrationLogs::key(&first), epoch).await;
        tried(&world, "ridden").await;
        world.put_item(&IntegrationLogs::default(), &first, epoch).await;
    })
    .await;
    world.feed_until_drained().await;
    assert_eq!(world.count("integration_logs WHERE application_id = 1").await, 5);
    world.assert_fed().await;
}

/// H85: 1. The truth is decided to move back. 2. A request of DynamoOnly lands, whose sender has given it
/// up. 3. A key's action changes another row with it.
#[tokio::test]
async fn what_rides_along_with_a_late_write_is_brought_back_before_postgresql_is_the_truth() {
    let world = World::start().await;
    world.sql(&format!("{}; {}; {REFERRING} ON DELETE SET NULL", logs(1, 30), payments(1, 30))).await;
    let world = world.dynamo_only("SELECT 1").await;
    world.feed_until_drained().await;
    let (control, tables) = (world.control(), world.tables());
    let epoch = control.record().await.expect("read").expect("a record").epoch;
    let paused = control.pause_writes(epoch).await.expect("paused");
    control.leave(paused, Phase::HybridRead).await.expect("decided");
    let copied = || copy_to_source(&world.source, &control, &tables, Duration::from_secs(5));
    beside_a_feed(&world, async {
        world.delete_item(&Payments::default(), &payment_at(3), epoch).await;
        tried(&world, "ridden").await;
        let refused = copied().await.expect_err("a row is not what DynamoDB says");
        assert!(refused.kind == Kind::Busy && refused.message.contains("a cascade"), "{refused}");
        assert_eq!(world.count("integration_logs WHERE log_id = 3 AND application_id = 3").await, 0);
        world.put_item(&Payments::default(), &payment_row(3, 4, "again"), epoch).await;
        eventually("it is brought back", || async { copied().await.is_ok() }).await;
    })
    .await;
    assert_eq!(world.source.control().await.expect("read").phase, Phase::HybridRead);
    assert_eq!(world.count("integration_logs WHERE log_id = 3 AND application_id = 3").await, 1);
}

/// A trigger on one moved table that changes rows of the other, deletes one and makes one.
const MEDDLES: &str = "
    CREATE FUNCTION public.meddle() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        UPDATE integration_logs SET user_id = 'meddled with' WHERE log_id = NEW.payment_id;
        DELETE FROM integration_logs WHERE log_id = NEW.payment_id + 10;
        INSERT INTO integration_logs (log_id, log_type, service_name, is_success)
            VALUES (NEW.payment_id + 9000, 'Check', 'made', true) ON CONFLICT DO NOTHING;
        RETURN NULL;
    END $$;
    CREATE TRIGGER meddle AFTER UPDATE ON payments FOR EACH ROW EXECUTE FUNCTION public.meddle();
    CREATE FUNCTION public.meddle_too() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        UPDATE payments SET payment_method = 'meddled with' WHERE payment_id = NEW.log_id;
        RETURN NULL;
    END $$;
    CREATE TRIGGER meddle_too AFTER INSERT OR UPDATE ON integration_logs FOR EACH ROW
        WHEN (pg_trigger_depth() < 3) EXECUTE FUNCTION public.meddle_too()";

#[tokio::test]
async fn what_triggers_change_in_the_other_table_is_taken_back_though_they_set_off_each_other() {
    let (world, epoch) = stage(MEDDLES).await;
    world.put_item(&Payments::default(), &payment_row(7, 8, "new"), epoch).await;
    world.put_item(&IntegrationLogs::default(), &log_row(9, "service-4", "new"), epoch).await;
    world.feed_until_drained().await;
    assert_eq!(
        world.count("integration_logs WHERE user_id = 'meddled with' OR service_name = 'made'").await,
        0
    );
    assert_eq!(world.count("integration_logs").await, 30);
    assert_eq!(world.count("payments WHERE payment_method = 'meddled with'").await, 0);
    world.assert_fed().await;
    // They are among what is compared before the way back: their rows were not brought by the stream.
    assert_eq!(world.count("lockstep.reverse_places WHERE table_name = 'integration_logs'").await, 4);
}

const STAMPS: &str = "
    CREATE FUNCTION public.stamp() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN NEW.updated_date := now(); RETURN NEW; END $$;
    CREATE TRIGGER stamp BEFORE INSERT OR UPDATE ON payments FOR EACH ROW EXECUTE FUNCTION public.stamp()";

#[tokio::test]
async fn a_trigger_that_stamps_rows_closes_no_way_back_and_one_that_would_is_refused_before_it() {
    let world = World::start().await;
    world.sql(&format!("{}; {}; {STAMPS}", logs(1, 20), payments(1, 20))).await;
    world.migrated_to(Phase::HybridRead).await.close().await;
    world.relay_until_empty().await;
    assert!(world.record_verdict().await.verdict.is_consistent());
    let coordinator = world.coordinator().await;
    world.sql("ALTER TABLE payments ENABLE ALWAYS TRIGGER stamp").await;
    let error =
        coordinator.step(Phase::DynamoOnly, None, &()).await.expect_err("it fires on replicas as well");
    assert!(
        matches!(&error, CoordinatorError::Refused(gates) if gates.refusals().contains("stamp (public.stamp)")
            || gates.refusals().contains("stamp (stamp)")),
        "{error}"
    );
    world.sql("ALTER TABLE payments ENABLE TRIGGER stamp").await;
    world.step_to(&coordinator, Phase::DynamoOnly).await;
    let app =
        world.registered_app(world.source_options(), Default::default(), Default::default(), LEASE).await;
    let store = app.store::<Payments>();
    store.update(7_i64, |row| row.transaction_reference = Some("new".to_owned())).await.expect("written");
    coordinator.step(Phase::HybridRead, None, &()).await.expect("rows are as their items say");
    assert_eq!(world.count("payments WHERE transaction_reference = 'new'").await, 1);
    app.shutdown().await;
    world.assert_converged().await;
}

/// The whole of P4: the truth does not go back to a PostgreSQL that lacks what a cascade took along.
#[tokio::test]
async fn the_way_back_waits_for_rows_that_a_cascade_took_along() {
    let world = World::start().await;
    world.sql(&format!("{}; {}; {REFERRING} ON DELETE CASCADE", logs(1, 20), payments(1, 20))).await;
    world.migrated_to(Phase::DynamoOnly).await.close().await;
    let mut migration = world.migration();
    migration.options.steps = StepOptions { catch_up_max: Duration::from_secs(3), ..migration.options.steps };
    let coordinator = world.coordinator_of(migration).await;
    let app =
        world.registered_app(world.source_options(), Default::default(), Default::default(), LEASE).await;
    app.store::<Payments>().delete(3_i64).await.expect("deleted");
    // Until then the step would say that it waits for records.
    beside_a_feed(&world, tried(&world, "ridden")).await;
    let error = coordinator.step(Phase::HybridRead, None, &()).await.expect_err("log 3 is the truth's");
    assert!(error.to_string().contains("of_payment"), "{error}");
    assert_eq!(world.source.control().await.expect("a phase").phase, Phase::DynamoOnly);
    let freed = app.store::<IntegrationLogs>().update(3_i64, |row| row.application_id = None).await;
    freed.expect("the application leads on");
    coordinator.step(Phase::HybridRead, None, &()).await.expect("nothing is missing any more");
    assert_eq!(world.count("integration_logs").await, 20);
    app.shutdown().await;
    world.assert_converged().await;
}

/// F15. What it waits for need never come; then an operator decides.
#[tokio::test]
async fn what_has_waited_for_long_is_a_dead_letter_that_can_be_accepted() {
    let constraints = "UPDATE payments SET transaction_reference = 'r' || payment_id;
        CREATE UNIQUE INDEX references_once ON payments (transaction_reference);
        ALTER TABLE payments ADD CONSTRAINT positive CHECK (payment_amount > 0)";
    let (world, epoch) = stage(constraints).await;
    // Before the step each is named: no writer is asked.
    let around = world.source.surroundings(&world.payments_table()).await.expect("asked");
    let unasked = around.unasked.join(", ");
    for constraint in ["positive (CHECK)", "references_once (UNIQUE)", "(FOREIGN KEY)"] {
        assert!(unasked.contains(constraint), "{constraint}: {unasked}");
    }
    assert!(!unasked.contains("_pkey"), "{unasked}");
    let unknown = lockstep_payments::Payment { loan_id: 900_001, ..payment_row(102, 3, "u") };
    let amount = lockstep_core::Scaled::new(rust_decimal::Decimal::new(-100, 2)).expect("it fits");
    let negative = lockstep_payments::Payment { payment_amount: amount, ..payment_row(103, 4, "n") };
    for row in [&unknown, &negative, &payment_row(104, 5, "r7")] {
        world.put_item(&Payments::default(), row, epoch).await;
    }
    beside_a_feed(&world, async {
        for id in [102, 103, 104] {
            tried(&world, &format!("table_name = 'payments' AND place LIKE '%{id}%'")).await;
        }
        assert_eq!(
            world.source.count_dead_letters(PAYMENTS).await.expect("counted"),
            (0, 0),
            "it may be early"
        );
        world.sql("UPDATE lockstep.reverse_again SET found_at = found_at - interval '6 minutes'").await;
        assert_eq!(world.source.count_dead_letters(PAYMENTS).await.expect("counted"), (3, 3));
        let letters = world.source.dead_letters(PAYMENTS, 10).await.expect("listed");
        for constraint in ["foreign key", "positive", "references_once"] {
            assert!(letters.iter().any(|letter| letter.reason.contains(constraint)), "{letters:?}");
        }
        assert_eq!(
            lockstep_tests::world::acknowledge(&world.source, PAYMENTS, "an operator")
                .await
                .expect("accepted"),
            3
        );
        let migration = world.migration();
        let answer = drained(&migration, &migration.tables[1], Duration::from_secs(20)).await.expect("asked");
        assert!(answer.through, "{answer:?}");
    })
    .await;
}

/// 1. PostgreSQL refuses a log, and an operator accepts that it keeps the row of before. 2. The payment that
/// the log refers to is deleted, and a cascade takes that row. 3. The way back went through under the
/// acceptance of step 1, and the log was in DynamoDB alone, for a repair to put a tombstone over it.
#[tokio::test]
async fn an_acceptance_is_over_when_a_cascade_takes_the_row_that_was_to_be_kept() {
    let world = World::start().await;
    let refuses = "ALTER TABLE integration_logs ADD CONSTRAINT spoken CHECK (user_id <> 'refused')";
    let tables = format!("{}; {}; {REFERRING} ON DELETE CASCADE; {refuses}", logs(1, 20), payments(1, 20));
    world.sql(&tables).await;
    world.migrated_to(Phase::DynamoOnly).await.close().await;
    let app =
        world.registered_app(world.source_options(), Default::default(), Default::default(), LEASE).await;
    let store = app.store::<IntegrationLogs>();
    store.update(3_i64, |log| log.user_id = Some("refused".to_owned())).await.expect("written");
    let letters = async || world.source.count_dead_letters(LOGS).await.expect("counted");
    beside_a_feed(&world, async {
        tried(&world, "NOT ridden").await;
        world.sql("UPDATE lockstep.reverse_again SET found_at = found_at - interval '6 minutes'").await;
        assert_eq!(
            lockstep_tests::world::acknowledge(&world.source, LOGS, "an operator").await.expect("accepted"),
            1
        );
        assert_eq!(letters().await, (1, 0));
        assert_eq!(world.count("integration_logs WHERE log_id = 3").await, 1, "it is kept");
        app.store::<Payments>().delete(3_i64).await.expect("deleted");
        eventually("it is open again", || async { letters().await == (1, 1) }).await;
        assert_eq!(world.count("integration_logs WHERE log_id = 3").await, 0, "PostgreSQL has cascaded");
    })
    .await;
    let mut migration = world.migration();
    migration.options.steps = StepOptions { catch_up_max: Duration::from_secs(3), ..migration.options.steps };
    let coordinator = world.coordinator_of(migration).await;
    let error = coordinator.step(Phase::HybridRead, None, &()).await.expect_err("log 3 is the truth's");
    let named = ["of_payment", "spoken"].iter().any(|constraint| error.to_string().contains(constraint));
    assert!(named, "{error}");
    assert_eq!(world.source.control().await.expect("a phase").phase, Phase::DynamoOnly);
    // An operator who knows that the row has gone may decide so.
    assert_eq!(
        lockstep_tests::world::acknowledge(&world.source, LOGS, "an operator").await.expect("accepted"),
        1
    );
    coordinator.step(Phase::HybridRead, None, &()).await.expect("as it was decided");
    app.shutdown().await;
    coordinator.close().await;
}

/// F19, with a foreign key that would drag logs along if a payment went for a moment.
#[tokio::test]
async fn unique_values_that_move_in_a_ring_come_through_together_or_one_after_the_other() {
    let unique = "UPDATE payments SET transaction_reference = 'r' || payment_id;
        CREATE UNIQUE INDEX references_once ON payments (transaction_reference)";
    let (world, epoch) = stage(&format!("{unique}; {REFERRING} ON DELETE CASCADE")).await;
    let put = async |payment_id: i64, reference: &str| {
        world
            .put_item(&Payments::default(), &payment_row(payment_id, 1 + payment_id % 50, reference), epoch)
            .await
    };
    // In one page, most likely.
    for payment_id in 11..20 {
        put(payment_id, &format!("r{}", if payment_id == 19 { 11 } else { payment_id + 1 })).await;
    }
    beside_a_feed(&world, async {
        // Each by itself: neither can be written before the other. And one that takes what is not given away.
        put(1, "r2").await;
        put(5, "r6").await;
        tried(&world, "table_name = 'payments'").await;
        put(2, "r3").await;
        put(3, "r1").await;
        let ring = "payments WHERE (payment_id, transaction_reference) IN ((1, 'r2'), (2, 'r3'), (3, 'r1'))";
        eventually("the ring is through", || async { world.count(ring).await == 3 }).await;
        let standing = world.source.reverse_standing(PAYMENTS).await.expect("asked").expect("fed");
        let why = standing.again_why.unwrap_or_default();
        assert!(standing.again == 1 && why.contains("references_once"), "{} {why}", standing.again);
        put(6, "free").await;
    })
    .await;
    world.feed_until_drained().await;
    assert_eq!(
        world.count("integration_logs WHERE application_id IS NOT NULL").await,
        6,
        "nothing was dragged"
    );
    world.assert_fed().await;
}

#[tokio::test]
async fn a_role_that_may_not_write_as_a_replica_is_known_by_trying() {
    let world = World::start().await;
    assert!(world.source.may_silence().await.expect("asked"), "a superuser may");
    let role: String = world.value("SELECT current_database()::text || '_no_replica'").await;
    world.sql(&format!("CREATE ROLE {role} LOGIN PASSWORD 'p'")).await;
    let (_, place) = world.url().split_once('@').expect("a URL with a password");
    let mut options = world.source_options();
    options.url = format!("postgres://{role}:p@{place}");
    let source = Source::connect(&options).await.expect("connects");
    assert!(!source.may_silence().await.expect("asked"));
    world.sql(&format!("GRANT SET ON PARAMETER session_replication_role TO {role}")).await;
    assert!(source.may_silence().await.expect("asked"));
    let around = source.surroundings(&world.logs_table()).await.expect("asked");
    assert!(around.triggers.is_empty() && around.actions.is_empty(), "{LOGS} has nothing on it: {around:?}");
}
