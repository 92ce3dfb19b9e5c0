//! Intents and the sweeper: what half-done strict writes leave is found and settled by itself (R17, I9, I10).

use std::time::Duration;

use lockstep::sweeper::SweeperOptions;
use lockstep_core::{Version, version_of};
use lockstep_integration_logs::IntegrationLogs;
use lockstep_postgres::Swept;
use lockstep_tests::World;
use lockstep_tests::faults::{Fault, Gate, Rule};
use lockstep_tests::world::rows::{log, log_key};
use lockstep_tests::world::{LOGS, eventually, run};
use tokio::task::JoinHandle;

use crate::store::{applied, row};
use crate::strict::{failed, strict, world};

/// A strict write that stands at the gate: its intent is recorded and its put has left.
async fn standing(world: &World, app: &lockstep::migration::Migration, gate: &Gate) -> JoinHandle<()> {
    world.proxy().script(Rule::new(Fault::Delay(gate.clone())).on("PutItem").times(1));
    let store = app.store::<IntegrationLogs>();
    let write = tokio::spawn(async move { applied(&store.put(&row(1, "u")).await.expect("written")) });
    gate.until_held(1).await;
    write
}

async fn sweep(world: &World) -> Swept {
    world.source.sweep_intents(Duration::ZERO).await.expect("swept")
}

#[tokio::test]
async fn a_write_under_way_is_left_alone_by_the_sweeper() {
    let (world, app) = world(strict()).await;
    let gate = Gate::new();
    let write = standing(&world, &app, &gate).await;
    assert_eq!(world.intents().await, 1, "I9: durable before the put arrives");
    assert_eq!(sweep(&world).await, Swept { waiting: 1, ..Swept::default() });
    assert_eq!(
        world.source.lag(LOGS).await.expect("measured").keys,
        1,
        "I11: an open intent is part of what is pending"
    );
    gate.open();
    write.await.expect("the write ends well");
    assert_eq!((world.pending(LOGS).await.len(), world.intents().await), (0, 0));
    assert_eq!(sweep(&world).await, Swept::default());
    world.assert_converged().await;
}

#[tokio::test]
async fn what_a_dead_process_left_is_found_by_the_sweeper_and_overwritten_by_the_relay() {
    let (world, app) = world(strict()).await;
    let gate = Gate::new();
    let write = standing(&world, &app, &gate).await;
    let repair = Version(world.value("SELECT repair_version FROM lockstep.intents").await);
    write.abort();
    assert!(write.await.expect_err("aborted").is_cancelled());
    // The put belongs to the network now, and arrives.
    gate.open();
    gate.until_done(1).await;
    let phantom = version_of(&world.live_at(&world.logs_table(), &log_key(1, "a")).await).expect("a version");
    eventually("PostgreSQL has rolled back", || async { sweep(&world).await.aborted == 1 }).await;
    let marked = world.pending(LOGS).await[&log_key(1, "a")];
    assert!(marked > phantom, "I2: the repair outranks the phantom");
    // A version that is taken when it is swept outranks a newer state as well, whose own was taken before
    // that: it would be refused for good (hole 14).
    assert_eq!(marked, repair, "it has the version that was reserved for it with the intent");
    world.relay_until_empty().await;
    assert!(world.tombstone_at(&world.logs_table(), &log_key(1, "a")).await > phantom);
    world.assert_converged().await;
}

#[tokio::test]
async fn a_migration_handle_sweeps_in_the_background_and_counts_it() {
    let (world, app) = world(strict()).await;
    let gate = Gate::new();
    let write = standing(&world, &app, &gate).await;
    write.abort();
    let helper = world.app_sweeping(strict(), SweeperOptions { every_ms: 5, age_ms_min: 0 });
    eventually("the sweeper has found it", || async { helper.write_counts().swept_aborted == 1 }).await;
    assert_eq!(world.intents().await, 0);
    helper.shutdown().await;
    gate.open();
    gate.until_done(1).await;
    assert_eq!(world.intents().await, 0);
}

#[tokio::test]
async fn an_intent_goes_by_the_fate_of_its_transaction_and_a_forgotten_one_is_repaired() {
    let (world, app) = world(strict()).await;
    world.sql(&log(1, "a")).await;
    world.relay_until_empty().await;
    let intent = |xid: &str, id: i64| {
        format!(
            "INSERT INTO lockstep.intents (xid, table_name, key, repair_version) \
                 VALUES ({xid}, '{LOGS}', '{}', nextval('lockstep.version_seq'))",
            log_key(id, "a")
        )
    };
    world.sql(&intent("pg_current_xact_id()", 1)).await;
    assert_eq!(sweep(&world).await, Swept { committed: 1, ..Swept::default() });
    assert!(world.pending(LOGS).await.is_empty(), "nothing to repair");
    world.sql(&intent("'999999999999'", 1)).await;
    world.sql(&intent("'999999999999'", 2)).await;
    assert_eq!(sweep(&world).await, Swept { forgotten: 2, ..Swept::default() });
    assert_eq!(world.pending(LOGS).await.len(), 2, "to mark is always safe");
    drop(app);
    world.assert_converged().await;
}

/// An application's lock on a mark delays the sweeper, not the application.
#[tokio::test]
async fn a_key_that_an_application_has_locked_waits_for_the_next_sweep() {
    let (world, app) = world(strict()).await;
    world.sql(&log(1, "a")).await;
    world.proxy().script(Rule::new(Fault::LoseReply).on("PutItem"));
    let mut stranger = world.stranger().await;
    run(&mut stranger, "BEGIN").await;
    run(&mut stranger, "UPDATE lockstep.pending SET marked_at = marked_at").await;
    assert!(failed(app.store::<IntegrationLogs>().put(&row(2, "u")).await).1);
    assert_eq!(world.intents().await, 0, "another key is free");
    let outcome = app.store::<IntegrationLogs>();
    let write = tokio::spawn(async move { outcome.delete(1).await });
    eventually("the write waits for the mark", || world.is_held_up()).await;
    world
        .sql(&format!(
            "INSERT INTO lockstep.intents (xid, table_name, key, repair_version) VALUES ('999999999999', '{LOGS}', '{}', 1)",
            log_key(1, "a")
        ))
        .await;
    assert_eq!(sweep(&world).await, Swept { waiting: 1, ..Swept::default() });
    run(&mut stranger, "ROLLBACK").await;
    failed(write.await.expect("no panic"));
    world.proxy().clear();
    world.assert_converged().await;
}

/// Or else: 1. A write takes a version, and waits for its mark. 2. Who holds the mark takes a higher
/// version. 3.
/// The write must not end under that same version: a relay may have delivered the old state under it.
#[tokio::test]
async fn two_states_never_share_a_version_however_their_marks_wait() {
    let (world, app) = world(strict()).await;
    world.sql(&log(1, "a")).await;
    drop(app);
    let (mut holder, mut writer) = (world.stranger().await, world.stranger().await);
    run(&mut holder, "BEGIN").await;
    run(&mut holder, "UPDATE lockstep.pending SET marked_at = marked_at").await;
    let write = tokio::spawn(async move {
        run(&mut writer, "UPDATE integration_logs SET user_id = 'new' WHERE log_id = 1").await
    });
    eventually("the write waits for the mark", || world.is_held_up()).await;
    run(&mut holder, "UPDATE lockstep.pending SET version = nextval('lockstep.version_seq')").await;
    let higher = Version(world.value("SELECT last_value FROM lockstep.version_seq").await);
    run(&mut holder, "COMMIT").await;
    write.await.expect("no panic");
    assert!(world.pending(LOGS).await[&log_key(1, "a")] > higher, "I2: two states, two versions");
    world.assert_converged().await;
}

/// The order is what makes a phantom findable: whatever may be in the target has an intent that says so.
#[tokio::test]
async fn no_put_leaves_before_its_intent_is_durable_or_ever_without_one() {
    let (world, app) = world(strict()).await;
    applied(&app.store::<IntegrationLogs>().put(&row(1, "u")).await.expect("written"));
    let before = world.proxy().seen("PutItem");
    let mut holder = world.stranger().await;
    run(&mut holder, "BEGIN; LOCK TABLE lockstep.intents IN EXCLUSIVE MODE").await;
    let store = app.store::<IntegrationLogs>();
    let write = tokio::spawn(async move { store.put(&row(2, "u")).await });
    let waiting =
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
                   AND query LIKE 'INSERT INTO lockstep.intents%'";
    eventually("the intent waits", || async {
        world.value::<bool>(&format!("SELECT EXISTS ({waiting})")).await
    })
    .await;
    world.sql(&format!("SELECT pg_terminate_backend(pid) FROM ({waiting}) AS waits")).await;
    write.await.expect("no panic").expect_err("without an intent nothing is written");
    run(&mut holder, "ROLLBACK").await;
    assert_eq!(world.proxy().seen("PutItem"), before, "I9");
    assert_eq!(world.count(LOGS).await, 1, "rolled back");
    world.assert_converged().await;
}
