//! Requests of each kind, with the answer that Amazon's documents promise.

use std::collections::BTreeSet;

use aws_sdk_dynamodb::types::AttributeValue;
use lockstep_core::{
    Attributes, Epoch, Item, Kind, MigratableTable, Phase, TargetKey, Version, is_tombstone, tombstone,
    version_of,
};
use lockstep_dynamo::{Backoff, Landed, LoadPath, PartitionRange, READ_KEYS_MAX, STATEMENTS_MAX, Target};
use lockstep_payments::{BY_STATUS, Payment, Payments, PaymentsOptions};
use lockstep_tests::World;
use lockstep_tests::world::rows::payment_row;

const TABLE: &str = "asked";
const CUSTOMERS: i64 = 3;
const ROWS: i64 = 150;

pub(super) async fn all(world: &World) {
    let target = &world.target;
    target.create(TABLE, &Payments::TARGET, false).await.expect("created");
    guarded(target).await;
    foreign(target).await;
    loaded(target).await;
    read(target).await;
    record(target).await;
    ids(target).await;
}

fn kept() -> Payments {
    Payments { options: PaymentsOptions { ttl_days: None } }
}

fn item(row: &Payment) -> Item {
    kept().encode(row).expect("an item holds it")
}

fn key(row: &Payment) -> TargetKey {
    kept().target_key(&Payments::key(row)).expect("a key")
}

/// Each branch of the condition, and what is told of what stands there.
async fn guarded(target: &Target) {
    let (row, other) = (payment_row(9_001, 9, "one"), payment_row(9_001, 9, "other"));
    let put = async |item: Item, version: i64| {
        let sent = item.clone();
        let written = target.put_guarded(TABLE, item.at(Version(version)), Version(version)).await;
        let written = written.expect("answered");
        (written.landed, written.holds(&sent.at(Version(version)), Version(version)))
    };
    assert_eq!(put(item(&row), 5).await, (Landed::Applied, true), "nothing is there");
    assert_eq!(put(item(&row), 5).await, (Landed::Superseded, true), "it is there");
    assert_eq!(put(item(&other), 5).await, (Landed::Superseded, false), "another of its version is there");
    assert_eq!(put(item(&other), 4).await, (Landed::Superseded, false), "a newer one is there");
    assert_eq!(put(item(&other), 1_000).await, (Landed::Applied, true), "by number, and not by text");
    let gone = tombstone(key(&row), Version(1_001));
    assert_eq!(
        target.put_guarded(TABLE, gone, Version(1_001)).await.expect("answered").landed,
        Landed::Applied
    );
    assert_eq!(put(item(&row), 1_000).await, (Landed::Superseded, false), "a tombstone is there");
    let there = target.get(TABLE, &key(&row)).await.expect("read").expect("a tombstone");
    assert!(is_tombstone(&there) && version_of(&there) == Some(Version(1_001)), "{there:?}");
    assert_eq!(put(item(&row), 1_002).await, (Landed::Applied, true));
    assert!(target.holds(TABLE, &item(&row).at(Version(1_002)), Version(1_002)).await.expect("read"));
}

/// Items of another program: one without a version gives way, one with something else there does not.
async fn foreign(target: &Target) {
    let put = async |mut attributes: Attributes, version: Option<AttributeValue>| {
        attributes.extend(version.map(|version| ("_v".to_owned(), version)));
        let request = target.client().put_item().table_name(TABLE).set_item(Some(attributes));
        request.send().await.expect("put");
    };
    let row = payment_row(9_002, 9, "ours");
    put(key(&row).to_attributes(), None).await;
    let written = target.put_guarded(TABLE, item(&row).at(Version(1)), Version(1)).await.expect("answered");
    assert_eq!(written.landed, Landed::Applied);
    let word = AttributeValue::S("a word".to_owned());
    put(key(&row).to_attributes(), Some(word.clone())).await;
    let written = target.put_guarded(TABLE, item(&row).at(Version(2)), Version(2)).await.expect("answered");
    let standing = written.standing.and_then(|standing| standing.get("_v").cloned());
    assert_eq!((written.landed, standing), (Landed::Superseded, Some(word.clone())));
    for expected in [Landed::Applied, Landed::Superseded] {
        let sent = item(&row).at(Version(2));
        let over = target.put_over_foreign(target.reading(), TABLE, sent, word.clone()).await;
        assert_eq!(over.expect("answered").landed, expected);
    }
}

/// The initial load yields to what is there, a tombstone among it.
async fn loaded(target: &Target) {
    let rows: Vec<Payment> = (1..=ROWS).map(|id| payment_row(id, id % CUSTOMERS, "history")).collect();
    let deleted = tombstone(key(&rows[0]), Version(7));
    target.put_guarded(TABLE, deleted, Version(7)).await.expect("answered");
    let (mut written, mut present) = (0, 0);
    for rows in rows.chunks(STATEMENTS_MAX) {
        let items = rows.iter().map(item).collect();
        let loading = target.insert_initial_load(target.reading(), LoadPath::ConditionalPut, TABLE, items);
        let loaded = loading.await.expect("answered");
        assert!(loaded.again.is_empty() && loaded.refused.is_empty(), "{loaded:?}");
        (written, present) = (written + loaded.written, present + loaded.present);
    }
    assert_eq!((written as i64, present), (ROWS - 1, 1));
}

async fn read(target: &Target) {
    let keys: Vec<TargetKey> =
        (1..READ_KEYS_MAX as i64).map(|id| key(&payment_row(id, id % CUSTOMERS, ""))).collect();
    let mut asked = keys.clone();
    asked.push(key(&payment_row(8_888, 1, "")));
    let found = target.get_many(TABLE, &asked, Backoff::brief()).await.expect("read");
    assert_eq!(
        places(&found),
        keys.iter().map(|key| format!("{key:?}")).collect(),
        "what is there, each once"
    );

    // By partition, in both directions, page by page, a tombstone among it.
    let of_customer =
        PartitionRange { index: None, partition: AttributeValue::N("1".to_owned()), from: None, to: None };
    let forth = pages(target, &of_customer, true).await;
    let mut back = pages(target, &of_customer, false).await;
    back.reverse();
    assert_eq!(forth.len() as i64, ROWS / CUSTOMERS);
    assert_eq!(forth, back);
    let sorts = forth.iter().map(|item| item["SK"].as_s().expect("a text").clone()).collect::<Vec<_>>();
    assert!(sorts.is_sorted(), "{sorts:?}");
    let live = target.count_partition(TABLE, &of_customer).await.expect("counted");
    assert_eq!(live as i64, ROWS / CUSTOMERS - 1, "without the tombstone");

    // By an index, which a tombstone is not in.
    let status = payment_row(1, 1, "").payment_status;
    let written = item(&payment_row(1, 1, ""));
    let partition = written.get(BY_STATUS.partition.name).expect("it is in the index").clone();
    let of_status = PartitionRange { index: Some(BY_STATUS), partition, from: None, to: None };
    let found = pages(target, &of_status, true).await;
    // Those of the initial load, and of `guarded` and `foreign`.
    assert_eq!(found.len() as i64, ROWS - 1 + 2, "of status {status}");
    assert!(found.iter().all(|item| !is_tombstone(item)));

    // Each item is in one segment.
    let mut scanned = Vec::new();
    for segment in 0..4 {
        let mut start = None;
        loop {
            let page = target.scan_page(TABLE, (segment, 4), start).await.expect("scanned");
            scanned.extend(page.items);
            match page.next {
                Some(next) => start = Some(next),
                None => break,
            }
        }
    }
    assert_eq!((scanned.len(), places(&scanned).len()), (ROWS as usize + 2, ROWS as usize + 2));
}

fn places(items: &[Attributes]) -> BTreeSet<String> {
    items.iter().map(|item| format!("{:?}", TargetKey::of(item).expect("a key"))).collect()
}

async fn pages(target: &Target, range: &PartitionRange, ascending: bool) -> Vec<Attributes> {
    let (mut found, mut start) = (Vec::new(), None);
    loop {
        let page = target.query_page(TABLE, range, ascending, Some(7), start).await.expect("queried");
        assert!(page.items.len() <= 7);
        found.extend(page.items);
        match page.next {
            Some(next) => start = Some(next),
            None => return found,
        }
    }
}

/// The conditions of the record: each change is of the state that it was decided by, and repeats harmlessly.
async fn record(target: &Target) {
    target.belongs_to("this one").expect("told for the first time");
    let control = target.control();
    control.create().await.expect("created");
    control.create().await.expect("it is there");
    assert_eq!(control.record().await.expect("read"), None);
    for epoch in [5, 5, 4] {
        control.enter(Epoch(epoch)).await.expect("later, or nothing");
        let found = control.record().await.expect("read").expect("a record");
        assert_eq!((found.epoch, found.phase), (Epoch(5), Phase::DynamoOnly));
    }
    let moved_on = control.open_writes(Epoch(4)).await.expect_err("of another epoch");
    assert_eq!(moved_on.kind, Kind::Refused, "{moved_on}");
    control.open_writes(Epoch(5)).await.expect("opened");
    assert_eq!(control.pause_writes(Epoch(5)).await.expect("paused"), Epoch(6));
    let left = control.leave(Epoch(5), Phase::HybridRead).await.expect_err("of another epoch");
    assert_eq!(left.kind, Kind::Refused, "{left}");
    assert_eq!(control.leave(Epoch(6), Phase::HybridRead).await.expect("left"), Epoch(7));
}

async fn ids(target: &Target) {
    let control = target.control();
    assert_eq!(control.next_id("payments").await.expect("read"), None);
    assert_eq!(
        control.take_ids("payments", 5, i64::MAX).await.expect_err("not seeded").kind,
        Kind::Misconfigured
    );
    assert_eq!(control.seed_ids("payments", 100, None).await.expect("seeded"), Some(100));
    assert_eq!(control.seed_ids("payments", 90, None).await.expect("left"), Some(100), "never back");
    let block = control.take_ids("payments", 5, i64::MAX).await.expect("taken");
    assert_eq!((block.first, block.end), (100, 105));
    assert_eq!(control.raise_ids("payments", 200).await.expect("raised"), Some(200));
    assert_eq!(control.take_ids("payments", 5, 203).await.expect_err("used up").kind, Kind::Misconfigured);
}
