//! A target that takes every request and answers none: it is waited for once, and not once a table or once a
//! check, and the way back to PostgreSQL does not depend on it.

use std::time::{Duration, Instant};

use lockstep_coordinator::{examine, observe};
use lockstep_core::Phase;
use lockstep_tests::faults::{Fault, Gate, Rule};
use lockstep_tests::world::rows::{logs, payments};
use lockstep_tests::{World, WorldOptions};

/// 1. DynamoDB hangs in HybridRead, and fifty tables move. 2. `doctor` waited for each of its questions, one
/// after the other, and said nothing for minutes. 3. `rollback` asked each table for its history, and set a
/// mark in each, and did not end within an hour.
#[tokio::test]
async fn a_target_that_hangs_is_waited_for_once_and_keeps_no_operator_from_going_back() {
    let world = World::with(WorldOptions {
        proxied: true,
        request_timeout: Duration::from_secs(2),
        ..WorldOptions::default()
    })
    .await;
    world.sql(&format!("{}; {}", logs(1, 5), payments(1, 5))).await;
    let coordinator = world.migrated_to(Phase::HybridRead).await;
    let gate = Gate::new();
    let asked = || world.proxy().counts().seen_in_all();

    world.proxy().script(Rule::new(Fault::Delay(gate.clone())));
    let (before, begun) = (asked(), Instant::now());
    let seen = observe(&world.source, &world.target, &world.tables()).await.expect("PostgreSQL answers");
    // It is tried once more within the time.
    assert!(asked() - before <= 2, "{} questions: the first says that it is silent", asked() - before);
    let diagnosis = examine(&seen);
    let told = diagnosis.findings.iter().filter(|finding| finding.what.contains("DynamoDB")).count();
    assert!(told >= 2 && !diagnosis.sound, "each table is told of: {:?}", diagnosis.findings);

    let before = asked();
    let step = coordinator.step(Phase::DualWrite, None, &()).await.expect("PostgreSQL is the truth");
    assert_eq!(step.phase, Phase::DualWrite);
    // The mark of each table is read at once, and one is set.
    assert!(asked() - before <= 8, "{} questions to a silent target", asked() - before);
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());

    gate.open();
    world.proxy().clear();
    coordinator.close().await;
    world.assert_converged().await;
}
