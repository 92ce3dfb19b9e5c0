//! A repair in DynamoOnly after SQL could write past the triggers: PostgreSQL is filled again from DynamoDB,
//! and until that has come to its end there is no way back.

use lockstep_coordinator::{GateResult, Observer, ReverseBackfill};
use lockstep_core::TargetKey;
use lockstep_postgres::CaptureState;

use super::way_on::{frozen, goes_back, has_payment, mended_to};
use super::*;

// Rows of SQL have low ids: one above DynamoDB's counter makes the doctor find that counter set back as well.
pub(super) const OFF: &str =
    "ALTER TABLE payments DISABLE TRIGGER ALL; ALTER TABLE integration_logs DISABLE TRIGGER ALL";
const ON: &str = "ALTER TABLE payments ENABLE TRIGGER ALL; ALTER TABLE integration_logs ENABLE TRIGGER ALL";

/// Kills a repair that is about to read the target.
struct Killer<'a>(&'a CancellationToken);

impl Observer for Killer<'_> {
    fn gate(&self, _gate: &GateResult) {}

    fn note(&self, text: &str) {
        if text == Remedy::ReverseBackfill.to_string() {
            self.0.cancel();
        }
    }
}

/// Repairs until the target is about to be read. Everything looks as it is to be then, and there is no way
/// back: the step refuses with `why`, and the doctor says what leads on.
pub(super) async fn killed_before_it_reads_the_target(world: &World, why: &str) {
    let (migration, cancel) = (world.migration(), CancellationToken::new());
    let killed = repair_state(&migration, &options(), &Killer(&cancel), &cancel).await;
    assert!(matches!(killed, Err(CoordinatorError::Interrupted)), "{killed:?}");
    for table in world.tables() {
        assert_eq!(world.source.capture_state(&table).await.expect("asked"), CaptureState::On);
    }
    let coordinator = world.coordinator().await;
    let refused = coordinator.step(Phase::HybridRead, None, &()).await.expect_err("it is not filled again");
    coordinator.close().await;
    let refused = refused.to_string();
    assert!(refused.contains("a repair of the state was broken off"), "{refused}");
    assert!(refused.contains(why) && refused.contains("the way back is closed until"), "{refused}");
    let found = diagnosis(world).await;
    let advised = |what: &str, next: &str| {
        found.findings.iter().any(|finding| finding.what.contains(what) && finding.next.contains(next))
    };
    assert!(advised("was broken off", "repair --state --apply"), "{found:#?}");
    assert!(advised(why, "--backfill"), "{found:#?}");
}

/// 1. In DynamoOnly a column is rewritten. 2. A repair takes the table as it is, and is killed. 3. Triggers
/// are off, and SQL writes. 4. The next repair installs them again, and is killed as well.
#[tokio::test]
async fn a_repair_that_is_killed_before_it_has_read_the_target_leaves_no_way_back() {
    let world = frozen().await;
    world
        .sql(
            "ALTER TABLE integration_logs ALTER COLUMN correlation_id TYPE text
                USING correlation_id || ' rewritten'",
        )
        .await;
    killed_before_it_reads_the_target(&world, "integration_logs was changed past Lockstep").await;
    world.sql("ALTER TABLE payments DISABLE TRIGGER ALL").await;
    world.sql("UPDATE payments SET loan_id = 39 WHERE payment_id <= 4").await;
    world.sql(&payment(0, 7)).await;
    world.sql("ALTER TABLE payments ENABLE TRIGGER ALL").await;
    killed_before_it_reads_the_target(&world, "payments while its triggers were not all on").await;

    let mended = mended_to(&world, Phase::DynamoOnly, "was broken off").await;
    assert_eq!(mended.done, [Remedy::ReverseBackfill]);
    assert!(world.source.open_intents().await.expect("the journal").is_empty());
    assert!(!has_payment(&world, 0).await, "DynamoDB never had it");
    assert_eq!(world.count("integration_logs WHERE correlation_id LIKE '%rewritten'").await, 0);
    goes_back(&world).await;
}

/// A row that DynamoDB never had, and one whose deletion was delivered before DynamoOnly. What has expired
/// stays, and so does what no item could hold.
#[tokio::test]
async fn what_sql_put_in_while_triggers_were_off_in_dynamo_only_goes_again() {
    let world = World::start().await;
    world.sql(&logs(1, 20)).await;
    world.sql("UPDATE integration_logs SET log_timestamp = '2015-03-04' WHERE log_id = 3").await;
    world.sql(&payments(1, 30)).await;
    world.migrated_to(Phase::HybridRead).await.close().await;
    world.sql("DELETE FROM payments WHERE payment_id = 5").await;
    world.stepped_to(Phase::DynamoOnly).await;
    let table = world.payments_table();
    world.tombstone_at(&table, &payment_key(5, 6)).await;
    let held_by_none = world.live_at(&table, &payment_key(12, 13)).await;
    let key = TargetKey::of(&held_by_none).expect("a key").to_attributes();
    let client = world.plain_target.client();
    client.delete_item().table_name(PAYMENTS).set_key(Some(key)).send().await.expect("deleted");
    world
        .sql(&format!(
            "INSERT INTO lockstep.dead_letters (table_name, key, version, stage, reason, acknowledged_at)
             VALUES ('{PAYMENTS}', '{}', 0, 'relay', 'DynamoDB refuses it', now())",
            payment_key(12, 13)
        ))
        .await;
    world.feed_until_drained().await;
    world.sql(OFF).await;
    world.sql(&payment(5, 6)).await;
    world.sql(&payment(0, 7)).await;
    world.sql(ON).await;

    let mended = mended_to(&world, Phase::DynamoOnly, "not all captured").await;
    let refreeze = |table: &str| Remedy::Refreeze { table: table.to_owned() };
    assert_eq!(mended.done, [refreeze(LOGS), refreeze(PAYMENTS), Remedy::ReverseBackfill]);
    assert!(!has_payment(&world, 0).await, "DynamoDB never had it");
    assert!(!has_payment(&world, 5).await, "its deletion was delivered");
    assert!(has_payment(&world, 12).await, "PostgreSQL alone has it, as an operator knows");
    assert_eq!(world.count("integration_logs").await, 20, "what has expired stays");

    // Asked for by hand it stays as well.
    let (migration, cancel) = (world.migration(), CancellationToken::new());
    let read = lockstep_coordinator::reverse_backfill(&migration, &table, true, &cancel).await.expect("read");
    let ReverseBackfill { deleted, absent, .. } = read;
    assert_eq!((deleted, absent), (0, 1), "the dead letter stays");
    world.stepped_to(Phase::HybridRead).await;
    assert!(has_payment(&world, 12).await && !has_payment(&world, 5).await && !has_payment(&world, 0).await);
}
