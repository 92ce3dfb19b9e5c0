//! A repair that makes PostgreSQL the truth again and is broken off: it goes on, and until then nothing else
//! reads the target over PostgreSQL.

use lockstep_coordinator::{GateResult, Observer, reverse_backfill};

use super::refilled::{OFF, killed_before_it_reads_the_target};
use super::way_on::{frozen, has_payment, mark, mended_to};
use super::*;

/// Kills a repair once it says that it reads a table.
struct Killer<'a>(&'a CancellationToken);

impl Observer for Killer<'_> {
    fn gate(&self, _gate: &GateResult) {}

    fn note(&self, text: &str) {
        if text.starts_with("reading every item") {
            self.0.cancel();
        }
    }
}

/// 1. A backup of the target is made. 2. PostgreSQL, the truth then, changes a row, deletes another and
///    inserts a third. 3. The truth moves, and the backup is restored. 4. The repair has taken both histories
///    for right, and is killed.
async fn killed() -> World {
    let world = World::start().await;
    world.sql(&logs(1, 20)).await;
    world.sql(&payments(1, 30)).await;
    world.migrated_to(Phase::HybridRead).await.close().await;
    let table = world.payments_table();
    let backup = world.back_up_table(&table).await;
    world.sql("UPDATE payments SET payment_method = 'newer' WHERE payment_id = 5").await;
    world.sql("DELETE FROM payments WHERE payment_id = 6").await;
    world.sql(&payment(2_000, 7)).await;
    world.relay_until_empty().await;
    world.stepped_to(Phase::DynamoOnly).await;
    mark(&world, &table).await;
    world.restore_table(&table, &backup).await;
    let (migration, cancel) = (world.migration(), CancellationToken::new());
    let killed = repair_state(&migration, &options(), &Killer(&cancel), &cancel).await;
    assert!(matches!(killed, Err(CoordinatorError::Interrupted)), "{killed:?}");
    world
}

/// Checks that the repair goes on to its end, and that what PostgreSQL wrote last is as it wrote it.
async fn goes_on_over_nothing(world: &World) {
    let mended = mended_to(world, Phase::DualWrite, "was broken off").await;
    assert!(mended.done.contains(&Remedy::ReturnToSource), "{:?}", mended.done);
    assert!(!mended.done.contains(&Remedy::ReverseBackfill), "{:?}", mended.done);
    assert_eq!(world.count("payments WHERE payment_id = 5 AND payment_method = 'newer'").await, 1);
    assert!(!has_payment(world, 6).await, "its deletion was acknowledged");
    assert!(has_payment(world, 2_000).await, "its insertion was acknowledged");
}

#[tokio::test]
async fn no_reverse_backfill_goes_over_postgresql_while_the_return_to_it_is_broken_off() {
    let world = killed().await;
    let found = diagnosis(&world).await;
    let advised = |next: &str| found.findings.iter().any(|finding| finding.next.contains(next));
    assert!(advised("repair --state --apply") && !advised("--backfill"), "{found:#?}");
    let (migration, cancel) = (world.migration(), CancellationToken::new());
    let read = reverse_backfill(&migration, &world.payments_table(), false, &cancel).await;
    let refused = read.expect_err("the table is older than PostgreSQL").to_string();
    assert!(refused.contains("was broken off") && refused.contains("goes on with it"), "{refused}");
    goes_on_over_nothing(&world).await;
}

#[tokio::test]
async fn a_return_that_is_broken_off_goes_on_over_nothing_where_triggers_are_off_meanwhile() {
    let world = killed().await;
    world.sql(OFF).await;
    goes_on_over_nothing(&world).await;
}

/// 1. Triggers are off, and a repair that reads the whole target is killed. 2. The target is restored. 3. The
/// reading, which the journal has, refuses each time for the history that was lost.
#[tokio::test]
async fn a_repair_that_was_to_read_the_target_leads_on_after_the_target_is_restored() {
    let world = frozen().await;
    let table = world.payments_table();
    let backup = world.back_up_table(&table).await;
    mark(&world, &table).await;
    world.sql(OFF).await;
    killed_before_it_reads_the_target(&world, "").await;
    world.restore_table(&table, &backup).await;
    let mended = mended_to(&world, Phase::DualWrite, "was broken off").await;
    assert!(mended.done.contains(&Remedy::ReturnToSource), "{:?}", mended.done);
    assert_eq!(world.count("payments").await, 30);
}
