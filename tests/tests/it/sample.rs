//! A sample is drawn from everything there is, row for row with the same chance, and what it looks at it
//! judges as a full comparison does. What it says is never taken for a verdict on everything.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_core::Window;
use lockstep_tests::World;
use lockstep_tests::world::rows::payments;
use lockstep_tests::world::within;
use lockstep_validator::{
    CancellationToken, Report, Sample, ValidateOptions, ValidateSettings, ValidationProgress, Verdict,
    validate,
};

use crate::planted::plant::{ALL, Fault, found, items_of, moved, plant};

async fn sampled(world: &World, sample: Sample, scan_segments: usize) -> Report {
    let tables = world.tables();
    let options = ValidateOptions {
        settings: ValidateSettings { scan_segments, ..ValidateSettings::default() },
        sample: Some(sample),
        wait_for_pending: false,
        quiescent: true,
        ..ValidateOptions::default()
    };
    let (progress, cancel) = (ValidationProgress::new(&tables), CancellationToken::new());
    let validating = validate(&world.source, &world.target, &tables, &options, &progress, &cancel);
    within(std::time::Duration::from_secs(60), validating).await
}

#[tokio::test]
async fn a_sample_of_everything_finds_everything_once() {
    let world = World::start().await;
    moved(&world, 3, 90, 60).await;
    let items = items_of(&world).await;
    let faults: Vec<_> =
        items.iter().step_by(11).zip(ALL).map(|((binding, item), fault)| (binding, item, fault)).collect();
    let expected = plant(&world, &faults).await;
    assert!(expected.len() > 6);
    // Cut into segments, and scanned whole as an emulator is.
    for scan_segments in [4, 1] {
        let report = sampled(&world, Sample { rows: 1_000, seed: 5 }, scan_segments).await;
        assert_eq!(found(&report), expected);
        assert!(matches!(report.verdict, Verdict::Inconsistent { .. }));
        assert!(!report.is_whole(), "no gate may take it for a verdict on everything");
        for table in &report.tables {
            assert_eq!(table.rows_sampled, world.count(&table.name).await.unsigned_abs());
        }
    }
}

#[tokio::test]
async fn a_small_sample_looks_at_as_many_as_asked_of_both_sides() {
    let world = World::start().await;
    moved(&world, 4, 200, 150).await;
    let report = sampled(&world, Sample { rows: 20, seed: 1 }, 1).await;
    assert_eq!(report.verdict, Verdict::Consistent);
    for table in &report.tables {
        assert_eq!(
            (table.rows_sampled, table.items_sampled, table.equal, table.compared),
            (20, 20, 20, 20),
            "{table:?}"
        );
        assert_eq!((&table.quality, &table.digests), (&None, &None), "too little to judge by");
    }
    // Extras are in the target only; a sample of rows alone would never meet one.
    let items = items_of(&world).await;
    let extras: Vec<_> = items.iter().map(|(binding, item)| (binding, item, Fault::Extra)).collect();
    let planted = plant(&world, &extras).await;
    let report = sampled(&world, Sample { rows: 20, seed: 1 }, 1).await;
    let of_them = found(&report);
    assert!(of_them.len() > 5 && of_them.is_subset(&planted), "{of_them:?}");
}

#[tokio::test]
async fn every_row_has_the_same_chance_and_a_seed_takes_the_same_rows() {
    let world = World::start().await;
    // Dense at the front, sparse behind: a random key would take the few behind far too often.
    world.sql(&payments(1, 150)).await;
    world.sql("UPDATE payments SET payment_id = payment_id * 1000 WHERE payment_id > 100").await;
    let binding = world.payments_table();
    let keys = async |rows, seed| {
        let chunk =
            world.source.sample_rows(&binding, &Window::default(), rows, seed).await.expect("a sample");
        chunk.tuples().map(|tuple| binding.bound_of(tuple).expect("a key")).collect::<BTreeSet<_>>()
    };
    assert_eq!(keys(30, 7).await, keys(30, 7).await);
    assert_ne!(keys(30, 7).await, keys(30, 8).await);
    assert_eq!(keys(1_000, 7).await.len(), 150);
    let mut times: BTreeMap<_, u32> = BTreeMap::new();
    for seed in 0..200 {
        let chosen = keys(30, seed).await;
        assert_eq!(chosen.len(), 30);
        chosen.into_iter().for_each(|key| *times.entry(key).or_default() += 1);
    }
    // 40 each, give or take six standard deviations of under six; by chance, but by the same chance in every
    // run.
    assert!(times.len() == 150 && times.values().all(|times| (6..=74).contains(times)), "{times:?}");
    let front: u32 = times.iter().filter(|(key, _)| key[0].len() <= 3).map(|(_, times)| times).sum();
    assert!(
        (3_700..=4_300).contains(&front),
        "two thirds of the rows are in front, and of 6,000 they were taken {front} times"
    );
}
