//! A full comparison that was broken off goes on where it was, comes to the same verdict, and says how old
//! its eyes are.

use std::path::Path;
use std::time::Duration;

use lockstep_core::{AttributeValue, Phase};
use lockstep_dynamo::TableStanding;
use lockstep_tests::World;
use lockstep_tests::faults::{Fault, Gate, Rule};
use lockstep_tests::world::rows::{log, logs, payments};
use lockstep_tests::world::{LOGS, backfill, eventually, within};
use lockstep_validator::{
    CancellationToken, Kept, Report, TableReport, ValidateOptions, ValidateSettings, ValidationProgress,
    Verdict, validate,
};
use serde_json::Value;

use crate::process::{command, ended};

/// Reads what `validate` has kept of the logs.
fn manifest(folder: &Path) -> Option<Value> {
    let text = std::fs::read(folder.join(LOGS).join("manifest.json")).ok()?;
    serde_json::from_slice(&text).ok()
}

#[tokio::test]
async fn killed_in_the_middle_it_resumes_and_comes_to_the_same_verdict() {
    let world = World::behind_proxy().await;
    world.sql(&logs(1, 2_500)).await;
    world.sql(&payments(1, 200)).await;
    backfill(&world.prepared().await).await;
    // One item lost, one item without a row.
    let items = world.items(LOGS).await;
    let of = |id: i64| {
        items.iter().find(|item| item["log_id"].as_n().is_ok_and(|n| *n == id.to_string())).expect("an item")
    };
    let client = world.plain_target.client();
    let lost = lockstep_core::TargetKey::of(of(17)).expect("a key").to_attributes();
    client.delete_item().table_name(LOGS).set_key(Some(lost)).send().await.expect("deleted");
    let mut strange = of(18).clone();
    let time = strange["SK"].as_s().expect("text").split('#').next().expect("a time").to_owned();
    strange.insert("log_id".to_owned(), AttributeValue::N("900018".to_owned()));
    strange.insert("SK".to_owned(), AttributeValue::S(format!("{time}#{:019}", 900_018)));
    client.put_item().table_name(LOGS).set_item(Some(strange)).send().await.expect("put");
    let folder = tempfile::tempdir().expect("a folder");
    let validating = || {
        let mut command = command(&world, &["validate", "--no-relay", "--json", "--quiet"]);
        command.env("LOCKSTEP_VALIDATE__FOLDER", folder.path());
        command
    };
    let gate = Gate::new();
    world.proxy().script(Rule::new(Fault::Delay(gate.clone())).on("Scan").table(LOGS).after(1));
    let mut child = validating().spawn().expect("the command starts");
    eventually("all rows and the first page of items are kept", || {
        assert!(child.try_wait().expect("it can be asked").is_none(), "it ended before");
        let kept = manifest(folder.path());
        let read = |side: &str| kept.as_ref().and_then(|kept| kept[side]["pass"]["counted"]["read"].as_u64());
        std::future::ready(read("source") == Some(2_500) && read("target") == Some(1_000))
    })
    .await;
    child.kill().await.expect("SIGKILL");
    world.proxy().clear();
    gate.open();
    let killed_at = world.source.clock().await.expect("a clock");
    // Meanwhile rows change whose prints are made, and some are made and go: all of it delivered.
    world
        .sql(
            "UPDATE integration_logs SET user_id = 'later' WHERE log_id % 50 = 0; DELETE FROM integration_logs WHERE log_id = 30",
        )
        .await;
    world.sql(&log(5_000, "late")).await;
    world.relay_until_empty().await;

    let scans = world.proxy().seen("Scan");
    let output = ended(validating()).await;
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Report = serde_json::from_slice(&output.stdout).expect("a report");
    let of_logs = report.tables.iter().find(|table| table.name == LOGS).expect("logs");
    assert_eq!(
        (of_logs.missing, of_logs.extra, of_logs.different, of_logs.undecodable),
        (1, 1, 0, 0),
        "{of_logs:?}"
    );
    assert_eq!((of_logs.rows_resumed, of_logs.complete), (2_500, true));
    // Two pages of logs and one of payments were left, where one run reads four.
    assert_eq!(world.proxy().seen("Scan") - scans, 3);
    assert!(of_logs.as_of.expect("read") < killed_at, "it speaks of the beginning of its first part");
    assert!(manifest(folder.path()).is_none(), "what came to its end is forgotten");

    let output = ended(validating()).await;
    let report: Report = serde_json::from_slice(&output.stdout).expect("a report");
    let of_logs = report.tables.iter().find(|table| table.name == LOGS).expect("logs");
    assert_eq!((of_logs.rows_resumed, of_logs.missing, of_logs.extra), (0, 1, 1));
    assert!(of_logs.as_of.expect("read") > killed_at);
}

/// A run that broke off after its rows and a segment of items, with what it was asked to do.
async fn broken_off(world: &World, options: &ValidateOptions) -> Report {
    world.proxy().script(Rule::new(Fault::AccessDenied).on("Scan").after(1));
    let report = run(world, options).await;
    world.proxy().clear();
    let Verdict::Incomplete { reasons } = &report.verdict else { panic!("{:?}", report.verdict) };
    assert!(reasons.iter().any(|reason| reason.contains("the part that was read is kept")), "{reasons:?}");
    report
}

async fn run(world: &World, options: &ValidateOptions) -> Report {
    let tables = vec![world.logs_table()];
    let progress = ValidationProgress::new(&tables);
    let cancel = CancellationToken::new();
    let validating = validate(&world.source, &world.target, &tables, options, &progress, &cancel);
    within(Duration::from_mins(3), validating).await
}

fn the(report: &Report) -> &TableReport {
    &report.tables[0]
}

#[tokio::test]
async fn only_what_still_means_the_same_is_resumed() {
    let world = World::behind_proxy().await;
    world.sql(&logs(1, 300)).await;
    let coordinator = world.prepared().await;
    backfill(&coordinator).await;
    let folder = tempfile::tempdir().expect("a folder");
    let kept = |restart| Some(Kept { folder: folder.path().to_owned(), restart });
    let options = ValidateOptions {
        settings: ValidateSettings { scan_segments: 4, ..ValidateSettings::default() },
        kept: kept(false),
        ..ValidateOptions::default()
    };

    let first = broken_off(&world, &options).await;
    let resumed = run(&world, &ValidateOptions { quiescent: true, ..options.clone() }).await;
    assert_eq!((the(&resumed).rows_resumed, &resumed.verdict), (300, &Verdict::Consistent));
    assert_eq!(resumed.as_of(), first.as_of());
    // No one pass had all rows at hand to judge them, so their sums are no findings.
    let quality = the(&resumed).quality.as_ref().expect("judged");
    assert!(
        !quality.at_rest && quality.unchecked.iter().any(|what| what.starts_with("300 rows")),
        "{quality:?}"
    );

    // Asked to forget it; asked something else; and after a step, when it would be a verdict on another
    // phase.
    broken_off(&world, &options).await;
    assert_eq!(
        the(&run(&world, &ValidateOptions { kept: kept(true), ..options.clone() }).await).rows_resumed,
        0
    );
    broken_off(&world, &options).await;
    assert_eq!(
        the(&run(
            &world,
            &ValidateOptions {
                settings: ValidateSettings { scan_segments: 3, ..options.settings.clone() },
                ..options.clone()
            }
        )
        .await)
        .rows_resumed,
        0
    );
    broken_off(&world, &options).await;
    let seeded = ValidateOptions { digest_seed: Some(7), ..options.clone() };
    let whole = run(&world, &seeded).await;
    assert_eq!(the(&whole).rows_resumed, 0);
    broken_off(&world, &seeded).await;
    let in_parts = run(&world, &seeded).await;
    assert_eq!((the(&in_parts).rows_resumed, &the(&in_parts).digests), (300, &the(&whole).digests));
    assert_eq!(the(&whole).digests.as_ref().expect("read to the end").seed, "0000000000000007");
    broken_off(&world, &options).await;
    world.step_to(&coordinator, Phase::DualWrite).await;
    let after = run(&world, &options).await;
    assert_eq!((the(&after).rows_resumed, &after.verdict), (0, &Verdict::Consistent));

    // A file that is not what it was is no reason to say anything of the stores.
    broken_off(&world, &options).await;
    for spool in std::fs::read_dir(folder.path().join(LOGS)).expect("a folder") {
        let path = spool.expect("a file").path();
        if path.extension().is_some_and(|extension| extension == "spool") {
            std::fs::write(path, "").expect("cut");
        }
    }
    let again = run(&world, &options).await;
    assert_eq!((the(&again).rows_resumed, &again.verdict), (0, &Verdict::Consistent));
}

/// 1. All items are read, and the run is broken off. 2. The table is made again, empty. 3. What was read
/// of it would agree with every row.
#[tokio::test]
async fn a_run_whose_table_is_made_again_reads_it_from_the_beginning() {
    let world = World::behind_proxy().await;
    world.sql(&logs(1, 300)).await;
    backfill(&world.prepared().await).await;
    let folder = tempfile::tempdir().expect("a folder");
    let kept = Some(Kept { folder: folder.path().to_owned(), restart: false });
    let options = ValidateOptions { kept, ..ValidateOptions::default() };
    broken_off(&world, &options).await;
    let table = world.logs_table();
    let backup = world.back_up_table(&table).await;
    world.restore_table(&table, &backup).await;
    let id = || async {
        let schema = table.table.target();
        match world.plain_target.describe(LOGS, &schema).await.expect("described") {
            TableStanding::There(there) => there.id,
            _ => None,
        }
    };
    assert!(id().await.is_some(), "the emulator gives ids");
    let resumed = run(&world, &options).await;
    assert_eq!(the(&resumed).rows_resumed, 0, "it is of a table that is gone");

    // It is made again while it is read.
    let gate = Gate::new();
    world.proxy().script(Rule::new(Fault::Delay(gate.clone())).on("Scan").times(1));
    let settings = ValidateSettings { scan_segments: 1, ..options.settings.clone() };
    let unkept = ValidateOptions { kept: None, settings, ..options.clone() };
    let reading = run(&world, &unkept);
    let made_again = async {
        gate.until_held(1).await;
        world.restore_table(&table, &backup).await;
        gate.open();
    };
    let (report, ()) = tokio::join!(reading, made_again);
    assert!(!report.verdict.is_consistent(), "{report:#?}");
    assert!(the(&report).failure.as_ref().is_some_and(|why| why.contains("made again")), "{report:#?}");
}

#[tokio::test]
async fn two_at_once_keep_out_of_each_others_way() {
    let world = World::behind_proxy().await;
    world.sql(&logs(1, 200)).await;
    backfill(&world.prepared().await).await;
    let folder = tempfile::tempdir().expect("a folder");
    let kept = Some(Kept { folder: folder.path().to_owned(), restart: false });
    let options = ValidateOptions { kept, ..ValidateOptions::default() };
    let gate = Gate::new();
    world.proxy().script(Rule::new(Fault::Delay(gate.clone())).on("Scan").times(1));
    let first = run(&world, &options);
    let second = async {
        gate.until_held(1).await;
        let report = run(&world, &options).await;
        gate.open();
        report
    };
    let (first, second) = tokio::join!(first, second);
    assert_eq!((first.verdict, second.verdict), (Verdict::Consistent, Verdict::Consistent));
}
