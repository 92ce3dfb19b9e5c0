//! Two source keys of one row may share a place (P18): the target knows the day of a time, and the key that
//! capture marks has all of it.

use lockstep_coordinator::{Progress, RelayUntil, relay};
use lockstep_core::{SourceKey, Version, is_tombstone, version_of};
use lockstep_postgres::{RefusedPut, TableBinding};
use lockstep_tests::World;
use lockstep_tests::world::backfill;
use tokio_util::sync::CancellationToken;

use super::{bound, migration};

const DAYS: &str = "[tables.visits]\npartition = \"DAY#{at:date}\"\nsort = \"{id:020}\"\n";

async fn relay_until_empty(world: &World, tables: &[TableBinding]) {
    let migration = migration(world, tables);
    let (progress, cancel) = (Progress::new(&migration.tables), CancellationToken::new());
    relay(&migration, RelayUntil::Empty, &progress, &cancel).await.expect("relayed");
}

/// 1. A row moves within its day. 2. A repair, or the sweeper, marks its old key under a later version. 3.
/// The tombstone of the old key would outrank the row, for good.
#[tokio::test]
async fn no_tombstone_of_an_old_key_is_put_over_the_row_that_shares_its_place() {
    let world = World::start().await;
    world
        .sql(
            "CREATE TABLE visits (id bigint PRIMARY KEY, at timestamptz NOT NULL, note text);
             INSERT INTO visits SELECT i, timestamptz '2026-03-04 05:06:07+00' + i * interval '1 minute',
                 'old'
             FROM generate_series(1, 3) AS i",
        )
        .await;
    let tables = bound(&world, DAYS).await.expect("binds");
    let visits = &tables[0];
    let coordinator = world.coordinator_of(migration(&world, &tables)).await;
    coordinator.prepare(&()).await.expect("nothing refuses");
    backfill(&coordinator).await;
    coordinator.close().await;
    world.sql("UPDATE visits SET at = at + interval '1 hour', note = 'new' WHERE id <= 2").await;
    world.sql("DELETE FROM visits WHERE id = 3").await;
    let marked = world.pending("visits").await;
    relay_until_empty(&world, &tables).await;
    // The old keys once more, and last.
    let old: Vec<Vec<String>> = marked
        .keys()
        .filter(|key| !key.contains("06:0"))
        .map(|key| {
            let key = SourceKey::parse(key).expect("a key");
            visits.table.literals_of_key(&key).expect("a key of the table")
        })
        .collect();
    assert_eq!(world.source.mark_for_repair(visits, &old).await.expect("marked"), 3);
    relay_until_empty(&world, &tables).await;
    let items = world.items("visits").await;
    let (dead, live): (Vec<_>, Vec<_>) = items.iter().partition(|item| is_tombstone(item));
    assert_eq!((live.len(), dead.len()), (2, 1), "row 3 is gone, the others have moved");
    let newest: i64 = world.value("SELECT last_value FROM lockstep.version_seq").await;
    assert!(items.iter().all(|item| version_of(item).is_some_and(|version| version.0 <= newest)));
    for item in live {
        assert_eq!(item.get("note").and_then(|note| note.as_s().ok()).map(String::as_str), Some("new"));
    }
}

/// 1. A row moves from key A to B within its day. 2. B is delivered. 3. The row is deleted, which marks B once
/// more. 4. The tombstone for A is refused by what is there, and A's mark stands. That is no lost history as
/// long as B is pending; with nothing pending of the row, it is.
#[tokio::test]
async fn what_another_key_of_the_place_delivered_is_taken_for_no_lost_history() {
    let world = World::start().await;
    world
        .sql(
            "CREATE TABLE visits (id bigint PRIMARY KEY, at timestamptz NOT NULL, note text);
             INSERT INTO visits VALUES (1, '2026-03-04 05:06:07+00', 'old'), (11, '2026-03-04 05:06:07+00', 'old')",
        )
        .await;
    let tables = bound(&world, DAYS).await.expect("binds");
    let coordinator = world.coordinator_of(migration(&world, &tables)).await;
    coordinator.prepare(&()).await.expect("nothing refuses");
    backfill(&coordinator).await;
    coordinator.close().await;
    world.sql("UPDATE visits SET at = at + interval '1 hour'; DELETE FROM visits WHERE id = 1").await;
    let marked = world.pending("visits").await;
    let (key, version) =
        marked.iter().find(|(key, _)| key.starts_with("[1,") && key.contains("05:06")).expect("A");
    let key = SourceKey::parse(key).expect("a key");
    let put = RefusedPut { key, version: *version, seen: Version(version.0 + 1), is_same: false };
    let judge =
        async || world.source.contradicted_by(&tables[0], std::slice::from_ref(&put)).await.expect("asked");
    assert!(judge().await.is_empty(), "B is pending");
    world.sql("DELETE FROM lockstep.pending WHERE key::text LIKE '[1, %06:06%'").await;
    let found = judge().await;
    assert_eq!(found.len(), 1, "nothing of row 1 says why, and what is pending of row 11 does not");
}
