//! Rows of the initial load that wait for longer than they may are read again before they are sent (P19).

use std::time::Duration;

use lockstep_coordinator::{BackfillSummary, Coordinator};
use lockstep_core::{Attributes, SourceKey, is_tombstone, version_of};
use lockstep_dynamo::LoadPath;
use lockstep_postgres::{TableBinding, Tuning};
use lockstep_tests::World;
use lockstep_tests::faults::{Fault, Rule};
use lockstep_tests::world::{backfill, eventually};

use super::same_place::relay_until_empty;
use super::{bound, migration};

const SESSIONS: &str = "[tables.sessions]\npartition = \"S#{id}\"\nexpires = \"until + 1s\"\n";
const TABLE: &str = "CREATE TABLE sessions (id bigint PRIMARY KEY, until timestamptz NOT NULL, note text)";

/// A table of rows that expire next year, captured, and a backfill that may spend `units` a second.
async fn prepared(world: &World, rows: i64, units: u64) -> (Vec<TableBinding>, Coordinator) {
    let rows = format!("SELECT i, now() + interval '1 year', 'old' FROM generate_series(1, {rows}) AS i");
    world.sql(&format!("{TABLE}; INSERT INTO sessions {rows}")).await;
    let tables = bound(world, SESSIONS).await.expect("binds");
    let mut migration = migration(world, &tables);
    migration.options.backfill.write_units_per_s_max = Some(units);
    migration.options.backfill.ranges_per_table = 1;
    let coordinator = world.coordinator_of(migration).await;
    coordinator.prepare(&()).await.expect("nothing refuses");
    (tables, coordinator)
}

async fn all_are_read(coordinator: &Coordinator, rows: u64) {
    let progress = coordinator.progress();
    eventually("all rows are read", || async { progress.tables[0].rows_read() == rows }).await;
}

async fn item(world: &World, sessions: &TableBinding, id: i64) -> Option<Attributes> {
    world.item(sessions, &format!("[{id}]")).await
}

fn note(item: &Attributes) -> &str {
    item.get("note").and_then(|note| note.as_s().ok()).map_or("", String::as_str)
}

/// 1. A chunk waits for its turn. 2. The expiry of its rows is set into the past, and put. 3. DynamoDB
/// removes them, and their versions. 4. The chunk has its turn.
async fn goes_on_after_a_wait(fault: Option<Fault>) -> (World, BackfillSummary) {
    let world = World::behind_proxy().await;
    let (tables, coordinator) = prepared(&world, 60, 1).await;
    let sessions = &tables[0];
    if let Some(fault) = fault {
        world.proxy().script(Rule::new(fault));
    }
    // The next unit may be spent in fifty minutes.
    world.source.take_units(3_000.0, 1.0).await.expect("taken");
    let meanwhile = async {
        all_are_read(&coordinator, 60).await;
        let read = world.target.reading();
        world
            .sql(
                "UPDATE sessions SET until = now() - interval '3 days' WHERE id = 1;
                 UPDATE sessions SET until = now() - interval '2 hours', note = 'newer' WHERE id = 2;
                 DELETE FROM sessions WHERE id = 3;
                 UPDATE sessions SET note = 'newer' WHERE id = 4;
                 UPDATE sessions SET note = repeat('x', 500000) WHERE id = 5",
            )
            .await;
        relay_until_empty(&world, &tables).await;
        for id in [1, 2] {
            let key = SourceKey::parse(&format!("[{id}]")).expect("a key");
            let place = sessions.table.target_key(&key).expect("fits");
            let removal = world.plain_target.client().delete_item().table_name("sessions");
            removal.key("PK", place.partition).send().await.expect("removed, as by its expiry");
        }
        eventually("what was read may not leave any more", || async { !read.may_leave() }).await;
        let more = Tuning { write_units_per_s_max: Some(40_000), ..Tuning::default() };
        world.source.tune(more).await.expect("tuned");
    };
    let (mut summaries, ()) = tokio::join!(backfill(&coordinator), meanwhile);
    coordinator.close().await;
    let summary = summaries.remove(0);
    assert_eq!((summary.rows_read, summary.dead_letters), (60, 1), "{summary:?}");
    assert_eq!(summary.rows_written + summary.rows_present, 59, "{summary:?}");
    assert!(item(&world, sessions, 1).await.is_none(), "it has expired");
    let second = item(&world, sessions, 2).await.expect("it has not expired for long");
    assert_eq!((note(&second), version_of(&second).map(|v| v.0)), ("newer", Some(0)));
    for id in [3, 5] {
        assert!(is_tombstone(&item(&world, sessions, id).await.expect("a tombstone")), "{id}");
    }
    let fourth = item(&world, sessions, 4).await.expect("there");
    assert!(note(&fourth) == "newer" && version_of(&fourth).is_some_and(|v| v.0 > 0), "{fourth:?}");
    for id in 6..=60 {
        let other = item(&world, sessions, id).await.expect("there");
        assert_eq!((note(&other), version_of(&other).map(|v| v.0)), ("old", Some(0)), "{id}");
    }
    (world, summary)
}

#[tokio::test]
async fn a_row_that_expired_while_the_backfill_waited_is_not_put_back() {
    let (world, by_batches) = goes_on_after_a_wait(None).await;
    assert_eq!(by_batches.load_path, LoadPath::GuardedBatch);
    assert!(world.proxy().counts().seen("BatchExecuteStatement") > 1);
    let (_, by_puts) = goes_on_after_a_wait(Some(Fault::NoPartiQl)).await;
    assert_eq!(by_puts.load_path, LoadPath::ConditionalPut);
    // Its probe is answered, and each batch is refused: rows go one by one.
    goes_on_after_a_wait(Some(Fault::FewParameters(2))).await;
}

/// At a rate by which the rows of one chunk are sent in several times the time that they have.
#[tokio::test]
async fn a_chunk_that_is_sent_too_slowly_for_what_it_read_is_sent_all_the_same() {
    let world = World::start().await;
    let (tables, coordinator) = prepared(&world, 150, 25).await;
    let changed = async {
        all_are_read(&coordinator, 150).await;
        world.sql("UPDATE sessions SET note = 'newer'").await;
    };
    let (summaries, ()) = tokio::join!(backfill(&coordinator), changed);
    coordinator.close().await;
    let summary = &summaries[0];
    assert_eq!((summary.rows_read, summary.rows_written, summary.rows_present), (150, 150, 0));
    // No change has been delivered, so this is what the backfill read, and when.
    let items = world.items("sessions").await;
    let (again, first): (Vec<_>, Vec<_>) = items.iter().partition(|item| note(item) == "newer");
    assert!(items.iter().all(|item| version_of(item).is_some_and(|v| v.0 == 0)));
    assert_eq!(again.len() + first.len(), 150);
    assert!(again.len() >= 25, "{} of 150 rows were read again", again.len());
    assert!(Duration::from_secs_f64(summary.duration_s) > world.target.state_leaves_within());
    relay_until_empty(&world, &tables).await;
    assert!(world.items("sessions").await.iter().all(|item| note(item) == "newer"));
}
