//! PostgreSQL was set back and does not know it: what DynamoDB holds of the time that is lost refuses changes
//! of now. No such refusal takes a mark out, and no repair brings back unsaid what was deleted.

use lockstep::store::{Delivery, WriteOptions};
use lockstep_core::{MigratableTable, Version};
use lockstep_integration_logs::IntegrationLogs;
use lockstep_payments::Payments;
use lockstep_tests::world::rows::{log_row, payment_row};

use super::*;
use crate::process::{command, ended};

/// The version that PostgreSQL hands out next.
async fn next_version(world: &World) -> i64 {
    world.value::<i64>("SELECT last_value FROM lockstep.version_seq").await + 1
}

/// Puts a state of the time that is lost.
async fn put_lost(world: &World, payment_id: i64, version: i64) {
    let row = payment_row(payment_id, 1 + payment_id, "of the time that is lost");
    let item = MigratableTable::encode(&Payments::default(), &row).expect("fits");
    let put = world.plain_target.put_guarded(PAYMENTS, item.at(Version(version)), Version(version)).await;
    assert_eq!(put.expect("put").landed, lockstep_dynamo::Landed::Applied);
}

async fn relayed(world: &World) -> Result<lockstep_coordinator::RelaySummary, CoordinatorError> {
    let migration = world.migration();
    let progress = lockstep_coordinator::Progress::new(&migration.tables);
    relay(&migration, RelayUntil::Empty, &progress, &CancellationToken::new()).await
}

/// The relay refuses to go on; the mark of this payment stays.
async fn contradicted(world: &World, payment_id: i64) {
    let error = relayed(world).await.expect_err("a refusal that nothing explains");
    let said = error.to_string();
    assert!(matches!(error, CoordinatorError::HistoryLost(_)) && said.contains("stays pending"), "{said}");
    let pending = world.pending(PAYMENTS).await;
    assert!(pending.contains_key(&payment_key(payment_id, 1 + payment_id)), "its mark is kept: {pending:?}");
    check(world, "which PostgreSQL has not delivered", &[Remedy::RaiseEpoch, Remedy::List]).await;
}

async fn brought_together(world: &World) {
    assert!(mended(world).await.left.expect("looked at").sound);
    world.relay_until_empty().await;
    repair_rows(world).await;
    world.assert_converged().await;
}

/// 1. PostgreSQL is restored to a moment, and no mark of history tells of it. 2. Rows are deleted and
/// changed. 3. DynamoDB refuses both, by states of the time that is lost.
#[tokio::test]
async fn a_change_that_a_lost_time_outranks_stays_pending_and_is_named_until_both_are_one() {
    let world = World::start().await;
    world.sql(&payments(1, 10)).await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    // Higher than its deletion, and lower than what is handed out by then: the counter tells nothing.
    put_lost(&world, 1, next_version(&world).await + 2).await;
    world.sql("DELETE FROM payments WHERE payment_id = 1").await;
    world.sql("UPDATE payments SET loan_id = 2 WHERE payment_id > 5").await;
    contradicted(&world, 1).await;
    brought_together(&world).await;
    world.tombstone_at(&world.payments_table(), &payment_key(1, 2)).await;
    assert_eq!(
        world.count("payments WHERE payment_id = 1").await,
        0,
        "it was deleted, and is in neither store"
    );

    // The very version that the change gets.
    put_lost(&world, 2, next_version(&world).await).await;
    world.sql("UPDATE payments SET loan_id = 3 WHERE payment_id = 2").await;
    contradicted(&world, 2).await;
    brought_together(&world).await;

    // One that is the same state under the same version is an earlier answer that was lost, and no sign.
    let loan = "SELECT version FROM lockstep.pending";
    world.sql("UPDATE payments SET loan_id = 4 WHERE payment_id = 3").await;
    let version = Version(world.value(loan).await);
    let key = payment_key(3, 4);
    world.relay_until_empty().await;
    let again = "INSERT INTO lockstep.pending (table_name, key, version) VALUES ('payments', ";
    world.sql(&format!("{again}'{key}', {})", version.0)).await;
    relayed(&world).await.expect("the target holds it");
    assert!(world.pending(PAYMENTS).await.is_empty());
}

#[tokio::test]
async fn an_application_takes_no_refusal_for_a_delivery() {
    let world = World::start().await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    let strictly = WriteOptions { dual_write: lockstep::store::WriteMode::Strict, ..WriteOptions::default() };
    let (app, strict) = (world.app(WriteOptions::default()), world.app(strictly));
    let high = Version(next_version(&world).await + 50);
    for log_id in [1, 2] {
        let lost =
            MigratableTable::encode(&IntegrationLogs::default(), &log_row(log_id, "lost")).expect("fits");
        world.plain_target.put_guarded(LOGS, lost.at(high), high).await.expect("put");
    }
    let written = app.store::<IntegrationLogs>().put(&log_row(1, "now")).await.expect("PostgreSQL decides");
    assert!(matches!(written.target, Delivery::Deferred(_)), "{written:?}");
    assert_eq!(world.pending(LOGS).await.len(), 1, "its mark is kept");
    let refused = strict.store::<IntegrationLogs>().put(&log_row(2, "now")).await;
    let refused = refused.expect_err("DynamoDB does not have it").to_string();
    assert!(refused.contains("at least as high") && refused.contains("rolled back"), "{refused}");
    assert_eq!(world.count("integration_logs WHERE log_id = 2").await, 0);
    let relayed = relayed(&world).await;
    assert!(
        matches!(relayed, Err(CoordinatorError::HistoryLost(_))),
        "{relayed:?} {:?}",
        world.pending(LOGS).await
    );
    app.shutdown().await;
    strict.shutdown().await;
}

/// 1. Rows are deleted, and their deletions delivered. 2. PostgreSQL is restored to before. 3. A repair is to
/// make both stores one.
#[tokio::test]
async fn what_was_deleted_in_a_lost_time_is_brought_back_by_no_repair_that_does_not_say_so() {
    let world = set_back().await;
    let found = mended(&world).await.findings.expect("compared").repairable;
    let deleted: Vec<_> = found.iter().filter(|finding| finding.class == FindingClass::Missing).collect();
    assert!(deleted.len() == 5 && deleted.iter().all(|finding| finding.may_be_deleted()), "{found:?}");

    let said = async |arguments: &[&str]| {
        let output = ended(command(&world, arguments)).await;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout) + &text(&output.stderr))
    };
    let (code, text) = said(&["repair", "--apply", "--quiet"]).await;
    assert!(code == Some(1) && text.contains("5 of them are rows that DynamoDB says were deleted"), "{text}");
    let tombstones = async || {
        let mut there = 0;
        for payment_id in 1..=5 {
            let item = world.item(&world.payments_table(), &payment_of(payment_id)).await;
            there += i32::from(item.as_ref().is_some_and(lockstep_core::is_tombstone));
        }
        there
    };
    assert_eq!(tombstones().await, 5, "none of them was put");

    let (_, text) = said(&["repair", "--take-target", "all", "--apply", "--quiet"]).await;
    assert!(text.contains("0 rows"), "a row is deleted only by its key: {text}");
    let (code, text) = said(&["repair", "--take-target", "1", "--apply", "--quiet"]).await;
    assert!(code == Some(0) && text.contains("1 rows of PostgreSQL"), "{text}");
    assert_eq!(world.count("payments WHERE payment_id = 1").await, 0);
    let (code, text) = said(&["repair", "--apply", "--bring-back", "--quiet"]).await;
    assert!(code == Some(0) && text.contains("4 keys marked"), "{text}");
    assert_eq!(tombstones().await, 1);
    world.relay_until_empty().await;
    goes_on(&world, Phase::DualWrite).await;
}

fn payment_of(payment_id: i64) -> String {
    payment_key(payment_id, 1 + payment_id)
}

/// 1. Another program has put items whose version is none, or one that no epoch can outrank. 2. Their rows
/// are changed, and deleted. Taken for versions, they refused both for good: no new epoch was above them.
#[tokio::test]
async fn an_item_whose_version_is_none_of_ours_gives_way_as_one_without_does() {
    use lockstep_core::{AttributeValue, VERSION_ATTRIBUTE};
    let world = World::start().await;
    world.sql(&payments(1, 6)).await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    let table = world.payments_table();
    for (payment_id, version) in [(1, i64::MAX.to_string()), (2, "1e30".to_owned()), (3, "1e38".to_owned())] {
        let mut item = world.live_at(&table, &payment_of(payment_id)).await;
        item.insert(VERSION_ATTRIBUTE.to_owned(), AttributeValue::N(version));
        let put = world.plain_target.client().put_item().table_name(&table.target_name).set_item(Some(item));
        put.send().await.expect("put");
    }
    world.sql("UPDATE payments SET loan_id = 2 WHERE payment_id <> 3").await;
    world.sql("DELETE FROM payments WHERE payment_id = 3").await;
    relayed(&world).await.expect("PostgreSQL is the truth, and no history was lost");
    world.assert_converged().await;
    world.tombstone_at(&table, &payment_of(3)).await;
    assert!(diagnosis(&world).await.sound);
}
