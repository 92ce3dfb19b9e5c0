//! I1 and the order of versions: what capture marks, for whom, and when.

use std::collections::BTreeSet;
use std::time::Duration;

use lockstep_core::{Epoch, Phase};
use lockstep_postgres::{flip_phase, read_control, take_exclusive};
use lockstep_tests::World;
use lockstep_tests::world::rows::{AT, log, log_key, payment, payment_key};
use lockstep_tests::world::{LOGS, PAYMENTS, eventually, run, within};

async fn captured() -> World {
    let world = World::start().await;
    world.prepared().await.close().await;
    world
}

/// Runs `sql` on an empty pending set and holds what it marked against `expected`.
async fn check(world: &World, table: &str, sql: &str, expected: &[String]) {
    world.sql("DELETE FROM lockstep.pending").await;
    world.sql(sql).await;
    let marked: BTreeSet<String> = world.pending(table).await.into_keys().collect();
    assert_eq!(marked, expected.iter().cloned().collect(), "{sql}");
}

#[tokio::test]
async fn every_kind_of_change_marks_exactly_its_keys() {
    let world = captured().await;
    let (a, b) = (log_key(1, "a"), log_key(1, "b"));
    check(&world, LOGS, &log(1, "a"), &[log_key(1, "a")]).await;
    check(&world, LOGS, "UPDATE integration_logs SET user_id = 'u' WHERE log_id = 1", &[log_key(1, "a")])
        .await;
    check(&world, LOGS, "UPDATE integration_logs SET service_name = 'b'", &[a.clone(), b.clone()]).await;
    check(&world, LOGS, "UPDATE integration_logs SET log_id = 2", &[b.clone(), log_key(2, "b")]).await;
    check(&world, LOGS, "UPDATE integration_logs SET user_id = 'v' WHERE log_id = 404", &[]).await;
    let upsert = |service: &str| {
        format!("{} ON CONFLICT (log_id) DO UPDATE SET service_name = excluded.service_name", log(2, service))
    };
    check(&world, LOGS, &upsert("c"), &[log_key(2, "b"), log_key(2, "c")]).await;
    check(&world, LOGS, &format!("{} ON CONFLICT DO NOTHING", log(2, "z")), &[]).await;
    check(&world, LOGS, "DELETE FROM integration_logs", &[log_key(2, "c")]).await;
    let reinsert = format!("{}; DELETE FROM integration_logs; {}", log(3, "d"), log(3, "d"));
    check(&world, LOGS, &reinsert, &[log_key(3, "d")]).await;
    check(&world, LOGS, &format!("BEGIN; {}; ROLLBACK", log(4, "e")), &[]).await;
    check(&world, PAYMENTS, &payment(1, 7), &[payment_key(1, 7)]).await;
    check(&world, PAYMENTS, "UPDATE payments SET customer_id = 8", &[payment_key(1, 7), payment_key(1, 8)])
        .await;
    check(&world, PAYMENTS, "UPDATE payments SET payment_status = 'Failed'", &[payment_key(1, 8)]).await;
}

#[tokio::test]
async fn copy_and_replica_sessions_are_captured_as_well() {
    let world = captured().await;
    let mut stranger = world.stranger().await;
    let mut copy = stranger
        .copy_in_raw(
            "COPY integration_logs (log_id, log_type, service_name, is_success, log_timestamp) FROM STDIN",
        )
        .await
        .expect("copies");
    copy.send(format!("1\tCheck\tcopied\ttrue\t{AT}\n").as_bytes()).await.expect("sends");
    assert_eq!(copy.finish().await.expect("copied"), 1);
    run(&mut stranger, &format!("SET session_replication_role = replica; {}", log(2, "replicated"))).await;
    let marked: Vec<String> = world.pending(LOGS).await.into_keys().collect();
    assert_eq!(marked, [log_key(1, "copied"), log_key(2, "replicated")]);
}

#[tokio::test]
async fn sessions_of_other_settings_mark_the_same_key() {
    let world = captured().await;
    let mut stranger = world.stranger().await;
    run(&mut stranger, &log(1, "a")).await;
    for settings in [
        "TimeZone = 'Asia/Kolkata'",
        "TimeZone = 'America/St_Johns'",
        "DateStyle = 'German, DMY'",
        "IntervalStyle = 'sql_standard'",
    ] {
        run(&mut stranger, &format!("SET {settings}; UPDATE integration_logs SET user_id = '1'")).await;
    }
    let marked: Vec<String> = world.pending(LOGS).await.into_keys().collect();
    assert_eq!(marked, [log_key(1, "a")]);
}

#[tokio::test]
async fn a_role_without_any_right_on_schema_lockstep_still_writes() {
    let world = captured().await;
    let role = format!("teller_{}", world.url().rsplit_once('/').expect("a URL").1);
    world
        .sql(&format!(
            "CREATE ROLE {role}; GRANT SELECT, INSERT, UPDATE, DELETE ON integration_logs TO {role}"
        ))
        .await;
    let mut teller = world.stranger().await;
    run(
        &mut teller,
        &format!("SET ROLE {role}; {}; UPDATE integration_logs SET service_name = 'b'", log(1, "a")),
    )
    .await;
    let peek = sqlx::raw_sql("SELECT * FROM lockstep.pending")
        .execute(&mut teller)
        .await
        .expect_err("no right to look");
    assert!(peek.to_string().contains("permission denied"), "{peek}");
    let marked: Vec<String> = world.pending(LOGS).await.into_keys().collect();
    assert_eq!(marked, [log_key(1, "a"), log_key(1, "b")]);
    run(&mut teller, "RESET ROLE").await;
    world.sql(&format!("REVOKE ALL ON integration_logs FROM {role}; DROP ROLE {role}")).await;
}

#[tokio::test]
async fn truncate_is_refused_with_what_to_do() {
    let world = captured().await;
    world.sql(&payment(1, 7)).await;
    for how in [
        "TRUNCATE payments",
        "TRUNCATE customers CASCADE",
        "SET session_replication_role = replica; TRUNCATE payments",
    ] {
        let mut stranger = world.stranger().await;
        let refused =
            sqlx::raw_sql(sqlx::AssertSqlSafe(how.to_owned())).execute(&mut stranger).await.expect_err(how);
        let refused = refused.into_database_error().expect("PostgreSQL's");
        assert!(refused.message().contains("lockstep: TRUNCATE of public.payments is refused"), "{refused}");
        let hint = refused.downcast_ref::<sqlx::postgres::PgDatabaseError>().hint().unwrap_or_default();
        assert!(hint.contains("Use DELETE"), "{hint}");
    }
    assert_eq!(world.count(PAYMENTS).await, 1);
}

/// Flips the phase as a step does, and commits or not.
async fn flip(world: &World, to: Phase, commit: bool) -> Epoch {
    let mut transaction = world.source.pool().begin().await.expect("begins");
    take_exclusive(&mut transaction, Duration::from_millis(300)).await.expect("no application writes");
    let epoch = flip_phase(&mut transaction, to).await.expect("flips");
    if commit { transaction.commit().await } else { transaction.rollback().await }.expect("ends");
    epoch
}

#[tokio::test]
async fn a_snapshot_from_before_a_flip_gets_versions_of_the_new_epoch() {
    let world = captured().await;
    let mut old = world.stranger().await;
    run(&mut old, "BEGIN ISOLATION LEVEL REPEATABLE READ").await;
    assert_eq!(read_control(&mut old).await.expect("a phase").epoch, Epoch::FIRST, "the snapshot is taken");
    let epoch = flip(&world, Phase::DualWrite, true).await;
    run(&mut old, &log(1, "a")).await;
    assert_eq!(
        read_control(&mut old).await.expect("a phase").epoch,
        Epoch::FIRST,
        "it still sees the old epoch"
    );
    run(&mut old, "COMMIT").await;
    assert_eq!(world.pending(LOGS).await[&log_key(1, "a")].epoch(), epoch);
}

#[tokio::test]
async fn a_flip_that_did_not_commit_burns_its_epoch() {
    let world = captured().await;
    let burnt = flip(&world, Phase::DualWrite, false).await;
    assert_eq!(world.source.control().await.expect("a phase").epoch, Epoch::FIRST);
    world.sql(&log(1, "a")).await;
    let between = world.pending(LOGS).await[&log_key(1, "a")];
    assert_eq!(between.epoch(), burnt, "the sequence knows no rollback");
    let epoch = flip(&world, Phase::DualWrite, true).await;
    assert!(epoch > burnt, "{epoch} after {burnt}: two phases would share an epoch");
    world.sql("UPDATE integration_logs SET user_id = 'u'").await;
    let after = world.pending(LOGS).await[&log_key(1, "a")];
    assert!(after > between && after.epoch() == epoch, "{after} after {between}");
}

#[tokio::test]
async fn versions_of_one_key_grow_in_the_order_of_commits() {
    let world = captured().await;
    world.sql(&log(1, "a")).await;
    let version = "SELECT version FROM lockstep.pending";
    let (mut first, mut second) = (world.stranger().await, world.stranger().await);
    run(&mut first, "BEGIN; DELETE FROM integration_logs WHERE log_id = 1").await;
    let waiter: i32 =
        sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut second).await.expect("a backend");
    let inserting = tokio::spawn(async move {
        run(&mut second, &format!("BEGIN; {}", log(1, "a"))).await;
        let version: i64 = sqlx::query_scalar(version).fetch_one(&mut second).await.expect("its own mark");
        run(&mut second, "UPDATE integration_logs SET user_id = 'second'; COMMIT").await;
        version
    });
    let waits = format!("SELECT cardinality(pg_blocking_pids({waiter})) > 0");
    eventually("the insert waits for the delete", || world.value::<bool>(&waits)).await;
    // The first goes on writing the key while the second waits for it: its versions must stay the lower ones.
    run(&mut first, &format!("{}; DELETE FROM integration_logs WHERE log_id = 1", log(1, "a"))).await;
    let of_first: i64 = sqlx::query_scalar(version).fetch_one(&mut first).await.expect("its own mark");
    run(&mut first, "COMMIT").await;
    let of_second = within(Duration::from_secs(10), inserting).await.expect("no panic");
    assert!(of_second > of_first, "{of_second} committed after {of_first}");
    world.assert_converged().await;
    assert_eq!(world.live_items(LOGS).await, 1);
}
