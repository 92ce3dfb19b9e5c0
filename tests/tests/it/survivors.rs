//! Small mistakes that no test caught, each played by a schedule without dice: with the rule left out, the
//! test fails every time. Those of other topics are beside their topics.

use std::time::{Duration, Instant};

use lockstep::instance::{Instance, InstanceOptions};
use lockstep::migration::Migration;
use lockstep::store::{Delivery, WriteOptions};
use lockstep_coordinator::{BackfillOptions, CoordinatorError};
use lockstep_core::{Attributes, Kind, MigratableTable, Phase, Version, tombstone};
use lockstep_dynamo::Landed;
use lockstep_integration_logs::{IntegrationLog, IntegrationLogs};
use lockstep_tests::World;
use lockstep_tests::faults::source::{SourceFault, SourceRule};
use lockstep_tests::faults::{Fault, Gate, Rule};
use lockstep_tests::world::rows::{log, log_key, logs, payments};
use lockstep_tests::world::{LOGS, WorldOptions, backfill, eventually, nowhere, run};
use tokio_util::sync::CancellationToken;

use crate::store::{deferred, row};

/// M1. An equal version is the same state, or a mistake that must not show (I2).
#[tokio::test]
async fn a_state_that_is_put_twice_is_known_the_second_time_and_another_at_its_version_is_refused() {
    let world = World::start().await;
    world.prepared().await.close().await;
    let put = async |user_id: &str, version: i64| {
        let item = MigratableTable::encode(&IntegrationLogs::default(), &row(1, user_id)).expect("fits");
        let version = Version(version);
        world.plain_target.put_guarded(LOGS, item.at(version), version).await.expect("answers").landed
    };
    assert_eq!(put("first", 7).await, Landed::Applied);
    assert_eq!(put("first", 7).await, Landed::Superseded);
    assert_eq!(put("another", 7).await, Landed::Superseded);
    let key = IntegrationLogs::default().target_key(&IntegrationLogs::key(&row(1, ""))).expect("a key");
    let dead = tombstone(key, Version(7));
    let landed = world.plain_target.put_guarded(LOGS, dead, Version(7)).await.expect("answers").landed;
    assert_eq!(landed, Landed::Superseded);
    let item = world.live_at(&world.logs_table(), &log_key(1, "a")).await;
    assert_eq!(IntegrationLogs::decode(&item).expect("a log").user_id.as_deref(), Some("first"));
}

/// M4, M21. 1. The first chunk of a range is settled while a later one is read and on its way. 2. The process
/// dies, and what was on its way never arrives. 3. What resumes begins right behind what was settled (I4).
#[tokio::test]
async fn a_range_that_is_broken_off_in_its_middle_goes_on_right_behind_what_was_settled() {
    let world = World::behind_proxy().await;
    world.sql(&logs(1, 3_000)).await;
    let mut migration = world.migration();
    migration.options.backfill = BackfillOptions { ranges_per_table: 1, ..migration.options.backfill };
    let coordinator = world.coordinator_of(migration.clone()).await;
    coordinator.prepare(&()).await.expect("nothing refuses");
    let (gate, cancel) = (Gate::new(), CancellationToken::new());
    world.proxy().script(Rule::new(Fault::Delay(gate.clone())).on("BatchExecuteStatement").table(LOGS));
    let watermark = async || {
        let ranges = world.source.ranges(LOGS).await.expect("ranges");
        ranges.first().is_some_and(|range| range.watermark.is_some() && !range.done)
    };
    let (broken_off, ()) = tokio::join!(coordinator.backfill(&cancel), async {
        // 500 rows are 20 requests: what comes after them is of the next chunk.
        let mut sent = 0;
        while !watermark().await {
            sent += 1;
            gate.until_held(sent).await;
            gate.release(1);
            gate.until_done(sent).await;
        }
        cancel.cancel();
    });
    assert!(matches!(broken_off, Err(CoordinatorError::Interrupted)), "{broken_off:?}");
    coordinator.close().await;
    // The request at the gate stays there: the process that sent it is gone, and the network lost it.
    world.proxy().clear();
    let settled = world.source.ranges(LOGS).await.expect("ranges")[0].rows_read;
    assert!((1..3_000).contains(&settled), "in its middle: {settled}");
    let coordinator = world.coordinator_of(migration).await;
    backfill(&coordinator).await;
    assert_eq!(world.live_items(LOGS).await, 3_000);
    world.assert_converged().await;
}

/// M36. A column that comes while the rows are read is not in them (hole 8).
#[tokio::test]
async fn a_column_that_is_added_while_a_chunk_is_read_ends_the_backfill() {
    let world = World::with(WorldOptions { source_proxied: true, ..WorldOptions::default() }).await;
    world.sql(&logs(1, 20)).await;
    let mut migration = world.migration();
    // One chunk: the next one would see the column.
    migration.options.backfill = BackfillOptions { ranges_per_table: 1, ..migration.options.backfill };
    let coordinator = world.coordinator_of(migration).await;
    coordinator.prepare(&()).await.expect("nothing refuses");
    let gate = Gate::new();
    let read = SourceRule::new(SourceFault::DelayReply(gate.clone()));
    world.source_proxy().script(read.on("COPY (SELECT s.\"log_id\", s.\"application_id\"").times(1));
    let cancel = CancellationToken::new();
    let (ended, ()) = tokio::join!(coordinator.backfill(&cancel), async {
        gate.until_held(1).await;
        world.sql("ALTER TABLE integration_logs ADD COLUMN more text").await;
        gate.open();
    });
    let error = ended.expect_err("the column is not in what was read");
    assert!(error.to_string().contains("a column was added"), "{error}");
}

/// M18. Version and row are one reading (I14): a row that changes right after it was read keeps its mark.
#[tokio::test]
async fn a_row_that_changes_once_it_was_read_is_delivered_again() {
    let world = World::behind_both_proxies().await;
    world.prepared().await.close().await;
    world.sql(&log(1, "a")).await;
    let gate = Gate::new();
    let read =
        SourceRule::new(SourceFault::DelayReply(gate.clone())).on("SELECT CASE WHEN w.before").times(1);
    world.source_proxy().script(read);
    let (relayed, ()) = tokio::join!(world.relay_until_empty(), async {
        gate.until_held(1).await;
        world.sql("UPDATE integration_logs SET user_id = 'newer'").await;
        gate.open();
    });
    assert_eq!(relayed.delivered, 2, "the old state, then the new one");
    world.assert_converged().await;
}

/// M37. It is not known whether a put whose connection was cut has arrived, so its key stays pending (I8).
#[tokio::test]
async fn a_put_that_was_lost_leaves_its_key_pending() {
    let world = World::behind_proxy().await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    let (store, gate) = (world.log_store(), Gate::new());
    world.proxy().script(Rule::new(Fault::AnswerThenApplyLate(gate.clone())).on("PutItem"));
    let outcome = store.put(&row(1, "u")).await.expect("written to PostgreSQL");
    assert_eq!(deferred(&outcome), Kind::Unknown);
    assert!(!matches!(outcome.target, Delivery::Applied));
    assert!(world.pending(LOGS).await.contains_key(&log_key(1, "a")), "I1");
    world.proxy().clear();
    gate.open();
    world.assert_converged().await;
}

/// M34. What is lost between the two looks of a way back is seen by the second.
#[tokio::test]
async fn records_that_are_lost_when_writes_are_stopped_close_the_way_back() {
    let world = World::start().await;
    world.sql(&format!("{}; {}", logs(1, 20), payments(1, 20))).await;
    let coordinator = world.migrated_to(Phase::DynamoOnly).await;
    world
        .sql(
            "CREATE FUNCTION public.lose() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN
                 UPDATE lockstep.reverse_tables SET lost_at = clock_timestamp(), lost_why = 'trimmed';
                 RETURN NULL;
             END $$;
             CREATE TRIGGER lose AFTER INSERT ON lockstep.journal FOR EACH ROW
                 WHEN (NEW.step LIKE '%stop writes')
                 EXECUTE FUNCTION public.lose()",
        )
        .await;
    let error = coordinator.step(Phase::HybridRead, None, &()).await.expect_err("records are missing");
    assert!(error.to_string().contains("trimmed"), "{error}");
    assert_eq!(world.source.control().await.expect("a phase").phase, Phase::DynamoOnly);
    world
        .sql(
            "DROP FUNCTION public.lose() CASCADE; UPDATE lockstep.reverse_tables SET lost_at = NULL,
            lost_why = NULL",
        )
        .await;
    coordinator.step(Phase::HybridRead, None, &()).await.expect("nothing is missing");
    coordinator.close().await;
    world.assert_converged().await;
}

/// M47. A lease begins with the question: a coordinator that waits it out begins to wait when it was asked.
#[tokio::test]
async fn an_answer_that_comes_late_makes_no_lease_longer() {
    const LEASE: Duration = Duration::from_secs(6);
    let world = World::with(WorldOptions { source_proxied: true, ..WorldOptions::default() }).await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    let options = InstanceOptions { name: "late".to_owned(), lease: LEASE };
    let instance = Instance::start(&world.source, options).await.expect("registers");
    let (late, never) = (Gate::new(), Gate::new());
    let renewal = |gate: &Gate| SourceRule::new(SourceFault::DelayReply(gate.clone())).on("WITH renewed AS");
    world.source_proxy().script(renewal(&late).times(1));
    world.source_proxy().script(renewal(&never));
    late.until_held(1).await;
    let asked = Instant::now();
    // The answer is late by this much, within the third of a lease that a renewal is given.
    tokio::time::sleep(LEASE / 4).await;
    late.open();
    // It was heard: this is the next renewal, and no other one is answered.
    never.until_held(1).await;
    world.source_proxy().down().await;
    // The last look that was served: one that comes late, on a busy machine, is none of the lease's.
    let served = std::cell::Cell::new(Duration::ZERO);
    eventually("it serves no more", || async {
        let looked_at = asked.elapsed();
        if instance.control().is_none() {
            return true;
        }
        served.set(looked_at);
        false
    })
    .await;
    let served = served.get();
    assert!(served < LEASE + LEASE / 8, "I6: it served for {served:?} by a lease of {LEASE:?}");
    world.source_proxy().up().await;
    instance.shutdown().await;
}

/// M41.
#[tokio::test]
async fn a_sweep_waits_for_no_mark_of_a_write_under_way() {
    let world = World::start().await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    world.sql(&log(1, "a")).await;
    // As a strict write under way: a transaction with the mark of a key, and an intent of it.
    let mut writer = world.stranger().await;
    run(&mut writer, "BEGIN; UPDATE lockstep.pending SET marked_at = marked_at").await;
    let intent = format!(
        "INSERT INTO lockstep.intents (xid, table_name, key, repair_version)
         SELECT backend_xid::text::xid8, '{LOGS}', '{}', nextval('lockstep.version_seq') FROM pg_stat_activity
         WHERE datname = current_database() AND state = 'idle in transaction' AND backend_xid IS NOT NULL",
        log_key(1, "a")
    );
    assert_eq!(world.sql(&intent).await, 1);
    // Taken for one that was rolled back, its mark would be waited for, 300 ms each time.
    let mut quickest = Duration::MAX;
    for _ in 0..5 {
        let begun = Instant::now();
        let swept = world.source.sweep_intents(Duration::ZERO).await.expect("swept");
        assert_eq!((swept.waiting, swept.aborted), (1, 0));
        quickest = quickest.min(begun.elapsed());
    }
    assert!(quickest < Duration::from_millis(250), "no lock is waited for: {quickest:?}");
    run(&mut writer, "ROLLBACK").await;
    world.assert_converged().await;
}

/// M3, M30. An index that is sparse in live items stays so: a tombstone is in none.
#[tokio::test]
async fn a_tombstone_has_its_key_and_what_orders_it_and_nothing_else() {
    let names = |item: &Attributes| {
        let mut names: Vec<String> = item.keys().cloned().collect();
        names.sort();
        names
    };
    // An error, so that its item is in the index of errors.
    let failed = IntegrationLog { is_success: false, ..row(1, "u") };
    let key = IntegrationLogs::default().target_key(&IntegrationLogs::key(&failed)).expect("a key");
    assert_eq!(names(&tombstone(key.clone(), Version(7)).into_attributes()), ["PK", "SK", "_deleted", "_v"]);
    let world = World::start().await.dynamo_only(&log(1, "a")).await;
    let app = world.app_without_source(Duration::from_secs(10)).await;
    let store = app.store::<IntegrationLogs>();
    assert!(store.put(&failed).await.expect("written").found);
    let live = world.live_at(&world.logs_table(), &log_key(1, "a")).await;
    assert!(live.len() > 6, "{:?}", names(&live));
    assert!(store.delete(1).await.expect("deleted").found);
    let dead = world.item(&world.logs_table(), &log_key(1, "a")).await.expect("a tombstone");
    assert_eq!(names(&dead), ["PK", "SK", "_deleted", "_v", "_w"]);
    app.shutdown().await;
}

/// P19. 1. A write of DynamoOnly over version 1 is delayed. 2. The item expires, and a new one has version 1
/// once more. 3. The write arrives: it has never seen that row.
#[tokio::test]
async fn a_delayed_write_does_not_take_a_new_item_for_the_one_that_expired() {
    let world = World::behind_proxy().await.dynamo_only(&log(5, "a")).await;
    let writes = WriteOptions { inline_timeout_ms: 300, ..WriteOptions::default() };
    let options = world.production(&nowhere(), Duration::from_secs(10)).writes(writes);
    let app = Migration::connect(options).await.expect("connected");
    let (store, gate) = (app.store::<IntegrationLogs>(), Gate::new());
    assert!(store.put(&row(1, "first")).await.expect("written").found);
    world.proxy().script(Rule::new(Fault::AnswerThenApplyLate(gate.clone())).on("PutItem").table(LOGS));
    let error = store.put(&row(1, "delayed")).await.expect_err("not known");
    assert_eq!(error.kind, Kind::Unknown, "{error}");
    world.proxy().clear();
    let table = IntegrationLogs::default();
    let key = table.target_key(&IntegrationLogs::key(&row(1, ""))).expect("a key").to_attributes();
    let removed = world.plain_target.client().delete_item().table_name(LOGS).set_key(Some(key)).send().await;
    removed.expect("as DynamoDB's expiry does");
    let epoch = world.control().record().await.expect("read").expect("it holds the truth").epoch;
    assert_eq!(world.put_item(&table, &row(1, "again"), epoch).await, Version(epoch.floor() + 1));
    gate.open();
    gate.until_done(1).await;
    let item = world.live_at(&world.logs_table(), &log_key(1, "a")).await;
    assert_eq!(IntegrationLogs::decode(&item).expect("a log").user_id.as_deref(), Some("again"));
    app.shutdown().await;
}
