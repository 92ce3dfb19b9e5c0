//! Tables in which every attribute of Lockstep's own has another name, and keys that are columns: there, back
//! and there again, under writers, and looked at item by item with a client that knows of no names.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
};
use chrono::{DateTime, TimeDelta, Utc};
use lockstep::instance::InstanceOptions;
use lockstep::migration::{Migration as App, MigrationOptions};
use lockstep::store::{Delivery, Store, WriteMode, WriteOptions};
use lockstep_coordinator::{
    Coordinator, FeedProgress, FeedUntil, MigrationContext, RelayUntil, relay, reverse_feed, test_operation,
};
use lockstep_core::{Attributes, MigratableTable, Phase};
use lockstep_dynamo::TableExpiry;
use lockstep_postgres::TableBinding;
use lockstep_tests::World;
use lockstep_tests::world::{backfill, sweeping_never};
use lockstep_validator::{CancellationToken, ValidateOptions, validate};
use serde_json::Value;
use sqlx::Executor as _;
use tokio::task::JoinSet;

use super::naive::disagreements_of;
use super::{bound, configured};

/// Words that DynamoDB reserves, names that Lockstep has for something else, and a key that is a column.
#[derive(Clone, Debug, PartialEq, lockstep::Table)]
#[lockstep(name = "parcels", table = "Parcels", partition = "{customer}", sort = "{at}#{parcel_id:019}")]
#[lockstep(expires = "at + 36500d", day_column = "at")]
#[lockstep(names(partition = "key", sort = "order", expiry = "value", version = "name", writers = "_v"))]
#[lockstep(names(deleted = "server", mark = "PK", marker = "SK", probe = "ttl"))]
#[lockstep(index(name = "by_id", partition = "{parcel_id}"))]
#[lockstep(index(name = "by_weight", partition = "W#{weight}", projection = ["customer", "note"]))]
struct Parcel {
    #[lockstep(primary_key)]
    parcel_id: i64,
    #[lockstep(attribute = "key")]
    customer: String,
    at: DateTime<Utc>,
    weight: i32,
    note: Option<String>,
}

const PARCELS: &str = "
    CREATE TABLE parcels (parcel_id bigint PRIMARY KEY, customer text NOT NULL, at timestamptz NOT NULL,
        weight integer NOT NULL, note text);
    INSERT INTO parcels SELECT i, 'c''\"' || i % 7, timestamptz '2026-01-01' + i * interval '1 hour', i % 5,
        NULLIF('n' || i % 3, 'n0') FROM generate_series(1, 60) AS i";

fn parcel(id: i64) -> Parcel {
    let at = DateTime::UNIX_EPOCH + TimeDelta::days(20_000) + TimeDelta::seconds(id);
    Parcel { parcel_id: id, customer: format!("of {id}"), at, weight: 3, note: Some("new".to_owned()) }
}

struct Stage {
    world: World,
    migration: MigrationContext,
    app: App,
}

impl Stage {
    async fn start() -> Self {
        let world = World::start().await;
        world.sql(PARCELS).await;
        let (relation, target_name) = ("public.parcels".parse().expect("a name"), "parcels".to_owned());
        let binding = TableBinding { table: Arc::new(Parcels), relation, target_name };
        world.target.name_attributes("parcels", binding.table.naming());
        let migration = MigrationContext { tables: vec![binding], ..world.migration() };
        let coordinator = world.coordinator_of(migration.clone()).await;
        coordinator.prepare(&()).await.expect("nothing refuses");
        let set_aside: u64 = backfill(&coordinator).await.iter().map(|summary| summary.dead_letters).sum();
        assert_eq!(set_aside, 0);
        coordinator.close().await;
        let options = MigrationOptions::new(world.source_options(), world.target_options())
            .table(Parcels, "public.parcels", "parcels")
            .expect("a plain name")
            .instance(InstanceOptions { name: "of parcels".to_owned(), lease: Duration::from_secs(10) })
            .writes(WriteOptions { dual_write: WriteMode::Strict, ..WriteOptions::default() })
            .sweeper(sweeping_never());
        let app = App::connect(options).await.expect("both stores are there");
        Self { world, migration, app }
    }

    /// Compares by the product, and by a client that knows of no names.
    async fn agreed(&self) {
        let (tables, cancel) = (&self.migration.tables, CancellationToken::new());
        let progress = lockstep_coordinator::Progress::new(tables);
        relay(&self.migration, RelayUntil::Empty, &progress, &cancel).await.expect("relayed");
        let held = [("customer", "key")];
        let apart = disagreements_of(&self.world, "parcels", "parcels", &held, "server").await;
        assert_eq!(apart, [] as [String; 0]);
        let own = ["key", "order", "value", "name", "_v", "server", "by_id_pk", "by_weight_pk"];
        only_has(&self.world, "parcels", &own, &["parcel_id", "at", "weight", "note"], ["PK", "SK", "ttl"])
            .await;
        let options = ValidateOptions { quiescent: true, ..ValidateOptions::default() };
        let progress = lockstep_validator::ValidationProgress::new(tables);
        let (source, target) = (&self.world.source, &self.world.target);
        let report = validate(source, target, tables, &options, &progress, &cancel).await;
        assert!(report.verdict.is_consistent(), "{report:#?}");
        let epoch = source.control().await.expect("a phase").epoch;
        let json = serde_json::to_value(&report).expect("JSON");
        source.record_verdict(epoch, true, &json).await.expect("recorded");
    }

    async fn step(&self, coordinator: &Coordinator, to: Phase) {
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

    /// Writes and reads through the store, in whatever phase it is.
    async fn write(&self, phase: Phase) {
        let parcels = self.app.store::<Parcels>();
        let n = Phase::ALL.iter().position(|of| *of == phase).expect("one") as i64;
        let new = |nth: i64| parcel(1_000 + n * 100 + nth);
        for nth in 0..3 {
            put(&parcels, &new(nth)).await;
        }
        let batch = [new(10), new(11), new(12)];
        for (outcome, row) in parcels.put_batch(&batch).await.into_iter().zip(&batch) {
            assert_eq!(outcome.expect("written").row.as_ref(), Some(row), "{phase}");
        }
        put(&parcels, &Parcel { weight: 4, note: None, ..new(0) }).await;
        // To another place, which is another key.
        let moved = parcels.update(new(1).parcel_id, |row| row.customer = "another".to_owned());
        assert!(moved.await.expect("written").found, "{phase}");
        assert!(parcels.delete(Parcels::key(&new(2))).await.expect("written").found, "{phase}");
        assert_eq!(parcels.get(&Parcels::key(&new(2))).await.expect("read"), None, "{phase}");
        // One that the backfill has brought.
        let brought = parcels.update(n + 1, |row| row.weight += 1);
        assert!(brought.await.expect("written").found, "{phase}");
    }
}

async fn put<T: MigratableTable>(store: &Store<T>, row: &T::Row) {
    let outcome = store.put(row).await.expect("written");
    assert!(matches!(outcome.target, Delivery::Applied | Delivery::NotDue), "{:?}", outcome.target);
    assert_eq!(store.get(&T::key(row)).await.expect("read").as_ref(), Some(row));
}

/// Looks at each item: it has these attributes and no other, and both keys where the table has both.
async fn only_has(world: &World, table: &str, own: &[&str], columns: &[&str], of_no_row: [&str; 3]) {
    let known: BTreeSet<&str> = own.iter().chain(columns).copied().collect();
    let items: Vec<Attributes> = world.items(table).await;
    assert!(items.len() > 20, "{table} has {} items", items.len());
    for item in &items {
        // A mark, a marker or a probe.
        let is_own = of_no_row.iter().any(|name| item.contains_key(*name));
        let of_mark = |name: &str| {
            is_own
                && ["highest", "mark_server", "server", "mark_at", "at"]
                    .iter()
                    .chain(&of_no_row)
                    .any(|n| *n == name)
        };
        let other = item.keys().find(|name| !known.contains(name.as_str()) && !of_mark(name));
        assert_eq!(other, None, "{item:?}");
        assert!(own[..2].iter().chain(&own[3..4]).all(|name| item.contains_key(*name)), "{item:?}");
    }
}

#[tokio::test]
async fn a_derived_table_of_other_names_goes_through_all_phases_and_back() {
    let stage = Stage::start().await;
    let coordinator = stage.world.coordinator_of(stage.migration.clone()).await;
    stage.write(Phase::PostgresOnly).await;
    for to in [Phase::DualWrite, Phase::HybridRead] {
        stage.agreed().await;
        stage.step(&coordinator, to).await;
        stage.write(to).await;
    }
    stage.agreed().await;
    let report = test_operation(&stage.migration).await.expect("journalled");
    assert!(report.passed, "{report:#?}");
    assert_eq!(stage.world.target.expiry("parcels").await.expect("asked"), TableExpiry::Ours);
    stage.step(&coordinator, Phase::DynamoOnly).await;
    stage.write(Phase::DynamoOnly).await;
    stage.feed().await;
    for to in [Phase::HybridRead, Phase::DualWrite] {
        stage.step(&coordinator, to).await;
        stage.write(to).await;
        stage.agreed().await;
    }
    stage.step(&coordinator, Phase::PostgresOnly).await;
    stage.write(Phase::PostgresOnly).await;
    coordinator.close().await;
    stage.app.shutdown().await;
}

const SHOP: &str = "
    CREATE TABLE tickets (id bigint, created timestamptz, note text, value text, PRIMARY KEY (id, created));
    CREATE TABLE labels (name text PRIMARY KEY, key text NOT NULL, ttl integer,
        made timestamptz NOT NULL DEFAULT now());
    INSERT INTO tickets SELECT i % 9, timestamptz '2026-01-01' + i * interval '1 hour', 'n' || i, 'v'
        FROM generate_series(1, 120) AS i;
    INSERT INTO labels SELECT 'l' || i, 'k' || i % 4, i FROM generate_series(1, 120) AS i";

/// Written by strangers while all of it goes there and back.
const WRITES: [&str; 5] = [
    "INSERT INTO tickets VALUES ((random() * 9)::int, now(), random()::text, 'w') ON CONFLICT DO NOTHING",
    "UPDATE tickets SET note = random()::text, value = NULL WHERE id = (random() * 9)::int",
    "UPDATE labels SET key = 'k' || (random() * 4)::int, ttl = ttl + 1
        WHERE name = 'l' || (random() * 120)::int",
    "DELETE FROM labels WHERE name = 'l' || 10 * (random() * 5)::int",
    "DELETE FROM tickets WHERE id = 3 AND created < timestamptz '2026-01-03'",
];

const DECLARED: &str = r#"
[tables.tickets]
partition = "{id}"
sort = "{created}"
day_column = "created"
expires = "created + 36500d"

[tables.tickets.names]
partition = "id"
sort = "created"
expiry = "expires_at"
version = "version"
deleted = "deleted"

[tables.tickets.indexes.by_note]
partition = "{note}"
sort = "{created}"
projection = ["value", "id"]

[tables.labels]
partition = "L#{name}"
attributes = { ttl = "seconds" }

[tables.labels.names]
partition = "order"
version = "PK"
writers = "comment"
deleted = "ttl"
expiry = "_w"
mark = "table"
marker = "user"
probe = "group"

[tables.labels.indexes.by_key]
partition = "{key}"
sort = "{made}"
"#;

/// As another team has made it, by its own means.
async fn premade(world: &World) {
    let key =
        |name: &str, key_type| KeySchemaElement::builder().attribute_name(name).key_type(key_type).build();
    let of =
        |name: &str, kind| AttributeDefinition::builder().attribute_name(name).attribute_type(kind).build();
    let made = world.plain_target.client().create_table().table_name("tickets");
    let made = made
        .key_schema(key("id", KeyType::Hash).expect("a key"))
        .key_schema(key("created", KeyType::Range).expect("a key"))
        .attribute_definitions(of("id", ScalarAttributeType::N).expect("a type"))
        .attribute_definitions(of("created", ScalarAttributeType::S).expect("a type"))
        .attribute_definitions(of("note", ScalarAttributeType::S).expect("a type"));
    let index = aws_sdk_dynamodb::types::GlobalSecondaryIndex::builder()
        .index_name("by_note")
        .key_schema(key("note", KeyType::Hash).expect("a key"))
        .key_schema(key("created", KeyType::Range).expect("a key"))
        .projection(
            aws_sdk_dynamodb::types::Projection::builder()
                .projection_type(aws_sdk_dynamodb::types::ProjectionType::Include)
                .non_key_attributes("value")
                .build(),
        );
    let made = made.global_secondary_indexes(index.build().expect("an index"));
    made.billing_mode(BillingMode::PayPerRequest).send().await.expect("made");
}

#[tokio::test]
async fn declared_tables_of_other_names_one_made_beforehand_go_there_and_back_under_writers() {
    let world = World::start().await;
    world.sql(SHOP).await;
    premade(&world).await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("lockstep.toml");
    std::fs::write(&file, DECLARED).expect("written");
    let (stop, mut writers) = (CancellationToken::new(), JoinSet::new());
    for _ in 0..2 {
        let (mut session, stop) = (world.stranger().await, stop.clone());
        writers.spawn(async move {
            let mut written = 0_u64;
            for statement in WRITES.iter().cycle() {
                if stop.is_cancelled() {
                    return written;
                }
                // In DynamoOnly it is refused, and tried again, as an application would.
                written += session.execute(*statement).await.map_or(0, |done| done.rows_affected());
                tokio::time::sleep(Duration::from_millis(30)).await;
            }
            written
        });
    }
    let output = configured(&world, &file, &["migrate", "--json", "--quiet", "--round-trip"]).output();
    let output = output.await.expect("it ends");
    stop.cancel();
    let mut written = 0;
    while let Some(done) = writers.join_next().await {
        written += done.expect("a writer ends well");
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    assert_eq!(output.status.code(), Some(0), "{said}\n{report}");
    let found = (&report["verdict"], &report["phase"]);
    assert_eq!(found, (&"consistent".into(), &"DynamoOnly".into()), "{report}");
    assert!(written > 20, "writers wrote: {written}");

    let apart = disagreements_of(&world, "tickets", "tickets", &[], "deleted").await;
    assert_eq!(apart, [] as [String; 0]);
    let apart = disagreements_of(&world, "labels", "labels", &[("ttl", "seconds")], "ttl").await;
    assert_eq!(apart, [] as [String; 0]);
    let own = ["id", "created", "expires_at", "version", "deleted", "_w"];
    only_has(&world, "tickets", &own, &["note", "value"], ["_mark", "_marker", "_probe"]).await;
    let own = ["order", "PK", "_w", "PK", "comment", "ttl"];
    only_has(&world, "labels", &own, &["name", "key", "seconds", "made"], ["table", "user", "group"]).await;

    // The names are part of what the migration has noted.
    let changed = DECLARED.replace("version = \"version\"", "version = \"revision\"");
    let refused = bound(&world, &changed).await.expect_err("it was begun with another name");
    assert!(refused.contains("tables.tickets.names.version"), "{refused}");
    bound(&world, DECLARED).await.expect("it is as it was");
}

#[tokio::test]
async fn names_that_collide_or_say_two_things_are_refused_with_what_mends_it() {
    let world = World::start().await;
    world.sql(SHOP).await;
    world.sql("CREATE TABLE prices (price numeric(8,2) PRIMARY KEY, raw bytea, doc jsonb)").await;
    let labels = "[tables.labels]\nattributes = { ttl = \"seconds\" }\n";
    let tickets = "[tables.tickets]\npartition = \"{id}\"\nsort = \"{created}\"\n";
    for (declared, part) in [
        (
            format!("{labels}names = {{ partition = \"key\" }}"),
            "partition = \"{key}\"; or write names.partition = \"key_key\"",
        ),
        (
            format!("{labels}names = {{ version = \"key\" }}"),
            "names.version = \"key\" is the attribute of column `key`",
        ),
        (
            format!("{labels}names = {{ version = \"v\", expiry = \"v\" }}"),
            "names.expiry and names.version are both \"v\"",
        ),
        (
            format!("{labels}names = {{ partition = \"_w\" }}"),
            "names.partition and names.writers are both \"_w\"",
        ),
        (format!("{labels}names = {{ sort = \"s\" }}"), "the table has none"),
        (format!("{labels}names = {{ deleted = \"\" }}"), "1 to 255"),
        (format!("{labels}names = {{ deleted = \"{}\" }}", "x".repeat(256)), "256 bytes"),
        (format!("{labels}names = {{ key = \"x\" }}"), "unknown"),
        (
            format!(
                "{labels}names = {{ mark = \"by_key_pk\" }}\n\
                 [tables.labels.indexes.by_key]\npartition = \"K#{{key}}\""
            ),
            "is the attribute of an index",
        ),
        (
            format!("{tickets}names = {{ partition = \"created\" }}"),
            "names.partition = \"created\" is the attribute of column `created`",
        ),
        (format!("{tickets}names = {{ partition = \"id\", sort = \"id\" }}"), "are both \"id\""),
        ("[tables.prices]\nnames = { partition = \"price\" }".to_owned(), "is held otherwise in a key"),
    ] {
        let refused = bound(&world, &declared).await.err();
        let refused = refused.unwrap_or_else(|| panic!("accepted: {declared}"));
        assert!(refused.contains(part), "{declared}: {refused}");
    }
    for accepted in [
        format!("{labels}names = {{ partition = \"name\" }}"),
        format!("{labels}names = {{ partition = \"o'clock\", version = \"a \\\"b\\\" ü\" }}"),
        format!("{tickets}names = {{ partition = \"id\", sort = \"at\" }}"),
        format!("{tickets}names = {{ partition = \"ttl\", expiry = \"PK\" }}"),
    ] {
        if let Err(problem) = bound(&world, &accepted).await {
            panic!("{accepted}: {problem}");
        }
    }
}
