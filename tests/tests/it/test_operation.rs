//! The coordinated check (R26): what it writes goes through the real path, is found or not, and never stays.

use lockstep::store::{Store, WriteOptions, Writer};
use lockstep_cli::probes::canary::canary_reads;
use lockstep_cli::probes::marked::{MARK, RESERVED_ID, marked_rows};
use lockstep_cli::registry::Tables;
use lockstep_coordinator::{Error, Rehearsal, TestReport, test_operation};
use lockstep_core::{MigratableTable, Phase, Version};
use lockstep_integration_logs::IntegrationLogs;
use lockstep_tests::World;
use lockstep_tests::faults::{Fault, Rule};
use lockstep_tests::world::rows::{log, logs};
use lockstep_tests::world::{LOGS, PAYMENTS, backfill};

fn writer(world: &World) -> Writer {
    Writer::new(world.source.clone(), world.target.clone(), WriteOptions::default())
}

async fn marked(world: &World) -> lockstep_cli::probes::marked::MarkedRows {
    let tables = lockstep_cli::registry::Tables::default();
    let rows = marked_rows(&tables, &world.tables(), (&world.source, &world.target), &writer(world)).await;
    rows.expect("the source answers")
}

async fn run(world: &World) -> TestReport {
    let (rows, left_out) = marked(world).await;
    test_operation(&world.migration(), &rows, &left_out).await.expect("journalled")
}

/// What each look came to, in order: table, what was looked for, how it ended.
fn outcomes(report: &TestReport) -> Vec<(&str, &str, Option<bool>)> {
    report.checks.iter().map(|check| (check.table.as_str(), check.what.as_str(), check.passed)).collect()
}

async fn assert_nothing_is_left(world: &World) {
    let found = format!(
        "SELECT count(*) FROM (SELECT FROM {LOGS} WHERE log_id = {RESERVED_ID} OR service_name = '{MARK}'
         UNION ALL SELECT FROM {PAYMENTS} WHERE payment_id = {RESERVED_ID}) AS found"
    );
    assert_eq!(world.value::<i64>(&found).await, 0, "in PostgreSQL");
    world.assert_converged().await;
}

#[tokio::test]
async fn both_tables_are_written_and_found_in_both_stores_and_removed() {
    let world = World::start().await;
    world.migrated_to(Phase::HybridRead).await.close().await;
    let report = run(&world).await;
    let all = Some(true);
    assert_eq!(
        outcomes(&report),
        [
            (LOGS, "written in PostgreSQL", all),
            (LOGS, "written in DynamoDB", all),
            (PAYMENTS, "written in PostgreSQL", all),
            (PAYMENTS, "written in DynamoDB", all),
            (LOGS, "removed in PostgreSQL", all),
            (LOGS, "removed in DynamoDB", all),
            (PAYMENTS, "removed in PostgreSQL", all),
            (PAYMENTS, "removed in DynamoDB", all),
        ]
    );
    assert!(report.passed && report.not_checked.is_empty(), "{report:?}");
    assert_eq!((world.live_items(LOGS).await, world.live_items(PAYMENTS).await), (0, 0));
    assert_nothing_is_left(&world).await;
}

#[tokio::test]
async fn where_only_the_source_is_written_it_says_what_was_not_checked() {
    let world = World::start().await;
    world.migrated_to(Phase::PostgresOnly).await.close().await;
    let report = run(&world).await;
    assert!(report.passed, "{report:?}");
    for (_, what, passed) in outcomes(&report) {
        assert_eq!(passed, what.ends_with("PostgreSQL").then_some(true), "{what}");
    }
    assert_eq!(report.not_checked, ["DynamoDB: writes do not go there in PostgresOnly"]);
    assert_nothing_is_left(&world).await;
}

#[tokio::test]
async fn hybrid_read_wants_a_passed_test_operation() {
    let world = World::behind_proxy().await;
    world.sql(&logs(1, 20)).await;
    let coordinator = world.prepared().await;
    backfill(&coordinator).await;
    world.step_to(&coordinator, Phase::DualWrite).await;
    let (rows, left_out) = marked(&world).await;
    let coordinator = coordinator.with_rehearsal(Rehearsal { rows, left_out, reads: Vec::new() });
    world.record_verdict().await;
    // No other gate reads single items, so everything else passes.
    world.proxy().script(Rule::new(Fault::ServerError).on("GetItem"));
    let report = match coordinator.step(Phase::HybridRead, None, &()).await {
        Err(Error::Refused(report)) => report,
        other => panic!("not refused: {other:?}"),
    };
    let refused: Vec<_> = report.results.iter().filter(|gate| !gate.passed).map(|gate| gate.table.as_deref()).collect();
    assert_eq!(refused, [Some(LOGS), Some(PAYMENTS)], "{}", report.refusals());
    assert!(report.refusals().contains("test operation: written in DynamoDB"), "{}", report.refusals());
    assert_eq!(world.source.control().await.expect("a phase").phase, Phase::DualWrite);
    world.proxy().clear();
    assert_nothing_is_left(&world).await;
    world.record_verdict().await;
    let outcome = coordinator.step(Phase::HybridRead, None, &()).await.expect("nothing refuses any more");
    let passed = outcome.gates.results.iter().filter(|gate| gate.name == "test operation" && gate.passed);
    assert_eq!(passed.count(), 2);
    let journal = serde_json::to_string(&world.source.journal(20).await.expect("the journal")).expect("JSON");
    assert!(journal.contains("removed in DynamoDB"), "what was looked at is in the journal");
    assert_nothing_is_left(&world).await;
}

#[tokio::test]
async fn hybrid_read_wants_canary_reads_that_agree() {
    let world = World::start().await;
    world.sql(&logs(1, 20)).await;
    let coordinator = world.prepared().await;
    backfill(&coordinator).await;
    world.step_to(&coordinator, Phase::DualWrite).await;
    world.record_verdict().await;
    // After the verdict, behind everybody's back: one column of the newest row.
    let store = world.log_store();
    let row = store.get_source(20).await.expect("read").expect("a row");
    let tampered = Version(i64::MAX >> 1);
    let other = lockstep_integration_logs::IntegrationLog { status_code: Some("418".to_owned()), ..row.clone() };
    let put = async |row, version: Version| {
        let item = MigratableTable::encode(&IntegrationLogs::default(), row).expect("holdable").at(version);
        world.plain_target.put_guarded(LOGS, item, version).await.expect("put")
    };
    put(&other, tampered).await;
    let tables = Tables::default();
    let reads = canary_reads(&tables, &world.tables(), &world.source, &writer(&world)).await.expect("reads");
    let coordinator = coordinator.with_rehearsal(Rehearsal { reads, ..Rehearsal::default() });
    let report = match coordinator.step(Phase::HybridRead, None, &()).await {
        Err(Error::Refused(report)) => report,
        other => panic!("not refused: {other:?}"),
    };
    let refused: Vec<&str> = report.results.iter().filter(|gate| !gate.passed).map(|gate| gate.name.as_str()).collect();
    assert!(refused.contains(&"canary read: by key") && refused.iter().all(|name| name.starts_with("canary")), "{refused:?}");
    assert!(report.refusals().contains("status_code") && !report.refusals().contains("418"), "{}", report.refusals());
    put(&row, Version(tampered.0 + 1)).await;
    let outcome = coordinator.step(Phase::HybridRead, None, &()).await.expect("nothing refuses any more");
    assert!(outcome.gates.results.iter().filter(|gate| gate.name.starts_with("canary")).count() == 4, "one of each kind");
}

#[tokio::test]
async fn what_a_broken_off_run_left_is_replaced_and_removed() {
    let world = World::start().await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    // As a process leaves it that dies between writing and removing.
    world.sql(&log(RESERVED_ID, MARK)).await;
    world.relay_until_empty().await;
    assert_eq!(world.live_items(LOGS).await, 1);
    let report = run(&world).await;
    assert!(report.passed, "{report:?}");
    assert_nothing_is_left(&world).await;
    assert_eq!(world.live_items(LOGS).await, 0, "I3: the old place as well");
    let store: Store<lockstep_integration_logs::IntegrationLogs> = world.log_store();
    assert!(store.get_source(RESERVED_ID).await.expect("read").is_none());
}
