//! What a plan says before anything begins, and that it changes nothing.

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
