//! Strict writes: both stores or neither, whatever the target does and wherever the process dies (R15, R17).

use std::time::Duration;

use lockstep::migration::Migration;
use lockstep::store::{Delivery, WriteFailed, WriteMode, WriteOptions};
use lockstep_core::{Error, Kind, Phase, version_of};
use lockstep_integration_logs::{IntegrationLog, IntegrationLogs};
use lockstep_payments::Payments;
use lockstep_tests::World;
use lockstep_tests::faults::{Fault, FaultKind, Gate, Rule};
use lockstep_tests::world::rows::{log_key, payment};
use lockstep_tests::world::{CutShort, LOGS, PAYMENTS, WorldOptions, within};

use crate::store::{applied, deferred, row};

/// Strict in DualWrite as well, with short pauses.
pub(crate) fn strict() -> WriteOptions {
    WriteOptions {
        dual_write: WriteMode::Strict,
        retry_delay_ms: 1,
        retry_delay_ms_max: 5,
        ..WriteOptions::default()
    }
}

/// A world in DualWrite and an application in it that writes strictly.
pub(crate) async fn world(writes: WriteOptions) -> (World, Migration) {
    let world = World::behind_proxy().await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    let app = world.app(writes);
    (world, app)
}

/// A write that failed: rolled back in PostgreSQL; says whether the target may have something of it.
#[track_caller]
pub(crate) fn failed<R: std::fmt::Debug>(outcome: Result<R, Error>) -> (Kind, bool) {
    let error = outcome.expect_err("the write fails");
    let fates = WriteFailed::of(&error).unwrap_or_else(|| panic!("no word on each store: {error}"));
    assert!(matches!(fates.source, Delivery::Failed(_)), "I8: {fates}");
    assert_ne!(error.kind, Kind::Unknown, "I8: what was rolled back is not unknown");
    (error.kind, matches!(fates.target, Delivery::Unknown(_)))
}

#[tokio::test]
async fn in_hybrid_read_an_acknowledged_write_is_in_both_stores_and_leaves_nothing_open() {
    let world = World::start().await;
    world.migrated_to(Phase::HybridRead).await.close().await;
    let app = world.app(WriteOptions::default());
    let (store, table) = (app.store::<IntegrationLogs>(), world.logs_table());
    applied(&store.put(&row(1, "first")).await.expect("written"));
    let first = version_of(&world.live_at(&table, &log_key(1, "a")).await).expect("a version");
    applied(&store.update(1, |log| log.service_name = "b".to_owned()).await.expect("moved"));
    assert!(world.tombstone_at(&table, &log_key(1, "a")).await > first);
    world.live_at(&table, &log_key(1, "b")).await;
    applied(&store.delete(1).await.expect("deleted"));
    world.tombstone_at(&table, &log_key(1, "b")).await;
    assert_eq!((world.pending(LOGS).await.len(), world.intents().await), (0, 0));
    assert_eq!(app.write_counts().strict_committed, 3);
    app.shutdown().await;
    assert!(store.put(&row(1, "late")).await.is_err(), "after a shutdown nothing is written");
}

#[tokio::test]
async fn a_refused_put_is_a_clean_failure_and_nothing_is_left_of_it() {
    let (world, app) = world(strict()).await;
    let store = app.store::<IntegrationLogs>();
    world.proxy().script(Rule::new(Fault::Throttle).on("PutItem"));
    assert_eq!(failed(store.put(&row(1, "u")).await), (Kind::Throttled, false));
    assert_eq!(world.proxy().counts().injected(FaultKind::Throttle), 3, "tried as often as it may");
    assert_eq!((world.count(LOGS).await, world.items(LOGS).await.len()), (0, 0));
    // Something between may have repeated it, and what was before may land: a relay puts the truth there.
    assert_eq!((world.pending(LOGS).await.len(), world.intents().await), (1, 0));
    world.proxy().clear();
    world.relay_until_empty().await;
    // A row that no item can hold fails before anything has left.
    world.proxy().clear();
    let outcome =
        store.put(&IntegrationLog { error_message: Some("x".repeat(420_000)), ..row(2, "u") }).await;
    assert_eq!(failed(outcome), (Kind::Invalid, false));
    assert_eq!((world.count(LOGS).await, world.intents().await), (0, 0));
    let counts = app.write_counts();
    assert_eq!((counts.strict_failed, counts.phantoms_possible), (2, 0));
}

/// 1. A mesh sends a put, which is applied, and loses the answer. 2. It sends it again, and is throttled; so
/// are all other tries. 3. Nothing had left, it was said: the intents went, and the row of no commit stayed.
#[tokio::test]
async fn a_put_that_was_applied_is_not_taken_for_refused_by_the_answers_to_its_repetitions() {
    let (world, app) = world(strict()).await;
    let (store, table) = (app.store::<IntegrationLogs>(), world.logs_table());
    let then = |fault| Rule::new(fault).on("PutItem").table(LOGS);
    world.proxy().script(then(Fault::ThrottleAfter).times(1));
    world.proxy().script(then(Fault::Throttle));
    applied(&store.put(&row(1, "u")).await.expect("the target has it, and PostgreSQL commits"));
    world.proxy().clear();
    world.live_at(&table, &log_key(1, "a")).await;
    // Where its place cannot be read either, it may be there: the truth is put back over it.
    world.proxy().script(then(Fault::ThrottleAfter).times(1));
    world.proxy().script(then(Fault::Throttle));
    world.proxy().script(Rule::new(Fault::ServerError).on("GetItem").table(LOGS));
    assert_eq!(failed(store.put(&row(2, "phantom")).await), (Kind::Throttled, true));
    world.proxy().clear();
    world.relay_until_empty().await;
    world.assert_converged().await;
    assert_eq!((world.count(LOGS).await, world.intents().await), (1, 0));
}

/// 1. A mesh gives up on a put that is still under way, and repeats it. 2. The repetition is throttled, and
/// that is our answer; so is, or refused, all that we send again. 3. The item is not there when it is looked
/// for, so the write was rolled back as one of which nothing left. 4. The put lands: a row of no commit, for
/// good.
#[tokio::test]
async fn a_put_that_lands_after_the_look_has_the_truth_put_over_it() {
    for (then, kind) in [(Fault::Throttle, Kind::Throttled), (Fault::AccessDenied, Kind::Denied)] {
        let (world, app) = world(strict()).await;
        let (store, gate) = (app.store::<IntegrationLogs>(), Gate::new());
        applied(&store.put(&row(1, "true")).await.expect("written"));
        let puts = |fault| Rule::new(fault).on("PutItem").table(LOGS);
        for (id, user) in [(1, "phantom"), (2, "phantom")] {
            world.proxy().script(puts(Fault::ThrottleThenApplyLate(gate.clone())).times(1));
            world.proxy().script(puts(then.clone()));
            let (said, may_be_there) = failed(store.put(&row(id, user)).await);
            assert_eq!((said, may_be_there), (kind, false), "{then:?}: the relay puts the truth there");
            world.proxy().clear();
        }
        gate.open();
        gate.until_done(2).await;
        world.relay_until_empty().await;
        world.assert_converged().await;
        assert_eq!((world.count(LOGS).await, world.live_items(LOGS).await), (1, 1), "{then:?}");
    }
}

#[tokio::test]
async fn one_lost_reply_is_looked_up_by_repeating_the_put() {
    let (world, app) = world(strict()).await;
    world.proxy().script(Rule::new(Fault::LoseReply).on("PutItem").times(1));
    applied(&app.store::<IntegrationLogs>().put(&row(1, "u")).await.expect("written"));
    assert_eq!(world.proxy().counts().injected(FaultKind::LoseReply), 1);
    assert_eq!((world.pending(LOGS).await.len(), world.intents().await), (0, 0));
    world.assert_converged().await;
}

#[tokio::test]
async fn a_phantom_of_a_lost_put_is_overwritten_with_the_truth() {
    let (world, app) = world(strict()).await;
    let (store, table) = (app.store::<IntegrationLogs>(), world.logs_table());
    applied(&store.put(&row(2, "old image")).await.expect("written"));
    world.proxy().script(Rule::new(Fault::LoseReply).on("PutItem"));
    assert_eq!(failed(store.put(&row(1, "phantom")).await), (Kind::Unavailable, true));
    assert_eq!(
        failed(store.update(2, |log| log.service_name = "b".to_owned()).await),
        (Kind::Unavailable, true)
    );
    world.proxy().clear();
    let phantom = version_of(&world.live_at(&table, &log_key(1, "a")).await).expect("a version");
    assert_eq!(world.count(LOGS).await, 1);
    assert_eq!(
        (world.pending(LOGS).await.len(), world.intents().await),
        (3, 0),
        "I1: both keys of the move, and the new row"
    );
    world.relay_until_empty().await;
    assert!(world.tombstone_at(&table, &log_key(1, "a")).await > phantom, "I2");
    world.live_at(&table, &log_key(2, "a")).await;
    world.tombstone_at(&table, &log_key(2, "b")).await;
    world.assert_converged().await;
}

/// The repair comes first: a put that arrives after it must lose (I2).
#[tokio::test]
async fn a_put_that_arrives_long_after_its_repair_changes_nothing() {
    let (world, app) = world(WriteOptions { strict_attempts_max: 1, ..strict() }).await;
    let (store, table, late) = (app.store::<IntegrationLogs>(), world.logs_table(), Gate::new());
    applied(&store.put(&row(1, "old image")).await.expect("written"));
    world.proxy().script(Rule::new(Fault::AnswerThenApplyLate(late.clone())).on("PutItem").times(2));
    assert!(failed(store.update(1, |log| log.user_id = Some("phantom".to_owned())).await).1);
    assert!(failed(store.put(&row(2, "phantom")).await).1);
    world.relay_until_empty().await;
    let repaired =
        (world.live_at(&table, &log_key(1, "a")).await, world.tombstone_at(&table, &log_key(2, "a")).await);
    late.open();
    late.until_done(2).await;
    assert_eq!(
        (world.live_at(&table, &log_key(1, "a")).await, world.tombstone_at(&table, &log_key(2, "a")).await),
        repaired
    );
    world.assert_converged().await;
}

/// The put arrives between the rollback and the repair, and a stranger has written the row meanwhile.
#[tokio::test]
async fn a_put_that_arrives_before_its_repair_is_overwritten_and_never_hides_a_later_write() {
    let (world, app) = world(WriteOptions { strict_attempts_max: 1, ..strict() }).await;
    let (store, late) = (app.store::<IntegrationLogs>(), Gate::new());
    applied(&store.put(&row(1, "old image")).await.expect("written"));
    world.proxy().script(Rule::new(Fault::AnswerThenApplyLate(late.clone())).on("PutItem").times(1));
    assert!(failed(store.update(1, |log| log.user_id = Some("phantom".to_owned())).await).1);
    world.sql("UPDATE integration_logs SET user_id = 'stranger' WHERE log_id = 1").await;
    late.open();
    late.until_done(1).await;
    world.assert_converged().await;
}

#[tokio::test]
async fn a_slow_target_costs_no_more_than_the_inline_timeout() {
    let (world, app) = world(WriteOptions { inline_timeout_ms: 150, ..strict() }).await;
    let (store, slow) = (app.store::<IntegrationLogs>(), Gate::new());
    world.proxy().script(Rule::new(Fault::Delay(slow.clone())).on("PutItem"));
    let bound = Duration::from_secs(10);
    assert!(failed(within(bound, store.put(&row(1, "u"))).await).1, "it may arrive yet");
    assert_eq!(world.count(LOGS).await, 0);
    slow.open();
    slow.until_done(1).await;
    world.assert_converged().await;
}

#[tokio::test]
async fn where_the_settings_say_so_a_strict_write_goes_on_without_the_target() {
    let (world, app) = world(WriteOptions { continue_on_write_failure: true, ..strict() }).await;
    let store = app.store::<IntegrationLogs>();
    world.proxy().script(Rule::new(Fault::Throttle).on("PutItem"));
    assert_eq!(deferred(&store.put(&row(1, "u")).await.expect("PostgreSQL decides")), Kind::Throttled);
    world.proxy().clear();
    world.proxy().script(Rule::new(Fault::LoseReply).on("PutItem").times(3));
    assert_eq!(deferred(&store.put(&row(2, "u")).await.expect("PostgreSQL decides")), Kind::Unknown);
    assert_eq!((world.count(LOGS).await, world.pending(LOGS).await.len(), world.intents().await), (2, 2, 0));
    assert_eq!(app.write_counts().strict_continued, 2);
    world.assert_converged().await;
}

#[tokio::test]
async fn a_transaction_that_dies_between_put_and_commit_leaves_no_phantom() {
    let (world, app) = world(strict()).await;
    let (store, gate) = (app.store::<IntegrationLogs>(), Gate::new());
    applied(&store.put(&row(1, "old image")).await.expect("written"));
    world.proxy().script(Rule::new(Fault::Delay(gate.clone())).on("PutItem").times(1));
    let write =
        tokio::spawn(async move { store.update(1, |log| log.user_id = Some("phantom".to_owned())).await });
    gate.until_held(1).await;
    let killed: i64 = world
        .value(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
             WHERE datname = current_database() AND state = 'idle in transaction'",
        )
        .await;
    assert_eq!(killed, 1);
    gate.open();
    failed(write.await.expect("no panic"));
    assert_eq!(
        world.value::<String>("SELECT user_id FROM integration_logs WHERE log_id = 1").await,
        "old image"
    );
    world.assert_converged().await;
}

/// A constraint that is checked at the commit: the put has landed, and PostgreSQL refuses.
#[tokio::test]
async fn a_commit_that_postgres_refuses_is_undone_in_the_target() {
    let (world, app) = world(strict()).await;
    world.sql("ALTER TABLE integration_logs ADD CONSTRAINT one_user UNIQUE (user_id) DEFERRABLE INITIALLY DEFERRED").await;
    let store = app.store::<IntegrationLogs>();
    applied(&store.put(&row(1, "u")).await.expect("written"));
    assert_eq!(failed(store.put(&row(2, "u")).await), (Kind::Invalid, true));
    assert_eq!((world.count(LOGS).await, world.intents().await), (1, 0));
    world.assert_converged().await;
}

#[tokio::test]
async fn more_writers_than_connections_do_not_wait_for_each_other_for_ever() {
    let world = World::with(WorldOptions { connections_max: 2, ..WorldOptions::default() }).await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    let app = world.app(strict());
    let store = app.store::<IntegrationLogs>();
    let (one, writes) = (row(1, "u"), 24);
    let many = (1..=writes).map(|id| {
        let (store, log) = (store.clone(), IntegrationLog { log_id: id, ..one.clone() });
        async move { store.put(&log).await }
    });
    for outcome in within(Duration::from_mins(2), futures::future::join_all(many)).await {
        applied(&outcome.expect("written"));
    }
    assert_eq!(world.count(LOGS).await, writes);
}

/// I9, I10: wherever the process dies, what it leaves is settled without an operator's help, and nothing it
/// had acknowledged is lost. Each turn dies at a later await than the one before, until one gets through.
#[tokio::test]
async fn wherever_a_strict_write_is_cut_short_both_stores_agree_in_the_end() {
    let (world, app) = world(strict()).await;
    let store = app.store::<Payments>();
    world.sql(&payment(1, 1)).await;
    let mut through = 0;
    let mut polls = 0;
    while through < 3 {
        polls += 1;
        assert!(polls < 200, "a write takes fewer than 200 awaits");
        // Each moves the row, so that two keys are at stake.
        let change = move |p: &mut lockstep_payments::Payment| {
            p.transaction_reference = Some(polls.to_string());
            p.customer_id = 1 + (polls % 2) as i64;
        };
        let cut = CutShort::after(polls, store.update(1, change)).await;
        if let Some(outcome) = cut {
            applied(&outcome.expect("written"));
            through += 1;
            let now: String =
                world.value("SELECT transaction_reference FROM payments WHERE payment_id = 1").await;
            assert_eq!(now, polls.to_string(), "I7: acknowledged");
        }
        if polls % 5 == 0 {
            world.assert_converged().await;
        }
    }
    assert!(polls > 6, "it was cut short at several places");
    assert_eq!(world.items(PAYMENTS).await.len(), 2, "where it is, and where it was");
    world.assert_converged().await;
}
