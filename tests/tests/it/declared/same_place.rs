//! Two source keys of one row may share a place (P18): the target knows the day of a time, and the key that
//! capture marks has all of it.

use lockstep_coordinator::{Progress, RelayUntil, relay};
use lockstep_core::{SourceKey, is_tombstone, version_of};
use lockstep_postgres::TableBinding;
use lockstep_tests::World;
use lockstep_tests::faults::{Fault, Gate, Rule};
use lockstep_tests::world::backfill;
use tokio_util::sync::CancellationToken;

use super::{bound, migration};

const DAYS: &str = "[tables.visits]\npartition = \"DAY#{at:date}\"\nsort = \"{id:020}\"\n";

/// A table of which the target knows the day only, with `rows` in both stores.
pub(super) async fn visits(world: &World, rows: &str) -> Vec<TableBinding> {
    let table = "CREATE TABLE visits (id bigint PRIMARY KEY, at timestamptz NOT NULL, note text)";
    world.sql(&format!("{table}; INSERT INTO visits {rows}")).await;
    let tables = bound(world, DAYS).await.expect("binds");
    let coordinator = world.coordinator_of(migration(world, &tables)).await;
    coordinator.prepare(&()).await.expect("nothing refuses");
    backfill(&coordinator).await;
    coordinator.close().await;
    tables
}

pub(super) async fn relay_until_empty(world: &World, tables: &[TableBinding]) {
    let migration = migration(world, tables);
    let (progress, cancel) = (Progress::new(&migration.tables), CancellationToken::new());
    relay(&migration, RelayUntil::Empty, &progress, &cancel).await.expect("relayed");
}

/// 1. A row moves within its day. 2. A repair, or the sweeper, marks its old key under a later version. 3.
/// The tombstone of the old key would outrank the row, for good.
#[tokio::test]
async fn no_tombstone_of_an_old_key_is_put_over_the_row_that_shares_its_place() {
    let world = World::start().await;
    let rows = "SELECT i, timestamptz '2026-03-04 05:06:07+00' + i * interval '1 minute', 'old'
                FROM generate_series(1, 3) AS i";
    let tables = visits(&world, rows).await;
    let visits = &tables[0];
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

/// 1. A row moves within its day: both keys are marked. 2. A relay reads the marks and the row. 3. The row is
/// changed, and delivered under the mark of its new key by another relay. 4. The first relay's put of what it
/// read, under the mark of the old key, is refused by that. No history was lost.
#[tokio::test]
async fn a_newer_state_under_the_other_key_of_a_row_is_no_lost_history() {
    for now in ["UPDATE visits SET note = 'newest'", "DELETE FROM visits"] {
        let world = World::behind_proxy().await;
        let tables = visits(&world, "VALUES (1, '2026-03-04 05:06:07+00', 'old')").await;
        world.sql("UPDATE visits SET at = at + interval '1 hour', note = 'moved'").await;
        let gate = Gate::new();
        world.proxy().script(Rule::new(Fault::Delay(gate.clone())).on("PutItem").table("visits"));
        let (here, cancel) = (migration(&world, &tables), CancellationToken::new());
        let progress = Progress::new(&here.tables);
        let relaying = relay(&here, RelayUntil::Empty, &progress, &cancel);
        let beside = async {
            gate.until_held(2).await;
            world.sql(now).await;
            let newest = *world.pending("visits").await.values().max().expect("a mark");
            let visits = &tables[0];
            let batch = world
                .source
                .read_pending(None, visits, lockstep_postgres::KeyOrder::Ascending, None, 10)
                .await;
            let batch = batch.expect("read");
            let row = batch.rows.iter().find(|row| row.version == newest).expect("the newest mark");
            let item = match row.with_fields(|fields| visits.table.encode(fields)) {
                Some(item) => item.expect("fits").at(row.version),
                None => {
                    lockstep_core::tombstone(visits.table.target_key(&row.key).expect("a key"), row.version)
                }
            };
            let put = world.plain_target.put_guarded("visits", item, row.version).await.expect("put");
            assert_eq!(put.landed, lockstep_dynamo::Landed::Applied);
            gate.open();
        };
        let (relayed, ()) = tokio::join!(relaying, beside);
        relayed.expect("no history was lost");
        assert!(world.pending("visits").await.is_empty());
        let there = world.items("visits").await;
        assert_eq!(is_tombstone(&there[0]), now.starts_with("DELETE"), "{there:?}");
        assert_eq!(world.count("lockstep.contradicted").await, 0);
    }
}
