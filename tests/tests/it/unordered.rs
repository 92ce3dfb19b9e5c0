//! Queries where the target keeps no order of its own: an index of a table without a sort key, and rows that
//! share a sort key. Both stores give every row once, in one order.

use std::num::NonZeroUsize;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use futures::TryStreamExt;
use lockstep::store::query::Partitions;
use lockstep::store::reads::Comparison;
use lockstep::store::{Query, Selection, Store, WriteOptions, Writer};
use lockstep_coordinator::{MigrationContext, Progress, RelayUntil, relay};
use lockstep_core::{AttributeValue, Epoch, MigratableTable, Phase};
use lockstep_postgres::TableBinding;
use lockstep_tests::World;
use lockstep_tests::world::backfill;
use lockstep_validator::CancellationToken;

/// Labels in PostgreSQL's order: `regular` comes before `new`.
#[derive(Clone, Copy, Debug, PartialEq, lockstep::Label)]
#[lockstep(sql = "shop.level")]
enum Level {
    New,
    Regular,
}

#[derive(Clone, Debug, PartialEq, lockstep::Table)]
#[lockstep(name = "parts", table = "Parts", partition = "{region:esc}#{level:esc}#{number}")]
#[lockstep(index(name = "by_kind", partition = "KIND#{kind}"))]
struct Part {
    #[lockstep(primary_key)]
    region: String,
    #[lockstep(primary_key)]
    level: Level,
    #[lockstep(primary_key)]
    number: i64,
    kind: i32,
}

/// Tasks of two owners may be due at one moment.
#[derive(Clone, Debug, PartialEq, lockstep::Table)]
#[lockstep(name = "tasks", table = "Tasks", partition = "OWNER#{owner}", sort = "{due}")]
#[lockstep(index(name = "by_board", partition = "BOARD#{board}"))]
struct Task {
    #[lockstep(primary_key)]
    owner: i64,
    #[lockstep(primary_key)]
    due: DateTime<Utc>,
    board: i32,
}

const SCHEMA: &str = "
    CREATE SCHEMA shop;
    CREATE TYPE shop.level AS ENUM ('regular', 'new');
    CREATE TABLE shop.parts (region text, level shop.level, number bigint, kind integer NOT NULL,
        PRIMARY KEY (region, level, number));
    CREATE TABLE shop.tasks (owner bigint, due timestamptz, board integer NOT NULL, PRIMARY KEY (owner, due));
    INSERT INTO shop.tasks SELECT o, timestamptz '2026-01-01 00:00Z' + d * interval '1 hour', 1
        FROM generate_series(9, 12) AS o, generate_series(0, 2) AS d;
    INSERT INTO shop.parts SELECT 'many', 'new', n, 9 FROM generate_series(1, 2050) AS n";

struct Stage {
    world: World,
    migration: MigrationContext,
}

impl Stage {
    /// Rows that are copied as history, and some that change, move and go afterwards.
    async fn start(parts: &mut Vec<Part>) -> Self {
        let world = World::start().await;
        world.sql(SCHEMA).await;
        for part in &*parts {
            world.sql(&inserted(part)).await;
        }
        let binding = |table: lockstep_core::TableHandle| TableBinding {
            relation: format!("shop.{}", table.name()).parse().expect("a name"),
            target_name: table.name().to_owned(),
            table,
        };
        let tables = vec![binding(Arc::new(Parts)), binding(Arc::new(Tasks))];
        let migration = MigrationContext { tables, ..world.migration() };
        let coordinator = world.coordinator_of(migration.clone()).await;
        coordinator.prepare(&()).await.expect("nothing refuses");
        backfill(&coordinator).await;
        coordinator.close().await;
        world.sql("UPDATE shop.parts SET kind = 1 - kind WHERE region = 'B'").await;
        world.sql("UPDATE shop.parts SET number = 7 WHERE number = 10 AND region <> 'many'").await;
        world.sql("DELETE FROM shop.parts WHERE region = 'a' AND number = 2").await;
        parts.retain(|part| part.region != "a" || part.number != 2);
        for part in parts {
            part.kind = if part.region == "B" { 1 - part.kind } else { part.kind };
            part.number = if part.number == 10 { 7 } else { part.number };
        }
        let (progress, cancel) = (Progress::new(&migration.tables), CancellationToken::new());
        relay(&migration, RelayUntil::Empty, &progress, &cancel).await.expect("relayed");
        Self { world, migration }
    }

    async fn stand_in(&self, phase: Phase) {
        let Epoch(epoch) = self.world.source.control().await.expect("a phase").epoch;
        let sql = format!("UPDATE lockstep.control SET phase = '{phase}', epoch = {}", epoch + 1);
        self.world.sql(&sql).await;
    }

    fn store<T: MigratableTable>(&self, table: T, nth: usize) -> Store<T> {
        let (source, target) = (self.world.source.clone(), self.world.target.clone());
        let writer = Writer::new(source, target, WriteOptions::default());
        Store::with_writer(writer, Arc::new(table), self.migration.tables[nth].clone())
    }

    fn of_kind(&self, kind: i32, ascending: bool) -> Selection<Parts> {
        let partition = Partitions::one(AttributeValue::S(format!("KIND#{kind}")));
        let query = Query::new("of_kind", &["region", "number"], partition).matching("kind", &kind);
        let query = query.on(Parts::TARGET.indexes[0]);
        self.store(Parts, 0).select(if ascending { query.ascending() } else { query })
    }

    fn of_board(&self, ascending: bool) -> Selection<Tasks> {
        let partition = Partitions::one(AttributeValue::S("BOARD#1".to_owned()));
        let query = Query::new("of_board", &["due"], partition).matching("board", &1);
        let query = query.on(Tasks::TARGET.indexes[0]);
        self.store(Tasks, 1).select(if ascending { query.ascending() } else { query })
    }

    /// The tasks of four owners: their partitions are read side by side, as shards of one.
    fn of_owners(&self) -> Selection<Tasks> {
        let owners = |_| (9..=12).map(|owner| AttributeValue::S(format!("OWNER#{owner}"))).collect();
        self.store(Tasks, 1).select(Query::new("of_owners", &["due"], Partitions::groups("all", 1, owners)))
    }
}

fn inserted(part: &Part) -> String {
    let level = if part.level == Level::New { "new" } else { "regular" };
    format!("INSERT INTO shop.parts VALUES ('{}', '{level}', {}, {})", part.region, part.number, part.kind)
}

fn label(level: Level) -> &'static str {
    if level == Level::New { "new" } else { "regular" }
}

async fn check<T: MigratableTable>(what: &str, selection: Selection<T>, expected: &[T::Row]) {
    let rows: Vec<T::Row> = selection.stream().try_collect().await.expect("answered");
    assert_eq!(rows, expected, "{what} as a stream");
    for limit in [1, 4] {
        let (mut rows, mut cursor) = (Vec::new(), None);
        loop {
            let limit = NonZeroUsize::new(limit).expect("not zero");
            let page = selection.page(limit, cursor.as_ref()).await.expect("answered");
            rows.extend(page.rows);
            cursor = page.next;
            if cursor.is_none() || rows.len() > expected.len() {
                break;
            }
        }
        assert_eq!(rows, expected, "{what} in pages of {limit}");
    }
    assert_eq!(selection.count().await.expect("counted"), expected.len() as u64, "{what} counted");
    let compared = selection.compare(expected.len() + 1).await.expect("both answer");
    assert!(matches!(compared, Comparison::Agree), "{what}: {compared:?}");
}

#[tokio::test]
async fn rows_without_an_order_of_the_target_are_answered_once_and_alike_by_both_stores() {
    let (regions, levels) = (["a", "B", "ä", "A#1"], [Level::New, Level::Regular]);
    let every = regions.iter().flat_map(|region| levels.iter().map(move |level| (*region, *level)));
    let every = every.flat_map(|(region, level)| [2, 10, -3].map(|number| (region, level, number)));
    let part = |(nth, (region, level, number))| {
        let kind = i32::from(nth % 3 == 0);
        Part { region: String::from(region), level, number, kind }
    };
    let mut parts: Vec<Part> = every.enumerate().map(part).collect();
    let stage = Stage::start(&mut parts).await;
    parts.sort_by_key(|part| (part.region.clone(), part.number, label(part.level)));
    let midnight: DateTime<Utc> = "2026-01-01T00:00:00Z".parse().expect("a time");
    let task = |(hour, owner)| Task { owner, due: midnight + TimeDelta::hours(hour), board: 1 };
    let tasks: Vec<Task> =
        (0..3).flat_map(|hour| (9..=12).map(move |owner| (hour, owner))).map(task).collect();
    let falling: Vec<Task> = tasks.iter().rev().cloned().collect();
    let of_kind = |kind| parts.iter().filter(move |part| part.kind == kind).cloned();
    for phase in [Phase::PostgresOnly, Phase::HybridRead, Phase::DynamoOnly] {
        stage.stand_in(phase).await;
        for kind in [0, 1] {
            let expected: Vec<Part> = of_kind(kind).collect();
            assert!(expected.len() > 5);
            check(&format!("kind {kind} in {phase}"), stage.of_kind(kind, true), &expected).await;
            let expected: Vec<Part> = of_kind(kind).rev().collect();
            check(&format!("kind {kind} falling in {phase}"), stage.of_kind(kind, false), &expected).await;
        }
        check(&format!("the board in {phase}"), stage.of_board(true), &tasks).await;
        check(&format!("the board falling in {phase}"), stage.of_board(false), &falling).await;
        check(&format!("the owners in {phase}"), stage.of_owners(), &falling).await;
        // More than are kept of a partition at once.
        let many: Vec<Part> = stage.of_kind(9, true).stream().try_collect().await.expect("answered");
        assert!(many.iter().map(|part| part.number).eq(1..=2050), "{} in {phase}", many.len());
    }
    // Each page from the other store.
    let expected: Vec<Part> = of_kind(0).collect();
    let (mut rows, mut cursor) = (Vec::new(), None);
    for phase in [Phase::DynamoOnly, Phase::PostgresOnly].into_iter().cycle().take(expected.len()) {
        stage.stand_in(phase).await;
        let page = stage.of_kind(0, true).page(NonZeroUsize::MIN, cursor.as_ref()).await.expect("answered");
        rows.extend(page.rows);
        cursor = page.next;
    }
    assert_eq!((rows, cursor.is_none()), (expected, true));
}
