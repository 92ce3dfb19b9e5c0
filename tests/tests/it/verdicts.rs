//! Newest verdict: by what was read when, and not by what ended last. A verdict that opens a gate is of
//! everything that the migration has.

use lockstep_coordinator::find_repairs;
use lockstep_core::{Attributes, Phase, is_tombstone};
use lockstep_postgres::{TableBinding, VerdictWord};
use lockstep_tests::World;
use lockstep_tests::world::rows::{logs, payments};
use lockstep_tests::world::{PAYMENTS, eventually, run};
use lockstep_validator::{
    CancellationToken, Report, ValidateOptions, ValidationProgress, begin, record, validate,
};

use crate::planted::plant::items_of;

/// Compares as the command does until it records: begins a pass, and compares.
pub(crate) async fn compared(world: &World, tables: &[TableBinding]) -> Report {
    let pass = begin(&world.source).await.expect("a pass begins");
    let options =
        ValidateOptions { pass, quiescent: true, wait_for_pending: false, ..ValidateOptions::default() };
    let (progress, cancel) = (ValidationProgress::new(tables), CancellationToken::new());
    validate(&world.source, &world.plain_target, tables, &options, &progress, &cancel).await
}

/// Records as the command does at the end.
pub(crate) async fn recorded(world: &World, tables: &[TableBinding], report: &Report) {
    record(&world.source, &world.plain_target, tables, report).await.expect("recorded");
    let epoch = world.source.control().await.expect("a phase").epoch;
    let json = serde_json::to_value(report).expect("a report is JSON");
    world.source.record_verdict(epoch, report.verdict.is_consistent(), &json).await.expect("recorded");
}

pub(crate) async fn newest(world: &World) -> Option<VerdictWord> {
    world.source.latest_verdict().await.expect("asked").map(|verdict| verdict.word())
}

/// Takes the item of a payment away; returns it.
pub(crate) async fn lose(world: &World) -> Attributes {
    let items = items_of(world).await;
    let of_payments = items.iter().find(|(binding, item)| binding.name() == PAYMENTS && !is_tombstone(item));
    let (binding, item) = of_payments.expect("an item");
    let key = binding.table.place_of_item(item).expect("it has a place").to_attributes();
    let client = world.plain_target.client();
    client.delete_item().table_name(PAYMENTS).set_key(Some(key)).send().await.expect("lost");
    item.clone()
}

async fn put_back(world: &World, item: Attributes) {
    let client = world.plain_target.client();
    client.put_item().table_name(PAYMENTS).set_item(Some(item)).send().await.expect("put");
}

pub(crate) async fn in_dual_write() -> World {
    let world = World::start().await;
    world.sql(&format!("{}; {}", logs(1, 20), payments(1, 20))).await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    world
}

pub(crate) async fn advances(world: &World) -> Result<(), String> {
    let coordinator = world.coordinator().await;
    let step = coordinator.step(Phase::HybridRead, None, &()).await;
    coordinator.close().await;
    step.map(drop).map_err(|error| error.to_string())
}

#[tokio::test]
async fn a_comparison_that_began_before_a_finding_was_recorded_does_not_answer_it() {
    let world = in_dual_write().await;
    let tables = world.tables();
    // It has read everything, and ends later.
    let early = compared(&world, &tables).await;
    let item = lose(&world).await;
    let finding = compared(&world, &tables).await;
    // It begins before the finding is recorded, and is no answer either, whatever it saw.
    let between = world.source.draw_number().await.expect("drawn");
    recorded(&world, &tables, &finding).await;
    recorded(&world, &tables, &early).await;
    recorded(&world, &tables, &Report { began: between, ..early.clone() }).await;
    assert!(early.verdict.is_consistent() && !finding.verdict.is_consistent());
    assert_eq!(newest(&world).await, Some(VerdictWord::Inconsistent));
    let refused = advances(&world).await.expect_err("an item is missing");
    assert!(refused.contains("verdict is clean and fresh"), "{refused}");
    // Nor does a later pass go on from one that may have read before.
    assert_eq!(world.source.full_pass(PAYMENTS).await.expect("asked"), None);
    let of_logs = world.source.full_pass("integration_logs").await.expect("asked");
    assert!(of_logs.is_some(), "nothing was found there");

    put_back(&world, item).await;
    let late = compared(&world, &tables).await;
    recorded(&world, &tables, &late).await;
    assert!(world.source.full_pass(PAYMENTS).await.expect("asked").is_some());
    // The pass that ended last began first.
    recorded(&world, &tables, &early).await;
    let newest = world.source.latest_verdict().await.expect("asked").expect("a verdict");
    assert_eq!((newest.word(), newest.began), (VerdictWord::Consistent, late.began));
    // One that only looked at what changed does not answer what one of everything found.
    recorded(&world, &tables, &finding).await;
    let incremental =
        Report { incremental: true, began: world.source.draw_number().await.expect("drawn"), ..late };
    let json = serde_json::to_value(&incremental).expect("a report is JSON");
    let epoch = world.source.control().await.expect("a phase").epoch;
    world.source.record_verdict(epoch, true, &json).await.expect("recorded");
    assert!(advances(&world).await.is_err(), "a finding stands until everything was compared");
    // Both are told: the one that decides, and the newest.
    let decides = world.source.latest_verdict().await.expect("asked").expect("a verdict");
    let after = world.source.verdict_after(&decides).await.expect("asked").expect("there is a later one");
    assert_eq!((decides.word(), after.word()), (VerdictWord::Inconsistent, VerdictWord::Consistent));
    let shown =
        lockstep_coordinator::status(&world.source, &world.plain_target, &tables).await.expect("read");
    assert_eq!(
        (shown.verdict, shown.later_verdict),
        (Some(VerdictWord::Inconsistent), Some(VerdictWord::Consistent))
    );
    recorded(&world, &tables, &compared(&world, &tables).await).await;
    advances(&world).await.expect("nothing refuses");
}

#[tokio::test]
async fn a_comparison_of_some_of_the_tables_is_not_the_migrations_verdict_and_its_findings_count() {
    let world = in_dual_write().await;
    let (tables, logs, payments) = (world.tables(), [world.logs_table()], [world.payments_table()]);
    let some = compared(&world, &logs).await;
    assert!(some.verdict.is_consistent());
    recorded(&world, &logs, &some).await;
    assert_eq!(newest(&world).await, None, "it is none of the migration");
    let item = lose(&world).await;
    recorded(&world, &tables, &compared(&world, &tables).await).await;
    recorded(&world, &logs, &compared(&world, &logs).await).await;
    assert_eq!(newest(&world).await, Some(VerdictWord::Inconsistent));
    assert!(advances(&world).await.is_err(), "the missing item is of the other table");
    put_back(&world, item).await;
    recorded(&world, &tables, &compared(&world, &tables).await).await;
    assert_eq!(newest(&world).await, Some(VerdictWord::Consistent));
    // Of one table, and a finding.
    let item = lose(&world).await;
    recorded(&world, &payments, &compared(&world, &payments).await).await;
    assert_eq!(newest(&world).await, Some(VerdictWord::Inconsistent));
    put_back(&world, item).await;
    recorded(&world, &payments, &compared(&world, &payments).await).await;
    assert!(advances(&world).await.is_err(), "one of everything answers it");
    recorded(&world, &tables, &compared(&world, &tables).await).await;
    // Capture was installed again since, and the clock was set back in between.
    world.sql("UPDATE lockstep.tables SET captured_at = captured_at - interval '1 hour'").await;
    let refused = advances(&world).await.expect_err("it is of before that");
    assert!(refused.contains("predates the installation of capture"), "{refused}");
    // An earlier version records what it compared.
    recorded(&world, &tables, &compared(&world, &tables).await).await;
    world.sql("UPDATE lockstep.verdicts SET report = report - 'began'").await;
    let refused = advances(&world).await.expect_err("it says nothing of its beginning");
    assert!(refused.contains("an earlier version"), "{refused}");
    recorded(&world, &tables, &compared(&world, &tables).await).await;
    advances(&world).await.expect("nothing refuses");
}

#[tokio::test]
async fn what_a_search_for_repairs_finds_keeps_a_step_from_going_by_the_verdict_of_before() {
    let world = in_dual_write().await;
    let (tables, migration) = (world.tables(), world.migration());
    recorded(&world, &tables, &compared(&world, &tables).await).await;
    let item = lose(&world).await;
    let (options, cancel) = (ValidateOptions::default(), CancellationToken::new());
    let found = find_repairs(&migration, &options, &cancel).await.expect("searched");
    assert_eq!(found.repairable.len(), 1);
    let refused = advances(&world).await.expect_err("an item is known to be missing");
    assert!(refused.contains("verdict is clean and fresh"), "{refused}");
    assert_eq!(world.source.full_pass(PAYMENTS).await.expect("asked"), None);
    put_back(&world, item).await;
    recorded(&world, &tables, &compared(&world, &tables).await).await;
    advances(&world).await.expect("nothing refuses");
}

/// 1. An item is changed past Lockstep, and a shadow read finds it. 2. An incremental comparison looks at
/// what was captured, and not at this item: it agrees. 3. The gate counted since that one began.
#[tokio::test]
async fn what_shadow_reads_have_found_stands_until_everything_was_compared() {
    let world = in_dual_write().await;
    let tables = world.tables();
    let report = compared(&world, &tables).await;
    recorded(&world, &tables, &report).await;
    world.source.count_up(&[(PAYMENTS, "shadow.differ", 1)]).await.expect("counted");
    let incremental = async || {
        let pass = begin(&world.source).await.expect("a pass begins");
        let options = ValidateOptions {
            pass,
            incremental: true,
            wait_for_pending: false,
            ..ValidateOptions::default()
        };
        let (progress, cancel) = (ValidationProgress::new(&tables), CancellationToken::new());
        validate(&world.source, &world.plain_target, &tables, &options, &progress, &cancel).await
    };
    let report = incremental().await;
    assert!(report.verdict.is_consistent() && report.incremental, "{report:?}");
    recorded(&world, &tables, &report).await;
    let refused = advances(&world).await.expect_err("a reader has seen a difference");
    assert!(refused.contains("shadow reads agree"), "{refused}");
    let report = compared(&world, &tables).await;
    recorded(&world, &tables, &report).await;
    advances(&world).await.expect("everything was compared since");
}

/// 1. The gates pass by a verdict, and the step waits for a transaction. 2. A comparison that was under
/// way ends, and has found something. 3. The step went on.
#[tokio::test]
async fn a_step_is_not_taken_over_what_was_found_after_its_gates_were_asked() {
    let world = in_dual_write().await;
    let tables = world.tables();
    let report = compared(&world, &tables).await;
    recorded(&world, &tables, &report).await;
    let mut holder = world.stranger().await;
    run(&mut holder, "BEGIN; UPDATE payments SET loan_id = loan_id WHERE payment_id = 1").await;
    let step = async {
        let coordinator = world.coordinator().await;
        let taken = coordinator.step(Phase::HybridRead, None, &()).await;
        coordinator.close().await;
        taken.map(drop).map_err(|error| error.to_string())
    };
    let finding = async {
        let waits = "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
                         AND mode = 'ExclusiveLock'
                         AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))";
        eventually("the step waits for the barrier", || world.value::<bool>(waits)).await;
        // A whole comparison waits for open transactions, and the step does not wait for long.
        let reasons = vec!["an item is missing".to_owned()];
        let report = Report { verdict: lockstep_validator::Verdict::Inconsistent { reasons }, ..report };
        let json = serde_json::to_value(&report).expect("a report is JSON");
        let epoch = world.source.control().await.expect("a phase").epoch;
        world.source.record_verdict(epoch, false, &json).await.expect("recorded");
        run(&mut holder, "ROLLBACK").await;
    };
    let (taken, ()) = tokio::join!(step, finding);
    let refused = taken.expect_err("something was found");
    assert!(refused.contains("has found something since the gates were asked"), "{refused}");
    assert_eq!(world.source.control().await.expect("a phase").phase, Phase::DualWrite);
}
