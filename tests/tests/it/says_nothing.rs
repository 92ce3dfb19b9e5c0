//! A success with an empty body, one that lacks what was asked for, one that something else gave in
//! DynamoDB's place, and one that was cut on its way, are no answer of DynamoDB (I18): nothing is
//! acknowledged by them, finished, or taken for absent.

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

/// Bodies that say too little, and one that would be an answer if DynamoDB had given it.
const EMPTY: [&str; 3] = ["", "{}", r#"{"Items":[],"Count":0,"Records":[],"Responses":[]}"#];

/// Bodies that answer a write, to which DynamoDB itself says no more than `{}`.
const NO_WRITE: [&str; 3] = ["", "{}", r#"{"status":"ok"}"#];

#[tokio::test]
async fn a_relay_and_a_store_that_decides_by_postgres_acknowledge_no_put_by_an_empty_answer() {
    let world = World::behind_proxy().await;
    let coordinator = world.migrated_to(Phase::DualWrite).await;
    let table = world.logs_table();
    // A relay.
    world.sql(&log(1, "a")).await;
    for body in NO_WRITE {
        world.proxy().script(Rule::new(Fault::Empty(body)).on("PutItem").table(LOGS).times(1));
    }
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
        for (nth, body) in (0..).zip(NO_WRITE) {
            let id = id + nth * 10;
            world.proxy().script(Rule::new(Fault::Empty(body)).on("PutItem").table(LOGS));
            let put = store.put(&log_row(id, "u")).await.expect("PostgreSQL decides");
            assert_eq!(deferred(&put), Kind::Unknown, "{phase} {body}");
            assert!(
                world.pending(LOGS).await.contains_key(&log_key(id, "a")),
                "{phase} {body}: the mark stays"
            );
            world.proxy().clear();
            world.relay_until_empty().await;
            world.live_at(&table, &log_key(id, "a")).await;
        }
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
    for body in NO_WRITE {
        let writes = || Rule::new(Fault::Empty(body)).on("PutItem").on("TransactWriteItems");
        world.proxy().script(writes().table(PAYMENTS));
        world.proxy().script(writes().table(LOGS));
        let heard = store.update(1, |payment| payment.loan_id += 1).await;
        assert!(heard.is_err(), "{body}: it was never written: {heard:?}");
        let heard = app.store::<IntegrationLogs>().put(&log_row(9, "new")).await;
        assert!(heard.is_err(), "{body}: it was never written: {heard:?}");
        world.proxy().clear();
    }
    for operation in ["PutItem", "TransactWriteItems"] {
        assert!(world.proxy().counts().injected_on(FaultKind::Empty, operation) >= 3, "{operation}");
    }
    let item = world.live_at(&world.payments_table(), &payment_key(1, 2)).await;
    assert_eq!(Payments::decode(&item).expect("a payment").loan_id, before);
    // A row is not absent, and the next one is asked again.
    for fault in NO_WRITE.map(Fault::Empty).into_iter().chain([Fault::CutAndClosed]) {
        world.proxy().script(Rule::new(fault.clone()).on("GetItem").table(PAYMENTS).times(2));
        match store.get(&key).await {
            Ok(found) => assert_eq!(found.expect("it is there").loan_id, before),
            Err(error) => assert_eq!(error.kind, Kind::Unknown, "{fault:?}: {error}"),
        }
        world.proxy().clear();
    }
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

/// 1. A cable is cut behind a page. 2. Something closes what had come, and passes it on. 3. Rows that it does
/// not show are absent, and a step waits for no instance.
#[tokio::test]
async fn what_was_cut_on_its_way_and_closed_is_no_answer() {
    let world = World::behind_proxy().await.dynamo_only(&format!("{}; {}", logs(1, 3), payments(1, 3))).await;
    let app = world.app_without_source(Duration::from_secs(10)).await;
    let (target, control) = (&world.target, world.target.control());
    let keys = [(1, 2), (2, 3)].map(|(id, customer)| Payments::key(&payment_row(id, customer, "r")));
    let keys = keys.map(|key| Payments::default().target_key(&key).expect("a key"));
    let cut = Rule::new(Fault::CutAndClosed);
    world.proxy().script(cut.on("Scan").on("Query").on("BatchGetItem"));
    let said = [
        ("a page", target.scan_page(LOGS, (0, 1), None).await.map(drop)),
        ("its bytes", target.scan_body(LOGS, (0, 1), None).await.map(drop)),
        ("instances", control.instances().await.map(drop)),
        ("items", target.get_many(PAYMENTS, &keys, lockstep_dynamo::Backoff::brief()).await.map(drop)),
    ];
    for (what, said) in said {
        assert_eq!(said.expect_err(what).kind, Kind::Unknown, "{what}");
    }
    world.proxy().clear();
    assert_eq!(control.instances().await.expect("listed").len(), 1);
    app.shutdown().await;
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
