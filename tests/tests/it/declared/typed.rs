//! Tables in Rust that have every type of column, through all phases and back: PostgreSQL's own text is the
//! same after it, and items are byte for byte those of the same table declared.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, Utc};
use lockstep::instance::InstanceOptions;
use lockstep::migration::{Migration as App, MigrationOptions};
use lockstep::store::{Delivery, PrimaryKey, Store, WriteMode, WriteOptions};
use lockstep_coordinator::{
    Coordinator, FeedProgress, FeedUntil, Migration, RelayUntil, relay, reverse_feed, test_operation,
};
use lockstep_core::{
    AttributeValue, Column, Fields, Kind, MigratableTable, PgArguments, Phase, Scaled, Unholdable,
};
use lockstep_postgres::{RangeRead, TableBinding};
use lockstep_tests::World;
use lockstep_tests::world::{backfill, sweeping_never};
use lockstep_validator::{CancellationToken, Report, ValidateOptions, validate};
use rust_decimal::Decimal;
use uuid::Uuid;

use super::bound;
use super::naive::disagreements;

#[derive(Clone, Copy, Debug, PartialEq, lockstep::Label)]
#[lockstep(sql = "shop.status")]
enum Status {
    New,
    #[lockstep(label = "so so")]
    SoSo,
    #[lockstep(label = "|\"")]
    Odd,
}

/// Every type that can be in a key is in this one.
#[derive(Clone, Debug, PartialEq, lockstep::Table)]
#[lockstep(name = "every", table = "Every")]
#[lockstep(partition = "{id}#{day}", sort = "{moment}#{clock}#{shard}#{status:esc}#{raw:esc}")]
#[lockstep(index(name = "by_uuid", partition = "{o_uuid}"))]
#[lockstep(index(name = "by_status", partition = "S#{o_status}#{o_day}"))]
struct Row {
    #[lockstep(primary_key)]
    id: Uuid,
    #[lockstep(primary_key)]
    status: Status,
    #[lockstep(primary_key)]
    raw: Vec<u8>,
    #[lockstep(primary_key)]
    day: NaiveDate,
    #[lockstep(primary_key)]
    clock: NaiveTime,
    #[lockstep(primary_key)]
    moment: NaiveDateTime,
    #[lockstep(primary_key)]
    shard: i16,
    double: f64,
    bigs: Vec<i64>,
    o_uuid: Option<Uuid>,
    o_status: Option<Status>,
    o_raw: Option<Vec<u8>>,
    o_small: Option<i16>,
    o_real: Option<f32>,
    o_double: Option<f64>,
    o_day: Option<NaiveDate>,
    o_clock: Option<NaiveTime>,
    o_moment: Option<NaiveDateTime>,
    o_instant: Option<DateTime<Utc>>,
    o_numeric: Option<Decimal>,
    #[lockstep(sql = "numeric(18,2)")]
    o_scaled: Option<Scaled<2>>,
    o_texts: Option<Vec<Option<String>>>,
    o_codes: Option<Vec<String>>,
    o_smalls: Option<Vec<i16>>,
    o_ints: Option<Vec<Option<i32>>>,
    o_bigs: Option<Vec<Option<i64>>>,
}

/// The same table, declared.
const DECLARED: &str = r##"
[tables.declared]
source = "shop.every"
partition = "{id}#{day}"
sort = "{moment}#{clock}#{shard}#{status:esc}#{raw:esc}"

[tables.declared.indexes.by_uuid]
partition = "{o_uuid}"
sort = "{moment}#{clock}#{shard}#{status:esc}#{raw:esc}"

[tables.declared.indexes.by_status]
partition = "S#{o_status}#{o_day}"
sort = "{moment}#{clock}#{shard}#{status:esc}#{raw:esc}"
"##;

/// A row that moves, and is found by a uuid.
#[derive(Clone, Debug, PartialEq, lockstep::Table)]
#[lockstep(name = "visits", table = "Visits", partition = "D#{day}", sort = "{at}#{visit_id}")]
#[lockstep(index(name = "by_id", partition = "{visit_id}"))]
struct Visit {
    #[lockstep(primary_key)]
    visit_id: Uuid,
    day: NaiveDate,
    at: NaiveDateTime,
    status: Status,
}

/// A row that is found by bytes.
#[derive(Clone, Debug, PartialEq, lockstep::Table)]
#[lockstep(name = "blobs", table = "Blobs", partition = "{digest}")]
struct Blob {
    #[lockstep(primary_key)]
    digest: Vec<u8>,
    body: Option<Vec<u8>>,
}

const SCHEMA: &str = r#"
    CREATE SCHEMA shop;
    CREATE TYPE shop.status AS ENUM ('new', 'so so', '|"');
    CREATE TABLE shop.every (id uuid, status shop.status, raw bytea, day date, clock time, moment timestamp, shard smallint,
        double double precision NOT NULL, bigs bigint[] NOT NULL, o_uuid uuid, o_status shop.status, o_raw bytea, o_small smallint,
        o_real real, o_double double precision, o_day date, o_clock time, o_moment timestamp, o_instant timestamptz, o_numeric numeric,
        o_scaled numeric(18,2), o_texts text[], o_codes varchar(3)[], o_smalls smallint[], o_ints integer[], o_bigs bigint[],
        PRIMARY KEY (id, status, raw, day, clock, moment, shard));
    CREATE TABLE shop.visits (visit_id uuid PRIMARY KEY, day date NOT NULL, at timestamp NOT NULL, status shop.status NOT NULL);
    CREATE TABLE shop.blobs (digest bytea PRIMARY KEY, body bytea);
    INSERT INTO shop.visits SELECT md5(i::text)::uuid, date '2026-01-01' + i, timestamp '2026-01-01' + i * interval '1.5 s', 'so so'
        FROM generate_series(1, 20) AS i;
    INSERT INTO shop.blobs SELECT sha256(i::text::bytea), decode(to_hex(i + 16), 'hex') FROM generate_series(1, 20) AS i"#;

/// Values of each column after `id`, as SQL.
const VALUES: &[&[&str]] = &[
    &["'new'", "'so so'", "'|\"'"],
    &["'\\x00ff235c25'", "'\\x27'"],
    &["'0001-01-01'", "'9999-12-31'", "'2024-02-29'"],
    &["'00:00'", "'23:59:59.999999'", "'12:00:00.5'"],
    &["'0001-01-01 00:00:00'", "'9999-12-31 23:59:59.999999'", "'2026-01-31 10:00:00.25'"],
    &["-32768", "32767"],
    &[
        "1e125",
        "2.2250738585072014e-120",
        "0.1",
        "1e15",
        "123456789012345.6",
        "-1e-05",
        "0.30000000000000004",
    ],
    &["'{}'", "'{9223372036854775807,-9223372036854775808}'"],
    &["'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'", "NULL", "'00000000-0000-0000-0000-000000000000'"],
    &["'new'", "'|\"'", "NULL"],
    &["''", "'\\x00ff5c27'", "NULL", "decode(repeat('00ff', 300), 'hex')"],
    &["-32768", "NULL", "0"],
    &["3.4e38", "-1.17549435e-38", "0.1", "16777216", "1e-07", "123456.7", "NULL"],
    &["NULL", "1e100", "-0.1"],
    &["'2000-01-01'", "NULL", "'1999-12-31'"],
    &["'23:59:59.000001'", "NULL"],
    &["'1969-12-31 23:59:59.999999'", "NULL"],
    &["'2026-01-31 10:00:00.000001+05'", "'9999-12-31 23:59:59.999999+00'", "NULL"],
    &["1.500", "0.000", "-7922816251426433759354395033.5", "NULL", "1e-28", "100"],
    &["9999999999999999.99", "-0.01", "NULL"],
    &["'{}'", "ARRAY['a,b', NULL, 'NULL', '\"', '\\', '', ' ', '{}', 'ä\u{1F600}', E'a\\nb\\v']", "NULL"],
    &["ARRAY['äöü', '']", "NULL"],
    &["'{-32768,32767}'", "NULL"],
    &["'{NULL,-2147483648}'", "NULL", "'{NULL}'"],
    &["'{NULL,9223372036854775807}'", "NULL"],
];

/// A row of shop.every as SQL.
fn values(n: usize) -> String {
    // Each list at a pace of its own, so that neighbours are not always the same.
    let chosen = VALUES.iter().enumerate().map(|(at, values)| values[(n + n / (at + 2)) % values.len()]);
    let chosen: Vec<&str> = chosen.collect();
    format!("INSERT INTO shop.every VALUES (md5('{n}')::uuid, {})", chosen.join(", "))
}

struct Stage {
    world: World,
    migration: Migration,
    app: App,
}

impl Stage {
    async fn start() -> Self {
        let world = World::start().await;
        world.sql(SCHEMA).await;
        for n in 0..40 {
            world.sql(&values(n)).await;
        }
        let binding = |table: lockstep_core::TableHandle| TableBinding {
            relation: format!("shop.{}", table.name()).parse().expect("a name"),
            target_name: table.name().to_owned(),
            table,
        };
        let tables = vec![binding(Arc::new(Every)), binding(Arc::new(Visits)), binding(Arc::new(Blobs))];
        let migration = Migration { tables, ..world.migration() };
        let coordinator = world.coordinator_of(migration.clone()).await;
        coordinator.prepare(&()).await.expect("nothing refuses");
        let set_aside: u64 = backfill(&coordinator).await.iter().map(|summary| summary.dead_letters).sum();
        assert_eq!(set_aside, 0);
        coordinator.close().await;
        let options = MigrationOptions::new(world.source_options(), world.target_options())
            .table(Every, "shop.every", "every")
            .and_then(|options| options.table(Visits, "shop.visits", "visits"))
            .and_then(|options| options.table(Blobs, "shop.blobs", "blobs"))
            .expect("plain names")
            .instance(InstanceOptions { name: "of every type".to_owned(), lease: Duration::from_secs(10) })
            .writes(WriteOptions { dual_write: WriteMode::Strict, ..WriteOptions::default() })
            .sweeper(sweeping_never());
        let app = App::connect(options).await.expect("both stores are there");
        Self { world, migration, app }
    }

    async fn agreed(&self) -> Report {
        let (tables, cancel) = (&self.migration.tables, CancellationToken::new());
        let progress = lockstep_coordinator::Progress::new(tables);
        relay(&self.migration, RelayUntil::Empty, &progress, &cancel).await.expect("relayed");
        for table in tables {
            let relation = format!("shop.{}", table.name());
            assert_eq!(disagreements(&self.world, &relation, table.name(), &[]).await, [] as [String; 0]);
        }
        let options = ValidateOptions { quiescent: true, ..ValidateOptions::default() };
        let progress = lockstep_validator::Progress::new(tables);
        let (source, target) = (&self.world.source, &self.world.plain_target);
        let report = validate(source, target, tables, &options, &progress, &cancel).await;
        assert!(report.verdict.is_consistent(), "{report:#?}");
        report
    }

    async fn step(&self, coordinator: &Coordinator, to: Phase) {
        if matches!(to, Phase::HybridRead | Phase::DynamoOnly) {
            let report = self.agreed().await;
            let epoch = self.world.source.control().await.expect("a phase").epoch;
            let json = serde_json::to_value(&report).expect("JSON");
            self.world.source.record_verdict(epoch, true, &json).await.expect("recorded");
        }
        coordinator.step(to, None, &()).await.unwrap_or_else(|error| panic!("to {to}: {error}"));
    }

    async fn feed(&self) {
        let (tables, cancel) = (&self.migration.tables, CancellationToken::new());
        let progress = Arc::new(FeedProgress::new(tables));
        let options = &self.migration.options.reverse_feed;
        let fed = reverse_feed(&self.migration, options, FeedUntil::Drained, &progress, &cancel);
        fed.await.expect("the feed ends well");
        let why = "SELECT coalesce(string_agg(why, '; '), '') FROM lockstep.reverse_again";
        assert_eq!(self.world.value::<String>(why).await, "");
    }

    /// The rows of PostgreSQL, as the product reads them.
    async fn rows(&self) -> Vec<Row> {
        let range = RangeRead { rows_max: 10_000, ..RangeRead::default() };
        let read = self.world.source.read_chunk(&self.migration.tables[0], &range).await.expect("read");
        let row = |tuple: &[u8]| lockstep_core::Row::from_fields(&mut Fields::of_copy(tuple));
        read.tuples().map(|tuple| row(tuple).expect("a row")).collect()
    }

    /// Writes and reads through the stores, in whatever phase it is.
    async fn write(&self, phase: Phase, like: &[Row]) {
        let (every, visits) = (self.app.store::<Every>(), self.app.store::<Visits>());
        let blobs = self.app.store::<Blobs>();
        let n = u128::try_from(Phase::ALL.iter().position(|of| *of == phase).expect("one")).expect("few");
        let new = |nth: usize| Row { id: Uuid::from_u128(n * 100 + nth as u128), ..like[nth].clone() };
        put(&every, &new(0)).await;
        let batch = [new(1), new(2), new(3)];
        for (outcome, row) in every.put_batch(&batch).await.into_iter().zip(&batch) {
            assert_eq!(outcome.expect("written").row.as_ref(), Some(row), "{phase}");
        }
        let changed = Row { double: 0.5, o_texts: Some(vec![None]), o_status: Some(Status::SoSo), ..new(0) };
        put(&every, &changed).await;
        let day = NaiveDate::from_ymd_opt(2026, 11, 29).expect("a day");
        let visit = Visit { visit_id: Uuid::from_u128(n), day, at: day.into(), status: Status::Odd };
        put(&visits, &visit).await;
        let moved = visits.update(visit.visit_id, |visit| visit.day = NaiveDate::default());
        assert!(moved.await.expect("written").found, "{phase}");
        let other = Visit { visit_id: Uuid::from_u128(n + 50), ..visit.clone() };
        put(&visits, &other).await;
        assert!(visits.delete(other.visit_id).await.expect("written").found, "{phase}");
        assert_eq!(visits.get(&Visits::key(&other)).await.expect("read"), None);
        // Two rows of bytes are two.
        for digest in [vec![n as u8], vec![n as u8, 0]] {
            put(&blobs, &Blob { digest: digest.clone(), body: Some(digest) }).await;
        }
        assert!(blobs.update(vec![n as u8], |blob| blob.body = None).await.expect("written").found);
        assert!(blobs.delete(vec![n as u8, 0]).await.expect("written").found);
        assert!(!blobs.delete(vec![n as u8, 0]).await.expect("written").found);
    }
}

/// The primary key of a row.
struct Id<'a>(&'a Row);

impl Id<'_> {
    fn columns<R>(&self, mut of: impl FnMut(&dyn Bindable) -> R) -> Vec<R> {
        let Row { id, status, raw, day, clock, moment, shard, .. } = self.0;
        let columns: [&dyn Bindable; 7] = [id, status, raw, day, clock, moment, shard];
        columns.into_iter().map(|column| of(column)).collect()
    }
}

trait Bindable {
    fn add(&self, arguments: &mut PgArguments);
    fn attribute(&self) -> Result<Option<AttributeValue>, Unholdable>;
}

impl<C: Column> Bindable for C {
    fn add(&self, arguments: &mut PgArguments) {
        self.bind(arguments);
    }

    fn attribute(&self) -> Result<Option<AttributeValue>, Unholdable> {
        self.to_attribute()
    }
}

impl PrimaryKey for Id<'_> {
    fn bind(&self, arguments: &mut PgArguments) {
        self.columns(|column| column.add(arguments));
    }

    fn attributes(&self) -> Result<Vec<AttributeValue>, Unholdable> {
        let attributes: Result<Vec<_>, _> = self.columns(|column| column.attribute()).into_iter().collect();
        Ok(attributes?.into_iter().flatten().collect())
    }
}

async fn put<T: MigratableTable>(store: &Store<T>, row: &T::Row) {
    let outcome = store.put(row).await.expect("written");
    assert!(matches!(outcome.target, Delivery::Applied | Delivery::NotDue), "{:?}", outcome.target);
    assert_eq!(store.get(&T::key(row)).await.expect("read").as_ref(), Some(row));
}

#[tokio::test]
async fn every_type_of_a_table_in_rust_goes_through_all_phases_and_back_as_the_same_text() {
    let stage = Stage::start().await;
    let world = &stage.world;
    same_as_declared(&stage).await;
    let like = stage.rows().await;
    let coordinator = world.coordinator_of(stage.migration.clone()).await;
    stage.write(Phase::PostgresOnly, &like).await;
    for to in [Phase::DualWrite, Phase::HybridRead] {
        stage.step(&coordinator, to).await;
        stage.write(to, &like).await;
        stage.agreed().await;
    }
    let report = test_operation(&stage.migration).await.expect("journalled");
    assert!(report.passed, "{report:#?}");

    stage.step(&coordinator, Phase::DynamoOnly).await;
    stage.write(Phase::DynamoOnly, &like).await;
    let every = stage.app.store::<Every>();
    for (odd, why) in [
        (Row { o_codes: Some(vec!["long".to_owned()]), ..like[0].clone() }, "22001"),
        (Row { o_texts: Some(vec![Some("a\0".to_owned())]), ..like[0].clone() }, "22021"),
        (Row { double: f64::NAN, ..like[0].clone() }, "NaN"),
        (Row { o_day: Some(NaiveDate::MAX), ..like[0].clone() }, "o_day"),
    ] {
        let refused = every.put(&odd).await.expect_err("PostgreSQL would refuse it");
        assert!(refused.kind == Kind::Invalid && refused.to_string().contains(why), "{refused}");
    }
    stage.feed().await;
    // Each row goes from both stores, and comes back to PostgreSQL from its item.
    world.sql("CREATE TABLE as_it_was AS TABLE shop.every").await;
    let rows = stage.rows().await;
    for row in &rows {
        assert!(every.delete(Id(row)).await.expect("deleted").found);
    }
    stage.feed().await;
    assert_eq!(world.count("shop.every").await, 0);
    for row in &rows {
        put(&every, row).await;
    }
    stage.feed().await;
    let differing = "SELECT count(*) FROM (SELECT e::text FROM shop.every e
        EXCEPT ALL SELECT w::text FROM as_it_was w) AS d";
    assert_eq!(world.value::<i64>(differing).await, 0);
    assert_eq!(world.count("shop.every").await, world.count("as_it_was").await);
    for to in [Phase::HybridRead, Phase::DualWrite] {
        coordinator.step(to, None, &()).await.unwrap_or_else(|error| panic!("to {to}: {error}"));
        stage.write(to, &like).await;
        stage.agreed().await;
    }
    coordinator.step(Phase::PostgresOnly, None, &()).await.expect("nothing refuses");
    stage.write(Phase::PostgresOnly, &like).await;
    coordinator.close().await;
    stage.app.shutdown().await;
}

/// One column makes one attribute, whichever way its table is moved.
async fn same_as_declared(stage: &Stage) {
    let typed = &stage.migration.tables[0];
    let declared = &bound(&stage.world, DECLARED).await.expect("binds")[0];
    let mut encoded = Vec::new();
    for binding in [typed, declared] {
        let range = RangeRead { rows_max: 10_000, ..RangeRead::default() };
        let chunk = stage.world.source.read_chunk(binding, &range).await.expect("it reads");
        let encode = |tuple| binding.table.encode_keyed(&mut Fields::of_copy(tuple)).expect("it fits");
        encoded.push(chunk.tuples().map(encode).collect::<Vec<_>>());
    }
    let (declared, typed) = (encoded.pop().expect("two"), encoded.pop().expect("two"));
    assert_eq!(typed.len(), 40);
    for ((item, literals, _), (of_declared, literals_declared, _)) in typed.into_iter().zip(declared) {
        assert_eq!(literals, literals_declared);
        assert_eq!(item.into_attributes(), of_declared.into_attributes());
    }
}

#[tokio::test]
async fn what_a_column_in_rust_cannot_hold_is_set_aside_by_its_name_and_a_label_is_asked_for() {
    let stage = Stage::start().await;
    let world = &stage.world;
    for (n, change) in [
        "clock = '24:00'",
        "day = 'infinity'",
        "day = '0044-03-15 BC'",
        "moment = '-infinity'",
        "moment = '12020-08-01'",
        "double = 'NaN'",
        "o_real = '-Infinity'",
        "o_numeric = 1e40",
        "o_numeric = 'NaN'",
        "o_texts = ARRAY[['a'],['b']]",
        "o_texts = '[2:3]={x,y}'",
        "o_smalls = '{NULL}'",
        "o_day = '-infinity'",
    ]
    .iter()
    .enumerate()
    {
        world.sql(&format!("UPDATE shop.every SET {change} WHERE id = md5('{n}')::uuid")).await;
        let progress = lockstep_coordinator::Progress::new(&stage.migration.tables);
        relay(&stage.migration, RelayUntil::Empty, &progress, &CancellationToken::new())
            .await
            .expect("relayed");
        let letters = world.source.dead_letters("every", 50).await.expect("lists");
        assert_eq!(letters.len(), n + 1, "{change}: {letters:?}");
        let column = change.split_once(' ').expect("a column").0;
        assert!(
            letters.iter().any(|letter| letter.reason.contains(&format!("`{column}`"))),
            "{change}: {letters:?}"
        );
    }
    // What a type's labels are is part of the table: the relay, and every comparison, wait until it is looked at.
    world.sql("ALTER TYPE shop.status ADD VALUE 'lost'").await;
    world.sql("UPDATE shop.visits SET status = 'lost' WHERE day = '2026-01-02'").await;
    let progress = lockstep_coordinator::Progress::new(&stage.migration.tables);
    let cancel = CancellationToken::new();
    let relayed = relay(&stage.migration, RelayUntil::Empty, &progress, &cancel).await;
    assert!(relayed.is_err(), "{relayed:?}");
    let progress = lockstep_validator::Progress::new(&stage.migration.tables);
    let (source, target) = (&world.source, &world.plain_target);
    let options = ValidateOptions { wait_for_pending: false, ..ValidateOptions::default() };
    let report = validate(source, target, &stage.migration.tables, &options, &progress, &cancel).await;
    assert!(!report.verdict.is_consistent(), "{report:#?}");
    let coordinator = world.coordinator_of(stage.migration.clone()).await;
    let refused = coordinator.prepare(&()).await.expect_err("the labels are apart").to_string();
    assert!(refused.contains("the enum in Rust lacks") && refused.contains("add a variant"), "{refused}");
    world.sql("ALTER TYPE shop.status RENAME VALUE 'lost' TO 'found'").await;
    world.sql("ALTER TYPE shop.status RENAME VALUE '|\"' TO 'lost'").await;
    let refused = coordinator.prepare(&()).await.expect_err("the labels are apart").to_string();
    assert!(refused.contains("the type in PostgreSQL lacks") && refused.contains("ADD VALUE"), "{refused}");
    coordinator.close().await;
    stage.app.shutdown().await;
}
