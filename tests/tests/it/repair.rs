//! Repair (R27): whatever is wrong in the target is brought to what the source says, by the relay, and read
//! again.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use lockstep_coordinator::{Repairs, find_repairs, repair, repairs_of};
use lockstep_core::{Attributes, MigratableTable, Phase, SourceKey, Version};
use lockstep_integration_logs::IntegrationLogs;
use lockstep_postgres::TableBinding;
use lockstep_sample::writers::{WriterOptions, write_until};
use lockstep_tests::World;
use lockstep_tests::faults::{Fault, Rule};
use lockstep_tests::world::rows::{log_key, logs, payment_key, payments};
use lockstep_tests::world::{LOGS, PAYMENTS, eventually};
use lockstep_validator::{CancellationToken, FindingClass, ValidateOptions, ValidateSettings};

fn options() -> ValidateOptions {
    ValidateOptions { wait_for_pending: false, ..ValidateOptions::default() }
}

async fn search(world: &World) -> Repairs {
    find_repairs(&world.migration(), &options(), &CancellationToken::new()).await.expect("searched")
}

fn log_of(log_id: i64) -> String {
    log_key(log_id, &format!("service-{}", log_id % 5))
}

pub(crate) fn payment_of(payment_id: i64) -> String {
    payment_key(payment_id, 1 + payment_id % 50)
}

fn text(value: &str) -> AttributeValue {
    AttributeValue::S(value.to_owned())
}

/// Changes an item behind Lockstep's back.
async fn tamper(world: &World, binding: &TableBinding, key: &str, change: impl FnOnce(&mut Attributes)) {
    let mut item = world.live_at(binding, key).await;
    change(&mut item);
    let put = world.plain_target.client().put_item().table_name(&binding.target_name).set_item(Some(item));
    put.send().await.expect("put");
}

/// Takes an item away behind Lockstep's back.
pub(crate) async fn remove(world: &World, binding: &TableBinding, key: &str) {
    let place = binding.table.target_key(&SourceKey::parse(key).expect("a key")).expect("a place");
    let delete = world.plain_target.client().delete_item().table_name(&binding.target_name);
    delete.set_key(Some(place.to_attributes())).send().await.expect("deleted");
}

async fn migrated(world: &World) {
    world.sql(&logs(1, 60)).await;
    world.sql(&payments(1, 60)).await;
    world.migrated_to(Phase::DualWrite).await.close().await;
}

#[tokio::test]
async fn every_class_of_difference_is_repaired_and_the_next_verdict_is_consistent() {
    let world = World::start().await;
    migrated(&world).await;
    let (of_logs, of_payments) = (world.logs_table(), world.payments_table());
    let resurrected = world.live_at(&of_payments, &payment_of(7)).await;
    world.sql("DELETE FROM payments WHERE payment_id = 7").await;
    world.relay_until_empty().await;

    remove(&world, &of_logs, &log_of(1)).await;
    tamper(&world, &of_logs, &log_of(2), |item| drop(item.insert("user_id".to_owned(), text("x")))).await;
    tamper(&world, &of_payments, &payment_of(3), |item| {
        item.insert("payment_amount".to_owned(), AttributeValue::N("3.24".to_owned()));
    })
    .await;
    tamper(&world, &of_payments, &payment_of(4), |item| {
        item.insert("created_date".to_owned(), text("2099-03-04T05:06:07.000009Z"));
    })
    .await;
    tamper(&world, &of_logs, &log_of(5), |item| {
        drop(item.insert("request_data".to_owned(), text("{\"n\": ")))
    })
    .await;
    tamper(&world, &of_payments, &payment_of(6), |item| {
        drop(item.insert("GSI1PK".to_owned(), text("STATUS#Lost")))
    })
    .await;
    let put = world.plain_target.client().put_item().table_name(PAYMENTS).set_item(Some(resurrected));
    put.send().await.expect("put");
    tamper(&world, &of_logs, &log_of(8), |item| drop(item.remove("_v"))).await;
    let made_up = MigratableTable::encode(&IntegrationLogs::default(), &crate::store::row(99, "made up"))
        .expect("fits");
    world.plain_target.put_guarded(LOGS, made_up.at(Version(7)), Version(7)).await.expect("put");

    let repairs = search(&world).await;
    assert_eq!(
        (repairs.unrepairable.len(), repairs.unlisted, repairs.failures.len()),
        (0, 0, 0),
        "{repairs:?}"
    );
    let mut classes: BTreeMap<FindingClass, usize> = BTreeMap::new();
    for found in &repairs.repairable {
        *classes.entry(found.class).or_default() += 1;
    }
    let expected = [
        (FindingClass::Missing, 1),
        (FindingClass::Different, 4),
        (FindingClass::Extra, 2),
        (FindingClass::Undecodable, 1),
        (FindingClass::Foreign, 1),
    ];
    assert_eq!(classes, BTreeMap::from(expected), "{repairs:?}");

    let rows_before: i64 = world.count(LOGS).await + world.count(PAYMENTS).await;
    let done = repair(&world.migration(), &repairs.repairable, &options(), &CancellationToken::new())
        .await
        .expect("repaired");
    assert_eq!((done.marked, done.verified, done.unverified.len()), (9, 9, 0), "{done:?}");
    assert_eq!(
        world.count(LOGS).await + world.count(PAYMENTS).await,
        rows_before,
        "the source is never changed"
    );
    world.tombstone_at(&of_payments, &payment_of(7)).await;
    assert!(search(&world).await.repairable.is_empty());
    world.assert_converged().await;
    let journal = world.source.journal(4).await.expect("the journal");
    assert_eq!(
        journal.iter().map(|entry| entry.kind.as_str()).collect::<Vec<_>>(),
        ["done", "intent", "done", "intent"]
    );
    assert!(journal[1].detail["keys"].as_array().is_some_and(|keys| !keys.is_empty()), "{:?}", journal[1]);
}

#[tokio::test]
async fn an_item_where_no_row_belongs_is_reported_and_left_alone() {
    let world = World::start().await;
    migrated(&world).await;
    let mut item = world.live_at(&world.logs_table(), &log_of(1)).await;
    item.insert("PK".to_owned(), text("no-such#2020-01-01"));
    let put = world.plain_target.client().put_item().table_name(LOGS).set_item(Some(item));
    put.send().await.expect("put");
    let repairs = search(&world).await;
    assert_eq!((repairs.repairable.len(), repairs.unrepairable.len()), (0, 1), "{repairs:?}");
    assert_eq!(repairs.unrepairable[0].class, FindingClass::Extra);
}

#[tokio::test]
async fn a_repair_among_writers_loses_nothing() {
    let world = World::start().await;
    migrated(&world).await;
    for log_id in 1..=30 {
        remove(&world, &world.logs_table(), &log_of(log_id)).await;
    }
    let repairs = search(&world).await;
    assert_eq!(repairs.repairable.len(), 30);
    let stop = CancellationToken::new();
    let writers = WriterOptions { seed: 5, per_second: NonZeroU32::new(300).expect("not zero") };
    let raw = tokio::spawn(write_until(world.connect_options(), writers, stop.clone()));
    let store = {
        let (store, stop) = (world.log_store(), stop.clone());
        tokio::spawn(async move {
            let mut written = 0_i64;
            while !stop.is_cancelled() {
                let id = 1 + written % 30;
                let text = written.to_string();
                store.update(id, move |log| log.user_id = Some(text.clone())).await.expect("written");
                written += 1;
            }
            written
        })
    };
    eventually("both write", async || {
        world.value::<bool>("SELECT EXISTS (SELECT 1 FROM integration_logs WHERE user_id = '40')").await
    })
    .await;
    let options = ValidateOptions {
        settings: ValidateSettings { settle_timeout: Duration::from_secs(20), ..ValidateSettings::default() },
        ..options()
    };
    let done = repair(&world.migration(), &repairs.repairable, &options, &CancellationToken::new())
        .await
        .expect("repaired");
    stop.cancel();
    raw.await.expect("the writer ends");
    assert!(store.await.expect("the writer ends") > 40);
    assert_eq!((done.marked, done.verified, done.unverified.len()), (30, 30, 0), "{done:?}");
    world.assert_converged().await;
}

#[tokio::test]
async fn killed_between_marks_and_delivery_it_begins_with_what_was_not_read_again() {
    let world = World::behind_proxy().await;
    migrated(&world).await;
    remove(&world, &world.logs_table(), &log_of(1)).await;
    remove(&world, &world.logs_table(), &log_of(2)).await;
    let repairs = search(&world).await;
    world.proxy().script(Rule::new(Fault::Unavailable).on("PutItem"));
    let (migration, cancel) = (world.migration(), CancellationToken::new());
    let settings = options();
    let marked = eventually("the keys are marked", async || world.pending(LOGS).await.len() == 2);
    tokio::select! {
        done = repair(&migration, &repairs.repairable, &settings, &cancel) => panic!("nothing was delivered: {done:?}"),
        () = marked => {}
    }
    // Another coordinator does not take them for verified.
    world.coordinator().await.close().await;
    assert_eq!(world.source.open_intents().await.expect("the journal").len(), 1);
    world.proxy().clear();
    let done = repair(&migration, &[], &settings, &cancel).await.expect("repaired");
    assert_eq!((done.resumed, done.marked, done.verified, done.unverified.len()), (2, 2, 2, 0), "{done:?}");
    assert!(world.source.open_intents().await.expect("the journal").is_empty());
    world.assert_converged().await;
}

#[tokio::test]
async fn what_cannot_be_delivered_stays_unverified() {
    let world = World::behind_proxy().await;
    migrated(&world).await;
    remove(&world, &world.logs_table(), &log_of(1)).await;
    let report = world.validate().await;
    let migration = world.migration();
    let repairs = repairs_of(&migration, &report).await.expect("the target answers");
    world.proxy().script(Rule::new(Fault::Unavailable).on("PutItem"));
    let options = ValidateOptions {
        settings: ValidateSettings {
            settle_timeout: Duration::from_millis(300),
            ..ValidateSettings::default()
        },
        ..options()
    };
    let done = repair(&migration, &repairs.repairable, &options, &CancellationToken::new()).await;
    match done {
        Ok(done) => assert_eq!((done.marked, done.verified, done.unverified.len()), (1, 0, 1), "{done:?}"),
        // The relay may say first that it cannot deliver.
        Err(error) => assert!(error.to_string().contains("DynamoDB"), "{error}"),
    }
}

#[tokio::test]
async fn where_the_source_does_not_feed_the_target_nothing_is_marked() {
    let world = World::start().await;
    world.sql(&logs(1, 3)).await;
    world.prepared().await.close().await;
    let repairs = search(&world).await;
    assert!(repairs.repairable.is_empty() && repairs.failures[0].contains("DualWrite"), "{repairs:?}");
    let refused =
        repair(&world.migration(), &[], &options(), &CancellationToken::new()).await.expect_err("refused");
    assert!(refused.to_string().contains("nothing was marked"), "{refused}");
}
