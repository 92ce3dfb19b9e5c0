//! V7: logical replication of a database that is being migrated, to another server: a copy of all of it, as
//! RDS Blue/Green and upgrades by replication make one, and an original that is itself a subscriber.

use lockstep_coordinator::{examine, observe, ready};
use lockstep_core::Phase;
use lockstep_embedded::{Postgres, PostgresOptions};
use lockstep_postgres::Source;
use lockstep_tests::World;
use lockstep_tests::world::rows::{logs, payment, payment_row, payments};
use lockstep_tests::world::{WorldOptions, eventually};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::history::diagnosis;

/// Two servers, of which either may publish and subscribe.
struct Two {
    first: Postgres,
    second: Postgres,
}

async fn server() -> Postgres {
    let server = Postgres::start(PostgresOptions::default()).await.expect("PostgreSQL starts");
    let mut sql = PgConnection::connect(server.url()).await.expect("it answers");
    // Every table of a subscription is copied by a worker of its own.
    for setting in [
        "wal_level = 'logical'",
        "max_worker_processes = 24",
        "max_logical_replication_workers = 16",
        "max_sync_workers_per_subscription = 8",
        "max_wal_senders = 24",
        "max_replication_slots = 24",
        "wal_retrieve_retry_interval = '200ms'",
    ] {
        run(&mut sql, &format!("ALTER SYSTEM SET {setting}")).await;
    }
    drop(sql);
    server.crash().await.expect("crashes");
    server.start_again().await.expect("starts again");
    server
}

async fn run(sql: &mut PgConnection, text: &str) {
    let done = sqlx::raw_sql(AssertSqlSafe(text.to_owned())).execute(sql).await;
    done.unwrap_or_else(|error| panic!("{text}: {error}"));
}

/// Makes a database, with another table of its own in it, so that its oids are no other's; its URL.
async fn database(server: &Postgres, name: &str) -> String {
    let mut sql = PgConnection::connect(server.url()).await.expect("it answers");
    run(&mut sql, &format!("CREATE DATABASE {name} TEMPLATE template0")).await;
    let (place, _) = server.url().rsplit_once('/').expect("a URL ends in its database");
    format!("{place}/{name}")
}

async fn pool(url: &str) -> PgPool {
    PgPoolOptions::new().max_connections(3).connect(url).await.expect("it answers")
}

/// The place of a database as a subscription has it.
fn conninfo(url: &str) -> String {
    let options: PgConnectOptions = url.parse().expect("our own URL parses");
    let password = url.split([':', '@']).nth(2).expect("a password");
    format!(
        "host=127.0.0.1 port={} user={} password={password} dbname={}",
        options.get_port(),
        options.get_username(),
        options.get_database().expect("a database"),
    )
}

impl Two {
    async fn start() -> Self {
        let (first, second) = tokio::join!(server(), server());
        Self { first, second }
    }

    /// A world on the first server.
    async fn world(&self, name: &str) -> World {
        let url = database(&self.first, name).await;
        let mut sql = PgConnection::connect(&url).await.expect("it answers");
        lockstep_sample::load::create_tables(&mut sql).await.expect("the sample's tables");
        World::at(url, WorldOptions::default()).await
    }

    /// A database on the second one whose tables have other oids than those of the first.
    async fn place(&self, name: &str) -> String {
        let url = database(&self.second, name).await;
        let mut sql = PgConnection::connect(&url).await.expect("it answers");
        run(&mut sql, "CREATE TABLE of_its_own (id int); DROP TABLE of_its_own").await;
        url
    }
}

async fn subscribe(subscriber: &PgPool, publisher: &str, copies: bool) {
    let text = format!(
        "CREATE SUBSCRIPTION brings CONNECTION '{}' PUBLICATION goes
         WITH (copy_data = {copies}, streaming = off)",
        conninfo(publisher)
    );
    sqlx::raw_sql(AssertSqlSafe(text.clone())).execute(subscriber).await.unwrap_or_else(|e| panic!("{e}"));
}

async fn text(pool: &PgPool, sql: &str) -> String {
    let found: Option<String> =
        sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(pool).await.expect("an answer");
    found.unwrap_or_default()
}

/// Rows and marks are the same in both, once everything has arrived.
async fn arrives(what: &str, world: &World, subscriber: &PgPool, sql: &str) {
    let wanted = text(world.strangers(), sql).await;
    assert!(!wanted.is_empty(), "{what}: nothing to wait for");
    let found = std::sync::Mutex::new(String::new());
    let same = async || {
        let now = text(subscriber, sql).await;
        let is_same = now == wanted;
        *found.lock().expect("no panic") = now;
        is_same
    };
    let waited = tokio::time::timeout(std::time::Duration::from_secs(50), eventually(what, same)).await;
    assert!(waited.is_ok(), "{what}: {wanted}\n is here:\n{}", found.lock().expect("no panic"));
}

const ROWS: &str = "SELECT string_agg(line, E'\\n' ORDER BY line) FROM (
    SELECT 'payment ' || payment_id || ' ' || customer_id || ' ' || loan_id AS line FROM payments
    UNION ALL SELECT 'log ' || log_id || ' ' || service_name FROM integration_logs) AS both_tables";
const MARKS: &str = "SELECT 'marks: ' || coalesce(string_agg(table_name || key::text || version, E'\\n'
    ORDER BY table_name, key, version), 'none') FROM lockstep.pending";
const NOTES: &str = "SELECT 'notes: ' || coalesce(string_agg(table_name || key::text || pass, E'\\n'
    ORDER BY table_name, key), 'none') FROM lockstep.unverified";

const ERRORS: &str = "SELECT coalesce(sum(apply_error_count), 0)::text FROM pg_stat_subscription_stats";

/// Everything that applications, a relay and a comparison do there.
async fn work(world: &World, from: i64) {
    world.sql(&format!("{}; {}", logs(from, from + 9), payments(from, from + 9))).await;
    world.sql(&format!("UPDATE payments SET loan_id = 77 WHERE payment_id >= {from}")).await;
    // Another key of a row: two marks.
    world.sql(&format!("UPDATE payments SET customer_id = 900 WHERE payment_id = {from}")).await;
    world.sql(&format!("DELETE FROM payments WHERE payment_id = {from} + 1")).await;
}

/// 1. All tables of a database in DualWrite are published, and its schema is restored on another server,
/// which subscribes. 2. Rows arrive with their marks. 3. The subscriber's own triggers mark none a second
/// time.
#[tokio::test]
async fn a_subscriber_of_the_whole_database_goes_on_and_marks_nothing_twice() {
    let two = Two::start().await;
    let world = two.world("loans").await;
    world.sql(&format!("{}; {}", logs(1, 10), payments(1, 10))).await;
    let coordinator = world.migrated_to(Phase::DualWrite).await;
    assert!(!text_of_gate(&world).await.contains("publication"), "there is no subscriber");
    world.sql("CREATE PUBLICATION goes FOR ALL TABLES").await;
    let copy = two.place("loans").await;
    world.dump_schema().await.restore_into(&copy).await;
    let subscriber = pool(&copy).await;
    subscribe(&subscriber, world.url(), true).await;

    work(&world, 100).await;
    arrives("rows of the initial copy and after it", &world, &subscriber, ROWS).await;
    arrives("their marks", &world, &subscriber, MARKS).await;
    work(&world, 200).await;
    world.relay_until_empty().await;
    // A dead letter that is cured while a comparison is under way is noted, and the note is published.
    world
        .sql(
            "UPDATE lockstep.passes SET noted_until = clock_timestamp() + interval '1 hour';
             INSERT INTO lockstep.dead_letters (table_name, key, version, stage, reason)
                 VALUES ('payments', '[1]', 1, 'test', 'test')",
        )
        .await;
    world.sql("DELETE FROM lockstep.dead_letters").await;
    work(&world, 300).await;
    for (what, sql) in [("rows", ROWS), ("marks", MARKS), ("notes", NOTES)] {
        arrives(what, &world, &subscriber, sql).await;
    }

    // Both sides are told of it, and a step from the original is not refused for it.
    let told = diagnosis(&world).await;
    let found = told.findings.iter().find(|finding| finding.what.contains("publication goes"));
    let found = found.unwrap_or_else(|| panic!("{:#?}", told.findings));
    assert!(found.what.contains("slot brings") && found.next.contains("Blue/Green"), "{found:?}");
    assert!(text_of_gate(&world).await.contains("publication goes"));
    let options = lockstep_postgres::SourceOptions { url: copy.clone(), ..world.source_options() };
    let there = Source::connect(&options).await.expect("it answers");
    let seen = observe(&there, &world.plain_target, &world.tables()).await.expect("observed");
    let told = examine(&seen);
    let found = told.findings.iter().find(|finding| finding.what.contains("subscription brings"));
    let found = found.unwrap_or_else(|| panic!("{:#?}", told.findings));
    assert!(found.what.contains("is a copy") && !told.sound, "{found:?}");
    coordinator.close().await;
    there.close().await;

    assert_eq!(text(&subscriber, ERRORS).await, "0", "no worker has failed so far");
    // Were the question not asked, the first mark would end the worker.
    sqlx::raw_sql(
        "CREATE OR REPLACE FUNCTION lockstep.is_brought() RETURNS boolean LANGUAGE sql AS 'SELECT false'",
    )
    .execute(&subscriber)
    .await
    .expect("replaced");
    world.sql(&payment(9_000, 1)).await;
    eventually("its worker stops", || async { text(&subscriber, ERRORS).await != "0" }).await;
}

/// The gate of logical replication as an operator reads it.
async fn text_of_gate(world: &World) -> String {
    let report = ready(&world.migration(), Phase::HybridRead).await.expect("asked");
    let gate = report.results.into_iter().find(|gate| gate.name == "logical replication").expect("asked");
    assert!(gate.passed, "{gate:?}");
    gate.detail
}

/// 1. A database in DynamoOnly is copied with its rows. 2. The copy subscribes: to all tables, or to those
/// that are moved alone. 3. The feed writes the original, and what it wrote arrives in the copy, whose
/// phase is DynamoOnly as well.
#[tokio::test]
async fn what_the_feed_writes_arrives_at_a_subscriber_whose_tables_are_frozen() {
    let two = Two::start().await;
    for (name, tables) in [("whole", "FOR ALL TABLES"), ("moved", "FOR TABLE payments, integration_logs")] {
        let world = two.world(name).await;
        world.sql(&format!("{}; {}", logs(1, 10), payments(1, 10))).await;
        let world = world.dynamo_only("SELECT 1").await;
        world.feed_until_drained().await;
        world.sql(&format!("CREATE PUBLICATION goes {tables}")).await;
        let copy = two.place(name).await;
        world.dump_source(false).await.restore_into(&copy).await;
        let subscriber = pool(&copy).await;
        let frozen = sqlx::raw_sql("DELETE FROM payments").execute(&subscriber).await;
        assert!(frozen.expect_err("it is frozen as well").to_string().contains("DynamoDB"), "{name}");
        // So is whatever says of itself that it is a replica.
        let frozen = sqlx::raw_sql("SET LOCAL session_replication_role = replica; DELETE FROM payments");
        frozen.execute(&subscriber).await.expect_err("no worker of a subscription");
        subscribe(&subscriber, world.url(), false).await;

        let epoch = world.source.control().await.expect("a phase").epoch;
        let table = lockstep_payments::Payments::default();
        world.put_item(&table, &payment_row(5000, 7, "of DynamoOnly"), epoch).await;
        world.feed_until_drained().await;
        arrives(name, &world, &subscriber, ROWS).await;
        assert_eq!(text(&subscriber, MARKS).await, "marks: none", "{name}");
        assert_eq!(text(world.strangers(), MARKS).await, "marks: none", "{name}");
        sqlx::raw_sql("DROP SUBSCRIPTION brings").execute(&subscriber).await.expect("dropped");
    }
}

/// 1. The database of a migration subscribes to the payments of another one. 2. What arrives is a change as
/// any other: it is marked up to HybridRead, and refused in DynamoOnly.
#[tokio::test]
async fn what_an_original_subscribes_to_is_captured_and_frozen_as_before() {
    let two = Two::start().await;
    let upstream = two.place("upstream").await;
    let mut sql = PgConnection::connect(&upstream).await.expect("it answers");
    lockstep_sample::load::create_tables(&mut sql).await.expect("the sample's tables");
    run(&mut sql, "CREATE PUBLICATION goes FOR TABLE payments").await;
    let world = two.world("original").await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    subscribe(world.strangers(), &upstream, true).await;

    run(&mut sql, &payment(1, 1)).await;
    eventually("it arrives with a mark", || async { world.pending("payments").await.len() == 1 }).await;
    assert_eq!(world.count("payments").await, 1);
    // The server was upgraded in place, or has another name: it is the original all the same.
    world.sql("UPDATE lockstep.control SET database = 'of_before'").await;
    world.sql("UPDATE lockstep.history SET server = '1/00000001'").await;
    run(&mut sql, &payment(2, 2)).await;
    eventually("the next one as well", || async { world.pending("payments").await.len() == 2 }).await;
    world.sql("UPDATE lockstep.control SET database = current_database()").await;
    world.sql("UPDATE lockstep.history SET server = NULL").await;

    world.relay_until_empty().await;
    world.stepped_to(Phase::HybridRead).await;
    world.truth_in_target().await;
    run(&mut sql, &payment(3, 3)).await;
    eventually("the worker is refused", || async { text(world.strangers(), ERRORS).await != "0" }).await;
    assert_eq!(world.count("payments").await, 2, "a write that no store would have");
}
