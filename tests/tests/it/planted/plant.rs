//! Faults as they are planted: straight into the target, past every guard, each with the one finding it must
//! come to.

use std::collections::BTreeSet;

use aws_sdk_dynamodb::types::AttributeValue;
use chrono::{NaiveDate, TimeDelta};
use lockstep_core::{
    Attributes, DELETED_ATTRIBUTE, MARK_ATTRIBUTE, MARKER_ATTRIBUTE, SK, TargetKey, VERSION_ATTRIBUTE,
    fixed_width, parse_fixed_width,
};
use lockstep_postgres::TableBinding;
use lockstep_sample::generate::History;
use lockstep_sample::load::load;
use lockstep_tests::World;
use lockstep_tests::world::{LOGS, PAYMENTS};
use lockstep_validator::{FindingClass, Report};
use rust_decimal::Decimal;

/// A way for an item to be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// Row that was never written.
    Dropped,
    /// A tombstone stands where the row lives.
    Buried,
    /// A newer state was lost: the item holds the state before, under the version before.
    Stale,
    /// The row was deleted, and its item came back.
    Resurrected,
    /// One cent more.
    Cent,
    /// One microsecond later.
    Microsecond,
    /// A document that ends in the middle.
    Truncated,
    /// It is in the wrong partition of an index.
    WrongIndex,
    /// It is in an index where it does not belong at all.
    ExtraIndex,
    /// An item of no row, beside it.
    Extra,
    /// The same, and another program gave it the attributes that a mark and a marker of Lockstep's own have.
    Marked,
    /// A column of another type.
    WrongType,
    /// An item without a version, beside it.
    Foreign,
}

pub(crate) const ALL: [Fault; 13] = [
    Fault::Dropped,
    Fault::Buried,
    Fault::Stale,
    Fault::Resurrected,
    Fault::Cent,
    Fault::Microsecond,
    Fault::Truncated,
    Fault::WrongIndex,
    Fault::ExtraIndex,
    Fault::Extra,
    Fault::Marked,
    Fault::WrongType,
    Fault::Foreign,
];

/// A finding, as far as these tests look at it: table, class, key, columns.
pub(crate) type Expected = (String, FindingClass, String, Vec<String>);

/// A world whose tables hold random rows of `seed`, all of them moved.
pub(crate) async fn moved(world: &World, seed: u64, logs: u64, payments: u64) {
    // Far away, so that nothing is past its expiry whenever this runs.
    let base_day = NaiveDate::from_ymd_opt(2099, 3, 4).expect("a day");
    let history = History { seed, base_day, logs, payments };
    load(&world.connect_options(), &history, 1.try_into().expect("not zero"), |_| {}).await.expect("loads");
    let coordinator = world.prepared().await;
    lockstep_tests::world::backfill(&coordinator).await;
}

/// All items of both tables, each with its table, in an order that only the seed decides.
pub(crate) async fn items_of(world: &World) -> Vec<(TableBinding, Attributes)> {
    let mut all = Vec::new();
    for binding in world.tables() {
        let mut items = world.items(binding.name()).await;
        items.sort_by_key(|item| format!("{:?}", TargetKey::of(item)));
        all.extend(items.into_iter().map(|item| (binding.clone(), item)));
    }
    all
}

/// Plants the faults, each at an item of its own, and says what must be found. A fault that an item cannot
/// have is left out.
pub(crate) async fn plant(
    world: &World,
    faults: &[(&TableBinding, &Attributes, Fault)],
) -> BTreeSet<Expected> {
    // Those which need a change first; one delivery is then enough for all of them.
    for (binding, item, fault) in faults {
        let (id, column) = match binding.name() {
            LOGS => ("log_id", "user_id"),
            _ => ("payment_id", "transaction_reference"),
        };
        let sql = match fault {
            Fault::Stale => {
                format!("UPDATE {} SET {column} = 'newer' WHERE {id} = {}", binding.name(), number(item, id))
            }
            Fault::Resurrected => format!("DELETE FROM {} WHERE {id} = {}", binding.name(), number(item, id)),
            _ => continue,
        };
        assert_eq!(world.sql(&sql).await, 1);
    }
    if faults.iter().any(|(.., fault)| matches!(fault, Fault::Stale | Fault::Resurrected)) {
        // Not otherwise: while writers go on it may never be empty.
        world.relay_until_empty().await;
    }
    let mut expected = BTreeSet::new();
    for (binding, item, fault) in faults {
        expected.extend(plant_one(world, binding, item, *fault).await);
    }
    expected
}

async fn plant_one(
    world: &World,
    binding: &TableBinding,
    item: &Attributes,
    fault: Fault,
) -> Option<Expected> {
    let is_log = binding.name() == LOGS;
    let finding = |class, item: &Attributes, columns: &[&str]| {
        let key = binding.table.key_of_item(item).expect("a key");
        let columns = columns.iter().map(|&column| column.to_owned()).collect();
        Some((binding.name().to_owned(), class, serde_json::Value::from(key).to_string(), columns))
    };
    let mut wrong = item.clone();
    let mut set = |name: &str, value| drop(wrong.insert(name.to_owned(), value));
    let (class, columns): (FindingClass, &[&str]) = match fault {
        Fault::Dropped => {
            let key = TargetKey::of(item).expect("a key").to_attributes();
            let deleted =
                world.plain_target.client().delete_item().table_name(&binding.target_name).set_key(Some(key));
            deleted.send().await.expect("the emulator deletes");
            return finding(FindingClass::Missing, item, &[]);
        }
        Fault::Buried => {
            let mut tombstone = TargetKey::of(item).expect("a key").to_attributes();
            tombstone.insert(DELETED_ATTRIBUTE.to_owned(), AttributeValue::Bool(true));
            tombstone.insert(VERSION_ATTRIBUTE.to_owned(), item[VERSION_ATTRIBUTE].clone());
            wrong = tombstone;
            put(world, binding, wrong).await;
            return finding(FindingClass::Missing, item, &[]);
        }
        Fault::Stale => {
            (FindingClass::Different, if is_log { &["user_id"] } else { &["transaction_reference"] })
        }
        Fault::Resurrected => (FindingClass::Extra, &[]),
        Fault::Cent => {
            let AttributeValue::N(amount) = item.get("payment_amount")? else { return None };
            let amount = amount.parse::<Decimal>().expect("a number") + Decimal::new(1, 2);
            set("payment_amount", AttributeValue::N(amount.to_string()));
            (FindingClass::Different, &["payment_amount"])
        }
        Fault::Microsecond => {
            let AttributeValue::S(at) = item.get("created_date")? else { return None };
            let later = parse_fixed_width(at).expect("a time") + TimeDelta::microseconds(1);
            set("created_date", AttributeValue::S(fixed_width(later).expect("holdable")));
            (FindingClass::Different, &["created_date"])
        }
        Fault::Truncated => {
            let AttributeValue::S(document) = item.get("request_data")? else { return None };
            let half = document.chars().take(document.chars().count() / 2).collect();
            set("request_data", AttributeValue::S(half));
            (FindingClass::Undecodable, &["request_data"])
        }
        Fault::WrongIndex => {
            item.get("GSI2PK")?;
            set("GSI2PK", AttributeValue::S("LOAN#no-such".to_owned()));
            (FindingClass::Different, &["GSI2PK"])
        }
        Fault::ExtraIndex => {
            if item.contains_key("GSI3PK") {
                return None;
            }
            set("GSI3PK", AttributeValue::S("ERROR#2099-03-04".to_owned()));
            (FindingClass::Different, &["GSI3PK"])
        }
        Fault::WrongType if is_log => {
            set("is_success", AttributeValue::S("yes".to_owned()));
            (FindingClass::Undecodable, &["is_success"])
        }
        Fault::WrongType => {
            set("currency", AttributeValue::Bool(true));
            (FindingClass::Undecodable, &["currency"])
        }
        Fault::Extra | Fault::Marked | Fault::Foreign => {
            // Another id, and with it another place; everything else as it is.
            let id = if is_log { "log_id" } else { "payment_id" };
            let strange = 1_000_000 + number(item, id);
            set(id, AttributeValue::N(strange.to_string()));
            let AttributeValue::S(sort) = &item[SK] else { return None };
            let (at, _) = sort.split_once('#').expect("time and id");
            set(SK, AttributeValue::S(format!("{at}#{strange:019}")));
            if fault == Fault::Marked {
                set(MARK_ATTRIBUTE, AttributeValue::N("7".to_owned()));
                set(MARKER_ATTRIBUTE, AttributeValue::S("round".to_owned()));
            }
            if fault == Fault::Foreign {
                return Some(plant_foreign(world, binding, wrong).await);
            }
            (FindingClass::Extra, &[])
        }
    };
    put(world, binding, wrong.clone()).await;
    // By the item as it was, unless it is another one: what was planted may have no key any more.
    finding(
        class,
        if class == FindingClass::Extra && fault != Fault::Resurrected { &wrong } else { item },
        columns,
    )
}

/// Puts an item without a version; it is found by its place, for it has no key that is sure.
async fn plant_foreign(world: &World, binding: &TableBinding, mut item: Attributes) -> Expected {
    item.remove(VERSION_ATTRIBUTE);
    let place = TargetKey::of(&item).expect("a key");
    let text =
        |part: &AttributeValue| part.as_s().or_else(|_| part.as_n()).expect("a string or a number").clone();
    let key = serde_json::json!([text(&place.partition), text(&place.sort.expect("a sort key"))]).to_string();
    put(world, binding, item).await;
    (binding.name().to_owned(), FindingClass::Foreign, key, Vec::new())
}

async fn put(world: &World, binding: &TableBinding, item: Attributes) {
    let put = world.plain_target.client().put_item().table_name(&binding.target_name).set_item(Some(item));
    put.send().await.expect("the emulator takes it");
}

fn number(item: &Attributes, name: &str) -> i64 {
    item[name].as_n().expect("a number").parse().expect("a number")
}

/// Returns what a report found, in the same form.
pub(crate) fn found(report: &Report) -> BTreeSet<Expected> {
    let of_table = |table: &lockstep_validator::TableReport| -> Vec<Expected> {
        let findings = table.findings.iter();
        findings.map(|f| (table.name.clone(), f.class, f.key.clone(), f.columns.clone())).collect()
    };
    report.tables.iter().flat_map(of_table).collect()
}

/// Validates, and holds what is found against what was planted: all of it, nothing else, and no bucket more
/// than need be.
#[track_caller]
pub(crate) fn check<'a>(world: &'a World, expected: &'a BTreeSet<Expected>) -> impl Future<Output = ()> + 'a {
    let caller = std::panic::Location::caller();
    async move {
        let report = world.validate().await;
        assert_eq!(&found(&report), expected, "(at {caller}) {:?}", report.verdict);
        assert_eq!(report.verdict.is_consistent(), expected.is_empty(), "(at {caller}) {:?}", report.verdict);
        for table in &report.tables {
            assert!(table.complete && table.failure.is_none(), "(at {caller}) {table:?}");
            let planted = expected.iter().filter(|(name, ..)| *name == table.name).count() as u64;
            assert_eq!(table.findings_total(), planted, "(at {caller}) {table:?}");
            assert!(
                table.buckets_differing <= planted,
                "(at {caller}) {} of {planted}",
                table.buckets_differing
            );
            let rows = world.count(&table.name).await.unsigned_abs();
            let of_rows = table.missing + table.different + table.undecodable;
            let foreign =
                expected.iter().filter(|e| e.0 == table.name && e.1 == FindingClass::Foreign).count() as u64;
            assert_eq!(table.equal + of_rows - foreign, rows, "(at {caller}) {table:?}");
        }
    }
}

/// The name of a table that a fault suits.
pub(crate) fn table_of(fault: Fault) -> &'static str {
    match fault {
        Fault::Truncated | Fault::ExtraIndex => LOGS,
        _ => PAYMENTS,
    }
}
