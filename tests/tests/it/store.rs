//! The store handle: PostgreSQL decides, the target follows at once or later, and reads are right in every
//! phase.

use lockstep::store::{Delivery, WriteOutcome};
use lockstep_core::{Json, Kind, MigratableTable, Phase, Version, tombstone, version_of};
use lockstep_integration_logs::{IntegrationLog, IntegrationLogs, LogKey};
use lockstep_tests::World;
use lockstep_tests::faults::{Fault, FaultKind, Rule};
use lockstep_tests::world::LOGS;
use lockstep_tests::world::rows::{log_key, log_row};

pub(crate) fn row(log_id: i64, user_id: &str) -> IntegrationLog {
    IntegrationLog {
        request_data: Some(Json::parse(r#"{"n": 1.00}"#).expect("JSON")),
        error_message: Some(String::new()),
        ..log_row(log_id, user_id)
    }
}

fn key(log_id: i64) -> LogKey {
    IntegrationLogs::key(&row(log_id, ""))
}

#[track_caller]
pub(crate) fn applied<R: std::fmt::Debug>(outcome: &WriteOutcome<R>) {
    assert!(matches!(outcome.target, Delivery::Applied) && outcome.found, "{outcome:?}");
}

#[track_caller]
pub(crate) fn deferred<R: std::fmt::Debug>(outcome: &WriteOutcome<R>) -> Kind {
    match &outcome.target {
        Delivery::Deferred(error) => error.kind,
        _ => panic!("{outcome:?}"),
    }
}

#[tokio::test]
async fn in_postgres_only_writes_are_captured_and_the_target_is_left_alone() {
    let world = World::start().await;
    world.migrated_to(Phase::PostgresOnly).await.close().await;
    let store = world.log_store();
    let outcome = store.put(&row(1, "first")).await.expect("written");
    assert!(
        matches!(outcome.target, Delivery::NotDue) && outcome.control.phase == Phase::PostgresOnly,
        "{outcome:?}"
    );
    let outcome = store.update(1, |log| log.user_id = Some("second".to_owned())).await.expect("written");
    assert_eq!(outcome.row.expect("the row as it is").user_id.as_deref(), Some("second"));
    assert_eq!(store.get(&key(1)).await.expect("read").expect("a row").user_id.as_deref(), Some("second"));
    assert_eq!(world.items(LOGS).await.len(), 0);
    assert_eq!(world.pending(LOGS).await.len(), 1);
    assert!(store.delete(1).await.expect("deleted").found);
    assert!(!store.delete(1).await.expect("nothing to delete").found);
    let missing = store.update(1, |_| panic!("there is nothing to change")).await.expect("nothing to change");
    assert!(!missing.found && missing.row.is_none());
    assert_eq!(store.get(&key(1)).await.expect("read"), None);
    world.assert_converged().await;
}

#[tokio::test]
async fn in_dual_write_the_target_has_each_write_at_once_under_its_version() {
    let world = World::start().await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    let (store, table) = (world.log_store(), world.logs_table());
    applied(&store.put(&row(1, "first")).await.expect("written"));
    store.writer().acknowledged().await;
    assert!(world.pending(LOGS).await.is_empty(), "acknowledged");
    let first = version_of(&world.live_at(&table, &log_key(1, "a")).await).expect("a version");
    assert_eq!(first.epoch(), world.source.control().await.expect("a phase").epoch);
    applied(&store.update(1, |log| log.user_id = Some("second".to_owned())).await.expect("written"));
    let item = world.live_at(&table, &log_key(1, "a")).await;
    assert_eq!(IntegrationLogs::decode(&item).expect("a log").user_id.as_deref(), Some("second"));
    assert!(version_of(&item) > Some(first));
    applied(&store.delete(1).await.expect("deleted"));
    let deleted = world.tombstone_at(&table, &log_key(1, "a")).await;
    applied(&store.put(&row(1, "again")).await.expect("written"));
    assert!(version_of(&world.live_at(&table, &log_key(1, "a")).await) > Some(deleted));
    store.writer().acknowledged().await;
    assert!(world.pending(LOGS).await.is_empty());
    world.assert_converged().await;
}

#[tokio::test]
async fn an_update_that_moves_the_row_leaves_a_tombstone_where_it_was() {
    let world = World::start().await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    let (store, table) = (world.log_store(), world.logs_table());
    applied(&store.put(&row(1, "u")).await.expect("written"));
    applied(&store.update(1, |log| log.service_name = "b".to_owned()).await.expect("moved"));
    world.tombstone_at(&table, &log_key(1, "a")).await;
    world.live_at(&table, &log_key(1, "b")).await;
    store.writer().acknowledged().await;
    assert!(world.pending(LOGS).await.is_empty(), "both keys were acknowledged");
    // A put that replaces a row elsewhere knows nothing of the old place: that key stays pending, and the
    // relay delivers it.
    store.put(&row(1, "u")).await.expect("written");
    world.assert_converged().await;
    world.tombstone_at(&table, &log_key(1, "b")).await;
}

#[tokio::test]
async fn while_the_target_is_away_writes_are_deferred_and_arrive_later() {
    let world = World::behind_proxy().await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    let store = world.log_store();
    world.proxy().script(Rule::new(Fault::Unavailable));
    assert_eq!(deferred(&store.put(&row(1, "u")).await.expect("PostgreSQL decides")), Kind::Unknown);
    deferred(&store.put(&row(2, "u")).await.expect("PostgreSQL decides"));
    deferred(&store.delete(2).await.expect("PostgreSQL decides"));
    assert_eq!(world.count(LOGS).await, 1);
    assert_eq!((world.pending(LOGS).await.len(), world.items(LOGS).await.len()), (2, 0));
    assert!(world.proxy().counts().injected_on(FaultKind::Unavailable, "PutItem") >= 3);
    world.proxy().clear();
    world.proxy().script(Rule::new(Fault::LoseReply).on("PutItem").times(1));
    deferred(&store.put(&row(3, "u")).await.expect("PostgreSQL decides"));
    assert!(
        world.pending(LOGS).await.contains_key(&log_key(3, "a")),
        "I8: not known to have arrived, so it stays pending"
    );
    world.assert_converged().await;
}

#[tokio::test]
async fn a_row_that_no_item_can_hold_is_written_to_postgres_and_left_to_the_relay() {
    let world = World::start().await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    let store = world.log_store();
    applied(&store.put(&row(1, "u")).await.expect("written"));
    let outcome = store
        .update(1, |log| log.error_message = Some("x".repeat(420_000)))
        .await
        .expect("PostgreSQL decides");
    assert_eq!(deferred(&outcome), Kind::Invalid);
    assert_eq!(world.relay_until_empty().await.dead_letters, 1);
    world.tombstone_at(&world.logs_table(), &log_key(1, "a")).await;
    applied(&store.update(1, |log| log.error_message = None).await.expect("written"));
    world.assert_converged().await;
}

/// Makes the target say something else than the source, under a higher version.
async fn tamper(world: &World, log_id: i64) {
    let high = Version(i64::MAX >> 1);
    let item =
        MigratableTable::encode(&IntegrationLogs::default(), &row(log_id, "from the target")).expect("fits");
    world.plain_target.put_guarded(LOGS, item.at(high), high).await.expect("tampered");
}

async fn read_by(world: &World, log_id: i64) -> Option<String> {
    world.log_store().get(&key(log_id)).await.expect("read").and_then(|log| log.user_id)
}

#[tokio::test]
async fn reads_come_from_the_store_of_the_phase_and_fall_back_to_postgres() {
    let world = World::behind_proxy().await;
    let coordinator = world.migrated_to(Phase::DualWrite).await;
    let store = world.log_store();
    applied(&store.put(&row(1, "from the source")).await.expect("written"));
    applied(&store.put(&row(2, "from the source")).await.expect("written"));
    world.step_to(&coordinator, Phase::HybridRead).await;
    tamper(&world, 1).await;
    assert_eq!(read_by(&world, 1).await.as_deref(), Some("from the target"), "HybridRead reads the target");
    world.proxy().script(Rule::new(Fault::ServerError).on("GetItem").table(LOGS).times(1));
    assert_eq!(read_by(&world, 1).await.as_deref(), Some("from the source"), "an error falls back");
    assert_eq!(world.proxy().counts().injected(FaultKind::ServerError), 1);
    let high = Version(i64::MAX >> 1);
    let place = IntegrationLogs::default().target_key(&key(2)).expect("a key");
    world.plain_target.put_guarded(LOGS, tombstone(place, high), high).await.expect("tampered");
    assert_eq!(
        read_by(&world, 2).await.as_deref(),
        Some("from the source"),
        "a tombstone is a miss, and a miss falls back"
    );
    world.sql(&lockstep_tests::world::rows::log(3, "a")).await;
    assert!(store.get(&key(3)).await.expect("read").is_some(), "not delivered yet, and found all the same");
    assert_eq!(read_by(&world, 404).await, None);
    world.step_to(&coordinator, Phase::DualWrite).await;
    assert_eq!(read_by(&world, 1).await.as_deref(), Some("from the source"), "DualWrite reads PostgreSQL");
}

#[tokio::test]
async fn a_store_follows_the_phase_within_its_lease() {
    let world = World::start().await;
    let coordinator = world.migrated_to(Phase::DualWrite).await;
    let store = world.log_store();
    applied(&store.put(&row(1, "from the source")).await.expect("written"));
    world.step_to(&coordinator, Phase::HybridRead).await;
    tamper(&world, 1).await;
    // One handle all along: it asks again when its lease is over.
    let reads_target = || async {
        store.get(&key(1)).await.expect("read").expect("a row").user_id.as_deref() == Some("from the target")
    };
    lockstep_tests::world::eventually("the handle reads the target", reads_target).await;
    world.step_to(&coordinator, Phase::DualWrite).await;
    lockstep_tests::world::eventually("the handle reads PostgreSQL again", || async {
        !reads_target().await
    })
    .await;
    assert!(matches!(store.delete(1).await.expect("deleted").control.phase, Phase::DualWrite));
}

/// 1. A function renames row 1 to 2. 2. The statement goes by the primary key, and there is a row 2: all that
/// it had was overwritten, and the caller was told that row 1 was changed.
#[tokio::test]
async fn a_function_that_changes_the_primary_key_is_refused_in_every_phase_and_changes_no_row() {
    let world = World::start().await;
    world.migrated_to(Phase::PostgresOnly).await.close().await;
    let store = world.log_store();
    for id in [1, 2] {
        store.put(&row(id, &format!("own {id}"))).await.expect("written");
    }
    let rows = "SELECT string_agg(l::text, ' ' ORDER BY log_id) FROM integration_logs l";
    let before: String = world.value(rows).await;
    for phase in [Phase::PostgresOnly, Phase::DualWrite, Phase::HybridRead] {
        if phase > Phase::PostgresOnly {
            world.stepped_to(phase).await;
        }
        for to in [2, 3] {
            let refused = store.update(1, |log| log.log_id = to).await.expect_err("refused");
            assert_eq!(refused.kind, Kind::Invalid, "{phase} {to}: {refused}");
            let asked = store.update_if(1, |_| true, |log| log.log_id = to);
            assert!(asked.await.is_err(), "{phase} {to}");
            assert_eq!(world.value::<String>(rows).await, before, "{phase} {to}");
        }
    }
}

/// 1. A trigger makes a value that the row type does not read. 2. The insert is committed. 3. Told that
/// nothing was written, the caller writes once more.
#[tokio::test]
async fn a_committed_write_whose_row_does_not_read_is_not_told_as_one_that_was_not_written() {
    let world = World::start().await;
    world.migrated_to(Phase::PostgresOnly).await.close().await;
    world
        .sql(
            "CREATE FUNCTION public.odd() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN NEW.log_timestamp := 'infinity'; RETURN NEW; END $$;
             CREATE TRIGGER odd BEFORE INSERT ON integration_logs FOR EACH ROW EXECUTE FUNCTION public.odd()",
        )
        .await;
    let told = world.log_store().insert(&row(0, "once")).await.expect_err("its row does not read");
    assert_eq!(world.count(LOGS).await, 1, "it is committed");
    assert_eq!(told.kind, Kind::Unknown, "{told}");
    assert!(told.to_string().contains("it is committed"), "{told}");
}

/// The target knows the day of a log, and PostgreSQL its moment.
#[tokio::test]
async fn a_row_of_another_whole_key_at_the_same_place_answers_in_no_phase() {
    let world = World::start().await;
    world.migrated_to(Phase::PostgresOnly).await.close().await;
    let store = world.log_store();
    store.put(&row(1, "there")).await.expect("written");
    let asked = LogKey { log_timestamp: key(1).log_timestamp + chrono::TimeDelta::seconds(1), ..key(1) };
    let place = |key: &LogKey| IntegrationLogs::default().target_key(key).expect("a key");
    let shares_a_place = place(&asked) == place(&key(1));
    for phase in [Phase::PostgresOnly, Phase::DualWrite, Phase::HybridRead] {
        if phase > Phase::PostgresOnly {
            world.stepped_to(phase).await;
        }
        assert_eq!(store.get(&asked).await.expect("read"), None, "{phase}, one place: {shares_a_place}");
        assert!(store.get(&key(1)).await.expect("read").is_some(), "{phase}");
        let compared = store.compare(&asked).await.expect("compared");
        assert!(matches!(compared, lockstep::store::reads::Comparison::Agree), "{phase}: {compared:?}");
    }
}
