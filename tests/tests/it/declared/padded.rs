//! Keys of `character(n)`: PostgreSQL prints them with blanks, and compares them without.

use std::sync::Arc;

use lockstep_coordinator::{Coordinator, MigrationContext, Progress, RelayUntil, relay};
use lockstep_postgres::TableBinding;
use lockstep_tests::World;
use lockstep_tests::world::backfill;
use lockstep_validator::{CancellationToken, Report, ValidateOptions, ValidationProgress, validate};

const SCHEMA: &str = "CREATE TABLE codes (code char(3) PRIMARY KEY, note text);
    INSERT INTO codes VALUES ('US', 'two'), ('EUR', 'three')";

/// The type of its key is not named: it is text for the row type.
#[derive(Clone, Debug, PartialEq, lockstep::Table)]
#[lockstep(name = "codes", table = "Unnamed", partition = "{code}")]
struct AsText {
    #[lockstep(primary_key)]
    code: String,
    note: Option<String>,
}

#[derive(Clone, Debug, PartialEq, lockstep::Table)]
#[lockstep(name = "codes", table = "Named", partition = "{code}")]
struct AsItIs {
    #[lockstep(primary_key, sql = "character(3)")]
    code: String,
    note: Option<String>,
}

struct Stage {
    world: World,
    migration: MigrationContext,
}

impl Stage {
    async fn of(table: lockstep_core::TableHandle) -> Self {
        let world = World::start().await;
        world.sql(SCHEMA).await;
        let relation = "public.codes".parse().expect("a name");
        let binding = TableBinding { relation, target_name: "codes".to_owned(), table };
        let migration = MigrationContext { tables: vec![binding], ..world.migration() };
        Self { world, migration }
    }

    async fn prepared(&self) -> Result<Coordinator, String> {
        let coordinator = self.world.coordinator_of(self.migration.clone()).await;
        coordinator.prepare(&()).await.map_err(|error| error.to_string())?;
        Ok(coordinator)
    }

    async fn compared(&self) -> Report {
        let tables = &self.migration.tables;
        let (progress, cancel) = (ValidationProgress::new(tables), CancellationToken::new());
        let options = ValidateOptions { wait_for_pending: false, ..ValidateOptions::default() };
        validate(&self.world.source, &self.world.plain_target, tables, &options, &progress, &cancel).await
    }
}

/// 1. `'US'` is printed as `'US '`, and read as text no row is equal to that. 2. A change of the row was
/// delivered as its deletion. 3. A comparison took the row for gone as well, and said consistent.
#[tokio::test]
async fn a_key_that_finds_no_row_as_it_is_printed_is_refused_by_the_gate_and_by_every_comparison() {
    let stage = Stage::of(Arc::new(Unnamed)).await;
    let binding = &stage.migration.tables[0];
    assert_eq!(stage.world.source.unfindable_rows(binding).await.expect("asked"), 1, "the shorter one");
    let refused = stage.prepared().await.map(drop).expect_err("the gate refuses");
    assert!(refused.contains("key column `code` is character(3)"), "{refused}");
    // As where an earlier version let it in.
    let with_its_type = Stage { world: stage.world, migration: Stage::of(Arc::new(Named)).await.migration };
    let named = MigrationContext {
        tables: with_its_type.migration.tables.clone(),
        ..with_its_type.world.migration()
    };
    let with_its_type = Stage { migration: named, ..with_its_type };
    with_its_type.prepared().await.expect("nothing refuses").close().await;
    let report = Stage {
        migration: MigrationContext { tables: vec![binding.clone()], ..with_its_type.world.migration() },
        world: with_its_type.world,
    }
    .compared()
    .await;
    assert!(!report.verdict.is_consistent(), "{report:?}");
    let why = report.verdict.reasons().join("; ");
    assert!(why.contains("not found by their own key"), "{why}");
}

#[tokio::test]
async fn a_padded_key_of_a_row_type_that_names_it_is_found_delivered_and_compared() {
    let stage = Stage::of(Arc::new(Named)).await;
    let coordinator = stage.prepared().await.expect("nothing refuses");
    backfill(&coordinator).await;
    coordinator.close().await;
    assert_eq!(stage.world.source.unfindable_rows(&stage.migration.tables[0]).await.expect("asked"), 0);
    stage.world.sql("UPDATE codes SET note = 'changed'").await;
    let progress = Progress::new(&stage.migration.tables);
    relay(&stage.migration, RelayUntil::Empty, &progress, &CancellationToken::new()).await.expect("relayed");
    assert_eq!(stage.world.live_items("codes").await, 2);
    let report = stage.compared().await;
    assert!(report.verdict.is_consistent(), "{report:?}");
}

/// Each says of a column what it is in PostgreSQL, and has a Rust type that reads another one: the binary
/// forms of both are taken for each other, on both sides of a comparison.
#[derive(Clone, Debug, PartialEq, lockstep::Table)]
#[lockstep(name = "misread", table = "Misread", partition = "{id}")]
struct TakenForAnother {
    #[lockstep(primary_key)]
    id: i64,
    #[lockstep(sql = "jsonb")]
    document: String,
    #[lockstep(sql = "inet")]
    address: String,
    #[lockstep(sql = "money")]
    price: i64,
    #[lockstep(sql = "timestamp with time zone")]
    moment: chrono::NaiveDateTime,
    #[lockstep(sql = "timestamp without time zone")]
    local: chrono::DateTime<chrono::Utc>,
    #[lockstep(sql = "short")]
    short: String,
    #[lockstep(sql = "doc")]
    doc: String,
    #[lockstep(sql = "numeric(12,2)")]
    exact: lockstep_core::Scaled<2>,
    #[lockstep(sql = "timestamp(3) without time zone")]
    coarse: chrono::NaiveDateTime,
}

#[tokio::test]
async fn a_type_that_a_row_type_says_of_a_column_and_cannot_read_is_refused_under_domains_too() {
    let world = World::start().await;
    world
        .sql(
            "CREATE DOMAIN public.short AS varchar(5); CREATE DOMAIN public.doc AS jsonb;
             CREATE TABLE misread (id bigint PRIMARY KEY, document jsonb NOT NULL, address inet NOT NULL,
                 price money NOT NULL, moment timestamptz NOT NULL, local timestamp NOT NULL,
                 short public.short NOT NULL, doc public.doc NOT NULL, exact numeric(12,2) NOT NULL,
                 coarse timestamp(3) NOT NULL)",
        )
        .await;
    let binding = TableBinding {
        relation: "public.misread".parse().expect("a name"),
        target_name: "misread".to_owned(),
        table: Arc::new(Misread),
    };
    let found = world.source.describe(&binding).await.expect("described").mismatches(&binding).join("; ");
    for column in ["document", "address", "price", "moment", "local", "doc"] {
        assert!(found.contains(&format!("column `{column}` is ")), "{column}: {found}");
    }
    for column in ["id", "short", "exact", "coarse"] {
        assert!(!found.contains(&format!("column `{column}` is ")), "{column}: {found}");
    }
}
