//! Rights of roles, and protection of tables: as it is printed, and as it is configured.

use std::sync::Arc;

use aws_sdk_dynamodb::types::AttributeValue;
use lockstep_core::{Item, KeyType, MigratableTable, Phase, TargetKey, TargetSchema, Unholdable};
use lockstep_dynamo::{CONTROL_SCHEMA, TableExpiry, Target, TargetOptions};
use lockstep_postgres::sequences::identity_of;
use lockstep_postgres::{GrantedRole, Source, TableBinding};
use lockstep_tests::World;
use lockstep_tests::faults::{Fault, Rule};
use lockstep_tests::rights::{ACCOUNT, REGION};
use lockstep_tests::world::LOGS;

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

/// R25: without it a comparison is incomplete, and the step to HybridRead refused.
#[tokio::test]
async fn an_operator_may_look_up_what_the_foreign_keys_of_its_tables_refer_to() {
    let world = World::start().await;
    let (operator, _) = role(&world, "operator").await;
    world.sql(&format!("REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {operator}")).await;
    world.sql("CREATE SCHEMA \"Other $grant$\"; ALTER TABLE customers SET SCHEMA \"Other $grant$\"").await;
    let tables = world.tables();
    let relations: Vec<_> = tables.iter().map(|binding| &binding.relation).collect();
    let database: String = world.value("SELECT current_database()::text").await;
    for statement in lockstep_postgres::grants(GrantedRole::Operator, &operator, &database, &relations) {
        world.sql(&statement).await;
    }
    let readable: Vec<String> = sqlx::query_scalar(
        "SELECT c.relname::text FROM pg_class c
         WHERE c.relkind = 'r' AND c.relnamespace::regnamespace::text !~ '^(pg_|lockstep|information_schema)'
             AND has_table_privilege($1, c.oid, 'SELECT') ORDER BY 1",
    )
    .bind(&operator)
    .fetch_all(world.strangers())
    .await
    .expect("the catalogue is read");
    assert_eq!(
        readable,
        ["customers", "integration_logs", "loans", "payments"],
        "its own, and what they refer to"
    );
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
        let world = World::start().await;
        let mut migrate = command(&world, &["migrate", "--live-writes", "0", "--to", "DynamoOnly"]);
        migrate
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
    }
}

/// 1. A table was made just now, and AWS answers for minutes that its backups are being set up. 2. The
/// request was given up after half a second, and so was the step. 3. At the next try the table was there, and
/// the control table was never protected.
#[tokio::test]
async fn point_in_time_recovery_waits_until_the_backups_of_a_new_table_are_there() {
    let world = World::behind_proxy().await;
    let options =
        TargetOptions { point_in_time_recovery: true, deletion_protection: true, ..world.target_options() };
    let control = Target::connect(options).await.control();
    control.create().await.expect("made");
    let asked = || world.proxy().seen("UpdateContinuousBackups");
    assert_eq!(asked(), 0, "a table is made while writes wait; it is protected before");
    let not_yet = Fault::Code("ContinuousBackupsUnavailableException");
    world.proxy().script(Rule::new(not_yet).on("UpdateContinuousBackups").times(7));
    let protected = control.protect().await;
    // The emulator has no backups: what counts is that it was asked in the end.
    assert!(asked() >= 8, "{} tries: {protected:?}", asked());
    let protection = world.target.protection(control.table()).await.expect("described");
    assert!(protection.deletion, "{protection:?}");
}

/// 1. The answer to switching expiry on is lost. 2. The second request is refused: it is on already. 3. The
/// words of that refusal are masked, so it was taken for a failure.
#[tokio::test]
async fn expiry_that_is_on_already_is_recognised_whatever_the_refusal_says() {
    let world = World::behind_proxy().await;
    world.proxy().script(Rule::new(Fault::LoseReply).on("UpdateTimeToLive").times(1));
    world.proxy().script(Rule::new(Fault::Code("ValidationException")).on("UpdateTimeToLive").times(1));
    let made = world.target.create("late_expiry", &CONTROL_SCHEMA, true).await;
    assert!(made.is_ok(), "{made:?}");
    assert_eq!(world.proxy().seen("UpdateTimeToLive"), 2);
    assert_eq!(world.target.expiry("late_expiry").await.expect("asked"), TableExpiry::Ours);
    // And one that is refused while it is off is a failure.
    world.proxy().script(Rule::new(Fault::Code("ValidationException")).on("UpdateTimeToLive").times(1));
    world.target.create("never_expiry", &CONTROL_SCHEMA, true).await.expect_err("expiry stays off");
}

/// A policy as the command prints it.
pub(crate) async fn printed(world: &World, role: &str) -> serde_json::Value {
    printed_with(world, role, &[]).await
}

/// The same, with these flags.
pub(crate) async fn printed_with(world: &World, role: &str, flags: &[&str]) -> serde_json::Value {
    let arguments = ["iam-policy", "--role", role, "--account", ACCOUNT, "--region", REGION];
    let output = ended(command(world, &[&arguments[..], flags].concat())).await;
    serde_json::from_slice(&output.stdout).expect("a policy is JSON")
}

lockstep_core::row! {
    /// A row with a column that is called as the attribute by which DynamoDB expires an item, and an array.
    pub struct Session {
        /// Key of the session.
        pub id: i64,
        /// Not ours.
        pub ttl: i64,
        /// Names, in the source an array of texts.
        pub names: String,
        /// Attribute that only a mark of history has.
        pub _mark: i32,
    }
}

lockstep_core::row! {
    /// Key of a session.
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
        varying(50)[] NOT NULL, _mark integer NOT NULL)",
        )
        .await;
    let relation = "sessions".parse().expect("a name");
    let binding =
        TableBinding { table: Arc::new(SessionsTable), relation, target_name: "sessions".to_owned() };
    let wrong = world.source.describe(&binding).await.expect("described").mismatches(&binding);
    assert_eq!(wrong.len(), 3, "{wrong:?}");
    assert!(wrong[0].contains("`ttl`") && wrong[0].contains("attribute"), "{wrong:?}");
    assert!(wrong[1].contains("`names`") && wrong[1].contains("[]"), "{wrong:?}");
    assert!(wrong[2].contains("`_mark`") && wrong[2].contains("attribute"), "{wrong:?}");
}
