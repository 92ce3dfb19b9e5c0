//! A migration up to HybridRead, written to all the time, and compared.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use futures::TryStreamExt;
use lockstep::migration::{Migration, Tables};
use lockstep::store::WriteOptions;
use lockstep_coordinator::{Coordinator, MigrationContext, Progress, RelayUntil, relay};
use lockstep_core::{Phase, TargetKey, is_tombstone};
use lockstep_integration_logs::{IntegrationLogs, IntegrationLogsOptions, LogQueries};
use lockstep_payments::{PaymentQueries, Payments, PaymentsOptions};
use lockstep_postgres::TableBinding;
use lockstep_tests::World;
use lockstep_tests::world::rows::{log_row, logs, payment_row, payments};
use lockstep_tests::world::{LOGS, PAYMENTS, sweeping_never, within};
use lockstep_validator::{
    CancellationToken, Report, ValidateOptions, ValidateSettings, ValidationProgress, validate,
};

/// Tables whose rows stay.
fn kept() -> (IntegrationLogs, Payments) {
    let logs = IntegrationLogsOptions { ttl_days: None, ..IntegrationLogsOptions::default() };
    (IntegrationLogs { options: logs }, Payments { options: PaymentsOptions { ttl_days: None } })
}

fn migration(world: &World) -> MigrationContext {
    let (logs, payments) = kept();
    let logs = TableBinding { table: Arc::new(logs), ..world.logs_table() };
    let payments = TableBinding { table: Arc::new(payments), ..world.payments_table() };
    MigrationContext { tables: vec![logs, payments], ..world.migration() }
}

async fn deliver(migration: &MigrationContext) {
    let (progress, cancel) = (Progress::new(&migration.tables), CancellationToken::new());
    let relaying = relay(migration, RelayUntil::Empty, &progress, &cancel);
    within(Duration::from_secs(60), relaying).await.expect("the relay delivers");
}

async fn compared(world: &World, migration: &MigrationContext) -> Report {
    let settings = ValidateSettings { settle_timeout: Duration::from_secs(5), ..ValidateSettings::default() };
    let options =
        ValidateOptions { settings, quiescent: true, wait_for_pending: false, ..ValidateOptions::default() };
    let (tables, cancel) = (&migration.tables, CancellationToken::new());
    let progress = ValidationProgress::new(tables);
    validate(&world.source, &world.target, tables, &options, &progress, &cancel).await
}

/// Takes a step with what its gates ask for done before.
async fn step(world: &World, migration: &MigrationContext, coordinator: &Coordinator, to: Phase) {
    deliver(migration).await;
    let report = compared(world, migration).await;
    assert!(report.verdict.is_consistent(), "{report:#?}");
    let epoch = world.source.control().await.expect("a phase").epoch;
    let json = serde_json::to_value(&report).expect("a report is JSON");
    world.source.record_verdict(epoch, true, &json).await.expect("recorded");
    coordinator.step(to, None, &()).await.expect("nothing refuses");
}

pub(super) async fn there_and_compared(world: &World) {
    world.sql(&format!("{}; {}", logs(1, 120), payments(1, 60))).await;
    let migration = migration(world);
    let coordinator = world.coordinator_of(migration.clone()).await;
    coordinator.prepare(&()).await.expect("nothing refuses");
    lockstep_tests::world::backfill(&coordinator).await;
    world.sql("UPDATE payments SET payment_status = 'Failed' WHERE payment_id <= 10").await;
    world.sql("DELETE FROM integration_logs WHERE log_id <= 5").await;
    // The place of each changes.
    world.sql("UPDATE payments SET customer_id = customer_id + 1 WHERE payment_id BETWEEN 11 AND 20").await;
    step(world, &migration, &coordinator, Phase::DualWrite).await;
    let (of_logs, of_payments) = kept();
    let tables = Tables::default().add(of_logs, LOGS, LOGS);
    let tables = tables.and_then(|tables| tables.add(of_payments, PAYMENTS, PAYMENTS)).expect("plain names");
    let (source, target) = (world.source.clone(), world.target.clone());
    let app = Migration::start(source, target, tables, WriteOptions::default(), sweeping_never());
    let (logs, payments) = (app.store::<IntegrationLogs>(), app.store::<Payments>());
    logs.put(&log_row(1_001, "put")).await.expect("written");
    assert!(logs.delete(6).await.expect("deleted").found);
    step(world, &migration, &coordinator, Phase::HybridRead).await;
    logs.update(1_001, |log| log.user_id = Some("changed".to_owned())).await.expect("written");
    payments.put(&payment_row(1_002, 7, "put")).await.expect("written");
    let (deleted, found) =
        (logs.by_id(6).await, logs.by_id(1_001).await.expect("read").expect("it is there"));
    assert_eq!((deleted.expect("read"), found.user_id.as_deref()), (None, Some("changed")));
    let failed: Vec<_> = payments.by_status("Failed", ..).stream().try_collect().await.expect("read");
    assert_eq!(failed.len(), 10, "by an index");
    deliver(&migration).await;
    let report = compared(world, &migration).await;
    assert!(report.verdict.is_consistent(), "{report:#?}");
    let items = world.items(LOGS).await;
    let rows = world.count("integration_logs").await;
    assert_eq!(items.iter().filter(|item| !is_tombstone(item)).count() as i64, rows);

    // Another program changes one item and takes another one out.
    let mut live = items.into_iter().filter(|item| !is_tombstone(item));
    let (mut changed, gone) = (live.next().expect("an item"), live.next().expect("an item"));
    let client = world.plain_target.client();
    changed.insert("user_id".to_owned(), AttributeValue::S("foreign".to_owned()));
    client.put_item().table_name(LOGS).set_item(Some(changed)).send().await.expect("put");
    let gone = TargetKey::of(&gone).expect("a key").to_attributes();
    client.delete_item().table_name(LOGS).set_key(Some(gone)).send().await.expect("deleted");
    let report = compared(world, &migration).await;
    assert!(!report.verdict.is_consistent(), "{report:#?}");
    coordinator.close().await;
    app.shutdown().await;
}
