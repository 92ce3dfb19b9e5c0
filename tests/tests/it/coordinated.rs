//! Coordinated operations: a payment and its log become visible together, or neither does (R16).

use std::sync::Arc;

use lockstep::migration::Migration;
use lockstep::operation::{Operation, OperationOutcome};
use lockstep::store::{Delivery, ReadFrom, ReadOptions, SourceCause, WriteMode, WriteOptions};
use lockstep_core::{Error, Kind, MigratableTable, Phase, Result};
use lockstep_integration_logs::{IntegrationLog, IntegrationLogs, LogQueries, OperationLogs};
use lockstep_payments::{PaymentQueries, Payments};
use lockstep_tests::World;
use lockstep_tests::faults::{Fault, FaultKind, Gate, Rule};
use lockstep_tests::world::rows::{log_row, payment, payment_row};
use lockstep_tests::world::{CutShort, LOGS, PAYMENTS, eventually};

use crate::stage::some;
use crate::strict::{failed, strict, world};

/// Settles payment 1 and puts one more log beside the operation's own.
async fn settle(app: &Migration, status: &str) -> Result<OperationOutcome> {
    let (payments, logs) = (app.store::<Payments>(), app.store::<IntegrationLogs>());
    let (sink, status) = (Arc::new(OperationLogs::of("payments")), status.to_owned());
    let done = Operation::run(app, sink, "Settle", "op-1", async |operation| {
        let settled = operation.update(&payments, 1, |p| p.payment_status.clone_from(&status)).await?;
        settled
            .ok_or_else(|| Error::source(Kind::Invalid, "settling a payment", "there is no such payment"))?;
        operation.insert(&logs, &crate::store::row(0, "beside")).await
    });
    done.await.map(|(_, outcome)| outcome)
}

/// Types of the operation's logs, oldest first.
async fn stages(world: &World) -> Vec<String> {
    let sql = "SELECT coalesce(string_agg(log_type, ' ' ORDER BY log_id), '') FROM integration_logs
               WHERE correlation_id = 'op-1' AND log_type LIKE 'Operation%'";
    world.value::<String>(sql).await.split_whitespace().map(str::to_owned).collect()
}

async fn status(world: &World) -> String {
    world.value("SELECT payment_status FROM payments WHERE payment_id = 1").await
}

#[tokio::test]
async fn a_payment_and_its_logs_go_in_one_transaction_of_each_store() {
    let (world, app) = world(strict()).await;
    world.sql(&payment(1, 1)).await;
    let sent = world.proxy().seen("TransactWriteItems");
    let outcome = settle(&app, "Completed").await.expect("written");
    assert!(matches!(outcome.target, Delivery::Applied) && outcome.keys == 3, "{outcome:?}");
    assert_eq!(outcome.control.phase, Phase::DualWrite);
    assert_eq!(
        (stages(&world).await.join(" "), status(&world).await),
        ("OperationStart OperationSuccess".into(), "Completed".into())
    );
    assert_eq!(world.proxy().seen("TransactWriteItems") - sent, 1);
    assert_eq!(
        (world.pending(LOGS).await.len(), world.pending(PAYMENTS).await.len(), world.intents().await),
        (0, 0, 0)
    );
    world.assert_converged().await;
}

#[tokio::test]
async fn where_the_target_refuses_a_strict_operation_only_its_failure_is_seen() {
    let (world, app) = world(strict()).await;
    world.sql(&payment(1, 1)).await;
    world.proxy().script(Rule::new(Fault::Throttle).on("TransactWriteItems"));
    assert_eq!(failed(settle(&app, "Completed").await), (Kind::Throttled, false));
    assert_eq!(
        (stages(&world).await.join(" "), status(&world).await),
        ("OperationStart OperationFailure".into(), "Pending".into())
    );
    assert_eq!(world.count(LOGS).await, 2, "and nothing beside it");
    world.proxy().clear();
    world.assert_converged().await;
}

#[tokio::test]
async fn what_the_work_itself_refuses_is_rolled_back_and_logged() {
    let (world, app) = world(strict()).await;
    let error = settle(&app, "Completed").await.expect_err("there is no such payment");
    assert_eq!(error.kind, Kind::Invalid);
    assert_eq!(stages(&world).await.join(" "), "OperationStart OperationFailure");
    world.assert_converged().await;
}

#[tokio::test]
async fn where_one_item_is_newer_already_the_items_go_singly_and_the_guard_decides() {
    let (world, app) = world(strict()).await;
    world.sql(&payment(1, 1)).await;
    let sent = world.proxy().seen("TransactWriteItems");
    // The reply is lost, so the second attempt finds all of its own items there.
    world.proxy().script(Rule::new(Fault::LoseReply).on("TransactWriteItems").times(1));
    let outcome = settle(&app, "Completed").await.expect("written");
    assert!(matches!(outcome.target, Delivery::Applied), "{outcome:?}");
    assert_eq!(world.proxy().counts().injected(FaultKind::LoseReply), 1);
    assert_eq!(world.proxy().seen("TransactWriteItems") - sent, 2);
    world.assert_converged().await;
}

#[tokio::test]
async fn a_lost_operation_is_undone_in_all_its_tables() {
    let (world, app) = world(WriteOptions { strict_attempts_max: 1, ..strict() }).await;
    world.sql(&payment(1, 1)).await;
    world.relay_until_empty().await;
    let late = Gate::new();
    world
        .proxy()
        .script(Rule::new(Fault::AnswerThenApplyLate(late.clone())).on("TransactWriteItems").times(1));
    assert!(failed(settle(&app, "Completed").await).1);
    late.open();
    late.until_done(1).await;
    assert_eq!(status(&world).await, "Pending");
    assert!(!world.disagreements().await.is_empty(), "a phantom is there, and known");
    assert_eq!((world.pending(PAYMENTS).await.len(), world.pending(LOGS).await.len()), (1, 2), "I1");
    world.assert_converged().await;
}

#[tokio::test]
async fn a_best_effort_operation_is_deferred_while_the_target_is_away() {
    let (world, app) = world(WriteOptions::default()).await;
    world.sql(&payment(1, 1)).await;
    world.proxy().script(Rule::new(Fault::Unavailable));
    let outcome = settle(&app, "Completed").await.expect("PostgreSQL decides");
    assert!(matches!(outcome.target, Delivery::Deferred(_)), "{outcome:?}");
    assert_eq!(stages(&world).await.len(), 2);
    world.proxy().clear();
    world.assert_converged().await;
}

/// Each turn dies at a later await, until one gets through. In PostgreSQL a success log and its payment are
/// there together.
#[tokio::test]
async fn wherever_an_operation_is_cut_short_payment_and_log_agree() {
    let (world, app) = world(strict()).await;
    world.sql(&payment(1, 1)).await;
    let mut polls = 0;
    loop {
        polls += 1;
        assert!(polls < 200, "an operation takes fewer than 200 awaits");
        if let Some(outcome) = CutShort::after(polls, settle(&app, &format!("at {polls}"))).await {
            outcome.expect("written");
            break;
        }
        // A rollback may still be on its way.
        eventually("the cut one is over", || async {
            let open = "SELECT NOT EXISTS (SELECT 1 FROM pg_stat_activity
                        WHERE datname = current_database() AND state LIKE 'idle in transaction%')";
            world.value::<bool>(open).await
        })
        .await;
        let changed = status(&world).await != "Pending";
        let logged = stages(&world).await.contains(&"OperationSuccess".to_owned());
        assert_eq!(changed, logged, "cut short after {polls} polls");
        if polls % 6 == 0 {
            world.assert_converged().await;
        }
    }
    assert_eq!(status(&world).await, format!("at {polls}"), "I7");
    world.assert_converged().await;
}

/// Both rows as this application sees them, and who answered.
async fn seen(app: &Migration) -> [(Option<String>, ReadFrom); 2] {
    let (payments, logs) = (app.store::<Payments>(), app.store::<IntegrationLogs>());
    let payment = payments.get_marked(&Payments::key(&payment_row(1, 1, ""))).await.expect("read");
    let log = logs.get_marked(&IntegrationLogs::key(&log_row(1, ""))).await.expect("read");
    [
        (payment.value.and_then(|p| p.transaction_reference), payment.from),
        (log.value.and_then(|log| log.user_id), log.from),
    ]
}

/// Read your writes over two tables: what an operation could not bring to the target is read from the source,
/// in both.
#[tokio::test]
async fn after_a_deferred_operation_its_own_application_sees_all_of_it_in_both_tables() {
    let world = World::behind_proxy().await;
    world.migrated_to(Phase::HybridRead).await.close().await;
    let best_effort = WriteOptions { hybrid_read: WriteMode::BestEffort, ..WriteOptions::default() };
    let (app, other) = (world.app(best_effort.clone()), world.app(best_effort));
    let patient = ReadOptions { max_staleness_ms: 60_000, standing_poll_ms: 10, ..ReadOptions::default() };
    for app in [&app, &other] {
        app.store::<Payments>().reads().configure(&patient);
        app.store::<IntegrationLogs>().reads().configure(&patient);
    }
    let write = async |text: &'static str| {
        let (payments, logs) = (app.store::<Payments>(), app.store::<IntegrationLogs>());
        let sink = Arc::new(OperationLogs::of("payments"));
        let done = Operation::run(&app, sink, "Write", "op-1", async |operation| {
            operation.put(&payments, &payment_row(1, 1, text)).await?;
            operation.put(&logs, &log_row(1, text)).await
        });
        done.await.expect("PostgreSQL decides").1.target
    };
    let both = |text: &str, from| [(Some(text.to_owned()), from), (Some(text.to_owned()), from)];
    assert!(matches!(write("first").await, Delivery::Applied));
    assert_eq!(seen(&app).await, both("first", ReadFrom::Target));

    world.proxy().script(Rule::new(Fault::Unavailable).on("TransactWriteItems"));
    assert!(matches!(write("second").await, Delivery::Deferred(_)));
    let deferred = ReadFrom::Source(SourceCause::Deferred);
    assert_eq!(seen(&app).await, both("second", deferred));
    assert_eq!(
        seen(&other).await,
        both("first", ReadFrom::Target),
        "another may read what is within the bound"
    );
    let of_customer =
        app.store::<Payments>().by_customer(1, ..).page(some(10), None).await.expect("answered");
    let of_operation =
        app.store::<IntegrationLogs>().by_correlation("op-1").page(some(10), None).await.expect("answered");
    assert_eq!((of_customer.from, of_operation.from), (deferred, deferred), "a query may have any key in it");

    world.proxy().clear();
    world.relay_until_empty().await;
    eventually("both keys leave the set", || async { seen(&app).await == both("second", ReadFrom::Target) })
        .await;
    world.assert_converged().await;
}

/// Items of more than 4 MB, too much for one transaction of DynamoDB, go as single puts, each under its
/// guard. Sent together they were refused at every try: in HybridRead the operation failed each time.
#[tokio::test]
async fn an_operation_above_four_megabytes_is_written_and_one_below_goes_together() {
    let (world, strict_app) = world(WriteOptions { inline_timeout_ms: 60_000, ..strict() }).await;
    let best_effort = world.app(WriteOptions { inline_timeout_ms: 60_000, ..WriteOptions::default() });
    world.proxy().script(Rule::new(Fault::LargeTransactions(4 * 1024 * 1024)));
    for app in [&strict_app, &best_effort] {
        for (rows, together) in [(2, 1), (11, 0)] {
            let before = world.proxy().seen("TransactWriteItems");
            let (logs, sink) = (app.store::<IntegrationLogs>(), Arc::new(OperationLogs::of("logs")));
            let done = Operation::run(app, sink, "Keep", "op-1", async |operation| {
                for id in 10_001..=10_000 + rows {
                    let large = Some("x".repeat(390_000));
                    operation
                        .put(&logs, &IntegrationLog { error_message: large, ..log_row(id, "u") })
                        .await?;
                }
                Ok(())
            });
            let (_, outcome) = done.await.expect("written");
            assert!(matches!(outcome.target, Delivery::Applied), "{rows} rows: {outcome:?}");
            assert_eq!(world.proxy().seen("TransactWriteItems") - before, together, "{rows} rows");
        }
    }
    assert_eq!(world.intents().await, 0);
    eventually("what was delivered is no longer pending", || async { world.pending(LOGS).await.is_empty() })
        .await;
    world.assert_converged().await;
}
