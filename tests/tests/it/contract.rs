//! The contract (I13): what writes or judges the target goes by the migration's tables, names, keys and
//! expiry, or not at all.

use std::num::NonZeroU32;
use std::sync::Arc;

use lockstep::instance::InstanceOptions;
use lockstep::migration::{Migration as Application, MigrationOptions};
use lockstep::store::Store;
use lockstep_coordinator::{CoordinatorError, FeedProgress, FeedUntil, MigrationContext, ReverseFeedOptions};
use lockstep_coordinator::{
    Progress, RelayUntil, examine, find_repairs, observe, relay, repair, reverse_feed, test_operation,
};
use lockstep_core::{Kind, Phase, TableHandle};
use lockstep_integration_logs::{IntegrationLogs, IntegrationLogsOptions, LogQueries};
use lockstep_payments::{Payments, PaymentsOptions};
use lockstep_postgres::TableBinding;
use lockstep_tests::World;
use lockstep_tests::world::rows::{log, logs, payments};
use lockstep_tests::world::{LOGS, PAYMENTS};
use lockstep_validator::{CancellationToken, ValidateOptions, Verdict, validate};

fn sharded() -> IntegrationLogs {
    let write_shards = NonZeroU32::new(4).expect("not zero");
    IntegrationLogs { options: IntegrationLogsOptions { write_shards, ..IntegrationLogsOptions::default() } }
}

fn kept_for_a_week() -> IntegrationLogs {
    IntegrationLogs {
        options: IntegrationLogsOptions { ttl_days: Some(7), ..IntegrationLogsOptions::default() },
    }
}

/// The logs under settings that are not the migration's, and what the refusal names.
fn mistaken(world: &World) -> Vec<(TableBinding, &'static str)> {
    let as_configured = world.logs_table();
    let with = |table: TableHandle| TableBinding { table, ..as_configured.clone() };
    vec![
        (
            TableBinding { target_name: "another".to_owned(), ..as_configured.clone() },
            "tables.integration_logs.target",
        ),
        (
            TableBinding { relation: "other.logs".parse().expect("a name"), ..as_configured.clone() },
            "tables.integration_logs.source",
        ),
        (with(Arc::new(sharded())), "what decides keys"),
        (with(Arc::new(kept_for_a_week())), "what decides expiry"),
    ]
}

/// A world in `phase` in which something is pending.
async fn moving(phase: Phase) -> World {
    let world = World::start().await;
    world.sql(&logs(1, 20)).await;
    world.sql(&payments(1, 5)).await;
    world.migrated_to(phase).await.close().await;
    world.sql(&log(21, "a")).await;
    world
}

fn migration_with(world: &World, binding: &TableBinding) -> MigrationContext {
    let mut migration = world.migration();
    migration.tables[0] = binding.clone();
    migration
}

#[track_caller]
fn assert_named(what: &str, error: &impl std::fmt::Display, names: &str) {
    let text = error.to_string();
    assert!(text.contains(names) && text.contains("put the setting back"), "{what}: {text}");
}

#[track_caller]
fn refused<T: std::fmt::Debug>(what: &str, ended: Result<T, CoordinatorError>, names: &str) {
    match ended {
        Err(CoordinatorError::Store(error)) if error.kind == Kind::Misconfigured => {
            assert_named(what, &error, names)
        }
        other => panic!("{what} with another {names}: {other:?}"),
    }
}

#[tokio::test]
async fn whatever_writes_or_judges_the_target_refuses_settings_that_are_not_the_migrations() {
    let world = moving(Phase::DualWrite).await;
    let before = (world.pending(LOGS).await, world.source.journal(200).await.expect("read").len());
    let cancel = CancellationToken::new();
    for (binding, names) in mistaken(&world) {
        let migration = migration_with(&world, &binding);
        let progress = Progress::new(&migration.tables);
        refused("relay", relay(&migration, RelayUntil::Empty, &progress, &cancel).await, names);
        refused("repair", find_repairs(&migration, &ValidateOptions::default(), &cancel).await, names);
        refused("repair", repair(&migration, &[], &ValidateOptions::default(), &cancel).await, names);
        refused("test-operation", test_operation(&migration).await, names);
        let feed = Arc::new(FeedProgress::new(&migration.tables));
        refused(
            "reverse feed",
            reverse_feed(&migration, &ReverseFeedOptions::default(), FeedUntil::Drained, &feed, &cancel)
                .await,
            names,
        );
        let report = validate(
            &migration.source,
            &migration.target,
            &migration.tables,
            &ValidateOptions::default(),
            &lockstep_validator::ValidationProgress::new(&migration.tables),
            &cancel,
        )
        .await;
        let Verdict::Incomplete { reasons } = &report.verdict else {
            panic!("validate with {names}: {:?}", report.verdict)
        };
        assert!(reasons.iter().any(|reason| reason.contains(names)), "{reasons:?}");
    }
    let after = (world.pending(LOGS).await, world.source.journal(200).await.expect("read").len());
    assert_eq!(after, before, "nothing was delivered, and nothing noted");
}

#[tokio::test]
async fn an_application_with_other_settings_neither_starts_nor_writes() {
    let world = moving(Phase::DualWrite).await;
    for (table, target_name, names) in [
        (IntegrationLogs::default(), "another", "tables.integration_logs.target"),
        (sharded(), LOGS, "what decides keys"),
        (kept_for_a_week(), LOGS, "what decides expiry"),
    ] {
        let options = MigrationOptions::new(world.source_options(), world.target_options())
            .table(table, LOGS, target_name)
            .and_then(|options| options.table(Payments::default(), PAYMENTS, PAYMENTS))
            .expect("plain names")
            .instance(InstanceOptions::default());
        let error = Application::connect(options).await.err().expect("its settings are not the migration's");
        assert_named("connect", &error, names);

        // A handle of its own asks at its first write, whichever kind it is.
        let binding = TableBinding {
            table: Arc::new(table),
            target_name: target_name.to_owned(),
            ..world.logs_table()
        };
        let store = Store::new(world.source.clone(), world.target.clone(), Arc::new(table), binding);
        let row = world.log_store().by_id(1).await.expect("read").expect("there");
        assert_named("put", &store.put(&row).await.expect_err(names), names);
        assert_named("insert", &store.insert(&row).await.expect_err(names), names);
        assert_named(
            "update",
            &store.update(1_i64, |row| row.is_success = false).await.expect_err(names),
            names,
        );
        assert_named("delete", &store.delete(1_i64).await.expect_err(names), names);
    }
    assert_eq!(world.pending(LOGS).await.len(), 1, "only the stranger's own change");
}

#[tokio::test]
async fn an_application_that_started_before_its_table_had_a_target_is_told_at_its_next_write() {
    let world = World::start().await;
    world.sql(&logs(1, 3)).await;
    world.prepared().await.close().await;
    let binding = TableBinding { target_name: "another".to_owned(), ..world.logs_table() };
    world.sql("UPDATE lockstep.tables SET target_name = NULL WHERE name = 'integration_logs'").await;
    let store =
        Store::new(world.source.clone(), world.target.clone(), Arc::new(IntegrationLogs::default()), binding);
    store.update(1_i64, |row| row.is_success = false).await.expect("there is no other name yet");
    world
        .sql("UPDATE lockstep.tables SET target_name = 'integration_logs' WHERE name = 'integration_logs'")
        .await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    let error = store.update(2_i64, |row| row.is_success = false).await.expect_err("the name is another one");
    assert_named("update", &error, "tables.integration_logs.target");
}

#[tokio::test]
async fn what_decides_expiry_is_fixed_and_doctor_names_what_differs() {
    let world = moving(Phase::DualWrite).await;
    let migration = world.migration();
    let year = Payments { options: PaymentsOptions { ttl_days: Some(365) } };
    let of_a_year = TableBinding { table: Arc::new(year), ..world.payments_table() };
    let tables = [migration.tables[0].clone(), of_a_year.clone()];
    let named = "tables.payments.* (what decides expiry)";
    let refused = || async { world.source.require_contract(&tables).await.expect_err("another expiry") };
    assert_named("payments", &refused().await, named);
    let found = async |tables: &[TableBinding]| -> String {
        let seen = observe(&world.source, &world.plain_target, tables).await.expect("observed");
        examine(&seen).findings.into_iter().map(|finding| format!("{}\n", finding.what)).collect()
    };
    let said = found(&tables).await;
    assert!(said.contains(named) && said.contains("ttl_days=365"), "{said}");
    let said = found(&migration.tables).await;
    assert!(!said.contains("what decides"), "{said}");

    // An earlier Lockstep noted no more than that items expire: the first coordinator says when.
    world.sql("UPDATE lockstep.tables SET expiry = 'on' WHERE name = 'payments'").await;
    world.source.require_contract(&tables).await.expect("it is not known to be another");
    let never = Payments { options: PaymentsOptions { ttl_days: None } };
    let of_ever = TableBinding { table: Arc::new(never), ..world.payments_table() };
    let error = world.source.require_contract(&[of_ever]).await.expect_err("items expire");
    assert_named("payments", &error, named);
    world.coordinator_of(migration).await.close().await;
    assert_named("payments", &refused().await, named);
}

#[tokio::test]
async fn a_process_that_knows_fewer_tables_moves_no_phase() {
    let world = moving(Phase::PostgresOnly).await;
    let mut migration = world.migration();
    migration.tables.remove(0);
    let coordinator = world.coordinator_of(migration).await;
    let stepped = coordinator.step(Phase::DualWrite, Some("in a hurry"), &()).await;
    let error = stepped.expect_err("integration_logs would be moved unseen").to_string();
    assert!(error.contains("the migration has integration_logs too"), "{error}");
    assert_eq!(world.source.control().await.expect("read").phase, Phase::PostgresOnly);
}

#[tokio::test]
async fn a_table_joins_only_while_postgresql_is_written_alone() {
    let world = World::start().await;
    world.sql(&logs(1, 3)).await;
    let mut migration = world.migration();
    let late = migration.tables.remove(1);
    let coordinator = world.coordinator_of(migration).await;
    coordinator.prepare(&()).await.expect("nothing refuses");
    coordinator.step(Phase::DualWrite, Some("a table less"), &()).await.expect("stepped");
    coordinator.close().await;

    let coordinator = world.coordinator_of(world.migration()).await;
    let error = coordinator.prepare(&()).await.expect_err("payments comes too late").to_string();
    assert!(error.contains("payments would join a migration that is in DualWrite"), "{error}");
    let captured = world.source.capture_state(&late).await.expect("read");
    assert_eq!(captured, lockstep_postgres::CaptureState::Absent, "it was not touched");

    coordinator.step(Phase::PostgresOnly, None, &()).await.expect("back");
    coordinator.prepare(&()).await.expect("now it may");
}
