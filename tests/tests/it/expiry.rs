//! Rows past their expiry cost nothing: they are not brought over, and leave no place behind.

use std::time::Duration;

use lockstep_core::{Attributes, PK};
use lockstep_integration_logs::IntegrationLogs;
use lockstep_tests::World;
use lockstep_tests::world::rows::logs;
use lockstep_tests::world::{LOGS, backfill};

#[tokio::test]
async fn expired_rows_are_not_brought_over_and_the_stores_agree() {
    let world = World::start().await;
    world.sql(&logs(1, 40)).await;
    world.sql("UPDATE integration_logs SET log_timestamp = '2015-03-04' WHERE log_id <= 10").await;
    let coordinator = world.prepared().await;
    let done = backfill(&coordinator).await;
    coordinator.close().await;
    let of_logs = done.iter().find(|summary| summary.table == LOGS).expect("its summary");
    assert_eq!((of_logs.rows_written, of_logs.rows_present), (30, 10));
    assert_eq!(world.live_items(LOGS).await, 30);
    let report = world.validate().await;
    assert!(report.verdict.is_consistent(), "{report:#?}");
    // One whose expiry is put off is a change like any other.
    world.sql("UPDATE integration_logs SET log_timestamp = '2099-03-04' WHERE log_id = 1").await;
    world.relay_until_empty().await;
    assert_eq!(world.live_items(LOGS).await, 31);
    assert!(world.validate().await.verdict.is_consistent());
}

#[tokio::test]
async fn the_place_of_a_row_that_expires_goes_with_it() {
    let world = World::start().await.dynamo_only(&logs(1, 3)).await;
    let app = world.app_without_source(Duration::from_secs(10)).await;
    app.store::<IntegrationLogs>().insert(&crate::store::row(0, "expires")).await.expect("written");
    app.shutdown().await;
    let scan = world.plain_target.client().scan().table_name(world.control().table()).consistent_read(true);
    let items = scan.send().await.expect("scanned").items.unwrap_or_default();
    let places = |table: &str| -> Vec<Attributes> {
        let starts = format!("ID#{table}#");
        let is_place = |item: &&Attributes| {
            item.get(PK).and_then(|pk| pk.as_s().ok()).is_some_and(|pk| pk.starts_with(&starts))
        };
        items.iter().filter(is_place).cloned().collect()
    };
    let [log] = &places("integration_logs")[..] else { panic!("one place: {items:?}") };
    let ttl = log.get("ttl").and_then(|ttl| ttl.as_n().ok()).expect("an expiry");
    // The row's own is ninety days after 2099-03-04.
    assert!(ttl.parse::<i64>().expect("seconds") > 4_084_000_000, "{ttl}");
}

/// P19 (b). 1. A row that expires next year is put, and the put is delayed. 2. A newer version sets the
/// expiry into the past. 3. DynamoDB removes what has expired. 4. The delayed put arrives.
#[tokio::test]
async fn an_expiry_that_is_set_into_the_past_leaves_its_item_for_as_long_as_an_older_put_may_come() {
    let world = World::start().await;
    world.sql(&logs(1, 5)).await;
    let coordinator = world.prepared().await;
    backfill(&coordinator).await;
    coordinator.close().await;
    world.sql("UPDATE integration_logs SET log_timestamp = '2015-03-04' WHERE log_id = 1").await;
    world.relay_until_empty().await;
    let binding = world.logs_table();
    let item = world.live_at(&binding, "[1, \"service-1\", \"2015-03-04T00:00:00.000000\"]").await;
    let ttl: i64 = item.get("ttl").and_then(|ttl| ttl.as_n().ok()?.parse().ok()).expect("an expiry");
    let now_s = chrono::Utc::now().timestamp();
    assert!((now_s + 50 * 60..=now_s + 60 * 60).contains(&ttl), "it stays for an hour: {ttl} at {now_s}");
    // An older state that comes now is older, as its item is there.
    let key = lockstep_core::TargetKey::of(&item).expect("a key");
    let older = lockstep_core::tombstone(key, lockstep_core::Version(1));
    let put = world.plain_target.put_guarded(LOGS, older, lockstep_core::Version(1)).await.expect("answered");
    assert_eq!(put.landed, lockstep_dynamo::Landed::Superseded);
    let report = world.validate().await;
    assert!(report.verdict.is_consistent(), "{report:#?}");
    // The same in DynamoOnly, where nothing else orders what is put where nothing is.
    let world = World::start().await.dynamo_only(&logs(1, 3)).await;
    let app = world.app_without_source(Duration::from_secs(10)).await;
    let long_ago = lockstep_integration_logs::IntegrationLog {
        log_timestamp: lockstep_core::parse_fixed_width("2015-03-04T00:00:00.000000Z").expect("a time"),
        ..crate::store::row(9, "expired")
    };
    app.store::<IntegrationLogs>().put(&long_ago).await.expect("written");
    app.shutdown().await;
    let scan = world.plain_target.client().scan().table_name(LOGS).consistent_read(true).send().await;
    let items = scan.expect("scanned").items.unwrap_or_default();
    let ttls = items.iter().filter_map(|item| item.get("ttl")?.as_n().ok()?.parse::<i64>().ok());
    let least = ttls.min().expect("each log expires");
    assert!(least >= chrono::Utc::now().timestamp() + 50 * 60, "{least}");
}
