//! Counts are exact, and the exit code says whether they agree.

use lockstep_core::{Attributes, TargetKey, Window, parse_fixed_width};
use lockstep_tests::World;
use lockstep_tests::world::rows::{logs, payments};
use lockstep_tests::world::{LOGS, PAYMENTS, backfill};
use lockstep_validator::{CountReport, ValidateOptions, ValidateSettings, count};

use crate::process::{command, ended};

async fn counted(world: &World, options: &ValidateOptions, by_day: bool) -> CountReport {
    count(&world.source, &world.target, &world.tables(), options, by_day).await.expect("both stores answer")
}

fn of<'a>(report: &'a CountReport, name: &str) -> &'a lockstep_validator::TableCount {
    report.tables.iter().find(|table| table.name == name).expect("counted")
}

/// Two days of logs, some payments, all moved, one log deleted since.
async fn moved() -> World {
    let world = World::start().await;
    world.sql(&logs(1, 90)).await;
    world
        .sql("UPDATE integration_logs SET log_timestamp = log_timestamp + interval '1 day' WHERE log_id > 60")
        .await;
    world.sql(&payments(1, 40)).await;
    backfill(&world.prepared().await).await;
    world.sql("DELETE FROM integration_logs WHERE log_id = 1").await;
    world.relay_until_empty().await;
    world
}

async fn lose(world: &World, table: &str, is_lost: impl Fn(&Attributes) -> bool) {
    let items = world.items(table).await;
    let key = TargetKey::of(items.iter().find(|item| is_lost(item)).expect("an item"))
        .expect("a key")
        .to_attributes();
    world
        .plain_target
        .client()
        .delete_item()
        .table_name(table)
        .set_key(Some(key))
        .send()
        .await
        .expect("deleted");
}

#[tokio::test]
async fn rows_and_live_items_are_counted_whole_by_window_and_by_day() {
    let world = moved().await;
    let sides =
        |table: &lockstep_validator::TableCount| (table.source_count, table.target_count, table.agrees);
    for scan_segments in [1, 4] {
        let options =
            ValidateOptions::from(ValidateSettings { scan_segments, ..ValidateSettings::default() });
        let report = counted(&world, &options, false).await;
        assert_eq!(
            (sides(of(&report, LOGS)), sides(of(&report, PAYMENTS))),
            ((89, 89, true), (40, 40, true))
        );
        assert!(report.agrees && of(&report, LOGS).days.is_empty(), "a tombstone is no item");
        let by_day = counted(&world, &options, true).await;
        let days: Vec<_> =
            of(&by_day, LOGS).days.iter().map(|d| (d.day.as_str(), d.source_count, d.target_count)).collect();
        assert_eq!(days, [("2099-03-04", 59, 59), ("2099-03-05", 30, 30)]);
        let window = Window { start: parse_fixed_width("2099-03-05T00:00:00.000000Z").ok(), end: None };
        let report = counted(&world, &ValidateOptions { window, ..options }, false).await;
        assert_eq!(sides(of(&report, LOGS)), (30, 30, true));
    }
    // One item lost: found, unless that much is tolerated.
    lose(&world, LOGS, |item| item["log_id"].as_n().is_ok_and(|id| id == "70")).await;
    let report = counted(&world, &ValidateOptions::default(), true).await;
    assert_eq!((sides(of(&report, LOGS)), report.agrees), ((89, 88, false), false));
    assert_eq!(of(&report, LOGS).days.iter().filter(|day| day.source_count != day.target_count).count(), 1);
    assert!(
        counted(
            &world,
            &ValidateOptions::from(ValidateSettings { count_tolerance: 1, ..ValidateSettings::default() }),
            true
        )
        .await
        .agrees
    );
}

#[tokio::test]
async fn the_command_says_what_it_costs_and_ends_by_what_it_counted() {
    let world = moved().await;
    let run = async || ended(command(&world, &["validate", "--counts", "--by-day"])).await;
    let output = run().await;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("read units of DynamoDB"), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("The counts agree"), "{}", text(&output.stdout));
    lose(&world, PAYMENTS, |_| true).await;
    let output = run().await;
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("THE COUNTS DIFFER"), "{}", text(&output.stdout));
    let verdicts: i64 = world.value("SELECT count(*) FROM lockstep.verdicts").await;
    assert_eq!(verdicts, 0, "counts are no verdict");
}
