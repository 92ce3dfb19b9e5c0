//! Plan before anything begins: what it says, and that it changes nothing.

use lockstep_tests::World;
use lockstep_tests::world::rows::{logs, payments};
use serde_json::Value;

use crate::process::{command, ended};

async fn plan(world: &World, more: &[&str]) -> Value {
    let out = ended(command(world, &[&["plan", "--json"], more].concat())).await;
    assert_eq!(out.status.code(), Some(0), "{}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).expect("one JSON document")
}

#[tokio::test]
async fn a_plan_tells_units_hours_and_dollars_and_leaves_both_stores_as_they_were() {
    let world = World::start().await;
    world.sql(&logs(1, 1_000)).await;
    world.sql(&payments(1, 300)).await;
    world.sql("ANALYZE").await;

    let plan = plan(&world, &["--write-units-per-s", "100", "--source-month-usd", "1400"]).await;

    let of = |name: &str| {
        plan["tables"].as_array().expect("tables").iter().find(|t| t["name"] == name).expect("it").clone()
    };
    assert_eq!(of("integration_logs")["rows"], 1_000.0);
    assert_eq!(of("payments")["rows"], 300.0);
    assert!(of("payments")["sample"]["item_bytes"]["value"].as_f64() > Some(50.0), "{plan}");
    let guarded = &plan["load_paths"][0];
    let units = guarded["write_units"]["value"].as_f64().expect("a number");
    assert!(units > 1_300.0, "a unit a row and those of indexes: {plan}");
    let hours = guarded["hours_at_limit"].as_f64().expect("a limit was given");
    assert!((hours - units / 100.0 / 3_600.0).abs() < 1e-9, "{plan}");
    assert!(
        (guarded["usd"]["value"].as_f64().expect("a number") - units * 0.625 / 1e6).abs() < 1e-9,
        "{plan}"
    );
    assert_eq!(plan["phases"].as_array().map(Vec::len), Some(4));
    assert_eq!(plan["saving"]["source_month_usd"], 1_400.0);

    assert!(!world.try_value("SELECT to_regnamespace('lockstep') IS NOT NULL").await.expect("it answers"));
}

#[tokio::test]
async fn rows_that_no_item_can_hold_are_told_before_anything_begins() {
    let world = World::start().await;
    world.sql(&payments(1, 20)).await;
    world.sql("UPDATE payments SET transaction_reference = repeat('x', 500000) WHERE payment_id = 7").await;
    let plan = plan(&world, &[]).await;
    let warnings = plan["warnings"].to_string();
    assert!(warnings.contains("payments: no item can hold"), "{warnings}");
    assert!(!warnings.contains("xxxx"), "no values");
}

async fn json(world: &World, arguments: &[&str]) -> Value {
    let out = ended(command(world, arguments)).await;
    assert_eq!(out.status.code(), Some(0), "{arguments:?}: {}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).expect("one JSON document")
}

/// Returns, of one table, rows and write units as planned, then as taken.
fn numbers(report: &Value, table: &str) -> [f64; 4] {
    let histories = report["history"].as_array().expect("histories");
    let history = histories.iter().find(|history| history["table"] == table).expect("one of the table");
    assert_eq!(history["ended"], true, "{history}");
    assert!(history["took"]["seconds"].as_f64() > Some(0.0), "{history}");
    ["planned", "took"]
        .map(|side| ["rows", "write_units"].map(|of| history[side][of].as_f64().expect("a number")))
        .concat()
        .try_into()
        .expect("four")
}

#[tokio::test]
async fn what_history_took_stands_beside_what_was_planned_for_the_whole_of_it() {
    let world = World::start().await;
    world.sql(&logs(1, 300)).await;
    world.sql(&payments(1, 100)).await;
    world.sql("ANALYZE").await;
    let first = json(&world, &["backfill", "--json", "--quiet"]).await;
    let [rows, units, rows_took, units_took] = numbers(&first, "integration_logs");
    assert_eq!((rows, rows_took), (300.0, 300.0), "{first}");
    assert!(units >= 300.0 && units_took >= 300.0, "{first}");
    // A second run plans nothing of the rest, and counts nothing twice; others show the same.
    for arguments in
        [["backfill", "--json", "--quiet"], ["cost", "--json", "--quiet"], ["status", "--json", "--quiet"]]
    {
        let out = ended(command(&world, &arguments)).await;
        let report: Value = serde_json::from_slice(&out.stdout).expect("one JSON document");
        assert_eq!(numbers(&report, "integration_logs"), [rows, units, rows_took, units_took], "{report}");
        let [rows, units, rows_took, units_took] = numbers(&report, "payments");
        assert_eq!((rows, units), (rows_took, units_took), "{report}");
    }
    let out = ended(command(&world, &["cost"])).await;
    let said = String::from_utf8_lossy(&out.stdout);
    assert!(said.contains("planned") && said.contains("took"), "{said}");
    // From the beginning once more: everything is there already, and what was counted before is of before.
    let again = json(&world, &["backfill", "--restart", "--json", "--quiet"]).await;
    let [rows, _, rows_took, _] = numbers(&again, "integration_logs");
    assert_eq!((rows, rows_took), (300.0, 0.0), "{again}");
}
