//! DynamoOnly: the same calls, the same answers, and PostgreSQL down.

use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use lockstep::migration::Migration;
use lockstep::operation::Operation;
use lockstep::store::{Delivery, Selection, WriteOutcome};
use lockstep_core::{Kind, MigratableTable, Phase, is_tombstone, version_of};
use lockstep_integration_logs::{IntegrationLogs, LogQueries, OperationLogs};
use lockstep_payments::{Payment, PaymentQueries, Payments};
use lockstep_tests::World;
use lockstep_tests::faults::{Fault, FaultKind, Gate, Rule};
use lockstep_tests::rights::{Asked, asked, refused};
use lockstep_tests::world::rows::{logs, payment_key, payments};
use lockstep_tests::world::{LOGS, PAYMENTS, eventually};

use crate::rights::printed;
use crate::stage::at;

const LEASE: Duration = Duration::from_secs(10);
const CONTROL: &str = "lockstep_control";

async fn stage() -> (World, Migration) {
    let world =
        World::behind_proxy().await.dynamo_only(&format!("{}; {}", logs(1, 20), payments(1, 20))).await;
    world.proxy().record(100_000);
    let app = world.app_without_source(LEASE).await;
    (world, app)
}

fn row(payment_id: i64, customer_id: i64) -> Payment {
    let date = at("2099-03-04T05:06:07.000008Z");
    Payment {
        payment_id,
        customer_id,
        loan_id: 3,
        payment_amount: lockstep_core::Scaled::new(rust_decimal::Decimal::new(1050, 2)).expect("fits"),
        currency: "EUR".to_owned(),
        payment_date: date,
        payment_method: "Card".to_owned(),
        payment_status: "Pending".to_owned(),
        transaction_reference: None,
        processed_date: None,
        created_date: date,
        updated_date: None,
    }
}

#[track_caller]
fn applied<R: std::fmt::Debug>(outcome: &WriteOutcome<R>) {
    let there = matches!(outcome.target, Delivery::Applied) && outcome.found;
    assert!(there && outcome.control.phase == Phase::DynamoOnly, "{outcome:?}");
}

async fn all<T: MigratableTable>(selection: Selection<T>) -> Vec<T::Row> {
    selection.stream().try_collect().await.expect("read")
}

/// The live rows of an id, wherever they are.
async fn living(world: &World, payment_id: i64) -> Vec<Payment> {
    let items = world.items(PAYMENTS).await;
    let rows = items
        .iter()
        .filter(|item| !is_tombstone(item))
        .map(|item| Payments::decode(item).expect("a payment"));
    rows.filter(|row| row.payment_id == payment_id).collect()
}

#[tokio::test]
async fn every_call_works_with_postgres_down() {
    let (world, app) = stage().await;
    let (payments, logs) = (app.store::<Payments>(), app.store::<IntegrationLogs>());
    let epoch = world.control().record().await.expect("read").expect("a record").epoch;

    let swapped = Payments::update_status(&payments, 1, "Pending", "Completed").await.expect("written");
    assert!(swapped.is_changed());
    let swapped = Payments::update_status(&payments, 1, "Pending", "Failed").await.expect("read");
    assert!(!swapped.is_changed());
    let item = world.live_at(&world.payments_table(), &payment_key(1, 2)).await;
    assert_eq!(version_of(&item).expect("a version").0, epoch.floor() + 1);

    let inserted = payments.insert(&row(0, 7)).await.expect("written");
    applied(&inserted);
    let id = inserted.row.expect("the row with its key").payment_id;
    assert_eq!(id, 21, "above what PostgreSQL had");
    applied(&payments.update(id, |p| p.payment_status = "Processing".to_owned()).await.expect("written"));
    let found = payments.by_id(id).await.expect("read").expect("a row");
    assert_eq!(found.payment_status, "Processing");
    assert_eq!(payments.get(&Payments::key(&found)).await.expect("read"), Some(found.clone()));

    applied(
        &payments
            .put(&Payment { payment_status: "Refunded".to_owned(), ..found.clone() })
            .await
            .expect("written"),
    );
    applied(&payments.delete(id).await.expect("written"));
    assert!(!payments.delete(id).await.expect("nothing to delete").found);
    assert!(!payments.update(id, |_| panic!("nothing to change")).await.expect("nothing to change").found);
    assert_eq!(payments.get(&Payments::key(&found)).await.expect("read"), None);
    applied(&payments.put(&found).await.expect("it may come back"));

    let batch: Vec<_> = (0..30).map(|n| crate::store::row(1_000 + n, "batch")).collect();
    for outcome in logs.put_batch(&batch).await {
        applied(&outcome.expect("written"));
    }
    let twice = [crate::store::row(2_000, "first"), crate::store::row(2_000, "second")];
    logs.put_batch(&twice).await.into_iter().for_each(|outcome| applied(&outcome.expect("written")));
    assert_eq!(logs.by_id(2_000).await.expect("read").expect("a row").user_id.as_deref(), Some("second"));

    assert!(logs.by_id(5).await.expect("read").is_some());
    assert_eq!(all(payments.by_customer(7, ..)).await.len(), 2);
    assert_eq!(all(payments.by_loan(3)).await.len(), 2);
    assert_eq!(all(payments.by_status("Completed", ..)).await.len(), 1);
    assert_eq!(all(payments.by_method("Card", ..)).await.len(), 21);
    assert_eq!(all(logs.by_correlation("op-1")).await.len(), 10);
    assert_eq!((payments.reads().counts().by_source(), logs.reads().counts().by_source()), (0, 0));
    app.shutdown().await;
    // R51. What it asks for before DynamoOnly is held against the same policy in `roles`.
    let asked = asked(&world.proxy().recorded());
    let policy = printed(&world, "application").await;
    assert_eq!(refused(&policy, &asked), Vec::<Asked>::new(), "an application may not do what it does");
}

#[tokio::test]
async fn of_many_who_expect_the_same_state_one_changes_it_and_no_update_is_lost() {
    let (world, app) = stage().await;
    let payments = app.store::<Payments>();
    let races = (0..8).map(|_| Payments::update_status(&payments, 1, "Pending", "Completed"));
    let won = futures::future::join_all(races)
        .await
        .into_iter()
        .filter(|s| s.as_ref().expect("settled").is_changed())
        .count();
    assert_eq!(won, 1);
    let amount = async || living(&world, 2).await[0].loan_id;
    let before = amount().await;
    let adding = (0..12).map(|_| payments.update(2, |p| p.loan_id += 1));
    let added = futures::future::join_all(adding).await.into_iter().filter(|outcome| outcome.is_ok()).count();
    assert_eq!(
        amount().await,
        before + i64::try_from(added).expect("few"),
        "I7: acknowledged, each of them and no more"
    );
    assert!(app.write_counts().target_races_lost > 0 && added > 1, "{:?}", app.write_counts());
}

#[tokio::test]
async fn a_row_that_moves_leaves_a_tombstone_and_is_found_where_the_index_is_silent() {
    let (world, app) = stage().await;
    let payments = app.store::<Payments>();
    applied(&payments.update(1, |p| p.customer_id = 99).await.expect("moved"));
    world.tombstone_at(&world.payments_table(), &payment_key(1, 2)).await;
    assert_eq!(living(&world, 1).await.len(), 1);
    let id = payments.insert(&row(0, 7)).await.expect("written").row.expect("a row").payment_id;
    // The index is eventually consistent: as good as away.
    world.proxy().script(Rule::new(Fault::AccessDenied).on("Query"));
    applied(&payments.update(id, |p| p.customer_id = 8).await.expect("found by its place"));
    applied(&payments.update(1, |p| p.customer_id = 2).await.expect("back where it was, over its tombstone"));
    world.proxy().clear();
    assert_eq!((living(&world, id).await[0].customer_id, living(&world, 1).await[0].customer_id), (8, 2));
    let renamed = payments.update(1, |p| p.payment_id = 77).await.expect_err("another row");
    assert_eq!(renamed.kind, Kind::Invalid);
}

/// 1. Two put the same id under two target keys. 2. Neither sees the other's row. 3. There must not be two
///    rows.
#[tokio::test]
async fn two_puts_of_one_id_under_two_keys_make_one_row() {
    let (world, app) = stage().await;
    let payments = app.store::<Payments>();
    for id in 100..108 {
        let (a, b, c) = (row(id, 1), row(id, 2), row(id, 3));
        let put = futures::future::join3(payments.put(&a), payments.put(&b), payments.put(&c)).await;
        [put.0, put.1, put.2].iter().for_each(|outcome| applied(outcome.as_ref().expect("written")));
        assert_eq!(living(&world, id).await.len(), 1, "rows of id {id}");
    }
    // And where one is an update that moves it while the other deletes it.
    for id in 100..108 {
        let (moved, deleted) = (payments.update(id, |p| p.customer_id = 50), payments.delete(id));
        let (moved, deleted) = futures::future::join(moved, deleted).await;
        assert!(deleted.expect("written").found);
        moved.expect("moved before, or not found after");
        assert_eq!(living(&world, id).await.len(), 0, "rows of id {id}");
    }
}

#[tokio::test]
async fn a_lost_reply_is_told_right_and_nothing_happens_twice() {
    let (world, app) = stage().await;
    let payments = app.store::<Payments>();
    let version = async || {
        version_of(&world.live_at(&world.payments_table(), &payment_key(1, 2)).await).expect("a version").0
    };
    world.proxy().script(Rule::new(Fault::LoseReply).on("PutItem").table(PAYMENTS).times(1));
    assert!(
        Payments::update_status(&payments, 1, "Pending", "Processing").await.expect("looked up").is_changed()
    );
    let first = version().await;
    assert_eq!(app.write_counts().target_looked_up, 1);

    // Cut off before it arrives, it arrives after the second try.
    let gate = Gate::new();
    world
        .proxy()
        .script(Rule::new(Fault::AnswerThenApplyLate(gate.clone())).on("PutItem").table(PAYMENTS).times(1));
    assert!(
        Payments::update_status(&payments, 1, "Processing", "Completed")
            .await
            .expect("sent again")
            .is_changed()
    );
    let second = version().await;
    gate.open();
    gate.until_done(1).await;
    assert_eq!((second, version().await), (first + 1, second), "the late one changed nothing");

    // A transaction, and its answer.
    let lost = world.proxy().counts().injected(FaultKind::LoseReply);
    world.proxy().script(Rule::new(Fault::LoseReply).on("TransactWriteItems").times(1));
    let inserted = payments.insert(&row(0, 7)).await.expect("looked up");
    assert_eq!(living(&world, inserted.row.expect("a row").payment_id).await.len(), 1);
    assert_eq!(all(payments.by_customer(7, ..)).await.len(), 2, "and no second one");
    assert_eq!(world.proxy().counts().injected(FaultKind::LoseReply), lost + 1);
}

#[tokio::test]
async fn where_neither_store_can_say_the_answer_is_unknown() {
    let (world, app) = stage().await;
    let payments = app.store::<Payments>();
    world.proxy().script(Rule::new(Fault::LoseReply).on("PutItem").table(PAYMENTS).times(1));
    world.proxy().script(Rule::new(Fault::Unavailable).on("PutItem").table(PAYMENTS));
    world.proxy().script(Rule::new(Fault::Unavailable).on("GetItem").table(PAYMENTS).after(1));
    let error = payments.update(1, |p| p.loan_id = 9).await.expect_err("no answer at all");
    assert_eq!(error.kind, Kind::Unknown, "I8: {error}");
    assert_eq!(app.write_counts().unknown, 1);
    world.proxy().clear();
    world.proxy().script(Rule::new(Fault::Throttle).on("PutItem").table(PAYMENTS));
    let error =
        payments.update(1, |p| p.loan_id = 10).await.expect_err("throttled for as long as it was tried");
    assert!(matches!(error.kind, Kind::Throttled | Kind::Unavailable), "{error}");
    assert_eq!(living(&world, 1).await[0].loan_id, 9);
}

async fn pay(app: &Migration, rows: i64) -> lockstep_core::Result<usize> {
    let payments = app.store::<Payments>();
    let sink = Arc::new(OperationLogs::of("payments"));
    let done = Operation::run(app, sink, "Pay", "op-pay", async |operation| {
        for _ in 0..rows {
            operation.insert(&payments, &row(0, 40)).await?;
        }
        operation.update(&payments, 1, |p| p.payment_status = "Processing".to_owned()).await?;
        operation.update(&payments, 1, |p| p.customer_id = 41).await.map(drop)
    });
    done.await.map(|(_, outcome)| outcome.keys)
}

async fn stages(app: &Migration) -> Vec<String> {
    let mut logs = all(app.store::<IntegrationLogs>().by_correlation("op-pay")).await;
    logs.sort_by_key(|log| log.log_id);
    logs.into_iter().map(|log| log.log_type).collect()
}

#[tokio::test]
async fn an_operation_is_one_transaction_of_the_target() {
    let (world, app) = stage().await;
    let before = world.proxy().seen("TransactWriteItems");
    world.proxy().script(Rule::new(Fault::LoseReply).on("TransactWriteItems").after(1).times(1));
    assert_eq!(pay(&app, 2).await.expect("written"), 4, "two payments, one changed twice, one log");
    // The log of the start; the operation; its lost answer is looked up in the items.
    assert_eq!(world.proxy().seen("TransactWriteItems") - before, 2);
    assert_eq!(stages(&app).await, ["OperationStart", "OperationSuccess"]);
    let changed = &living(&world, 1).await[0];
    assert_eq!((changed.customer_id, changed.payment_status.as_str()), (41, "Processing"));
    assert_eq!(all(app.store::<Payments>().by_customer(40, ..)).await.len(), 2);
}

#[tokio::test]
async fn an_operation_that_cannot_be_one_transaction_writes_nothing_and_says_why() {
    let (world, app) = stage().await;
    let error = pay(&app, 60).await.expect_err("two items each");
    assert!(error.kind == Kind::Invalid && error.message.contains("100 items"), "{error}");
    assert_eq!(living(&world, 1).await[0].payment_status, "Pending");
    assert_eq!(stages(&app).await, ["OperationStart", "OperationFailure"]);

    let (payments, sink) = (app.store::<Payments>(), Arc::new(OperationLogs::of("payments")));
    let raced = Operation::run(&app, sink, "Pay", "op-raced", async |operation| {
        operation.update(&payments, 2, |p| p.loan_id = 1).await?;
        payments.update(2, |p| p.loan_id = 2).await?;
        operation.insert(&payments, &row(0, 40)).await.map(drop)
    });
    assert_eq!(raced.await.expect_err("its row was changed").kind, Kind::Busy);
    assert_eq!(living(&world, 2).await[0].loan_id, 2);
    assert_eq!(all(app.store::<Payments>().by_customer(40, ..)).await.len(), 0, "neither was put");
}

/// 1. An operation is shown a row. 2. Another writer changes it before the operation has changed it. 3. Had
/// the operation read it again to replace it, it would replace what 2 wrote, which it was never shown.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operation_replaces_the_very_row_that_it_was_shown() {
    let (world, app) = stage().await;
    let (payments, sink) = (app.store::<Payments>(), Arc::new(OperationLogs::of("payments")));
    let customer = living(&world, 2).await[0].customer_id;
    let raced = Operation::run(&app, sink, "Pay", "op-shown", async |operation| {
        let change = |shown: &mut Payment| {
            let other = payments.update(2, |p| p.loan_id = 77);
            let handle = tokio::runtime::Handle::current();
            applied(&tokio::task::block_in_place(|| handle.block_on(other)).expect("written"));
            shown.customer_id = 41;
        };
        operation.update(&payments, 2, change).await.map(drop)
    });
    assert_eq!(raced.await.expect_err("its row was changed").kind, Kind::Busy);
    let there = &living(&world, 2).await[0];
    assert_eq!((there.loan_id, there.customer_id), (77, customer), "the acknowledged write is there");
}

#[tokio::test]
async fn a_handle_without_an_instance_follows_the_truth_as_well() {
    let world = World::start().await.dynamo_only(&payments(1, 3)).await;
    let payments = world.payment_store();
    applied(&payments.update(1, |p| p.loan_id = 9).await.expect("written"));
    let back = world.truth_in_source().await;
    eventually("it has noticed", || async {
        payments.get_marked(&Payments::key(&row(1, 2))).await.expect("read");
        payments.writer().phase().current().await.is_ok_and(|control| control.epoch == back)
    })
    .await;
    let outcome = payments.update(2, |p| p.loan_id = 9).await.expect("written");
    assert_eq!(outcome.control.phase, Phase::HybridRead);
    assert_eq!(world.pending(LOGS).await.len(), 0);
}

/// The validator and the checks of the reverse feed see rows, not who wrote them.
#[tokio::test]
async fn what_lockstep_adds_to_an_item_is_no_difference() {
    let world = World::start().await.dynamo_only(&payments(1, 3)).await;
    let payments = world.payment_store();
    for id in 1..=3 {
        applied(&payments.update(id, |_| ()).await.expect("written as it was"));
    }
    let report = world.validate().await;
    assert!(report.verdict.is_consistent(), "{report:#?}");
    assert_eq!(
        world.items(CONTROL).await.len(),
        1 + 1 + 2 + 2,
        "the claim, the record, two counters and the types of two tables: no row has moved"
    );
}

#[tokio::test]
async fn an_application_answers_from_no_table_that_was_made_again_under_it() {
    let world = World::start().await.dynamo_only(&payments(1, 3)).await;
    let app = world.app_without_source(Duration::from_secs(3)).await;
    let store = app.store::<Payments>();
    let key = Payments::key(&living(&world, 1).await[0]);
    assert!(store.get(&key).await.expect("read").is_some());
    let renewals = async || world.control().instances().await.expect("listed")[0].renewals;
    let before = renewals().await;
    // The next one may have begun before the table was opened; the one after it has looked at the table.
    eventually("it has renewed", || async { renewals().await > before + 1 }).await;
    let (binding, backup) = (world.payments_table(), world.back_up_table(&world.payments_table()).await);
    world.drop_table(&binding).await;
    let (target, schema) = (&world.plain_target, binding.table.target());
    target.create(&binding.target_name, &schema, binding.table.expires()).await.expect("created");
    eventually("it answers no more", || async {
        store.get(&key).await.is_err_and(|error| error.kind == Kind::Fenced)
    })
    .await;
    let none = world.control().instances().await.expect("listed").is_empty();
    assert!(none, "no step waits for it");
    world.restore_table(&binding, &backup).await;
    eventually("it answers again", || async { store.get(&key).await.is_ok_and(|row| row.is_some()) }).await;
    app.shutdown().await;
}

/// 1. Something between repeats a request whose answer it lost. 2. The second one is refused, as the first
/// was applied. 3. That was taken for a race that was lost, and the function was called on its own result.
#[tokio::test]
async fn a_write_that_a_mesh_repeats_is_done_once() {
    let (world, app) = stage().await;
    let (logs, payments) = (app.store::<IntegrationLogs>(), app.store::<Payments>());
    let log = logs.insert(&crate::store::row(0, "one")).await.expect("written").row.expect("a row");
    logs.update(log.log_id, |log| log.processing_time_ms = Some(1)).await.expect("written");
    for operation in ["PutItem", "TransactWriteItems"] {
        world.proxy().script(Rule::new(Fault::Repeated).on(operation));
    }
    let before = world.proxy().counts().injected(FaultKind::Repeated);
    for _ in 0..3 {
        let changed = logs
            .update(log.log_id, |log| log.processing_time_ms = log.processing_time_ms.map(|ms| ms + 1))
            .await
            .expect("written");
        assert!(changed.found);
    }
    let inserted = logs.insert(&crate::store::row(0, "two")).await.expect("written").row.expect("a row");
    let paid = payments.insert(&row(0, 7)).await.expect("written").row.expect("a row");
    assert!(world.proxy().counts().injected(FaultKind::Repeated) >= before + 5);
    world.proxy().clear();
    let read = logs.get(&IntegrationLogs::key(&log)).await.expect("read").expect("a row");
    assert_eq!(read.processing_time_ms, Some(4), "each was done once");
    let live = world.items(LOGS).await.into_iter().filter(|item| !is_tombstone(item)).count();
    assert_eq!(live, 20 + 2, "{} was inserted once", inserted.log_id);
    let live = world.items(PAYMENTS).await.into_iter().filter(|item| !is_tombstone(item)).count();
    assert_eq!(live, 20 + 1, "{} was inserted once", paid.payment_id);
}

/// 1. Something between repeats a request whose answer it lost, after a while. 2. The first one was applied,
/// and others have written since. 3. The item names too many of them, or cannot be read: a function that adds
/// one was called again, on its own result, and the caller heard that all was well.
#[tokio::test]
async fn a_write_that_is_repeated_late_is_done_once_or_told_as_unknown() {
    let (world, app) = stage().await;
    let payments = app.store::<Payments>();
    // A payment of its own for each: how many write meanwhile, and whether the end can be told.
    for (payment_id, others, is_told) in [(1, 4, true), (2, 7, true), (3, 8, false), (4, 10, false)] {
        let before = living(&world, payment_id).await[0].loan_id;
        let gate = Gate::new();
        world
            .proxy()
            .script(Rule::new(Fault::RepeatedLate(gate.clone())).on("PutItem").table(PAYMENTS).times(1));
        let adding = payments.update(payment_id, |p| p.loan_id += 1);
        let meanwhile = async {
            gate.until_held(1).await;
            for n in 0..others {
                let note = Some(format!("other {n}"));
                payments
                    .update(payment_id, |p| p.transaction_reference = note.clone())
                    .await
                    .expect("written");
            }
            gate.open();
        };
        let (added, ()) = tokio::join!(adding, meanwhile);
        match added {
            Ok(_) => assert!(is_told, "{others} others"),
            Err(error) => assert!(error.kind == Kind::Unknown && !is_told, "{others} others: {error}"),
        }
        let now = &living(&world, payment_id).await[0];
        assert_eq!(now.loan_id, before + 1, "{others} others: done once");
        assert_eq!(now.transaction_reference, Some(format!("other {}", others - 1)), "nothing was undone");
        world.proxy().clear();
    }
    // The reading of what became of it: put off once, and kept waiting until the call has no time left, and
    // beyond it.
    let gate = Gate::new();
    for (payment_id, fault, is_told) in
        [(5, Fault::Throttle, true), (6, Fault::ServerError, true), (7, Fault::Delay(gate.clone()), false)]
    {
        let before = living(&world, payment_id).await[0].loan_id;
        world.proxy().script(Rule::new(Fault::Repeated).on("PutItem").table(PAYMENTS).times(1));
        let times = if is_told { 1 } else { u64::MAX };
        world.proxy().script(Rule::new(fault).on("GetItem").table(PAYMENTS).after(1).times(times));
        let added = payments.update(payment_id, |p| p.loan_id += 1).await;
        match added {
            Ok(_) => assert!(is_told, "{payment_id}"),
            Err(error) => assert!(error.kind == Kind::Unknown && !is_told, "{payment_id}: {error}"),
        }
        world.proxy().clear();
        assert_eq!(living(&world, payment_id).await[0].loan_id, before + 1, "{payment_id}: done once");
    }
    gate.open();
    app.shutdown().await;
}

/// 1. A mesh sends a write, which is applied, and loses the answer. 2. It sends it again, and is throttled,
/// or refused by something else; so are our own repetitions, until the call has no time left. 3. The caller
/// hears that nothing was done, and adds one once more.
#[tokio::test]
async fn a_write_that_was_applied_is_not_told_as_undone_by_the_answers_to_its_repetitions() {
    let (world, app) = stage().await;
    let payments = app.store::<Payments>();
    let gate = Gate::new();
    let faults = [
        (Fault::Throttle, None, true),
        (Fault::ExpiredToken, None, true),
        (Fault::AccessDenied, None, true),
        (Fault::Unavailable, None, true),
        // It cannot be read what became of it.
        (Fault::Throttle, Some(Fault::AccessDenied), false),
        (Fault::Throttle, Some(Fault::Delay(gate.clone())), false),
    ];
    for (payment_id, (then, looked, is_told)) in (1..).zip(faults) {
        let before = living(&world, payment_id).await[0].loan_id;
        world.proxy().script(Rule::new(Fault::ThrottleAfter).on("PutItem").table(PAYMENTS).times(1));
        world.proxy().script(Rule::new(then.clone()).on("PutItem").table(PAYMENTS));
        if let Some(looked) = looked {
            world.proxy().script(Rule::new(looked).on("GetItem").table(PAYMENTS).after(1));
        }
        match payments.update(payment_id, |p| p.loan_id += 1).await {
            Ok(_) => assert!(is_told, "{then:?}"),
            Err(error) => assert!(error.kind == Kind::Unknown && !is_told, "{then:?}: {error}"),
        }
        world.proxy().clear();
        assert_eq!(living(&world, payment_id).await[0].loan_id, before + 1, "{then:?}: done once");
    }
    gate.open();
    // Several together: the log of the start goes before them.
    let together = |fault| Rule::new(fault).on("TransactWriteItems").after(1);
    world.proxy().script(together(Fault::ThrottleAfter).times(1));
    world.proxy().script(together(Fault::Throttle));
    assert_eq!(pay(&app, 2).await.expect("it was applied"), 4);
    world.proxy().clear();
    assert_eq!(all(payments.by_customer(40, ..)).await.len(), 2);
    // Throttled and never applied, nothing was done, and that is said.
    let before = living(&world, 20).await[0].loan_id;
    world.proxy().script(Rule::new(Fault::Throttle).on("PutItem").table(PAYMENTS));
    let error = payments.update(20, |p| p.loan_id += 1).await.expect_err("throttled to the end");
    assert!(matches!(error.kind, Kind::Throttled | Kind::Unavailable), "{error}");
    world.proxy().clear();
    assert_eq!(living(&world, 20).await[0].loan_id, before);
    app.shutdown().await;
}
