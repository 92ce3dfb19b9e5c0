//! A validator that overlooks what was planted would bless anything; one that finds what is not there would
//! be switched off. Both are tried here: each class of fault alone, any of them together, and none at all
//! while writers go on.

#[path = "planted/plant.rs"]
pub(crate) mod plant;

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use lockstep_coordinator::{Progress, RelayUntil, relay};
use lockstep_core::{Attributes, Phase, VERSION_ATTRIBUTE};
use lockstep_payments::Payment;
use lockstep_postgres::TableBinding;
use lockstep_sample::writers::{WriterOptions, write_until};
use lockstep_tests::World;
use lockstep_tests::faults::{Fault as NetworkFault, Rule};
use lockstep_tests::seeds::seed;
use lockstep_tests::world::rows::{log, logs, payments};
use lockstep_tests::world::{LOGS, PAYMENTS, within};
use lockstep_validator::{
    CancellationToken, FindingClass, Report, ValidateOptions, ValidateSettings, Verdict, validate,
};
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::RngSeed;
use tokio::task::JoinHandle;

use plant::{ALL, Expected, Fault, check, found, items_of, moved, plant, table_of};

/// Validates while writers may go on.
async fn validate_live(world: &World, tables: &[TableBinding], options: ValidateOptions) -> Report {
    let progress = lockstep_validator::ValidationProgress::new(tables);
    validate(&world.source, &world.target, tables, &options, &progress, &CancellationToken::new()).await
}

#[tokio::test]
async fn each_class_of_fault_is_found_and_named_and_nothing_else_is() {
    let world = World::start().await;
    moved(&world, 7, 300, 200).await;
    check(&world, &BTreeSet::new()).await;
    let items = items_of(&world).await;
    let mut faults = Vec::new();
    let mut next: BTreeMap<&str, usize> = BTreeMap::new();
    for fault in ALL {
        // Three of a class, each at an item of its own that can have it.
        let suits = |item: &Attributes| match fault {
            Fault::Truncated => item.contains_key("request_data"),
            Fault::ExtraIndex => !item.contains_key("GSI3PK"),
            _ => true,
        };
        let of_table = items.iter().filter(|(binding, _)| binding.name() == table_of(fault));
        let start = next.entry(table_of(fault)).or_default();
        let chosen: Vec<_> =
            of_table.enumerate().skip(*start).filter(|(_, (_, item))| suits(item)).take(3).collect();
        *start = chosen.last().expect("enough items").0 + 1;
        faults.extend(chosen.into_iter().map(|(_, (binding, item))| (binding, item, fault)));
    }
    let expected = plant(&world, &faults).await;
    assert_eq!(expected.len(), 3 * ALL.len());
    for class in [
        FindingClass::Missing,
        FindingClass::Different,
        FindingClass::Extra,
        FindingClass::Undecodable,
        FindingClass::Foreign,
    ] {
        assert!(expected.iter().any(|planted| planted.1 == class), "{class}");
    }
    check(&world, &expected).await;
}

#[test]
fn whatever_is_planted_together_is_found_to_the_last_one() {
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    let plants = proptest::collection::vec((any::<Index>(), proptest::sample::select(ALL.to_vec())), 0..25);
    let config = ProptestConfig {
        cases: 5,
        failure_persistence: None,
        max_shrink_iters: 20,
        rng_seed: RngSeed::Fixed(seed()),
        ..ProptestConfig::default()
    };
    proptest!(config, |(plants in plants, seed in 0..1_000_u64)| {
        runtime.block_on(async {
            let world = World::start().await;
            moved(&world, seed, 120, 80).await;
            let items = items_of(&world).await;
            // One fault an item: of two at the same place the second would hide the first.
            let places: BTreeMap<usize, Fault> = plants.iter().map(|(at, fault)| (at.index(items.len()), *fault)).collect();
            let faults: Vec<_> = places.iter().map(|(at, fault)| (&items[*at].0, &items[*at].1, *fault)).collect();
            let expected = plant(&world, &faults).await;
            check(&world, &expected).await;
        });
    });
}

#[tokio::test]
async fn what_expired_is_counted_and_is_neither_missing_nor_an_excuse() {
    let world = World::start().await;
    world.sql(&logs(1, 20)).await;
    // Expired half a day ago, after 90 days; and so long ago that it is not brought at all.
    world
        .sql(
            "UPDATE integration_logs SET log_timestamp = now() - interval '90 days 12 hours' WHERE log_id <= 4;
             UPDATE integration_logs SET log_timestamp = now() - interval '200 days' WHERE log_id = 5",
        )
        .await;
    lockstep_tests::world::backfill(&world.prepared().await).await;
    let items = items_of(&world).await;
    let find = |id: i64| {
        items.iter().find(|(_, item)| item.get("log_id") == Some(&AttributeValue::N(id.to_string())))
    };
    assert!(find(5).is_none(), "nothing that expired long ago is brought");
    let of = |id: i64| {
        let (binding, item) = find(id).expect("an item");
        (binding, item)
    };
    // Removed as the target's own expiry does; not yet removed (2); buried, which expiry does not do (3);
    // different (4).
    let dropped = plant(&world, &[(of(1).0, of(1).1, Fault::Dropped)]).await;
    let report = world.validate().await;
    let logs_of =
        |report: &Report| report.tables.iter().find(|table| table.name == LOGS).expect("logs").clone();
    assert_eq!((logs_of(&report).expired, logs_of(&report).missing), (2, 0), "{dropped:?}");
    assert_eq!(report.verdict, Verdict::Consistent);

    let wrong =
        plant(&world, &[(of(3).0, of(3).1, Fault::Buried), (of(4).0, of(4).1, Fault::WrongType)]).await;
    let report = world.validate().await;
    assert_eq!(logs_of(&report).expired, 2);
    assert_eq!(found(&report), wrong);
}

fn relaying(world: &Arc<World>, stop: &CancellationToken) -> JoinHandle<()> {
    let (migration, stop) = (world.migration(), stop.clone());
    tokio::spawn(async move {
        let progress = Progress::new(&migration.tables);
        relay(&migration, RelayUntil::Cancelled, &progress, &stop).await.expect("the relay delivers");
    })
}

/// Changes, deletes and makes payments through the store, the same ones again and again.
fn store_writer(world: &Arc<World>, stop: &CancellationToken) -> JoinHandle<u64> {
    let (store, stop) = (world.payment_store(), stop.clone());
    tokio::spawn(async move {
        let mut written = 0;
        // As fast as it can it would leave two processors nothing for the relay.
        let mut pace = tokio::time::interval(Duration::from_millis(10));
        while !stop.is_cancelled() {
            pace.tick().await;
            let id = 1 + written % 40;
            let changed =
                store.update(id, |payment: &mut Payment| payment.customer_id = 1 + written % 50).await;
            // Others delete: then there is nothing to change.
            if let Ok(Some(payment)) = store.get_source(id).await
                && written % 5 == 0
            {
                store.delete(id).await.map(drop).expect("deletes");
                store.put(&payment).await.map(drop).expect("comes back");
            }
            drop(changed);
            written += 1;
        }
        written as u64
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_cause_no_false_finding_and_hide_no_true_one() {
    let world = Arc::new(World::start().await);
    moved(&world, 11, 600, 300).await;
    let coordinator = world.coordinator().await;
    coordinator.step(Phase::DualWrite, None, &()).await.expect("nothing refuses");
    let stop = CancellationToken::new();
    let raw = [1, 2].map(|seed| {
        let options = WriterOptions { seed, per_second: NonZeroU32::new(40).expect("not zero") };
        tokio::spawn(write_until(world.connect_options(), options, stop.clone()))
    });
    let store = store_writer(&world, &stop);
    let relay = relaying(&world, &stop);
    let tables = world.tables();
    // On a busy machine the relay is slow to deliver what the writers change all the time: waiting is no
    // finding.
    let options = ValidateOptions::from(ValidateSettings {
        scan_segments: 2,
        settle_timeout: Duration::from_mins(3),
        ..ValidateSettings::default()
    });
    for _ in 0..4 {
        let report = validate_live(&world, &tables, options.clone()).await;
        assert_eq!(report.verdict, Verdict::Consistent, "{:?}", found(&report));
    }
    // Of a row that none of the writers ever makes: their ids come from the sequence.
    let items = items_of(&world).await;
    let is_live = |item| !lockstep_core::is_tombstone(item);
    let (binding, item) =
        items.iter().find(|(b, item)| b.name() == PAYMENTS && is_live(item)).expect("a payment");
    let strange = plant(&world, &[(binding, item, Fault::Extra)]).await;
    for _ in 0..2 {
        let report = validate_live(&world, &tables, options.clone()).await;
        assert_eq!(found(&report), strange);
        assert!(matches!(report.verdict, Verdict::Inconsistent { .. }));
    }
    stop.cancel();
    for writer in raw {
        assert!(writer.await.expect("no panic").total().done > 100);
    }
    assert!(store.await.expect("no panic") > 20);
    relay.await.expect("no panic");
    world.relay_until_empty().await;
    check(&world, &strange).await;
}

fn incomplete(report: &Report, says: &[&str]) {
    let Verdict::Incomplete { reasons } = &report.verdict else { panic!("{:?}", report.verdict) };
    for text in says {
        assert!(reasons.iter().any(|reason| reason.contains(text)), "`{text}` is not in {reasons:?}");
    }
}

#[tokio::test]
async fn a_key_that_never_comes_to_rest_is_unsettled_and_the_verdict_is_not_clean() {
    let world = Arc::new(World::start().await);
    world.sql(&payments(1, 30)).await;
    let coordinator = world.migrated_to(Phase::DualWrite).await;
    let tables = vec![world.payments_table()];
    let options = ValidateOptions::from(ValidateSettings {
        settle_timeout: Duration::from_millis(300),
        ..ValidateSettings::default()
    });
    // Pending for as long as the pass looks: no relay runs.
    world.sql("UPDATE payments SET loan_id = 7 WHERE payment_id = 3").await;
    let report = validate_live(&world, &tables, options.clone()).await;
    incomplete(&report, &["1 key is still on the way"]);
    assert_eq!(report.tables[0].findings[0].class, FindingClass::Unsettled);
    world.relay_until_empty().await;

    // Never twice the same: between any two readings its item is another one.
    let item = world
        .items(PAYMENTS)
        .await
        .into_iter()
        .find(|item| item["payment_id"].as_n().is_ok_and(|id| id == "5"));
    let (stop, item) = (CancellationToken::new(), item.expect("an item"));
    let rewriting = tokio::spawn({
        let (world, stop) = (Arc::clone(&world), stop.clone());
        async move {
            let version: i64 = item[VERSION_ATTRIBUTE].as_n().expect("a version").parse().expect("a number");
            for n in 1.. {
                let mut next = item.clone();
                next.insert(VERSION_ATTRIBUTE.to_owned(), AttributeValue::N((version + n).to_string()));
                next.insert("transaction_reference".to_owned(), AttributeValue::S(n.to_string()));
                let put = world.plain_target.client().put_item().table_name(PAYMENTS).set_item(Some(next));
                put.send().await.expect("the emulator takes it");
                if stop.is_cancelled() {
                    return;
                }
            }
        }
    });
    let report = validate_live(&world, &tables, options).await;
    incomplete(&report, &["1 key is still on the way"]);
    assert_eq!((report.tables[0].unsettled, report.tables[0].equal), (1, 29));
    stop.cancel();
    rewriting.await.expect("no panic");
    drop(coordinator);
}

#[tokio::test]
async fn a_target_that_fails_half_way_leaves_the_verdict_incomplete() {
    let world = World::behind_proxy().await;
    world.sql(&logs(1, 60)).await;
    lockstep_tests::world::backfill(&world.prepared().await).await;
    world.proxy().script(Rule::new(NetworkFault::AccessDenied).on("Scan").table(LOGS).after(3));
    let report = validate_live(&world, &world.tables(), ValidateOptions::default()).await;
    incomplete(&report, &["integration_logs: not every item was read"]);
    assert!(report.tables.iter().any(|table| table.name == PAYMENTS && table.complete));
    world.proxy().clear();
    assert_eq!(
        validate_live(&world, &world.tables(), ValidateOptions::default()).await.verdict,
        Verdict::Consistent
    );
}

#[tokio::test]
async fn a_source_that_fails_half_way_leaves_the_verdict_incomplete() {
    let world = Arc::new(World::start().await);
    world.sql(&logs(1, 400)).await;
    lockstep_tests::world::backfill(&world.prepared().await).await;
    let tables = vec![world.logs_table()];
    let progress = lockstep_validator::ValidationProgress::new(&tables);
    // A row a statement, so that there is a middle to be met.
    let options =
        ValidateOptions::from(ValidateSettings { chunk_rows: 1, parallel: 1, ..ValidateSettings::default() });
    let failing = async {
        within(Duration::from_mins(2), async {
            while progress.tables()[0].source_rows() == 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        world.sql("ALTER TABLE integration_logs RENAME TO gone").await;
    };
    let cancel = CancellationToken::new();
    let validating = validate(&world.source, &world.target, &tables, &options, &progress, &cancel);
    let (report, ()) = tokio::join!(validating, failing);
    incomplete(&report, &["integration_logs: "]);
    world.sql("ALTER TABLE gone RENAME TO integration_logs").await;
    assert_eq!(validate_live(&world, &tables, ValidateOptions::default()).await.verdict, Verdict::Consistent);
}

#[tokio::test]
async fn nothing_planted_nothing_found_over_empty_tables_too() {
    let world = World::start().await;
    drop(world.prepared().await);
    check(&world, &BTreeSet::<Expected>::new()).await;
    world.sql(&log(1, "a")).await;
    world.relay_until_empty().await;
    check(&world, &BTreeSet::new()).await;
}
