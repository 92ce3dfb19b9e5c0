//! A process that is configured for some of the migration's tables, and one that is configured for some of
//! their days: neither moves, ends or mends what is one for all.

use std::time::Duration;

use lockstep::migration::Migration as Application;
use lockstep_coordinator::{CoordinatorError, MigrationContext, repair_state};
use lockstep_core::{Kind, Phase};
use lockstep_payments::Payments;
use lockstep_tests::World;
use lockstep_tests::world::rows::{logs, payment_row, payments};
use lockstep_validator::{CancellationToken, ValidateOptions};

/// Makes a process whose configuration leaves the payments out.
fn of_logs_only(world: &World) -> MigrationContext {
    MigrationContext { tables: vec![world.logs_table()], ..world.migration() }
}

#[track_caller]
fn refused<T: std::fmt::Debug>(ended: Result<T, CoordinatorError>) {
    match ended {
        Err(CoordinatorError::Store(error)) if error.kind == Kind::Misconfigured => {
            assert!(error.to_string().contains("the migration has payments too"), "{error}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_process_that_leaves_a_table_out_moves_no_truth_back_and_mends_no_state() {
    let world = World::start().await;
    world.sql(&format!("{}; {}", logs(1, 10), payments(1, 10))).await;
    world.migrated_to(Phase::DynamoOnly).await.close().await;
    let app =
        Application::connect(world.production(world.url(), Duration::from_secs(5))).await.expect("connects");
    app.store::<Payments>().put(&payment_row(11, 1, "acknowledged")).await.expect("written");
    // No feed of that process knows of the payment.
    let coordinator = world.coordinator_of(of_logs_only(&world)).await;
    let moved = coordinator.step(Phase::HybridRead, None, &()).await;
    coordinator.close().await;
    let in_source: i64 = world.value("SELECT count(*) FROM payments WHERE payment_id = 11").await;
    let phase = world.source.control().await.expect("a phase").phase;
    assert!(
        phase == Phase::DynamoOnly || in_source == 1,
        "I7: PostgreSQL is the truth, without a payment that was acknowledged"
    );
    refused(moved);
    let (migration, cancel) = (of_logs_only(&world), CancellationToken::new());
    refused(repair_state(&migration, &ValidateOptions::default(), &(), &cancel).await);
    app.shutdown().await;
}
