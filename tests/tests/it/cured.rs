//! A row that no item can hold stays behind when the truth moves; what DynamoOnly makes of it is the end of
//! its dead letter, and of the row of before.

use lockstep::store::WriteOptions;
use lockstep_core::{MigratableTable, Phase};
use lockstep_payments::Payments;
use lockstep_tests::World;
use lockstep_tests::world::rows::{logs, payment_row, payments};
use lockstep_tests::world::{PAYMENTS, acknowledge, backfill};

/// Payments that no item can hold.
const NEVER_HELD: &str = "UPDATE payments SET payment_amount = 'NaN' WHERE payment_id <= 6";
/// A customer of none of them.
const ANOTHER: i64 = 30;

/// 1. Payment 3 of customer 4 is a dead letter, and accepted. 2. In DynamoOnly it is put, of customer 30, and
/// deleted, before a feed comes. 3. The deletion was of a key that no row had: payment 3 of customer 4
/// stayed, and was read again after the way back. 4. Of those that stay the dead letter stayed as well.
#[tokio::test]
async fn what_dynamo_only_makes_of_a_row_that_no_item_could_hold_is_all_that_comes_back() {
    let world = World::start().await;
    world.sql(&format!("{}; {}", logs(1, 10), payments(1, 10))).await;
    let coordinator = world.prepared().await;
    world.sql(NEVER_HELD).await;
    backfill(&coordinator).await;
    world.relay_until_empty().await;
    assert_eq!(acknowledge(&world.source, PAYMENTS, "an operator").await.expect("accepted"), 6);
    for to in [Phase::DualWrite, Phase::HybridRead, Phase::DynamoOnly] {
        world.step_to(&coordinator, to).await;
    }
    let app = world.app(WriteOptions::default());
    let store = app.store::<Payments>();
    let put =
        async |id, customer_id| store.put(&payment_row(id, customer_id, "there")).await.expect("written");
    // What of it comes in a page by itself.
    put(6, ANOTHER).await;
    world.feed_until_drained().await;
    assert_eq!(world.count("payments WHERE payment_id = 6 AND customer_id = 30").await, 1);
    // Of the same key, and of another.
    put(1, 2).await;
    put(2, ANOTHER).await;
    for (id, customer_id) in [(3, ANOTHER), (4, 5)] {
        put(id, customer_id).await;
    }
    for id in [3_i64, 4, 6] {
        store.delete(id).await.expect("deleted");
    }
    world.step_to(&coordinator, Phase::HybridRead).await;
    assert_eq!(world.count("payments WHERE payment_id IN (3, 4, 6)").await, 0, "I3");
    assert_eq!(world.count("payments WHERE payment_id IN (1, 2) AND payment_amount <> 'NaN'").await, 2);
    // What no application wrote stays behind, as it was accepted.
    assert_eq!(world.source.count_dead_letters(PAYMENTS).await.expect("counted"), (1, 0));
    assert_eq!(world.count("payments WHERE payment_id = 5").await, 1);
    for (id, customer_id) in [(3, 4), (4, 5), (6, 7)] {
        let key = Payments::key(&payment_row(id, customer_id, ""));
        assert_eq!(store.get(&key).await.expect("read"), None, "I3");
    }
    coordinator.close().await;
    world.assert_converged().await;
    app.shutdown().await;
}
