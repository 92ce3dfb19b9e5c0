//! The coordinated check (R26): it proves the way of a write where no row can be, and leaves nothing, in
//! every phase.

use std::sync::Arc;

use lockstep::store::{WriteOptions, Writer};
use lockstep_cli::config::TableSections;
use lockstep_cli::sample::registry;
use lockstep_coordinator::{CoordinatorError, Rehearsal, TestReport, canary_reads_of, test_operation};
use lockstep_core::{AttributeValue, MigratableTable, Phase, Version, is_tombstone};
use lockstep_integration_logs::IntegrationLogs;
use lockstep_tests::World;
use lockstep_tests::faults::{Fault, Rule};
use lockstep_tests::world::rows::{logs, payment};
use lockstep_tests::world::{LOGS, PAYMENTS, backfill};

async fn run(world: &World) -> TestReport {
    test_operation(&world.migration()).await.expect("journalled")
}

/// Returns what each look found, in order: table, what was looked for, how it ended.
fn outcomes(report: &TestReport) -> Vec<(&str, &str, Option<bool>)> {
    report.checks.iter().map(|check| (check.table.as_str(), check.what.as_str(), check.passed)).collect()
}

/// Everything that a check could leave or take: rows, marks, relations, sequences, items, id counters.
async fn everything(world: &World) -> Vec<String> {
    let mut found = Vec::new();
    for sql in [
        "SELECT coalesce(string_agg(t::text || t.xmin || t.xmax, ' ' ORDER BY t::text), '') FROM integration_logs t",
        "SELECT coalesce(string_agg(t::text || t.xmin || t.xmax, ' ' ORDER BY t::text), '') FROM payments t",
        "SELECT coalesce(string_agg(p::text, ' ' ORDER BY p::text), '') FROM lockstep.pending p",
        "SELECT string_agg(c.relname, ' ' ORDER BY c.relname) FROM pg_class c WHERE c.relkind IN ('r', 'S')",
        "SELECT coalesce(string_agg(sequencename || '=' || coalesce(last_value, 0), ' ' ORDER BY sequencename), '')
         FROM pg_sequences WHERE schemaname <> 'lockstep'",
    ] {
        found.push(world.value::<String>(sql).await);
    }
    for table in
        world.plain_target.client().list_tables().send().await.expect("lists").table_names.unwrap_or_default()
    {
        let scan = world
            .plain_target
            .client()
            .scan()
            .table_name(&table)
            .consistent_read(true)
            .send()
            .await
            .expect("scans");
        // Marks of history are set by steps; a probe is a mark as well, but of no number.
        let mut items: Vec<String> = scan
            .items()
            .iter()
            .map(|item| {
                let mut parts: Vec<String> =
                    item.iter().map(|(name, value)| format!("{name}={}", shown(value))).collect();
                parts.sort();
                parts.join(" ")
            })
            .collect();
        items.sort();
        found.push(format!("{table}: {}", items.join("\n")));
    }
    found
}

/// A value, the entries of a map in order.
fn shown(value: &AttributeValue) -> String {
    let AttributeValue::M(map) = value else { return format!("{value:?}") };
    let mut parts: Vec<String> =
        map.iter().map(|(name, value)| format!("{name}: {}", shown(value))).collect();
    parts.sort();
    parts.join(", ")
}

/// Real rows at the ends of the ids, and rules of an application that a row made up by another program
/// breaks.
const APPLICATION: &str = "
    CREATE SEQUENCE receipts;
    CREATE FUNCTION receipt() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM nextval('receipts'); RETURN coalesce(NEW, OLD); END $$;
    CREATE TRIGGER receipt BEFORE INSERT OR UPDATE OR DELETE ON payments FOR EACH ROW EXECUTE FUNCTION receipt();
    ALTER TABLE payments ADD CHECK (payment_amount >= 0.50)";

async fn with_application(last_id: i64) -> World {
    let world = World::start().await;
    for statement in APPLICATION.split(";\n") {
        world.sql(statement).await;
    }
    world.sql(&logs(1, 5)).await;
    for id in [1, last_id] {
        world.sql(&payment(id, 7).replace(&format!("{id}.50"), "1.50")).await;
    }
    world
}

#[tokio::test]
async fn nothing_is_touched_taken_or_left_in_any_phase_of_postgresql() {
    let world = with_application(i64::MAX).await;
    let coordinator = world.prepared().await;
    backfill(&coordinator).await;
    for phase in [Phase::PostgresOnly, Phase::DualWrite, Phase::HybridRead] {
        if phase != Phase::PostgresOnly {
            world.step_to(&coordinator, phase).await;
        }
        world.relay_until_empty().await;
        let before = everything(&world).await;
        let report = run(&world).await;
        assert!(report.passed, "{report:#?}");
        let all = Some(true);
        let of = |table| {
            [
                (table, "captured in PostgreSQL", all),
                (table, "written in DynamoDB", all),
                (table, "guarded in DynamoDB", all),
                (table, "removed in DynamoDB", all),
            ]
        };
        assert_eq!(outcomes(&report), [of(LOGS), of(PAYMENTS)].concat(), "{phase}");
        assert!(
            report.not_checked.iter().any(|why| why.contains("no row was written")),
            "it says what it does not prove"
        );
        assert_eq!(everything(&world).await, before, "{phase}");
    }
    coordinator.close().await;
    world.assert_converged().await;
}

#[tokio::test]
async fn in_dynamo_only_no_counter_is_raised_and_the_target_is_proven() {
    let world = with_application(9).await.dynamo_only("SELECT 1").await;
    let before = everything(&world).await;
    let report = run(&world).await;
    assert!(report.passed, "{report:#?}");
    for (_, what, passed) in outcomes(&report) {
        assert_eq!(passed, what.ends_with("DynamoDB").then_some(true), "{what}");
    }
    assert!(report.not_checked.iter().any(|why| why.contains("PostgreSQL takes no writes")), "{report:?}");
    assert_eq!(everything(&world).await, before);
    world.feed_until_drained().await;
}

#[tokio::test]
async fn a_table_whose_capture_is_off_fails() {
    let world = World::start().await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    world.sql("ALTER TABLE payments DISABLE TRIGGER zz_lockstep_capture_payments").await;
    let report = run(&world).await;
    let failed: Vec<_> = report.checks.iter().filter(|check| check.passed == Some(false)).collect();
    assert!(!report.passed && failed.len() == 1 && failed[0].table == PAYMENTS, "{report:#?}");
    assert!(failed[0].detail.contains("disabled"), "{}", failed[0].detail);
}

#[tokio::test]
async fn hybrid_read_wants_a_passed_test_operation() {
    let world = World::behind_proxy().await;
    world.sql(&logs(1, 20)).await;
    let coordinator = world.prepared().await;
    backfill(&coordinator).await;
    world.step_to(&coordinator, Phase::DualWrite).await;
    let coordinator = coordinator.with_rehearsal(Rehearsal::default().writing());
    world.record_verdict().await;
    // No other gate removes single items of tables, so everything else passes. Preflight asks for the right to
    // by a request of each, which comes first.
    for table in [LOGS, PAYMENTS] {
        world.proxy().script(Rule::new(Fault::ServerError).on("DeleteItem").table(table).after(1));
    }
    let report = match coordinator.step(Phase::HybridRead, None, &()).await {
        Err(CoordinatorError::Refused(report)) => report,
        other => panic!("not refused: {other:?}"),
    };
    let refused: Vec<_> =
        report.results.iter().filter(|gate| !gate.passed).map(|gate| gate.table.as_deref()).collect();
    assert_eq!(refused, [Some(LOGS), Some(PAYMENTS)], "{}", report.refusals());
    assert!(report.refusals().contains("test operation: written in DynamoDB"), "{}", report.refusals());
    assert_eq!(world.source.control().await.expect("a phase").phase, Phase::DualWrite);
    world.proxy().clear();
    world.record_verdict().await;
    let outcome = coordinator.step(Phase::HybridRead, None, &()).await.expect("nothing refuses any more");
    let passed = outcome.gates.results.iter().filter(|gate| gate.name == "test operation" && gate.passed);
    assert_eq!(passed.count(), 2);
    let journal = serde_json::to_string(&world.source.journal(20).await.expect("the journal")).expect("JSON");
    assert!(journal.contains("removed in DynamoDB"), "what was looked at is in the journal");
    world.assert_converged().await;
}

#[tokio::test]
async fn hybrid_read_wants_canary_reads_that_agree() {
    let world = World::start().await;
    world.sql(&logs(1, 20)).await;
    let coordinator = world.prepared().await;
    backfill(&coordinator).await;
    world.step_to(&coordinator, Phase::DualWrite).await;
    world.record_verdict().await;
    // After the verdict, past Lockstep: one column of the newest row.
    let store = world.log_store();
    let row = store.get_source(20).await.expect("read").expect("a row");
    let tampered = Version(i64::MAX >> 1);
    let other =
        lockstep_integration_logs::IntegrationLog { status_code: Some("418".to_owned()), ..row.clone() };
    let put = async |row, version: Version| {
        let item = MigratableTable::encode(&IntegrationLogs::default(), row).expect("holdable").at(version);
        world.plain_target.put_guarded(LOGS, item, version).await.expect("put")
    };
    put(&other, tampered).await;
    let writer = Writer::new(world.source.clone(), world.target.clone(), WriteOptions::default());
    let chooses = Arc::new((TableSections::of(&registry()), world.tables(), world.source.clone(), writer));
    let coordinator = coordinator.with_rehearsal(Rehearsal::default().reading(move || {
        let chooses = chooses.clone();
        async move {
            let (sections, bindings, source, writer) = &*chooses;
            let mut reads = Vec::new();
            for binding in bindings {
                let store = sections.canary_store(writer, binding).expect("registered");
                reads.extend(canary_reads_of(&*store, source, binding).await?);
            }
            Ok(reads)
        }
    }));
    let report = match coordinator.step(Phase::HybridRead, None, &()).await {
        Err(CoordinatorError::Refused(report)) => report,
        other => panic!("not refused: {other:?}"),
    };
    let refused: Vec<&str> =
        report.results.iter().filter(|gate| !gate.passed).map(|gate| gate.name.as_str()).collect();
    assert!(
        refused.contains(&"canary read: by key") && refused.iter().all(|name| name.starts_with("canary")),
        "{refused:?}"
    );
    assert!(
        report.refusals().contains("status_code") && !report.refusals().contains("418"),
        "{}",
        report.refusals()
    );
    put(&row, Version(tampered.0 + 1)).await;
    let outcome = coordinator.step(Phase::HybridRead, None, &()).await.expect("nothing refuses any more");
    assert!(
        outcome.gates.results.iter().filter(|gate| gate.name.starts_with("canary")).count() == 4,
        "one of each kind"
    );
}

#[tokio::test]
async fn what_a_broken_off_run_left_is_no_row_and_is_removed_by_the_next() {
    let world = World::start().await;
    world.sql(&logs(1, 5)).await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    let schema = world.logs_table().table.target();
    // As a process leaves it that dies between putting and removing.
    let left = world.plain_target.probe(LOGS, &schema, "an earlier run".to_owned());
    left.put().await.expect("put");
    world.assert_converged().await;
    assert!(left.is_there().await.expect("read"));
    assert!(world.items(LOGS).await.iter().all(|item| !is_tombstone(item)), "no reader takes it for a row");
    assert!(run(&world).await.passed);
    assert!(!left.is_there().await.expect("read"));
}
