//! Comparisons over a PostgreSQL that is set back, as from a copy of its files: its timeline is the same, and
//! its sequences hand out again what they have handed out.

use std::time::Duration;

use lockstep_core::Phase;
use lockstep_postgres::VerdictWord;
use lockstep_tests::World;
use lockstep_tests::faults::{Fault, Gate, Rule};
use lockstep_tests::world::rows::{logs, payments};
use lockstep_tests::world::{PAYMENTS, eventually, within};
use lockstep_validator::{
    CancellationToken, Kept, ValidateOptions, ValidateSettings, ValidationProgress, begin, validate,
};

use crate::process::{command, ended};
use crate::verdicts::{advances, compared, in_dual_write, lose, newest, recorded};

#[tokio::test]
async fn a_comparison_of_a_time_that_is_lost_answers_no_finding_and_is_no_base() {
    let mut world = in_dual_write().await;
    let tables = world.tables();
    let backup = world.back_up_source().await;
    for _ in 0..20 {
        world.source.draw_number().await.expect("drawn");
        begin(&world.source).await.expect("a pass begins");
    }
    let lost = compared(&world, &tables).await;
    assert!(lost.verdict.is_consistent());
    world.restore_source(backup).await;

    lose(&world).await;
    let finding = compared(&world, &tables).await;
    assert!(finding.began < lost.began, "the numbers repeat");
    recorded(&world, &tables, &finding).await;
    // Its process has only now come to its end.
    recorded(&world, &tables, &lost).await;
    assert_eq!(newest(&world).await, Some(VerdictWord::Inconsistent));
    assert!(advances(&world).await.is_err(), "an item is missing");
    assert_eq!(world.source.full_pass(PAYMENTS).await.expect("asked"), None);
}

#[tokio::test]
async fn a_comparison_over_a_step_back_is_no_verdict_and_is_not_gone_on_with() {
    let mut world = World::behind_proxy().await;
    world.sql(&format!("{}; {}", logs(1, 20), payments(1, 20))).await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    let backup = world.back_up_source().await;
    let folder = tempfile::tempdir().expect("a folder");
    let kept = Kept { folder: folder.path().to_owned(), restart: false };
    let few = ValidateSettings { scan_segments: 4, ..ValidateSettings::default() };
    let options = ValidateOptions { kept: Some(kept), ..ValidateOptions::from(few.clone()) };
    let (tables, cancel) = (world.tables(), CancellationToken::new());
    let progress = ValidationProgress::new(&tables);

    world.proxy().script(Rule::new(Fault::AccessDenied).on("Scan").after(1));
    let broken_off = validate(&world.source, &world.target, &tables, &options, &progress, &cancel).await;
    assert!(!broken_off.verdict.is_consistent());
    world.proxy().clear();
    let gate = Gate::new();
    world.proxy().script(Rule::new(Fault::Delay(gate.clone())).on("Scan"));
    let (source, target) = (world.another_source().await, world.target.clone());
    let running = tokio::spawn({
        let (tables, progress, cancel) = (tables.clone(), ValidationProgress::new(&tables), cancel.clone());
        async move {
            let options = ValidateOptions::from(few);
            validate(&source, &target, &tables, &options, &progress, &cancel).await
        }
    });
    let scans = world.proxy().seen("Scan");
    eventually("it reads items", || std::future::ready(world.proxy().seen("Scan") > scans)).await;
    world.restore_source(backup).await;
    world.proxy().clear();
    gate.open();
    let report = within(Duration::from_secs(60), running).await.expect("it ends");
    let why = report.verdict.reasons().join("; ");
    assert!(why.contains("was set back to before the comparison began"), "{why}");

    // Past the number that the one that was broken off had drawn.
    for _ in 0..4 {
        world.source.draw_number().await.expect("drawn");
    }
    let after = validate(&world.source, &world.target, &tables, &options, &progress, &cancel).await;
    assert!(after.verdict.is_consistent(), "{:?}", after.verdict);
    assert!(after.tables.iter().all(|table| table.rows_resumed == 0), "it read everything itself");
}

#[tokio::test]
async fn what_changed_in_a_time_that_is_lost_is_not_passed_over_by_an_incremental_comparison() {
    let mut world = in_dual_write().await;
    let validated = async |world: &World, how: &[&str]| {
        let output = ended(command(world, &[&["validate", "--no-relay", "--quiet"], how].concat())).await;
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&text).into_owned())
    };
    let (code, text) = validated(&world, &[]).await;
    assert_eq!(code, Some(0), "{text}");
    let backup = world.back_up_source().await;
    world.sql("UPDATE payments SET loan_id = 77 WHERE payment_id = 5").await;
    world.relay_until_empty().await;
    for binding in world.tables() {
        world.make_mark(&binding).await;
    }
    world.restore_source(backup).await;
    let (code, text) = validated(&world, &["--incremental"]).await;
    assert!(code == Some(2) && text.contains("run `doctor`"), "{code:?} {text}");
}
