//! Many rows at once, and compare-and-set.

use lockstep::store::{Delivery, Swap, WriteOptions};
use lockstep_core::{Kind, Phase};
use lockstep_integration_logs::IntegrationLogs;
use lockstep_payments::Payments;
use lockstep_tests::World;
use lockstep_tests::faults::{Fault, Gate, Rule};
use lockstep_tests::world::rows::payment;
use lockstep_tests::world::{LOGS, PAYMENTS};

use crate::store::{applied, row};
use crate::strict::{failed, strict, world};

#[tokio::test]
async fn a_batch_has_an_outcome_for_each_row_and_defers_what_the_target_refuses() {
    let (world, app) = world(WriteOptions { batch_rows_max: 4, ..WriteOptions::default() }).await;
    let rows: Vec<_> = (1..=10).map(|id| row(id, "batch")).collect();
    world.proxy().script(Rule::new(Fault::Throttle).on("PutItem").every(5));
    let outcomes = app.store::<IntegrationLogs>().put_batch(&rows).await;
    assert_eq!(outcomes.len(), 10);
    let mut deferred = 0;
    for (row, outcome) in rows.iter().zip(outcomes) {
        let outcome = outcome.expect("PostgreSQL decides");
        assert_eq!(outcome.row.as_ref(), Some(row), "in the order of the rows");
        deferred += usize::from(matches!(outcome.target, Delivery::Deferred(_)));
    }
    app.store::<IntegrationLogs>().writer().acknowledged().await;
    assert_eq!((deferred, world.pending(LOGS).await.len()), (2, 2));
    assert_eq!(app.write_counts().committed, 3, "ten rows in three transactions");
    world.proxy().clear();
    world.assert_converged().await;
}

/// Requests of a call that inserts, and of those that put one row.
fn requests(world: &World) -> (u64, u64) {
    let counts = world.proxy().counts();
    (counts.seen("BatchExecuteStatement"), counts.seen("PutItem"))
}

#[tokio::test]
async fn the_new_rows_of_a_batch_go_in_25_by_a_request_and_those_that_are_there_by_puts() {
    let (world, app) = world(WriteOptions::default()).await;
    let logs = app.store::<IntegrationLogs>();
    let put = async |from: i64, what: &str| {
        let before = requests(&world);
        let rows: Vec<_> = (from..from + 100).map(|id| row(id, what)).collect();
        for (row, outcome) in rows.iter().zip(logs.put_batch(&rows).await) {
            let outcome = outcome.expect("PostgreSQL decides");
            assert_eq!(outcome.row.as_ref(), Some(row), "in the order of the rows");
            applied(&outcome);
        }
        let after = requests(&world);
        (after.0 - before.0, after.1 - before.1)
    };
    assert_eq!(put(1, "new").await, (4, 0), "a hundred puts otherwise");
    assert_eq!(put(1, "changed").await, (1, 100), "one goes first, and the others by what comes of it");
    assert_eq!(put(1, "again").await, (0, 100), "no more units are spent on conditions that fail");
    logs.writer().acknowledged().await;
    world.assert_converged().await;
    // Few are through as soon by puts, and a strict write has to know the end of each request.
    let before = requests(&world);
    let few_app = world.app(WriteOptions::default());
    let few: Vec<_> = (500..510).map(|id| row(id, "few")).collect();
    few_app
        .store::<IntegrationLogs>()
        .put_batch(&few)
        .await
        .into_iter()
        .for_each(|outcome| applied(&outcome.expect("written")));
    let strict_app = world.app(strict());
    let many: Vec<_> = (600..640).map(|id| row(id, "strict")).collect();
    let outcomes = strict_app.store::<IntegrationLogs>().put_batch(&many).await;
    outcomes.into_iter().for_each(|outcome| applied(&outcome.expect("written")));
    assert_eq!(requests(&world), (before.0, before.1 + 50));
    world.assert_converged().await;
}

/// Each row has an outcome of its own, as what an insert leaves open is put by itself.
#[tokio::test]
async fn a_batch_that_is_refused_throttled_or_lost_in_part_has_the_outcome_of_each_row() {
    for (n, fault) in [
        Fault::ThrottleStatements(7),
        Fault::Throttle,
        Fault::LoseReply,
        Fault::Unavailable,
        Fault::Duplicate,
        Fault::AccessDenied,
        Fault::NoPartiQl,
        Fault::CutAndClosed,
    ]
    .into_iter()
    .enumerate()
    {
        let (world, app) = world(WriteOptions::default()).await;
        let logs = app.store::<IntegrationLogs>();
        world.proxy().script(Rule::new(fault.clone()).on("BatchExecuteStatement"));
        // One of its puts is refused: that row alone is the relay's.
        world.proxy().script(Rule::new(Fault::Throttle).on("PutItem").times(1));
        let rows: Vec<_> = (1..=75).map(|id| row(id, "batch")).collect();
        let outcomes = logs.put_batch(&rows).await;
        let mut deferred = 0;
        for (row, outcome) in rows.iter().zip(outcomes) {
            let outcome = outcome.unwrap_or_else(|error| panic!("{n}: {error}"));
            assert_eq!(outcome.row.as_ref(), Some(row));
            deferred += usize::from(matches!(outcome.target, Delivery::Deferred(_)));
        }
        logs.writer().acknowledged().await;
        assert_eq!(world.pending(LOGS).await.len(), deferred, "{n}: {fault:?}");
        let all_went_in = matches!(fault, Fault::Duplicate);
        assert_eq!(deferred, usize::from(!all_went_in), "{n}: {fault:?}");
        world.proxy().clear();
        world.assert_converged().await;
    }
}

/// 1. An insert of a batch is on its way, and its sender gives up on it. 2. A row of it is deleted. 3. The
/// insert arrives: it finds the tombstone, and puts nothing over it.
#[tokio::test]
async fn an_insert_that_arrives_late_puts_no_row_that_is_deleted() {
    let (world, app) = world(WriteOptions { inline_timeout_ms: 5_000, ..WriteOptions::default() }).await;
    let logs = app.store::<IntegrationLogs>();
    let gate = Gate::new();
    let late = Rule::new(Fault::AnswerThenApplyLate(gate.clone())).on("BatchExecuteStatement");
    world.proxy().script(late.times(1));
    let rows: Vec<_> = (1..=25).map(|id| row(id, "late")).collect();
    logs.put_batch(&rows).await.into_iter().for_each(|outcome| drop(outcome.expect("committed")));
    for row in &rows[..5] {
        logs.delete(row.log_id).await.expect("deleted");
    }
    gate.until_held(1).await;
    gate.open();
    gate.until_done(1).await;
    world.assert_converged().await;
    assert_eq!(world.live_items(LOGS).await, 20);
}

#[tokio::test]
async fn one_transaction_of_a_strict_batch_fails_whole_and_the_next_is_tried() {
    let (world, app) = world(WriteOptions { batch_rows_max: 3, strict_attempts_max: 1, ..strict() }).await;
    let mut rows: Vec<_> = (1..=6).map(|id| row(id, "batch")).collect();
    // The same row twice: the later state counts.
    rows[5] = row(5, "again");
    world.proxy().script(Rule::new(Fault::Throttle).on("PutItem").times(1));
    let outcomes = app.store::<IntegrationLogs>().put_batch(&rows).await;
    for outcome in &outcomes[..3] {
        assert_eq!(outcome.as_ref().expect_err("the first transaction fails").kind, Kind::Throttled);
    }
    for outcome in &outcomes[3..] {
        applied(outcome.as_ref().expect("the second is written"));
    }
    assert_eq!(world.count(LOGS).await, 2);
    world.assert_converged().await;
    let log = app.store::<IntegrationLogs>().get_source(5).await.expect("read").expect("a row");
    assert_eq!(log.user_id.as_deref(), Some("again"));
}

#[tokio::test]
async fn a_new_row_gets_its_key_from_postgres() {
    let (world, app) = world(strict()).await;
    let store = app.store::<IntegrationLogs>();
    let first = store.insert(&row(0, "u")).await.expect("written").row.expect("the row").log_id;
    let second = store.insert(&row(0, "u")).await.expect("written").row.expect("the row").log_id;
    assert!(first > 0 && second > first);
    assert_eq!((world.count(LOGS).await, world.items(LOGS).await.len()), (2, 2));
    world.assert_converged().await;
}

#[tokio::test]
async fn of_many_who_change_the_same_status_exactly_one_does() {
    let (world, app) = world(strict()).await;
    world.sql(&payment(1, 1)).await;
    let other_mode = world.app(WriteOptions::default());
    let (settle, fail) = (app.store::<Payments>(), other_mode.store::<Payments>());
    let many = (0..12).map(|n| {
        let store = if n % 2 == 0 { settle.clone() } else { fail.clone() };
        let to = if n % 2 == 0 { "Completed" } else { "Failed" };
        async move { Payments::update_status(&store, 1, "Pending", to).await }
    });
    let mut won = Vec::new();
    for swap in futures::future::join_all(many).await {
        match swap.expect("written") {
            Swap::Changed(outcome) => {
                applied(&outcome);
                won.push(outcome.row.expect("the row").payment_status);
            }
            Swap::WasOther(actual) => assert_ne!(actual.payment_status, "Pending"),
            Swap::NotFound => panic!("it is there"),
        }
    }
    assert_eq!(won.len(), 1, "exactly one wins");
    assert_eq!(world.value::<String>("SELECT payment_status FROM payments").await, won[0]);
    assert!(matches!(Payments::update_status(&settle, 404, "Pending", "Failed").await, Ok(Swap::NotFound)));
    let unknown =
        Payments::update_status(&settle, 1, "Pending", "Vanished").await.expect_err("no such status");
    assert_eq!(unknown.kind, Kind::Invalid);
    world.assert_converged().await;
}

#[tokio::test]
async fn a_compare_and_set_that_fails_strictly_can_be_tried_again() {
    let (world, app) = world(WriteOptions { strict_attempts_max: 1, ..strict() }).await;
    let store = app.store::<Payments>();
    world.sql(&payment(1, 1)).await;
    world.proxy().script(Rule::new(Fault::LoseReply).on("PutItem").times(1));
    assert!(failed(Payments::update_status(&store, 1, "Pending", "Completed").await).1);
    assert!(Payments::update_status(&store, 1, "Pending", "Completed").await.expect("written").is_changed());
    assert_eq!(world.live_items(PAYMENTS).await, 1);
    world.assert_converged().await;
}

#[tokio::test]
async fn in_postgres_only_a_compare_and_set_works_the_same() {
    let world = World::start().await;
    world.migrated_to(Phase::PostgresOnly).await.close().await;
    world.sql(&payment(1, 1)).await;
    let store = world.payment_store();
    assert!(Payments::update_status(&store, 1, "Pending", "Completed").await.expect("written").is_changed());
    let swap = Payments::update_status(&store, 1, "Pending", "Failed").await.expect("asked");
    assert!(matches!(swap, Swap::WasOther(actual) if actual.payment_status == "Completed"));
}
