use super::*;
use crate::estimate::ItemSample;

fn exactly(value: f64) -> Mean {
    Mean { value, plus_minus: 0.0 }
}

fn table(rows: f64, writes_per_s: f64) -> TableFacts {
    TableFacts {
        name: "documents".to_owned(),
        rows,
        source_bytes: 0,
        writes_per_s,
        reads_per_s: 10.0,
        counted_for_s: 3_600.0,
        sample: ItemSample {
            rows: 300,
            unholdable: 0,
            item_bytes: exactly(1_000.0),
            table_units: exactly(1.0),
            units: Mean { value: 3.0, plus_minus: 0.5 },
            largest: Vec::new(),
        },
    }
}

#[test]
fn a_thousand_million_rows_of_three_units_cost_what_the_price_list_says() {
    let paths = load_paths(&[table(1e9, 0.0)], &PlanOptions::default(), Some(10_000));
    let guarded = &paths[0];
    assert_eq!(guarded.write_units, Mean { value: 3e9, plus_minus: 5e8 });
    assert_eq!(guarded.index_units, 2e9);
    assert!((guarded.usd.value - 1_875.0).abs() < 1e-6, "{guarded:?}");
    assert!(
        (guarded.hours_new_table - 69.44).abs() < 0.01 && (guarded.hours_at_quota - 6.944).abs() < 0.001,
        "{guarded:?}"
    );
    assert!((guarded.hours_at_limit.expect("a limit is set") - 83.33).abs() < 0.01, "{guarded:?}");
    let import = &paths[1];
    assert!((import.usd.value - 150.0).abs() < 1e-9, "{import:?}");
}

#[test]
fn bands_of_unlike_tables_add_up_as_squares() {
    let paths = load_paths(&[table(6.0, 0.0), table(8.0, 0.0)], &PlanOptions::default(), None);
    assert_eq!(paths[0].write_units, Mean { value: 42.0, plus_minus: 5.0 });
    assert_eq!(paths[0].hours_at_limit, None);
}

#[test]
fn transactions_double_the_tables_share_and_not_that_of_its_indexes() {
    let of = |coordinated_percent| {
        phases(&[table(0.0, 100.0)], &PlanOptions { coordinated_percent, ..PlanOptions::default() }, 50.0)
    };
    assert_eq!(of(0.0)[0].write_units_per_s, 300.0);
    assert_eq!(of(100.0)[0].write_units_per_s, 400.0);
    assert_eq!(of(50.0)[0].write_units_per_s, 350.0);
    let hybrid = &of(100.0)[1];
    assert_eq!(hybrid.phase, Some(Phase::HybridRead));
    assert_eq!(hybrid.read_units_per_s, 2.5, "ten reads a second of half a unit, half of them");
    assert_eq!(of(100.0)[3].phase, None);
    assert_eq!(of(100.0)[3].write_units_per_s, 300.0, "afterwards nothing is written twice");
}

#[test]
fn what_is_saved_is_told_only_where_it_is_known_what_postgresql_costs() {
    let phases = phases(&[table(1e9, 0.0)], &PlanOptions::default(), 100.0);
    assert_eq!(saving(&phases, &PlanOptions::default()), None);
    let prices = PlanOptions { source_month_usd: 2_000.0, ..PlanOptions::default() };
    let saved = saving(&phases, &prices).expect("the bill is known");
    let expected = 100.0 * (1.0 - saved.target_month_usd / 2_000.0);
    assert!((saved.percent - expected).abs() < 1e-9 && saved.target_month_usd > 250.0, "{saved:?}");
}
