//! I15: no session of ours sees fewer rows than there are, or rows that are not captured. What cannot be seen
//! is an error, never a deletion, and no verdict says consistent over it.

use std::time::Duration;

use lockstep_coordinator::{
    Coordinator, CoordinatorError, MigrationContext, Progress, RelaySummary, RelayUntil, Remedy, relay,
};
use lockstep_core::{Kind, Phase};
use lockstep_postgres::{Source, SourceOptions};
use lockstep_tests::World;
use lockstep_tests::world::rows::{payment_key, payments};
use lockstep_tests::world::{PAYMENTS, backfill};
use lockstep_validator::{CancellationToken, Report, ValidateOptions, ValidateSettings, validate};

use crate::history::{diagnosis, mended};

/// A role that owns the database and its tables, as the runbook asks, and is no superuser.
async fn owner(world: &World) -> (String, MigrationContext) {
    let database: String = world.value("SELECT current_database()::text").await;
    let role = format!("{database}_owner");
    world
        .sql(&format!(
            "CREATE ROLE {role} LOGIN PASSWORD 'role' NOSUPERUSER NOBYPASSRLS; ALTER DATABASE {database} OWNER TO {role};
             GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role};
             ALTER TABLE payments OWNER TO {role}; ALTER TABLE integration_logs OWNER TO {role}"
        ))
        .await;
    let (_, place) = world.url().split_once('@').expect("a URL with a password");
    let options = SourceOptions { url: format!("postgres://{role}:role@{place}"), ..world.source_options() };
    let source = Source::connect(&options).await.expect("the role connects");
    (role, MigrationContext { source, ..world.migration() })
}

const POLICY: &str =
    "ALTER TABLE payments ENABLE ROW LEVEL SECURITY; ALTER TABLE payments FORCE ROW LEVEL SECURITY;
                      CREATE POLICY tenant ON payments USING (payment_id <= 10) WITH CHECK (true)";

/// Returns why nothing may be prepared.
async fn refused_preparation(migration: MigrationContext) -> String {
    let coordinator = Coordinator::open(migration).await.expect("a coordinator");
    let refused = coordinator.prepare(&()).await;
    coordinator.close().await;
    match refused {
        Err(CoordinatorError::Refused(report)) => report.refusals(),
        other => panic!("preparation was not refused: {other:?}"),
    }
}

async fn relayed(migration: &MigrationContext) -> lockstep_coordinator::Result<RelaySummary> {
    let progress = Progress::new(&migration.tables);
    relay(migration, RelayUntil::Empty, &progress, &CancellationToken::new()).await
}

/// Validates as the command does: begins a pass, compares, records.
async fn compared(migration: &MigrationContext, incremental: bool) -> Report {
    let MigrationContext { source, target, tables, .. } = migration;
    let pass = lockstep_validator::begin(source).await.expect("a pass begins");
    let options = ValidateOptions {
        settings: ValidateSettings { settle_timeout: Duration::from_secs(5), ..ValidateSettings::default() },
        pass,
        incremental,
        wait_for_pending: false,
        ..ValidateOptions::default()
    };
    let progress = lockstep_validator::ValidationProgress::new(tables);
    let report = validate(source, target, tables, &options, &progress, &CancellationToken::new()).await;
    lockstep_validator::record(source, target, tables, &report).await.expect("recorded");
    report
}

/// Everything that would go on refuses, in these words, and no verdict is consistent.
async fn stands_still(migration: &MigrationContext, words: &str) {
    for (what, error) in [
        ("the relay", relayed(migration).await.expect_err("it stands still").to_string()),
        ("a step", {
            let coordinator = Coordinator::open(migration.clone()).await.expect("a coordinator");
            let refused =
                coordinator.step(Phase::HybridRead, None, &()).await.expect_err("refused").to_string();
            coordinator.close().await;
            refused
        }),
    ] {
        assert!(error.contains(words), "{what}: {error}");
    }
    for incremental in [true, false] {
        let report = compared(migration, incremental).await;
        assert!(!report.verdict.is_consistent(), "I11, incremental {incremental}: {report:#?}");
    }
}

#[tokio::test]
async fn a_row_hidden_by_a_policy_is_refused_before_anything() {
    let world = World::start().await;
    world.sql(&payments(1, 40)).await;
    let (role, migration) = owner(&world).await;
    world.sql(POLICY).await;
    let refusals = refused_preparation(migration.clone()).await;
    for word in ["policy tenant", &role, "BYPASSRLS"] {
        assert!(refusals.contains(word), "{word}: {refusals}");
    }
    assert_eq!(world.count("lockstep.tables").await, 0, "nothing was installed");
    // A role that sees every row may go on.
    world.sql(&format!("ALTER ROLE {role} BYPASSRLS")).await;
    let coordinator = Coordinator::open(migration).await.expect("a coordinator");
    coordinator.prepare(&()).await.expect("nothing refuses");
    coordinator.close().await;
}

#[tokio::test]
async fn what_lets_rows_past_the_triggers_is_refused_before_anything() {
    for (sql, words) in [
        (
            "CREATE TABLE payments_2026 (PRIMARY KEY (payment_id)) INHERITS (payments)",
            "rows of payments_2026 are read through it",
        ),
        (
            "CREATE TABLE money (payment_id bigint NOT NULL); ALTER TABLE payments INHERIT money",
            "it inherits from money",
        ),
        ("ALTER TABLE payments SET UNLOGGED", "UNLOGGED"),
        ("CREATE RULE elsewhere AS ON DELETE TO payments DO INSTEAD NOTHING", "rule elsewhere"),
        (
            "ALTER TABLE payments RENAME TO old; CREATE TABLE payments (LIKE old INCLUDING DEFAULTS) PARTITION BY RANGE (payment_id);
             CREATE UNLOGGED TABLE payments_1 PARTITION OF payments FOR VALUES FROM (0) TO (10)",
            "its partition payments_1 is UNLOGGED",
        ),
        (
            "CREATE TABLE all_payments (LIKE payments INCLUDING DEFAULTS) PARTITION BY RANGE (payment_id);
             ALTER TABLE all_payments ATTACH PARTITION payments DEFAULT",
            "it is a partition of all_payments",
        ),
        ("ALTER TABLE payments RENAME TO old; CREATE VIEW payments AS SELECT * FROM old", "a view"),
    ] {
        let world = World::start().await;
        world.sql(sql).await;
        let refusals = refused_preparation(world.migration()).await;
        assert!(refusals.contains(words), "{sql}: {refusals}");
        assert_eq!(world.count("lockstep.tables").await, 0, "{sql}");
    }
}

#[tokio::test]
async fn a_role_whose_sessions_fire_no_triggers_is_refused() {
    let world = World::start().await;
    let (role, _) = owner(&world).await;
    world.sql(&format!("ALTER ROLE {role} SET session_replication_role = replica")).await;
    let (_, place) = world.url().split_once('@').expect("a URL with a password");
    let options = SourceOptions { url: format!("postgres://{role}:role@{place}"), ..world.source_options() };
    let source = Source::connect(&options).await.expect("the role connects");
    let refusals = refused_preparation(MigrationContext { source, ..world.migration() }).await;
    assert!(refusals.contains("session_replication_role = replica"), "{refusals}");
}

#[tokio::test]
async fn a_policy_that_comes_later_hides_nothing_and_deletes_nothing() {
    let world = World::start().await;
    world.sql(&payments(1, 40)).await;
    let (_, migration) = owner(&world).await;
    let coordinator = Coordinator::open(migration.clone()).await.expect("a coordinator");
    coordinator.prepare(&()).await.expect("nothing refuses");
    backfill(&coordinator).await;
    world.step_to(&coordinator, Phase::DualWrite).await;
    coordinator.close().await;
    assert!(compared(&migration, false).await.verdict.is_consistent());
    world.sql(POLICY).await;
    world.sql("UPDATE payments SET loan_id = 2 WHERE payment_id = 30").await;
    let error = relayed(&migration).await.expect_err("a row it cannot see is no deletion");
    assert!(
        error.to_string().contains("row-level security") || error.to_string().contains("policy tenant"),
        "{error}"
    );
    assert_eq!(world.live_items(PAYMENTS).await, 40, "no tombstone was written");
    for incremental in [true, false] {
        let report = compared(&migration, incremental).await;
        assert!(!report.verdict.is_consistent(), "I11: {report:#?}");
    }
    let coordinator = Coordinator::open(migration.clone()).await.expect("a coordinator");
    let refused = coordinator.step(Phase::HybridRead, None, &()).await.expect_err("refused").to_string();
    assert!(refused.contains("policy tenant"), "{refused}");
    let refused = coordinator.backfill(&CancellationToken::new()).await;
    coordinator.close().await;
    assert!(refused.is_ok(), "nothing is left to be read: {refused:?}");
    world.sql("ALTER TABLE payments NO FORCE ROW LEVEL SECURITY").await;
    relayed(&migration).await.expect("goes on");
    world.assert_converged().await;
}

#[tokio::test]
async fn a_backfill_stops_at_a_policy_that_comes_under_way() {
    let world = World::start().await;
    world.sql(&payments(1, 40)).await;
    let (_, migration) = owner(&world).await;
    let coordinator = Coordinator::open(migration).await.expect("a coordinator");
    coordinator.prepare(&()).await.expect("nothing refuses");
    world.sql(POLICY).await;
    let refused = coordinator
        .backfill(&CancellationToken::new())
        .await
        .expect_err("half of the rows are not all of them");
    assert!(
        matches!(&refused, CoordinatorError::Store(e) if matches!(e.kind, Kind::Denied | Kind::Refused)),
        "{refused:?}"
    );
    assert_eq!(world.live_items(PAYMENTS).await, 0);
    world.sql("ALTER TABLE payments DISABLE ROW LEVEL SECURITY").await;
    backfill(&coordinator).await;
    coordinator.close().await;
    world.assert_converged().await;
}

#[tokio::test]
async fn an_inheritance_child_that_comes_later_stops_everything_until_it_goes() {
    let world = World::start().await;
    world.sql(&payments(1, 20)).await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    let migration = world.migration();
    assert!(compared(&migration, false).await.verdict.is_consistent());
    world.sql("CREATE TABLE payments_2026 (PRIMARY KEY (payment_id)) INHERITS (payments)").await;
    world.sql(&payments(1_001, 1_005).replacen("INTO payments ", "INTO payments_2026 ", 1)).await;
    world.sql("UPDATE payments SET loan_id = 2 WHERE payment_id = 7").await;
    stands_still(&migration, "rows of payments_2026 are read through it").await;
    let found = diagnosis(&world).await;
    assert!(!found.sound && found.findings[0].what.contains("payments_2026"), "{found:?}");
    world.sql("ALTER TABLE payments_2026 NO INHERIT payments").await;
    relayed(&migration).await.expect("goes on");
    world.assert_converged().await;
}

/// P12: names and types are what they were, and the values are not.
#[tokio::test]
async fn a_rewrite_between_verdict_and_step_is_found_and_repaired() {
    for rewrite in [
        "ALTER TABLE payments ALTER COLUMN payment_amount TYPE numeric(18,2) USING round(payment_amount * 1.19, 2)",
        "ALTER TABLE payments DROP COLUMN updated_date; ALTER TABLE payments ADD COLUMN updated_date timestamptz DEFAULT now()",
        "ALTER TABLE payments RENAME COLUMN payment_method TO swap; ALTER TABLE payments RENAME COLUMN payment_status TO payment_method;
         ALTER TABLE payments RENAME COLUMN swap TO payment_status",
    ] {
        let world = World::start().await;
        world.sql(&payments(1, 20)).await;
        world.migrated_to(Phase::DualWrite).await.close().await;
        let migration = world.migration();
        world.record_verdict().await;
        world.sql(rewrite).await;
        world.sql("UPDATE payments SET loan_id = 2 WHERE payment_id = 7").await;
        stands_still(&migration, "repair --state").await;
        let found = diagnosis(&world).await;
        let remedy = Some(Remedy::Recapture { table: PAYMENTS.to_owned() });
        assert!(!found.sound && found.findings.iter().any(|finding| finding.remedy == remedy), "{rewrite}: {found:?}");
        let mended = mended(&world).await;
        assert!(mended.left.expect("looked at").sound, "{rewrite}");
        world.relay_until_empty().await;
        world.assert_converged().await;
        world.stepped_to(Phase::HybridRead).await;
    }
}

#[tokio::test]
async fn what_changes_no_value_is_no_rewrite() {
    let world = World::start().await;
    world.sql(&payments(1, 20)).await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    for harmless in [
        "VACUUM FULL payments",
        "ALTER TABLE payments ALTER COLUMN loan_id SET STATISTICS 500",
        "CLUSTER payments USING payments_pkey",
        "ALTER TABLE payments ALTER COLUMN payment_method SET DEFAULT 'Card'",
        "ANALYZE payments",
        "CREATE INDEX payments_by_amount ON payments (payment_amount)",
    ] {
        world.sql(harmless).await;
        world.sql("UPDATE payments SET loan_id = loan_id + 1 WHERE payment_id = 7").await;
        world.assert_converged().await;
        let found = diagnosis(&world).await;
        assert!(found.sound, "{harmless}: {found:?}");
    }
    world.stepped_to(Phase::HybridRead).await;
}

#[tokio::test]
async fn a_migration_that_recorded_no_shape_goes_on_and_records_it() {
    let world = World::start().await;
    world.sql(&payments(1, 20)).await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    let shapes = "SELECT count(*) FROM lockstep.tables WHERE fingerprint LIKE '%lockstep shape: %'";
    world
        .sql("UPDATE lockstep.tables SET fingerprint = split_part(fingerprint, E'\\nlockstep shape', 1)")
        .await;
    assert_eq!(world.value::<i64>(shapes).await, 0);
    assert!(compared(&world.migration(), false).await.verdict.is_consistent(), "where the older part agrees");
    world.sql("UPDATE payments SET loan_id = 2 WHERE payment_id = 7").await;
    world.assert_converged().await;
    assert_eq!(world.value::<i64>(shapes).await, 2, "the relay has recorded it");
    world
        .sql("UPDATE lockstep.tables SET fingerprint = split_part(fingerprint, E'\\nlockstep shape', 1)")
        .await;
    world.stepped_to(Phase::HybridRead).await;
    assert_eq!(world.value::<i64>(shapes).await, 2, "the coordinator has recorded it");
    world
        .sql("ALTER TABLE payments ALTER COLUMN payment_amount TYPE numeric(18,2) USING payment_amount + 1")
        .await;
    assert!(!world.validate().await.verdict.is_consistent());
}

#[tokio::test]
async fn a_row_security_that_does_not_apply_to_us_is_told_and_no_hindrance() {
    let world = World::start().await;
    world.sql(&payments(1, 20)).await;
    world.sql(POLICY).await;
    let coordinator = world.coordinator().await;
    let report = coordinator.prepare(&()).await.expect("a superuser sees every row");
    let told = report.results.iter().find(|gate| gate.detail.contains("policy tenant"));
    assert!(
        told.is_some_and(|gate| gate.passed && gate.detail.contains("DynamoDB knows no policies")),
        "{told:?}"
    );
    backfill(&coordinator).await;
    coordinator.close().await;
    world.live_at(&world.payments_table(), &payment_key(20, 21)).await;
    world.assert_converged().await;
}
