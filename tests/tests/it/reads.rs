//! The read policy: who answers in HybridRead and why, that it is marked and counted, and what shadow reads
//! find.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use lockstep::store::reads::Comparison;
use lockstep::store::{Delivery, ReadFrom, ReadOptions, Share, SourceCause, Store, WriteMode};
use lockstep_core::{Kind, MigratableTable, Phase, Version};
use lockstep_integration_logs::{IntegrationLog, IntegrationLogs, LogKey, LogQueries};
use lockstep_payments::PaymentQueries;
use lockstep_tests::World;
use lockstep_tests::faults::source::{SourceFault, SourceRule};
use lockstep_tests::faults::{Fault, Gate, Rule};
use lockstep_tests::world::rows;
use lockstep_tests::world::{LOGS, eventually};

use crate::stage::{Stage, at, some};

fn row(log_id: i64, user_id: &str) -> IntegrationLog {
    IntegrationLog { application_id: Some(1), ..rows::log_row(log_id, user_id) }
}

fn key(log_id: i64) -> LogKey {
    IntegrationLogs::key(&row(log_id, ""))
}

/// A world in HybridRead, with these logs in both stores.
async fn hybrid(world: World, logs: impl IntoIterator<Item = i64>) -> Stage {
    let stage = Stage::start(world, 1).await;
    let store = stage.logs();
    for log_id in logs {
        store.put(&row(log_id, "first")).await.expect("written");
    }
    stage.backfill().await;
    stage.relay().await;
    stage.stand_in(Phase::HybridRead).await;
    stage
}

/// A handle that asks often, so that tests need not wait for a second.
fn watchful(stage: &Stage, max_staleness_ms: u64) -> Store<IntegrationLogs> {
    let store = stage.logs();
    store.reads().configure(&ReadOptions { max_staleness_ms, standing_poll_ms: 5, ..ReadOptions::default() });
    store
}

async fn user_of(store: &Store<IntegrationLogs>, log_id: i64) -> (Option<String>, ReadFrom) {
    let answer = store.get_marked(&key(log_id)).await.expect("answered");
    (answer.value.and_then(|log| log.user_id), answer.from)
}

async fn asked(store: &Store<IntegrationLogs>) -> ReadFrom {
    store.by_application(1).page(some(500), None).await.expect("answered").from
}

/// Makes the target say something else than the source, under a higher version.
async fn tamper(stage: &Stage, log_id: i64) {
    let high = Version(i64::MAX >> 1);
    let item = MigratableTable::encode(&IntegrationLogs::default(), &row(log_id, "tampered")).expect("fits");
    stage.world.plain_target.put_guarded(LOGS, item.at(high), high).await.expect("tampered");
}

fn source(user: &str, cause: SourceCause) -> (Option<String>, ReadFrom) {
    (Some(user.to_owned()), ReadFrom::Source(cause))
}

fn target(user: &str) -> (Option<String>, ReadFrom) {
    (Some(user.to_owned()), ReadFrom::Target)
}

const WIDE: u64 = 60_000;

#[tokio::test]
async fn an_instance_reads_its_deferred_writes_from_postgres_until_they_have_arrived() {
    let stage = hybrid(World::behind_proxy().await, [1, 2]).await;
    let (store, other) = (watchful(&stage, WIDE), watchful(&stage, WIDE));
    assert_eq!(user_of(&store, 1).await, target("first"));
    stage.world.proxy().script(Rule::new(Fault::Unavailable).on("PutItem"));
    let outcome = store.put(&row(1, "second")).await.expect("PostgreSQL decides");
    assert!(matches!(outcome.target, Delivery::Deferred(_)), "{outcome:?}");
    assert_eq!(user_of(&store, 1).await, source("second", SourceCause::Deferred));
    assert_eq!(user_of(&store, 2).await, target("first"), "other keys are not concerned");
    assert_eq!(
        asked(&store).await,
        ReadFrom::Source(SourceCause::Deferred),
        "a query may have any key in it"
    );
    assert_eq!(
        user_of(&other, 1).await,
        target("first"),
        "another instance may read what is within the bound"
    );
    // It stays so however often the source is asked, while the key is pending.
    for _ in 0..20 {
        assert_eq!(user_of(&store, 1).await, source("second", SourceCause::Deferred));
    }
    let counts = store.reads().counts();
    assert!(counts.source_deferred >= 22 && counts.deferred_keys == 1, "{counts:?}");
    stage.world.proxy().clear();
    stage.relay().await;
    eventually("the key leaves the set", || async { user_of(&store, 1).await == target("second") }).await;
    eventually("queries go to the target again", || async { asked(&store).await == ReadFrom::Target }).await;
    assert_eq!(store.reads().counts().deferred_keys, 0);
}

#[tokio::test]
async fn a_deleted_key_whose_tombstone_is_deferred_is_not_seen_again() {
    let stage = hybrid(World::behind_proxy().await, [1]).await;
    let store = watchful(&stage, WIDE);
    stage.world.proxy().script(Rule::new(Fault::LoseReply).on("PutItem").times(1));
    store.delete(1).await.expect("PostgreSQL decides");
    assert_eq!(
        user_of(&store, 1).await,
        (None, ReadFrom::Source(SourceCause::Deferred)),
        "a lost reply is deferred too (I8)"
    );
    stage.world.proxy().clear();
    stage.relay().await;
    let gone = (None, ReadFrom::Source(SourceCause::Miss));
    eventually("the tombstone is a miss", || async { user_of(&store, 1).await == gone }).await;
}

#[tokio::test]
async fn a_write_cancelled_after_its_commit_is_read_from_postgres() {
    let stage = hybrid(World::behind_proxy().await, [1]).await;
    let store = watchful(&stage, WIDE);
    let gate = Gate::new();
    stage.world.proxy().script(Rule::new(Fault::Delay(gate.clone())).on("PutItem").times(1));
    let writer = store.clone();
    let writing = tokio::spawn(async move { writer.put(&row(1, "second")).await });
    gate.until_held(1).await;
    writing.abort();
    assert!(writing.await.expect_err("aborted").is_cancelled());
    assert_eq!(user_of(&store, 1).await, source("second", SourceCause::Deferred));
    gate.open();
}

/// The caller is told that it is unknown, and looks the row up; or it no longer waits for the answer.
#[tokio::test]
async fn a_write_whose_end_is_unknown_is_read_from_postgres() {
    let stage = hybrid(World::behind_both_proxies().await, [1, 2]).await;
    let store = watchful(&stage, WIDE);
    let proxy = stage.world.source_proxy();
    let on_write =
        |fault| SourceRule::new(fault).on(r#"SELECT * FROM lockstep."upsert_integration_logs_"#).times(1);
    assert_eq!(user_of(&store, 1).await, target("first"));
    proxy.script(on_write(SourceFault::LoseReply));
    let unknown = store.put(&row(1, "second")).await.expect_err("its answer is lost");
    assert_eq!(unknown.kind, Kind::Unknown, "{unknown}");
    let held = stage.world.pending(LOGS).await.len();
    assert_eq!(held, 1, "it was written");
    assert_eq!(user_of(&store, 1).await, source("second", SourceCause::DeferredOverflow));
    stage.relay().await;
    eventually("it has arrived", || async { user_of(&store, 1).await == target("second") }).await;

    let gate = Gate::new();
    proxy.script(on_write(SourceFault::DelayReply(gate.clone())));
    let writer = store.clone();
    let writing = tokio::spawn(async move { writer.put(&row(2, "second")).await });
    gate.until_held(1).await;
    writing.abort();
    assert!(writing.await.expect_err("aborted").is_cancelled());
    assert_eq!(user_of(&store, 2).await, source("second", SourceCause::DeferredOverflow));
    gate.open();
    stage.relay().await;
    eventually("it has arrived", || async { user_of(&store, 2).await == target("second") }).await;
}

#[tokio::test]
async fn a_phantom_of_a_strict_write_is_not_met_by_its_own_instance() {
    let stage = hybrid(World::behind_proxy().await, [1]).await;
    let store = stage.logs_written(WriteMode::Strict);
    stage.world.proxy().script(Rule::new(Fault::LoseReply).on("PutItem"));
    store.put(&row(1, "phantom")).await.expect_err("neither store has it");
    stage.world.proxy().clear();
    assert_eq!(user_of(&store, 1).await, source("first", SourceCause::Deferred));
    stage.world.source.sweep_intents(Duration::ZERO).await.expect("swept");
    stage.relay().await;
    eventually("the truth is back in the target", || async { user_of(&store, 1).await == target("first") })
        .await;
}

#[tokio::test]
async fn reads_step_back_while_the_pending_set_is_too_old_and_return_by_themselves() {
    let stage = hybrid(World::start().await, [1]).await;
    let store = watchful(&stage, 300);
    assert_eq!(user_of(&store, 1).await, target("first"));
    // A stranger changes another row, and no relay runs.
    stage.world.sql(&rows::log(2, "b")).await;
    eventually("the store steps back", || async {
        user_of(&store, 1).await == source("first", SourceCause::Stale)
    })
    .await;
    assert_eq!(asked(&store).await, ReadFrom::Source(SourceCause::Stale));
    assert!(store.reads().counts().source_stale >= 2);
    assert!(ReadFrom::Source(SourceCause::Stale).is_degraded());
    stage.relay().await;
    eventually("the store returns to the target", || async { user_of(&store, 1).await == target("first") })
        .await;
    eventually("queries too", || async { asked(&store).await == ReadFrom::Target }).await;
}

#[tokio::test]
async fn an_idle_instance_asks_before_it_trusts_the_target() {
    let stage = hybrid(World::start().await, [1]).await;
    stage.world.sql(&rows::log(2, "b")).await;
    let pending_for =
        "SELECT extract(epoch FROM clock_timestamp() - min(marked_at)) > 0.05 FROM lockstep.pending";
    eventually("the mark is old", || async { stage.world.value::<bool>(pending_for).await }).await;
    // Its first read: what is not known yet is asked for, and not taken to be fresh.
    let store = watchful(&stage, 50);
    assert_eq!(user_of(&store, 1).await, source("first", SourceCause::Stale));
}

#[tokio::test]
async fn a_canary_is_the_same_key_for_every_instance_and_the_share_can_be_turned() {
    let stage = hybrid(World::start().await, 1..=200).await;
    let canaries = |percent: f64| {
        let store = watchful(&stage, WIDE);
        store.reads().set_canary(Share::percent(percent).expect("a share"));
        async move {
            let mut canaries = Vec::new();
            for log_id in 1..=200 {
                match store.get_marked(&key(log_id)).await.expect("answered").from {
                    ReadFrom::Target => canaries.push(log_id),
                    from => assert_eq!(from, ReadFrom::Source(SourceCause::Canary)),
                }
            }
            let counts = store.reads().counts();
            assert_eq!(
                (counts.target, counts.source_canary),
                (canaries.len() as u64, 200 - canaries.len() as u64)
            );
            canaries
        }
    };
    let quarter = canaries(25.0).await;
    assert!((25..=75).contains(&quarter.len()), "{} of 200 at 25 %", quarter.len());
    assert_eq!(canaries(25.0).await, quarter, "sticky, on another handle as well");
    let half = canaries(50.0).await;
    assert!(
        quarter.iter().all(|log_id| half.contains(log_id)) && half.len() > quarter.len(),
        "raising adds keys"
    );
    assert_eq!((canaries(0.0).await.len(), canaries(100.0).await.len()), (0, 200));
    let store = watchful(&stage, WIDE);
    assert_eq!(asked(&store).await, ReadFrom::Target);
    store.reads().set_canary(Share::NONE);
    assert_eq!(asked(&store).await, ReadFrom::Source(SourceCause::Canary), "turned while it runs");
}

#[tokio::test]
async fn misses_and_errors_fall_back_and_are_counted_apart() {
    let stage = hybrid(World::behind_proxy().await, [1]).await;
    let store = watchful(&stage, WIDE);
    stage.world.sql(&rows::log(2, "a")).await;
    let found = store.get_marked(&key(2)).await.expect("answered");
    assert!(found.value.is_some() && found.from == ReadFrom::Source(SourceCause::Miss));
    assert_eq!(user_of(&store, 404).await, (None, ReadFrom::Source(SourceCause::Miss)));
    let empty = store.by_application(77).page(some(5), None).await.expect("answered");
    assert_eq!((empty.rows.len(), empty.from), (0, ReadFrom::Source(SourceCause::Miss)));
    stage.world.proxy().script(Rule::new(Fault::Throttle).on("GetItem").on("Query"));
    assert_eq!(user_of(&store, 1).await, source("first", SourceCause::Error));
    assert_eq!(asked(&store).await, ReadFrom::Source(SourceCause::Error));
    assert_eq!(
        store.by_application(1).count_marked().await.expect("counted").from,
        ReadFrom::Source(SourceCause::Error)
    );
    let counts = store.reads().counts();
    assert_eq!((counts.source_miss, counts.source_error, counts.target), (3, 3, 0), "{counts:?}");
    // An item that does not decode is an error as well.
    stage.world.proxy().clear();
    let high = Version(i64::MAX >> 1);
    let place = IntegrationLogs::default().target_key(&key(1)).expect("a key");
    stage.world.plain_target.put_guarded(LOGS, place.into_item().at(high), high).await.expect("tampered");
    assert_eq!(user_of(&store, 1).await, source("first", SourceCause::Error));
}

#[tokio::test]
async fn while_postgres_does_not_answer_hits_are_marked_and_misses_are_errors() {
    let stage = hybrid(World::start().await, [1]).await;
    // No reader can ask how far the target is behind, while the phase is still known.
    let mut stranger = stage.world.stranger().await;
    lockstep_tests::world::run(&mut stranger, "BEGIN; LOCK TABLE lockstep.pending IN ACCESS EXCLUSIVE MODE")
        .await;
    let store = watchful(&stage, WIDE);
    let alone = (Some("first".to_owned()), ReadFrom::TargetAlone);
    assert_eq!(user_of(&store, 1).await, alone);
    assert_eq!(asked(&store).await, ReadFrom::TargetAlone);
    stage.world.sql("ALTER TABLE integration_logs RENAME TO elsewhere").await;
    let error =
        store.get(&key(404)).await.expect_err("I8: only PostgreSQL could say that there is no such row");
    assert_eq!(error.side, lockstep_core::Side::Source);
    assert_eq!(user_of(&store, 1).await, alone);
    assert!(store.reads().counts().target_alone >= 3);
    lockstep_tests::world::run(&mut stranger, "ROLLBACK").await;
    stage.world.sql("ALTER TABLE elsewhere RENAME TO integration_logs").await;
    eventually("the mark goes", || async { user_of(&store, 1).await == target("first") }).await;
}

#[tokio::test]
async fn rows_that_the_target_cannot_hold_are_not_left_out_of_queries() {
    let stage = hybrid(World::start().await, [1, 2]).await;
    stage.world.sql(&rows::outgrow(2)).await;
    stage.relay().await;
    let store = watchful(&stage, WIDE);
    let page = store.by_application(1).page(some(10), None).await.expect("answered");
    assert_eq!((page.rows.len(), page.from), (2, ReadFrom::Source(SourceCause::DeadLetters)));
    assert_eq!(user_of(&store, 1).await, target("first"), "a key that is there is there");
    assert_eq!(user_of(&store, 2).await, source("first", SourceCause::Miss));
}

#[tokio::test]
async fn in_dynamo_only_the_target_alone_says_what_there_is() {
    let stage = hybrid(World::behind_proxy().await, [1]).await;
    stage.world.sql(&rows::log(2, "a")).await;
    stage.stand_in(Phase::DynamoOnly).await;
    let store = watchful(&stage, 0);
    assert_eq!(user_of(&store, 1).await, target("first"));
    assert_eq!(user_of(&store, 2).await, (None, ReadFrom::Target), "PostgreSQL is not the truth any more");
    stage.world.proxy().script(Rule::new(Fault::Throttle).on("GetItem").times(2));
    assert_eq!(user_of(&store, 1).await, target("first"), "tried again, as there is no other store");
    stage.world.proxy().script(Rule::new(Fault::AccessDenied).on("GetItem"));
    assert_eq!(store.get(&key(1)).await.expect_err("denied").kind, Kind::Denied);
}

#[tokio::test]
async fn shadow_reads_agree_until_an_item_is_tampered_with_and_leave_pending_keys_out() {
    let stage = hybrid(World::start().await, [1, 2, 3]).await;
    stage.stand_in(Phase::DualWrite).await;
    let store = stage.logs();
    store.reads().set_shadow(Share::ALL);
    let everything = || async {
        assert_eq!(user_of(&store, 1).await, source("first", SourceCause::Phase));
        assert_eq!(store.by_application(1).stream().count().await, 3);
    };
    everything().await;
    eventually("both were compared", || async { store.reads().shadow_summary().total().agree == 2 }).await;
    assert!(store.reads().shadow_summary().is_clean());
    // Changed by a stranger and not delivered: the stores differ, as they should.
    stage.world.sql("UPDATE integration_logs SET user_id = 'second' WHERE log_id = 2").await;
    assert!(store.get(&key(2)).await.expect("answered").is_some());
    assert_eq!(store.by_application(1).stream().count().await, 3);
    eventually("both are left out", || async { store.reads().shadow_summary().total().not_comparable == 2 })
        .await;
    stage.relay().await;
    tamper(&stage, 1).await;
    everything().await;
    eventually("both differ", || async { store.reads().shadow_summary().total().differ == 2 }).await;
    let summary = store.reads().shadow_summary();
    assert!(!summary.is_clean());
    assert_eq!((summary.queries["get"].differ, summary.queries["by_application"].differ), (1, 1));
    let what = summary.last_difference.expect("said");
    assert!(what.contains("user_id") && !what.contains("tampered"), "names and no values: {what}");
    assert_eq!(store.compare(&key(3)).await.expect("compared"), Comparison::Agree);
    // Missing and extra.
    let place = IntegrationLogs::default().target_key(&key(3)).expect("a key").to_attributes();
    stage
        .world
        .plain_target
        .client()
        .delete_item()
        .table_name(LOGS)
        .set_key(Some(place))
        .send()
        .await
        .expect("deleted");
    tamper(&stage, 9).await;
    assert_eq!(
        store.compare(&key(3)).await.expect("compared"),
        Comparison::Differ("a row is missing in the target".to_owned())
    );
    assert_eq!(
        store.compare(&key(9)).await.expect("compared"),
        Comparison::Differ("a row is in the target only".to_owned())
    );
    assert!(matches!(store.by_application(1).compare(2).await.expect("compared"), Comparison::Differ(_)));
}

#[tokio::test]
async fn a_shadow_read_never_delays_the_answer() {
    let stage = hybrid(World::behind_proxy().await, [1]).await;
    stage.stand_in(Phase::DualWrite).await;
    let store = stage.logs();
    store.reads().set_shadow(Share::ALL);
    let gate = Gate::new();
    stage.world.proxy().script(Rule::new(Fault::Delay(gate.clone())).on("GetItem"));
    // The target answers nothing, and yet every read is answered; what is too much is dropped and counted.
    for _ in 0..40 {
        assert_eq!(user_of(&store, 1).await, source("first", SourceCause::Phase));
    }
    let summary = store.reads().shadow_summary();
    assert!(summary.dropped >= 20 && summary.total() == Default::default(), "{summary:?}");
    gate.open();
    eventually("the others are made", || async { store.reads().shadow_summary().total().agree > 0 }).await;
}

#[tokio::test]
async fn a_payment_whose_date_moved_is_found_once_by_every_query() {
    let stage = hybrid(World::start().await, []).await;
    stage.world.sql(&rows::payments(1, 3)).await;
    stage.relay().await;
    let store = stage.payments();
    store.update(2, |payment| payment.payment_date = at("2098-01-01T00:00:00.000000Z")).await.expect("moved");
    let rows: Vec<_> = store.by_status("Pending", ..).stream().try_collect().await.expect("answered");
    assert_eq!(rows.iter().map(|payment| payment.payment_id).collect::<Vec<_>>(), [3, 1, 2]);
    assert_eq!(store.by_id(2).await.expect("answered").map(|payment| payment.payment_id), Some(2));
    assert_eq!(store.reads().counts().target, 2, "{:?}", store.reads().counts());
}

#[tokio::test]
async fn an_answer_that_came_after_its_phase_was_over_is_not_given_away() {
    let stage = hybrid(World::behind_proxy().await, [1, 2]).await;
    let store = watchful(&stage, WIDE);
    let (one, many) = (Gate::new(), Gate::new());
    stage.world.proxy().script(Rule::new(Fault::Delay(one.clone())).on("GetItem").times(1));
    stage.world.proxy().script(Rule::new(Fault::Delay(many.clone())).on("Query").times(1));
    let (reader, lister) = (store.clone(), store.clone());
    let reading = tokio::spawn(async move { user_of(&reader, 1).await });
    let listing =
        tokio::spawn(async move { lister.by_application(1).page(some(9), None).await.expect("answered") });
    one.until_held(1).await;
    many.until_held(1).await;
    // Back to where no store writes the target; and a row changes.
    stage.stand_in(Phase::PostgresOnly).await;
    stage.world.sql("UPDATE integration_logs SET user_id = 'second'").await;
    let later = source("second", SourceCause::Phase);
    eventually("the handle has learned the phase", || async { user_of(&store, 2).await == later }).await;
    one.open();
    many.open();
    assert_eq!(reading.await.expect("no panic"), later, "I6");
    let page = listing.await.expect("no panic");
    assert!(
        page.rows.len() == 2 && page.rows.iter().all(|log| log.user_id.as_deref() == Some("second")),
        "I6"
    );
    assert_eq!(page.from, ReadFrom::Source(SourceCause::Phase));
}
