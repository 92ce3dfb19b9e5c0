//! Notifications of PostgreSQL: nothing waits for one, and a flood of them is no flood of work.

use std::time::{Duration, Instant};

use lockstep::instance::{Instance, InstanceOptions};
use lockstep::migration::Migration;
use lockstep_core::{Kind, Phase};
use lockstep_postgres::{Source, SourceOptions, Turn};
use lockstep_tests::World;
use lockstep_tests::world::backfill;
use lockstep_tests::world::rows::logs;
use serde_json::{Value, json};

/// A queue of notifications that is full, as each statement that notifies sees it. A true one has 8 GB.
const FULL: &str = "
    SET allow_system_table_mods = on;
    CREATE OR REPLACE FUNCTION pg_catalog.pg_notify(text, text) RETURNS void LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION 'too many notifications in the NOTIFY queue' USING ERRCODE = '54000';
    END $$;
    RESET allow_system_table_mods";

/// 1. A session listens, and never reads: the queue fills up. 2. Each commit that notifies fails. 3. No step
/// was taken, no setting was turned, and the way back from DynamoOnly, once it was decided, was never
/// followed.
#[tokio::test]
async fn a_full_queue_of_notifications_keeps_from_no_step_and_no_setting() {
    let world = World::start().await;
    let coordinator = world.prepared().await;
    world.sql(&logs(1, 5)).await;
    backfill(&coordinator).await;
    for to in [Phase::DualWrite, Phase::HybridRead, Phase::DynamoOnly] {
        world.step_to(&coordinator, to).await;
    }
    world.sql(FULL).await;
    let on = Value::Bool(true);
    let turn = Turn { name: "pause.sampling", value: Some(&on), ..Turn::default() };
    assert!(world.source.turn(&[turn], "an operator", None, &json!({})).await.expect("turned"));
    for to in [Phase::HybridRead, Phase::DualWrite] {
        coordinator.step(to, None, &()).await.expect("it is taken");
    }
    coordinator.close().await;
    assert_eq!(world.source.control().await.expect("a phase").phase, Phase::DualWrite);
}

/// Notifies until a second is over and there were many; says how many, and how long it took.
async fn flood(world: &World) -> (u64, Duration) {
    let (begun, mut sent) = (Instant::now(), 0);
    while begun.elapsed() < Duration::from_secs(1) || sent < 200 {
        world.sql("SELECT pg_notify('lockstep_phase', random()::text)").await;
        sent += 1;
    }
    (sent, begun.elapsed())
}

/// 1. A role notifies as fast as it can. 2. Each application renewed its lease, which is a commit, as often.
#[tokio::test]
async fn a_flood_of_notifications_is_no_flood_of_renewals() {
    let world = World::start().await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    let options = InstanceOptions { name: "flooded".to_owned(), lease: Duration::from_secs(10) };
    let instance = Instance::start(&world.source, options).await.expect("registers");
    let renewals = async || world.source.instances().await.expect("instances")[0].renewals;
    let before = renewals().await;
    let (sent, took) = flood(&world).await;
    let turns = (renewals().await - before).unsigned_abs();
    let most = took.as_millis() as u64 / 50 + 2;
    assert!(turns <= most, "{turns} renewals in {took:?}, of {sent} notifications");
    assert!(turns >= 2, "it is woken all the same");
    instance.shutdown().await;
}

/// While the lease is in DynamoDB, what PostgreSQL says changes nothing, and each turn reads the control
/// record.
#[tokio::test]
async fn notifications_wake_no_application_whose_lease_is_in_dynamodb() {
    let world = World::behind_proxy().await.dynamo_only(&logs(1, 3)).await;
    let app =
        Migration::connect(world.production(world.url(), Duration::from_secs(10))).await.expect("connects");
    let asked = || world.proxy().seen("GetItem") + world.proxy().seen("UpdateItem");
    let before = asked();
    let (sent, took) = flood(&world).await;
    let turns = asked() - before;
    // One in 200 ms, of which some both look and renew.
    let most = took.as_millis() as u64 / 100 + 2;
    assert!(turns <= most, "{turns} requests in {took:?}, of {sent} notifications");
    app.shutdown().await;
}

/// I18. 1. A database lets no session in for a while, or hands out no transaction numbers. 2. The codes of
/// that are those of a value that is too long, and of an object in a wrong state.
#[tokio::test]
async fn a_database_that_takes_no_session_is_an_outage_and_a_value_that_is_too_long_is_not() {
    let world = World::start().await;
    let (server, _) = world.url().rsplit_once('/').expect("a database");
    let options = SourceOptions { url: format!("{server}/template0"), ..world.source_options() };
    let error = Source::connect(&options).await.expect_err("it lets none in");
    assert_eq!((error.kind, error.sqlstate().as_deref()), (Kind::Unavailable, Some("55000")), "{error}");
    let too_long = "CREATE TABLE long (v text PRIMARY KEY);
        INSERT INTO long SELECT string_agg(md5(i::text), '') FROM generate_series(1, 1000) AS i";
    let refused = world.try_sql(too_long).await.expect_err("an index does not hold it");
    let error = lockstep_postgres::of_sqlx("writing", refused);
    assert_eq!((error.kind, error.sqlstate().as_deref()), (Kind::Invalid, Some("54000")), "{error}");
}
