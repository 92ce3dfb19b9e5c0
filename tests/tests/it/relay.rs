//! The relay: exactly what was delivered leaves the set, no writer waits for another, and nothing stale is
//! left to be read.

use std::time::Duration;

use chrono::DateTime;
use lockstep_coordinator::{Progress, RelayUntil, relay};
use lockstep_core::MigratableTable;
use lockstep_integration_logs::IntegrationLogs;
use lockstep_postgres::{Delivered, KeyOrder};
use lockstep_tests::World;
use lockstep_tests::faults::{Fault, FaultKind, Gate, Rule};
use lockstep_tests::world::rows::{log, log_key, logs, outgrow};
use lockstep_tests::world::{LOGS, backfill, eventually, run, within};
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn a_key_bumped_between_reading_and_acknowledging_stays_pending() {
    let world = World::start().await;
    world.prepared().await.close().await;
    world.sql(&logs(1, 3)).await;
    let batch = world
        .source
        .read_pending(None, &world.logs_table(), KeyOrder::Ascending, None, 10)
        .await
        .expect("reads");
    world.sql("UPDATE integration_logs SET user_id = 'newer' WHERE log_id = 2").await;
    let bumped = world.pending(LOGS).await[&log_key(2, "service-2")];
    let read: Vec<Delivered> =
        batch.rows.iter().map(|row| Delivered { key: row.key.clone(), version: row.version }).collect();
    assert_eq!(world.source.acknowledge(LOGS, &read, batch.read_at).await.expect("acknowledges"), 2);
    let left = world.pending(LOGS).await;
    assert_eq!(left.into_iter().collect::<Vec<_>>(), [(log_key(2, "service-2"), bumped)]);
}

#[tokio::test]
async fn a_change_made_while_its_key_is_being_delivered_is_delivered_too() {
    let world = World::behind_proxy().await;
    world.prepared().await.close().await;
    world.sql(&log(1, "a")).await;
    let gate = Gate::new();
    world.proxy().script(Rule::new(Fault::Delay(gate.clone())).on("PutItem").times(1));
    let (relayed, ()) = tokio::join!(world.relay_until_empty(), async {
        gate.until_held(1).await;
        world.sql("UPDATE integration_logs SET user_id = 'newer'").await;
        gate.open();
    });
    assert_eq!(relayed.delivered, 2, "the old state, then the new one");
    assert_eq!(world.proxy().counts().injected(FaultKind::Delay), 1);
    let item = world.live_at(&world.logs_table(), &log_key(1, "a")).await;
    assert_eq!(IntegrationLogs::decode(&item).expect("a log").user_id.as_deref(), Some("newer"));
}

#[tokio::test]
async fn a_late_write_of_an_older_state_changes_nothing() {
    let world = World::behind_proxy().await;
    world.prepared().await.close().await;
    world.sql(&log(1, "a")).await;
    let gate = Gate::new();
    world.proxy().script(Rule::new(Fault::AnswerThenApplyLate(gate.clone())).on("PutItem").times(1));
    world.relay_until_empty().await;
    world.sql("DELETE FROM integration_logs").await;
    world.relay_until_empty().await;
    gate.open();
    within(Duration::from_secs(10), gate.until_done(1)).await;
    world.tombstone_at(&world.logs_table(), &log_key(1, "a")).await;
    world.assert_converged().await;
}

#[tokio::test]
async fn a_locked_pending_key_holds_up_neither_the_relay_nor_the_application() {
    let world = World::start().await;
    world.prepared().await.close().await;
    world.sql(&logs(1, 3)).await;
    let mut application = world.stranger().await;
    run(&mut application, "BEGIN; UPDATE integration_logs SET user_id = 'held' WHERE log_id = 1").await;
    let (migration, cancel) = (world.migration(), CancellationToken::new());
    let progress = Progress::new(&migration.tables);
    let stop = cancel.clone();
    let relayed = tokio::join!(relay(&migration, RelayUntil::Cancelled, &progress, &stop), async {
        eventually("the others are delivered", || async { world.pending(LOGS).await.len() == 1 }).await;
        // The key that the relay has delivered an older state of: the application still writes it at once.
        within(
            Duration::from_secs(20),
            run(&mut application, "UPDATE integration_logs SET user_id = 'again' WHERE log_id IN (1, 2)"),
        )
        .await;
        run(&mut application, "COMMIT").await;
        eventually("the rest is delivered", || async { world.pending(LOGS).await.is_empty() }).await;
        cancel.cancel();
    });
    relayed.0.expect("the relay ends well");
    world.assert_converged().await;
}

#[tokio::test]
async fn a_locked_key_whose_row_cannot_be_held_does_not_hold_up_the_others() {
    let world = World::start().await;
    world.prepared().await.close().await;
    world.sql(&logs(1, 3)).await;
    world.sql(&outgrow(1)).await;
    let mut application = world.stranger().await;
    run(&mut application, "BEGIN; UPDATE integration_logs SET user_id = 'held' WHERE log_id = 1").await;
    let (migration, cancel) = (world.migration(), CancellationToken::new());
    let progress = Progress::new(&migration.tables);
    let (relayed, ()) = tokio::join!(relay(&migration, RelayUntil::Cancelled, &progress, &cancel), async {
        let delivered =
            eventually("the others are delivered", || async { world.pending(LOGS).await.len() == 1 });
        let in_time = tokio::time::timeout(Duration::from_secs(20), delivered).await;
        run(&mut application, "COMMIT").await;
        cancel.cancel();
        in_time.expect("the relay waits for the application's transaction");
    });
    relayed.expect("the relay ends well");
}

#[tokio::test]
async fn a_deleted_row_leaves_a_tombstone_and_a_moved_one_too() {
    let world = World::start().await;
    let coordinator = world.prepared().await;
    world.sql(&logs(1, 2)).await;
    backfill(&coordinator).await;
    world.relay_until_empty().await;
    world.sql("DELETE FROM integration_logs WHERE log_id = 1; UPDATE integration_logs SET service_name = 'moved'").await;
    let marked = world.pending(LOGS).await;
    world.relay_until_empty().await;
    let table = world.logs_table();
    let (deleted, left, gone_to) = (log_key(1, "service-1"), log_key(2, "service-2"), log_key(2, "moved"));
    assert_eq!(world.tombstone_at(&table, &deleted).await, marked[&deleted]);
    assert_eq!(world.tombstone_at(&table, &left).await, marked[&left]);
    assert_eq!(lockstep_core::version_of(&world.live_at(&table, &gone_to).await), Some(marked[&gone_to]));
    world.assert_converged().await;
}

#[tokio::test]
async fn a_row_that_outgrew_its_item_is_set_aside_and_its_old_state_is_not_served() {
    let world = World::start().await;
    world.prepared().await.close().await;
    let (table, key) = (world.logs_table(), log_key(1, "a"));
    world.sql(&log(1, "a")).await;
    world.relay_until_empty().await;
    world.live_at(&table, &key).await;
    world.sql(&outgrow(1)).await;
    assert_eq!(world.relay_until_empty().await.dead_letters, 1);
    world.tombstone_at(&table, &key).await;
    let letters = world.source.dead_letters(LOGS, 10).await.expect("lists");
    assert_eq!(
        (letters.len(), letters[0].key.as_str(), letters[0].stage.as_str()),
        (1, key.as_str(), "relay")
    );
    assert!(letters[0].reason.contains("DynamoDB holds 409600"), "{}", letters[0].reason);
    assert!(!world.validate().await.verdict.is_consistent(), "I11: a dead letter waits");
    world.sql("UPDATE integration_logs SET error_message = 'short again'").await;
    world.relay_until_empty().await;
    assert_eq!(world.source.count_dead_letters(LOGS).await.expect("counts"), (0, 0), "cured");
    world.live_at(&table, &key).await;
    world.assert_converged().await;
}

#[tokio::test]
async fn the_age_of_a_key_that_was_bumped_starts_where_it_was_read() {
    let world = World::start().await;
    world.prepared().await.close().await;
    world.sql(&log(1, "a")).await;
    world.sql("UPDATE lockstep.pending SET marked_at = now() - interval '1 hour'").await;
    let batch = world
        .source
        .read_pending(None, &world.logs_table(), KeyOrder::Ascending, None, 10)
        .await
        .expect("reads");
    world.sql("UPDATE integration_logs SET user_id = 'newer'").await;
    assert!(
        world.source.lag(LOGS).await.expect("a lag").oldest_s > 3_000.0,
        "a bump does not make a key younger"
    );
    let read: Vec<Delivered> =
        batch.rows.iter().map(|row| Delivered { key: row.key.clone(), version: row.version }).collect();
    world.source.acknowledge(LOGS, &read, DateTime::UNIX_EPOCH).await.expect("acknowledges");
    assert!(
        world.source.lag(LOGS).await.expect("a lag").oldest_s > 3_000.0,
        "nor does a clock that is not the source's"
    );
    world.source.acknowledge(LOGS, &read, batch.read_at).await.expect("acknowledges");
    assert!(world.source.lag(LOGS).await.expect("a lag").oldest_s < 600.0, "delivering what was older does");
}

#[tokio::test]
async fn a_changed_schema_stops_the_relay_before_anything_is_acknowledged() {
    let world = World::start().await;
    world.prepared().await.close().await;
    world.sql(&log(1, "a")).await;
    world
        .sql("ALTER TABLE integration_logs ADD COLUMN region text; UPDATE integration_logs SET region = 'EU'")
        .await;
    let migration = world.migration();
    let progress = Progress::new(&migration.tables);
    let stopped = relay(&migration, RelayUntil::Empty, &progress, &CancellationToken::new()).await;
    let stopped = stopped.expect_err("a column is not in the row type").to_string();
    assert!(stopped.contains("a column was added") && stopped.contains("region text"), "{stopped}");
    assert_eq!(world.pending(LOGS).await.len(), 1, "the change is still known");
    world.sql("ALTER TABLE integration_logs DROP COLUMN region").await;
    world.assert_converged().await;
}
