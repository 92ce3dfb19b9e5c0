//! What roles get, and what tables are protected by: as it is printed, and as it is configured.

use std::collections::BTreeSet;
use std::sync::Arc;

use aws_sdk_dynamodb::types::AttributeValue;
use lockstep_core::{Item, KeyType, MigratableTable, Phase, TargetKey, TargetSchema, Unholdable};
use lockstep_postgres::sequences::identity_of;
use lockstep_postgres::{GrantedRole, Source, TableBinding};
use lockstep_tests::World;
use lockstep_tests::rights::{ACCOUNT, Asked, REGION, asked, refused, unused};
use lockstep_tests::world::LOGS;
use lockstep_tests::world::rows::{logs, payments};

use crate::process::{command, ended};
use crate::roles::{grants, role};

/// V20: what is printed is what the runbook shows, and a role that only looks can.
#[tokio::test]
async fn the_grants_that_are_printed_are_those_of_the_runbook_and_enough_to_look() {
    let world = World::start().await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    let output = ended(command(&world, &["grants", "--role", "application", "--to", "app"])).await;
    let printed = String::from_utf8(output.stdout).expect("text").replace("\"app\"", "app");
    let lines = |text: &str| {
        text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(lines(&printed), lines(&grants("app")));

    let (reader, options) = role(&world, "reader").await;
    world.sql(&format!("REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {reader}")).await;
    let tables = world.tables();
    let relations: Vec<_> = tables.iter().map(|binding| &binding.relation).collect();
    for statement in lockstep_postgres::grants(GrantedRole::ReadOnly, &reader, "", &relations) {
        world.sql(&statement).await;
    }
    let written: Vec<String> = sqlx::query_scalar(
        "SELECT c.oid::regclass::text || ' ' || p FROM pg_class c
         CROSS JOIN unnest(ARRAY['INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'TRIGGER']) AS p
         WHERE c.relnamespace IN ('lockstep'::regnamespace, 'public'::regnamespace) AND c.relkind = 'r'
             AND has_table_privilege($1, c.oid, p)",
    )
    .bind(&reader)
    .fetch_all(world.strangers())
    .await
    .expect("the catalogue is read");
    assert_eq!(written, Vec::<String>::new());
    let source = Source::connect_as_operator(&options).await.expect("the reader connects");
    let status = lockstep_coordinator::status(&source, &world.target, &tables).await.expect("it may look");
    assert_eq!(status.phase, Some(Phase::DualWrite));
    source.close().await;
}

/// V24: those of Hibernate, and those that were made by hand, belong to no column.
#[tokio::test]
async fn the_sequence_of_a_default_is_found_where_it_belongs_to_no_column() {
    let world = World::start().await;
    world.sql("CREATE SEQUENCE public.\"hibernate Sequence\" START 700").await;
    world.sql(&format!("ALTER TABLE {LOGS} ALTER COLUMN log_id DROP IDENTITY")).await;
    let found = async || {
        let mut connection = world.stranger().await;
        identity_of(&mut connection, &world.logs_table()).await.expect("asked")
    };
    assert_eq!(found().await, None);
    world
        .sql(&format!(
            "ALTER TABLE {LOGS} ALTER COLUMN log_id SET DEFAULT nextval('public.\"hibernate Sequence\"')"
        ))
        .await;
    assert_eq!(found().await.as_deref(), Some("public.\"hibernate Sequence\""));
}

/// V21: one call deletes a table that has become the truth.
#[tokio::test]
async fn tables_are_protected_as_configured_and_the_step_to_dynamo_only_warns_where_they_are_not() {
    for protected in [false, true] {
        let world = World::behind_proxy().await;
        world.sql(&format!("{}; {}", logs(1, 30), payments(1, 10))).await;
        world.proxy().record(100_000);
        let url = if protected { operator(&world).await } else { world.url().to_owned() };
        let mut migrate = command(&world, &["migrate", "--live-writes", "0", "--to", "DynamoOnly"]);
        migrate
            .env("LOCKSTEP_SOURCE__URL", &url)
            .env("LOCKSTEP_TARGET__EMULATOR_CREDENTIALS", "false")
            .env("AWS_ACCESS_KEY_ID", "AKID")
            .env("AWS_SECRET_ACCESS_KEY", "secret")
            .env("LOCKSTEP_TARGET__DELETION_PROTECTION", protected.to_string());
        let output = ended(migrate).await;
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{stderr}");
        assert_eq!(stderr.contains("is to be the truth, and one call deletes it"), !protected, "{stderr}");
        for binding in world.tables() {
            let is = world.target.protection(&binding.target_name).await.expect("described").deletion;
            assert_eq!(is, protected, "{}", binding.target_name);
        }
        if protected {
            operators_and_readers_ask_for_what_is_printed(&world, &url).await;
        }
    }
}

/// The URL of an operator with the rights that are printed, and no other.
async fn operator(world: &World) -> String {
    let database: String = world.value("SELECT current_database()::text").await;
    let (name, options) = role(world, "operator").await;
    world.sql(&format!("REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {name}")).await;
    let arguments = ["grants", "--role", "operator", "--to", name.as_str(), "--database", database.as_str()];
    let output = ended(command(world, &arguments)).await;
    world.sql(std::str::from_utf8(&output.stdout).expect("text")).await;
    // What the tables refer to is not printed, and without it a comparison is incomplete: it counts references
    // to rows that are not there.
    world.sql(&format!("GRANT SELECT ON applications, customers, loans TO {name}")).await;
    options.url
}

/// R51: what the run there asked for, and the way back, a repair and the commands that only read, held against
/// the policies as they are printed. `migrate` has delivered, compared, stepped and fed.
async fn operators_and_readers_ask_for_what_is_printed(world: &World, url: &str) {
    for arguments in [
        vec!["rollback", "--to", "PostgresOnly", "--no-wait", "--no-post-check"],
        vec!["repair", "--apply"],
        vec!["orphans"],
    ] {
        let mut command = command(world, &arguments);
        command.env("LOCKSTEP_SOURCE__URL", url);
        let output = ended(command).await;
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let moved = asked(&world.proxy().recorded());
    world.proxy().record(100_000);
    for arguments in [vec!["status"], vec!["doctor"], vec!["report"]] {
        ended(command(world, &arguments)).await;
    }
    let looked = asked(&world.proxy().recorded());
    let operator = printed(world, "operator").await;
    assert_eq!(refused(&operator, &moved), Vec::<Asked>::new(), "an operator may not do what it does");
    assert_eq!(unused(&operator, &moved), names(&NOT_BY_A_RUN), "no run needs it, and no sentence says why");
    let reader = printed(world, "read-only").await;
    assert_eq!(refused(&reader, &looked), Vec::<Asked>::new(), "who only reads may not");
}

fn names(list: &[(&str, &str)]) -> BTreeSet<String> {
    list.iter().map(|(name, _)| (*name).to_owned()).collect()
}

/// A policy as the command prints it.
pub(crate) async fn printed(world: &World, role: &str) -> serde_json::Value {
    let arguments = ["iam-policy", "--role", role, "--account", ACCOUNT, "--region", REGION];
    let output = ended(command(world, &arguments)).await;
    serde_json::from_slice(&output.stdout).expect("a policy is JSON")
}

/// What an operator is allowed and this run does not need, and why it is allowed.
const NOT_BY_A_RUN: [(&str, &str); 0] = [];

lockstep_core::row! {
    /// A row with a column that is called as the attribute by which DynamoDB expires an item, and an array.
    pub struct Session {
        /// Its key.
        pub id: i64,
        /// Not ours.
        pub ttl: i64,
        /// In the source an array of texts.
        pub names: String,
    }
}

lockstep_core::row! {
    /// Its key.
    pub struct SessionKey {
        /// The only part.
        pub id: i64,
    }
}

struct SessionsTable;

impl MigratableTable for SessionsTable {
    type Row = Session;
    type Key = SessionKey;
    const NAME: &'static str = "sessions";
    const PRIMARY_KEY_COLUMNS: usize = 1;
    const TARGET: TargetSchema = TargetSchema { partition: KeyType::N, sort: None, indexes: &[] };

    fn key(row: &Session) -> SessionKey {
        SessionKey { id: row.id }
    }

    fn target_key(&self, key: &SessionKey) -> Result<TargetKey, Unholdable> {
        Ok(TargetKey { partition: AttributeValue::N(key.id.to_string()), sort: None })
    }

    fn expiry(&self) -> String {
        "off".to_owned()
    }

    fn index_attributes(&self, _row: &Session, _item: &mut Item) -> Result<(), Unholdable> {
        Ok(())
    }
}

/// V45: it collided silently.
#[tokio::test]
async fn a_column_that_is_called_as_one_of_our_attributes_is_refused() {
    let world = World::start().await;
    world
        .sql(
            "CREATE TABLE sessions (id bigint PRIMARY KEY, ttl bigint NOT NULL, names character
        varying(50)[] NOT NULL)",
        )
        .await;
    let relation = "sessions".parse().expect("a name");
    let binding =
        TableBinding { table: Arc::new(SessionsTable), relation, target_name: "sessions".to_owned() };
    let wrong = world.source.describe(&binding).await.expect("described").mismatches(&binding);
    assert_eq!(wrong.len(), 2, "{wrong:?}");
    assert!(wrong[0].contains("`ttl`") && wrong[0].contains("attribute"), "{wrong:?}");
    assert!(wrong[1].contains("`names`") && wrong[1].contains("[]"), "{wrong:?}");
}
