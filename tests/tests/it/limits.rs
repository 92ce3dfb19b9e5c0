//! Limits that operators and AWS set: of latency before reads and writes move, and of the account's quota
//! before the initial load.

use std::time::Duration;

use lockstep::store::reads::Comparison;
use lockstep_coordinator::{CanaryRead, Coordinator, CoordinatorError, GateReport, Rehearsal, StepOptions};
use lockstep_core::Phase;
use lockstep_tests::World;
use lockstep_tests::faults::{Fault, Rule};
use lockstep_tests::world::PAYMENTS;
use lockstep_tests::world::rows::{logs, payments};

use crate::gates::check;

/// Time that each store takes for the query of these tests.
const SOURCE: Duration = Duration::from_millis(5);
const TARGET: Duration = Duration::from_millis(200);

/// One query on which both stores agree, and of which the target takes long.
fn slow() -> CanaryRead {
    let answered_in = |time: Duration| {
        move || async move {
            tokio::time::sleep(time).await;
            Ok(1)
        }
    };
    CanaryRead::new(PAYMENTS, "by key", || async { Ok(Comparison::Agree) })
        .timed(answered_in(SOURCE), answered_in(TARGET))
}

async fn coordinator(world: &World, steps: impl Fn(&mut StepOptions)) -> Coordinator {
    let mut migration = world.migration();
    migration.options.steps.latency_rounds = 3;
    steps(&mut migration.options.steps);
    let coordinator = world.coordinator_of(migration).await;
    coordinator.with_rehearsal(Rehearsal::default().reading(|| async { Ok(vec![slow()]) }))
}

async fn refused(coordinator: &Coordinator, to: Phase) -> GateReport {
    match coordinator.step(to, None, &()).await {
        Err(CoordinatorError::Refused(report)) => report,
        other => panic!("the step to {to} was not refused: {other:?}"),
    }
}

/// R52. Both steps after which users wait for DynamoDB are held up by it, each limit by itself.
#[tokio::test]
async fn a_store_that_answers_later_than_allowed_holds_up_the_steps_that_rely_on_it() {
    let world = World::start().await;
    world.sql(&logs(1, 20)).await;
    world.sql(&payments(1, 10)).await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    let (gate, next) = ("latency: by key", "steps.target_latency_ms_max");
    for to in [Phase::HybridRead, Phase::DynamoOnly] {
        world.relay_until_empty().await;
        world.record_verdict().await;
        let strict = coordinator(&world, |steps| steps.target_latency_ms_max = 40).await;
        let report = refused(&strict, to).await;
        check(&report, Some(PAYMENTS), gate, "ms of at most 40", next);
        strict.close().await;
        let strict = coordinator(&world, |steps| {
            (steps.source_latency_ms_max, steps.latency_percentile) = (1, 50);
        })
        .await;
        let report = refused(&strict, to).await;
        check(&report, Some(PAYMENTS), gate, "50 of 100: PostgreSQL answers within", next);
        strict.close().await;
        let generous = coordinator(&world, |steps| {
            (steps.source_latency_ms_max, steps.target_latency_ms_max) = (60_000, 60_000);
            // Of three samples a higher one is the slowest, which may be the machine's.
            steps.latency_percentile = 50;
        })
        .await;
        let taken = generous.step(to, None, &()).await.expect("nothing refuses any more");
        let told = taken.gates.results.iter().find(|result| result.name == gate).expect("it was timed");
        assert!(told.detail.contains("% slower") && told.detail.ends_with("; 3 samples"), "{}", told.detail);
        generous.close().await;
    }
}

#[tokio::test]
async fn without_a_limit_nothing_is_timed_and_no_step_is_held_up() {
    let world = World::start().await;
    world.sql(&payments(1, 10)).await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    let coordinator = coordinator(&world, |_| {}).await;
    let taken = world.step_to(&coordinator, Phase::HybridRead).await;
    assert!(taken.gates.results.iter().all(|result| !result.name.starts_with("latency")), "{taken:?}");
    coordinator.close().await;
}

const QUOTAS: &str = r#"{"AccountMaxReadCapacityUnits":80000,"AccountMaxWriteCapacityUnits":80000,
    "TableMaxReadCapacityUnits":40000,"TableMaxWriteCapacityUnits":400}"#;
/// Name of the gate of the account.
const GATE: &str = "the account's quota";

/// R50. What the account allows one table is asked for before its initial load, and no answer refuses
/// nothing.
#[tokio::test]
async fn the_quota_of_the_account_is_asked_for_before_history_is_copied() {
    let world = World::behind_proxy().await;
    world.sql(&logs(1, 20)).await;
    world.sql(&payments(1, 10)).await;
    let asks = || Rule::new(Fault::Answer(QUOTAS)).on("DescribeLimits");
    let with_budget = async |budget: Option<u64>| {
        let mut migration = world.migration();
        migration.options.backfill.write_units_per_s_max = budget;
        world.coordinator_of(migration).await
    };
    let detail = |report: &GateReport| {
        let found = report.results.iter().find(|result| result.name == GATE);
        found.map(|result| (result.passed, result.detail.clone()))
    };
    let asked = || world.proxy().seen("DescribeLimits");

    let coordinator = with_budget(None).await;
    assert_eq!(
        detail(&coordinator.prepare(&()).await.expect("prepared")),
        None,
        "there is no budget to hold"
    );
    coordinator.close().await;
    assert_eq!(asked(), 0);

    world.proxy().script(asks().always());
    let coordinator = with_budget(Some(1_000_000)).await;
    match coordinator.prepare(&()).await {
        Err(CoordinatorError::Refused(report)) => {
            check(&report, None, GATE, "may have 400 write units a second", "ask AWS for more");
        }
        other => panic!("it was not refused: {other:?}"),
    }
    coordinator.close().await;
    world.proxy().clear();
    // An emulator that knows no such call, a role that may not ask, a service that is asked too often.
    let faults =
        [None, Some(Fault::AccessDenied), Some(Fault::Code("ThrottlingException")), Some(Fault::ServerError)];
    for fault in faults {
        world.proxy().clear();
        if let Some(fault) = fault.clone() {
            world.proxy().script(Rule::new(fault).on("DescribeLimits").always());
        }
        let coordinator = with_budget(Some(1_000_000)).await;
        let (passed, said) = detail(&coordinator.prepare(&()).await.expect("prepared")).expect("it is told");
        assert!(passed && said.starts_with("not known: "), "{fault:?}: {said}");
        coordinator.close().await;
    }
    world.proxy().clear();
    let coordinator = with_budget(Some(1_000)).await;
    lockstep_tests::world::backfill(&coordinator).await;
    let before = asked();
    coordinator.prepare(&()).await.expect("prepared");
    assert_eq!(asked(), before, "history is copied, so no budget is held against a quota");
    coordinator.close().await;
}
