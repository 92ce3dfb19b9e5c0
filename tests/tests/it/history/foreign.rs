//! Items whose version is none of ours, or of a time that is lost, on the ways that meet them seldom: a row
//! that no item can hold, and an application that writes strictly.

use lockstep::store::WriteOptions;
use lockstep_core::{AttributeValue, MigratableTable, VERSION_ATTRIBUTE, Version, is_tombstone};
use lockstep_integration_logs::IntegrationLogs;
use lockstep_tests::world::rows::{log_row, outgrow};

use super::*;

async fn relayed(world: &World) -> Result<lockstep_coordinator::RelaySummary, CoordinatorError> {
    let migration = world.migration();
    let progress = lockstep_coordinator::Progress::new(&migration.tables);
    relay(&migration, RelayUntil::Empty, &progress, &CancellationToken::new()).await
}

/// Another program puts its own version into the item of a log.
async fn put_foreign(world: &World, key: &str) {
    let table = world.logs_table();
    let mut item = world.live_at(&table, key).await;
    item.insert(VERSION_ATTRIBUTE.to_owned(), AttributeValue::N(i64::MAX.to_string()));
    let put = world.plain_target.client().put_item().table_name(&table.target_name).set_item(Some(item));
    put.send().await.expect("put");
}

/// 1. Another program puts a version that is none of ours into an item. 2. The row outgrows what an item can
/// hold. 3. Its tombstone is refused. Taken for lost history, that stopped everything, and no new epoch was
/// above it.
#[tokio::test]
async fn a_row_that_outgrew_its_item_gives_it_up_whatever_version_another_program_has_put_there() {
    let world = World::start().await;
    world.sql(&logs(1, 10)).await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    let key = log_key(7, "service-2");
    put_foreign(&world, &key).await;
    world.sql(&outgrow(7)).await;
    let summary = relayed(&world).await.expect("PostgreSQL is the truth, and no history was lost");
    assert_eq!(summary.dead_letters, 1);
    let item = world.item(&world.logs_table(), &key).await.expect("there");
    assert!(is_tombstone(&item), "what it was before is served no more");
    assert!(diagnosis(&world).await.sound);
}

/// An application that only writes strictly leaves no mark behind where its put is refused, so no relay looks
/// at what refuses it.
#[tokio::test]
async fn what_refuses_a_strict_write_is_looked_at_and_named() {
    let world = World::start().await;
    world.sql(&log(1, "a")).await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    let strictly = WriteOptions { dual_write: lockstep::store::WriteMode::Strict, ..WriteOptions::default() };
    let app = world.app(strictly);
    let store = app.store::<IntegrationLogs>();

    put_foreign(&world, &log_key(1, "a")).await;
    store.put(&log_row(1, "refused")).await.expect_err("it is not there");
    relayed(&world).await.expect("it gives way");
    store.put(&log_row(1, "now")).await.expect("nothing is in its way any more");
    world.assert_converged().await;

    let high = Version(world.value::<i64>("SELECT last_value FROM lockstep.version_seq").await + 500);
    let lost = MigratableTable::encode(&IntegrationLogs::default(), &log_row(2, "lost")).expect("fits");
    world.plain_target.put_guarded(LOGS, lost.at(high), high).await.expect("put");
    store.put(&log_row(2, "refused")).await.expect_err("it is not there");
    let error = relayed(&world).await.expect_err("DynamoDB has what PostgreSQL does not know");
    assert!(matches!(error, CoordinatorError::HistoryLost(_)), "{error}");
    assert!(!diagnosis(&world).await.sound, "and the doctor names it");
    mended(&world).await;
    repair_rows(&world).await;
    store.put(&log_row(2, "now")).await.expect("nothing is in its way any more");
    world.assert_converged().await;
    app.shutdown().await;
}
