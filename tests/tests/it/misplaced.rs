//! Items that are not at the place of the row which their attributes are, in DynamoOnly.

use lockstep_coordinator::reverse_backfill;
use lockstep_core::{Attributes, MigratableTable, Version, tombstone};
use lockstep_payments::Payments;
use lockstep_tests::World;
use lockstep_tests::world::{PAYMENTS, eventually};
use tokio_util::sync::CancellationToken;

use crate::reverse_feed::{dynamo_only, payment_row};
use crate::riders::beside_a_feed;

/// 1. A program puts an item whose key is that of one row and whose attributes are those of another. 2. It
/// goes again. By its attributes alone the other row would have been overwritten first, and deleted then.
#[tokio::test]
async fn an_item_that_is_not_at_the_place_of_its_row_changes_and_takes_no_row() {
    let (world, epoch) = dynamo_only(World::start().await).await;
    let table = Payments::default();
    let rows = "SELECT string_agg(p::text, ' ' ORDER BY payment_id) FROM payments p";
    let before: String = world.value(rows).await;
    let elsewhere =
        MigratableTable::target_key(&table, &Payments::key(&payment_row(900, 1, 1))).expect("a key");
    let version = |n: i64| Version(epoch.floor() + 1_000 + n);
    let put = async |item: Attributes| {
        let put = world.plain_target.client().put_item().table_name(PAYMENTS).set_item(Some(item));
        put.send().await.expect("the emulator writes");
    };
    let astray = |n: i64| {
        let row = MigratableTable::encode(&table, &payment_row(5, 1, 66_600)).expect("an item holds it");
        let mut item = row.at(version(n)).into_attributes();
        item.extend(elsewhere.to_attributes());
        item
    };
    put(astray(1)).await;
    beside_a_feed(&world, async {
        let noted = "SELECT coalesce((SELECT why FROM lockstep.reverse_again), '')";
        let is_noted = || async {
            world.value::<String>(noted).await.contains("the item's key is not the one of the row")
        };
        eventually("the item is noted with its reason", is_noted).await;
        assert_eq!(world.value::<String>(rows).await, before, "it overwrote a row");
    })
    .await;
    put(tombstone(elsewhere.clone(), version(2)).into_attributes()).await;
    world.feed_until_drained().await;
    assert_eq!(world.value::<String>(rows).await, before, "it took a row with it");
    // Read with all others.
    put(astray(3)).await;
    let migration = world.migration();
    for binding in &migration.tables {
        reverse_backfill(&migration, binding, false, &CancellationToken::new()).await.expect("reads");
    }
    assert_eq!(world.value::<String>(rows).await, before, "a reverse backfill took it for its row");
}

/// 1. Row and item are of before DynamoOnly. 2. A program writes what another row has, or what is no row,
/// into the item. 3. An application deletes the item. 4. What was there before does not tell the row, so
/// it stayed, and was the truth again after the way back.
#[tokio::test]
async fn a_row_whose_item_went_after_a_program_wrote_over_it_is_missed_until_all_are_read() {
    let (world, epoch) = dynamo_only(World::start().await).await;
    let table = Payments::default();
    let version = |n: i64| Version(epoch.floor() + 2_000 + n);
    let put = async |item: Attributes| {
        let put = world.plain_target.client().put_item().table_name(PAYMENTS).set_item(Some(item));
        put.send().await.expect("the emulator writes");
    };
    let of_row =
        |id: i64| MigratableTable::encode(&table, &payment_row(id, 1 + id % 40, 1)).expect("an item");
    let place = |id: i64| {
        let key = Payments::key(&payment_row(id, 1 + id % 40, 1));
        MigratableTable::target_key(&table, &key).expect("a key")
    };
    let lost =
        "SELECT coalesce((SELECT lost_why FROM lockstep.reverse_tables WHERE table_name = 'payments'), '')";
    let migration = world.migration();
    for (n, (id, is_row, is_noted)) in
        [(5, true, true), (7, true, false), (9, false, false)].into_iter().enumerate()
    {
        let n = 10 * n as i64;
        let mut item = match is_row {
            true => of_row(20).at(version(n)).into_attributes(),
            false => tombstone(place(id), version(n)).into_attributes(),
        };
        if !is_row {
            item.retain(|name, _| !name.starts_with("_d"));
        }
        item.extend(place(id).to_attributes());
        put(item).await;
        if is_noted {
            beside_a_feed(&world, async {
                let is_noted = || async { world.count("lockstep.reverse_again").await == 1 };
                eventually("the item is noted", is_noted).await;
            })
            .await;
        }
        put(tombstone(place(id), version(n + 1)).into_attributes()).await;
        world.feed_until_drained().await;
        let why: String = world.value(lost).await;
        assert!(why.contains("do not tell its row"), "{id}: {why}");
        assert_eq!(world.count(&format!("payments WHERE payment_id = {id}")).await, 1, "nothing tells of it");
        for binding in &migration.tables {
            reverse_backfill(&migration, binding, false, &CancellationToken::new()).await.expect("reads");
        }
        assert_eq!(world.value::<String>(lost).await, "", "{id}: all were read");
        assert_eq!(world.count(&format!("payments WHERE payment_id = {id}")).await, 0, "{id} is back");
        assert_eq!(world.count("payments WHERE payment_id = 20").await, 1);
    }
    world.assert_fed().await;
}
