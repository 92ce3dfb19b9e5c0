//! A success with an empty body, and one that lacks what was asked for, are no answer of DynamoDB (I18):
//! nothing is acknowledged by them, finished, or taken for absent.

use std::time::Duration;

use lockstep::store::WriteOptions;
use lockstep_coordinator::{FeedUntil, drained, reverse_backfill};
use lockstep_core::{Kind, MigratableTable, Phase};
use lockstep_integration_logs::IntegrationLogs;
use lockstep_payments::Payments;
use lockstep_tests::World;
use lockstep_tests::faults::{Fault, FaultKind, Rule};
use lockstep_tests::world::rows::{log, log_key, log_row, logs, payment_key, payment_row, payments};
use lockstep_tests::world::{LOGS, PAYMENTS, backfill, eventually, sweeping_never};
use tokio_util::sync::CancellationToken;

use crate::reverse_feed::log_row as fed_row;
use crate::store::deferred;

const EMPTY: [&str; 2] = ["", "{}"];

#[tokio::test]
async fn a_relay_and_a_store_that_decides_by_postgres_acknowledge_no_put_by_an_empty_answer() {
    let world = World::behind_proxy().await;
    let coordinator = world.migrated_to(Phase::DualWrite).await;
    let table = world.logs_table();
    // A relay.
    world.sql(&log(1, "a")).await;
    world.proxy().script(Rule::new(Fault::Empty("")).on("PutItem").table(LOGS).times(3));
    world.relay_until_empty().await;
    assert_eq!(world.proxy().counts().injected_on(FaultKind::Empty, "PutItem"), 3);
    world.live_at(&table, &log_key(1, "a")).await;
    // A store, in each phase in which PostgreSQL decides and both are written.
    for (phase, id) in [(Phase::DualWrite, 2), (Phase::HybridRead, 3)] {
        if phase == Phase::HybridRead {
            world.step_to(&coordinator, phase).await;
        }
        let options =
            WriteOptions { hybrid_read: lockstep::store::WriteMode::BestEffort, ..WriteOptions::default() };
        let app = world.app_of(world.source.clone(), options, sweeping_never());
        let store = app.store::<IntegrationLogs>();
        world.proxy().script(Rule::new(Fault::Empty("")).on("PutItem").table(LOGS));
        let put = store.put(&log_row(id, "u")).await.expect("PostgreSQL decides");
        assert_eq!(deferred(&put), Kind::Unknown, "{phase}");
        assert!(world.pending(LOGS).await.contains_key(&log_key(id, "a")), "{phase}: the mark stays");
        world.proxy().clear();
        world.relay_until_empty().await;
        world.live_at(&table, &log_key(id, "a")).await;
    }
    coordinator.close().await;
    world.assert_converged().await;
}

#[tokio::test]
async fn in_dynamo_only_no_write_read_or_lease_is_answered_by_an_empty_success() {
    let world = World::behind_proxy().await.dynamo_only(&format!("{}; {}", logs(1, 3), payments(1, 3))).await;
    let app = world.app_without_source(Duration::from_secs(10)).await;
    let (store, key) = (app.store::<Payments>(), Payments::key(&payment_row(1, 2, "r")));
    let before = store.get(&key).await.expect("read").expect("a row").loan_id;
    // What it hears is never that it is written, unless it is: a lost answer is looked up.
    world.proxy().script(Rule::new(Fault::Empty("")).on("PutItem").on("TransactWriteItems").table(PAYMENTS));
    let heard = store.update(1, |payment| payment.loan_id += 1).await;
    assert!(heard.is_err(), "it was never written: {heard:?}");
    assert!(world.proxy().counts().injected_on(FaultKind::Empty, "PutItem") > 0);
    world.proxy().clear();
    let item = world.live_at(&world.payments_table(), &payment_key(1, 2)).await;
    assert_eq!(Payments::decode(&item).expect("a payment").loan_id, before);
    // A row is not absent, and the next one is asked again.
    world.proxy().script(Rule::new(Fault::Empty("")).on("GetItem").table(PAYMENTS).times(2));
    match store.get(&key).await {
        Ok(found) => assert_eq!(found.expect("it is there").loan_id, before),
        Err(error) => assert!(error.to_string().contains("is a success"), "{error}"),
    }
    world.proxy().clear();
    for body in EMPTY {
        // Leases: a step that finds none waits for none.
        let control = world.target.control();
        world.proxy().script(Rule::new(Fault::Empty(body)).on("Query").table(control.table()));
        let listed = control.instances().await.expect_err("no list of instances");
        assert_eq!(listed.kind, Kind::Unknown, "{body}: {listed}");
        world.proxy().clear();
        // Scans.
        world.proxy().script(Rule::new(Fault::Empty(body)).on("Scan").table(LOGS));
        let page = world.target.scan_page(LOGS, (0, 1), None).await.expect_err("no page");
        assert_eq!(page.kind, Kind::Unknown, "{body}: {page}");
        assert_eq!(world.target.is_empty(LOGS).await.expect_err("not known").kind, Kind::Unknown, "{body}");
        world.proxy().clear();
    }
    assert_eq!(world.control().instances().await.expect("listed").len(), 1);
    app.shutdown().await;
}

/// 1. A mesh answers one GetRecords with an empty 200. 2. A page without a next iterator ends a shard for
/// good. 3. The way back is taken without the rows behind it.
#[tokio::test]
async fn a_shard_is_not_finished_by_an_empty_answer_and_its_rows_arrive() {
    let world = World::behind_proxy().await;
    world.prepared().await.close().await;
    world.feed_until_drained().await;
    let epoch = world.flip(Phase::DynamoOnly).await;
    let (table, cancel) = (IntegrationLogs::default(), CancellationToken::new());
    let work = async {
        let operations = ["GetRecords", "DescribeStream", "GetShardIterator"];
        for (id, body) in (1..).zip(EMPTY) {
            for operation in operations {
                world.proxy().script(Rule::new(Fault::Empty(body)).on(operation).times(3));
            }
            world.put_item(&table, &fed_row(id, "a", "fed"), epoch).await;
            let there = format!("integration_logs WHERE log_id = {id}");
            eventually("the row arrives", || async { world.count(&there).await == 1 }).await;
            let standing = world.source.reverse_standing(LOGS).await.expect("asked").expect("it is fed");
            assert_eq!(standing.shards_finished, 0, "{body}: {standing:?}");
            world.proxy().clear();
        }
        assert!(world.proxy().counts().injected_on(FaultKind::Empty, "GetRecords") >= 4);
        let migration = world.migration();
        let answer = drained(&migration, &migration.tables[0], Duration::from_secs(20)).await;
        assert!(answer.expect("an answer").through);
        cancel.cancel();
    };
    let (ended, ()) = tokio::join!(world.feed(FeedUntil::Cancelled, &cancel), work);
    ended.expect("it ends when it is told to, and not before");
    world.assert_fed().await;
}

#[tokio::test]
async fn a_scan_is_not_over_by_an_empty_answer() {
    let world = World::behind_proxy().await;
    world.prepared().await.close().await;
    world.feed_until_drained().await;
    let epoch = world.flip(Phase::DynamoOnly).await;
    let table = IntegrationLogs::default();
    for id in 1..=5 {
        world.put_item(&table, &fed_row(id, "a", "read"), epoch).await;
    }
    let migration = world.migration();
    for body in EMPTY {
        world.proxy().script(Rule::new(Fault::Empty(body)).on("Scan").table(LOGS).times(2));
        // Read again, or refused; never read as a table without rows.
        let read = reverse_backfill(&migration, &migration.tables[0], false, &CancellationToken::new()).await;
        assert!(read.is_err() || world.count("integration_logs").await == 5, "{body}: {read:?}");
        world.proxy().clear();
    }
    reverse_backfill(&migration, &migration.tables[0], false, &CancellationToken::new())
        .await
        .expect("reads");
    assert_eq!(world.count("integration_logs").await, 5);
}

#[tokio::test]
async fn a_backfill_takes_no_batch_for_written_by_an_empty_answer() {
    let world = World::behind_proxy().await;
    world.sql(&format!("{}; {}", logs(1, 200), payments(1, 50))).await;
    let coordinator = world.prepared().await;
    for body in EMPTY {
        let rule = Rule::new(Fault::Empty(body)).on("BatchExecuteStatement").on("BatchGetItem");
        world.proxy().script(rule.after(2).times(2));
    }
    backfill(&coordinator).await;
    assert!(world.proxy().counts().injected(FaultKind::Empty) >= 2);
    world.proxy().clear();
    world.assert_converged().await;
    coordinator.close().await;
}
