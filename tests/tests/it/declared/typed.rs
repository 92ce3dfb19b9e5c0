//! Tables in Rust that have every type of column, through all phases and back: PostgreSQL's own text is the
//! same after it, and items are byte for byte those of the same table declared.

mod tables;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use chrono::NaiveDate;
use lockstep::instance::InstanceOptions;
use lockstep::migration::{Migration as App, MigrationOptions};
use lockstep::store::{Delivery, Store, WriteMode, WriteOptions};
use lockstep_coordinator::{
    Coordinator, FeedProgress, FeedUntil, MigrationContext, RelayUntil, relay, reverse_feed, test_operation,
};
use lockstep_core::{Fields, Kind, MigratableTable, Phase};
use lockstep_postgres::{RangeRead, TableBinding};
use lockstep_tests::World;
use lockstep_tests::world::{backfill, sweeping_never};
use lockstep_validator::{CancellationToken, Report, ValidateOptions, validate};
use uuid::Uuid;

use self::tables::{Blob, Blobs, DECLARED, Every, RENAMED, Row, SCHEMA, Status, Visit, Visits, values};
use super::bound;
use super::naive::disagreements;

struct Stage {
    world: World,
    migration: MigrationContext,
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
        let migration = MigrationContext { tables, ..world.migration() };
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
            assert_eq!(disagreements(&self.world, &relation, table.name(), RENAMED).await, [] as [String; 0]);
        }
        let options = ValidateOptions { quiescent: true, ..ValidateOptions::default() };
        let progress = lockstep_validator::ValidationProgress::new(tables);
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
        assert!(visits.delete(Visits::key(&other)).await.expect("written").found, "{phase}");
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
        (Row { h_texts: Some(BTreeSet::new()), ..like[0].clone() }, "h_texts"),
    ] {
        let refused = every.put(&odd).await.expect_err("PostgreSQL would refuse it");
        assert!(refused.kind == Kind::Invalid && refused.to_string().contains(why), "{refused}");
    }
    stage.feed().await;
    // Each row goes from both stores, and comes back to PostgreSQL from its item.
    world.sql("CREATE TABLE as_it_was AS TABLE shop.every").await;
    let rows = stage.rows().await;
    for row in &rows {
        assert!(every.delete(Every::key(row)).await.expect("deleted").found);
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

/// Checks that a column makes one attribute, whichever way its table is moved.
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
        "h_numeric = 'NaN'",
        "h_document = '{\"\": 1}'",
        "h_texts = '{}'",
        "h_ints = '{1,1}'",
        "h_smalls = '{NULL}'",
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
    // The labels of a type are part of the table: relay and comparisons wait until it is looked at.
    world.sql("ALTER TYPE shop.status ADD VALUE 'lost'").await;
    world.sql("UPDATE shop.visits SET status = 'lost' WHERE day = '2026-01-02'").await;
    let progress = lockstep_coordinator::Progress::new(&stage.migration.tables);
    let cancel = CancellationToken::new();
    let relayed = relay(&stage.migration, RelayUntil::Empty, &progress, &cancel).await;
    assert!(relayed.is_err(), "{relayed:?}");
    let progress = lockstep_validator::ValidationProgress::new(&stage.migration.tables);
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
