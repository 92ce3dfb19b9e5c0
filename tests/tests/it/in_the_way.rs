//! Rows of PostgreSQL that keep out what DynamoDB has: one that has expired, and one that a trigger made.

use lockstep_coordinator::FeedUntil;
use lockstep_core::{Epoch, MigratableTable, Phase, parse_fixed_width};
use lockstep_integration_logs::{IntegrationLog, IntegrationLogs};
use lockstep_payments::Payments;
use lockstep_tests::World;
use lockstep_tests::world::rows::{log_row, logs, payment_row, payments};
use lockstep_tests::world::{LOGS, backfill, eventually};
use tokio_util::sync::CancellationToken;

/// A world in DynamoOnly, with `sql` done before capture.
async fn stage(sql: &str) -> (World, Epoch) {
    let world = World::start().await;
    world.sql(&format!("{}; {}; {sql}", logs(1, 10), payments(1, 10))).await;
    let coordinator = world.prepared().await;
    backfill(&coordinator).await;
    world.relay_until_empty().await;
    coordinator.close().await;
    world.feed_until_drained().await;
    let epoch = world.flip(Phase::DynamoOnly).await;
    (world, epoch)
}

fn expired(log_id: i64, user_id: &str) -> IntegrationLog {
    let log_timestamp = parse_fixed_width("2015-03-04T05:06:07.000008Z").expect("a time");
    IntegrationLog { log_timestamp, ..log_row(log_id, user_id) }
}

/// Removes an item, as expiry does.
async fn remove(world: &World, row: &IntegrationLog) {
    let key = IntegrationLogs::default().target_key(&IntegrationLogs::key(row)).expect("a key");
    let client = world.plain_target.client();
    client.delete_item().table_name(LOGS).set_key(Some(key.to_attributes())).send().await.expect("removed");
}

async fn waits(world: &World, log_id: i64) {
    let sql = format!(
        "SELECT EXISTS (SELECT FROM lockstep.reverse_again WHERE key ->> 0 = '{log_id}' AND tries > 1)"
    );
    eventually("it waits", || async { world.value::<bool>(&sql).await }).await;
}

/// 1. A row expires, and PostgreSQL keeps it. 2. Another is inserted with its value, and acknowledged.
#[tokio::test]
async fn an_expired_row_makes_way_for_one_that_takes_its_value_once_its_item_is_gone() {
    let unique = "UPDATE integration_logs SET user_id = 'u' || log_id;
        UPDATE integration_logs SET log_timestamp = '2015-03-04' WHERE log_id = 3;
        CREATE UNIQUE INDEX users_once ON integration_logs (lower(user_id)) WHERE user_id <> ''";
    let (world, epoch) = stage(unique).await;
    let table = IntegrationLogs::default();
    let old = expired(60, "late");
    let cancel = CancellationToken::new();
    let play = async {
        // Nothing is at its place: it had expired before history was copied.
        world.put_item(&table, &log_row(90, "U3"), epoch).await;
        eventually("the expired row made way", || async {
            world.count("integration_logs WHERE log_id = 90").await == 1
        })
        .await;
        assert_eq!(world.count("integration_logs WHERE log_id = 3").await, 0);
        // An item that has expired and is there still, and a row that has not expired, make no way.
        world.put_item(&table, &old, epoch).await;
        world.put_item(&table, &log_row(91, "LATE"), epoch).await;
        world.put_item(&table, &log_row(92, "u4"), epoch).await;
        waits(&world, 91).await;
        waits(&world, 92).await;
        assert_eq!(world.count("integration_logs WHERE log_id IN (4, 60)").await, 2);
        remove(&world, &old).await;
        eventually("the expired row made way", || async {
            world.count("integration_logs WHERE log_id = 91").await == 1
        })
        .await;
        world.put_item(&table, &log_row(92, "free"), epoch).await;
        cancel.cancel();
    };
    let (fed, ()) = tokio::join!(world.feed(FeedUntil::Cancelled, &cancel), play);
    fed.expect("the feed goes on");
    world.feed_until_drained().await;
    assert_eq!(world.count("integration_logs WHERE log_id IN (3, 60)").await, 0);
    assert_eq!(world.count("integration_logs").await, 9 + 3);
    world.assert_fed().await;
}

/// 1. Live rows refer to one that has expired, and go with it. 2. It made way for a row that took its
/// value. 3. They were read again, and PostgreSQL refused each: what they refer to was gone.
#[tokio::test]
async fn an_expired_row_makes_no_way_while_it_would_take_others_along() {
    let unique = "UPDATE integration_logs SET user_id = 'u' || log_id;
        UPDATE integration_logs SET log_timestamp = '2015-03-04' WHERE log_id = 3;
        UPDATE payments SET loan_id = 3;
        ALTER TABLE payments ADD FOREIGN KEY (loan_id) REFERENCES integration_logs (log_id) ON DELETE CASCADE;
        CREATE UNIQUE INDEX users_once ON integration_logs (lower(user_id))";
    let (world, epoch) = stage(unique).await;
    let table = IntegrationLogs::default();
    let cancel = CancellationToken::new();
    let play = async {
        world.put_item(&table, &log_row(90, "U3"), epoch).await;
        waits(&world, 90).await;
        assert_eq!(world.count("payments").await, 10, "they went with it");
        assert_eq!(world.count("integration_logs WHERE log_id = 3").await, 1);
        let rows: Vec<i64> = (1..=10).collect();
        for id in rows {
            let key = Payments::key(&payment_row(id, 1 + id % 50, ""));
            world.delete_item(&Payments::default(), &key, epoch).await;
        }
        eventually("the expired row made way", || async {
            world.count("integration_logs WHERE log_id = 90").await == 1
        })
        .await;
        cancel.cancel();
    };
    let (fed, ()) = tokio::join!(world.feed(FeedUntil::Cancelled, &cancel), play);
    fed.expect("the feed goes on");
    world.feed_until_drained().await;
    assert_eq!(world.count("integration_logs WHERE log_id = 3").await, 0);
    assert_eq!(world.count("payments").await, 0);
    world.assert_fed().await;
}

/// 1. A BEFORE trigger gives each row an id of its own. 2. It fires before the feed's upsert finds the row.
#[tokio::test]
async fn a_row_that_the_feeds_upsert_puts_in_under_the_key_of_a_trigger_goes_again() {
    let sets = "CREATE SEQUENCE public.own_ids START 5000;
        CREATE FUNCTION public.own_id() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN NEW.payment_id := nextval('public.own_ids'); RETURN NEW; END $$;
        CREATE TRIGGER own_id BEFORE INSERT ON payments FOR EACH ROW EXECUTE FUNCTION public.own_id()";
    let (world, epoch) = stage(sets).await;
    let table = Payments::default();
    world.put_item(&table, &payment_row(7, 8, "changed"), epoch).await;
    world.put_item(&table, &payment_row(90, 41, "new"), epoch).await;
    world.delete_item(&table, &Payments::key(&payment_row(3, 4, "")), epoch).await;
    world.feed_until_drained().await;
    assert!(world.value::<i64>("SELECT last_value FROM public.own_ids").await > 5000, "it has fired");
    assert_eq!(world.count("payments WHERE payment_id >= 5000").await, 0);
    assert_eq!(world.count("payments").await, 10);
    world.assert_fed().await;
}
