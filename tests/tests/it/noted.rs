//! Notes of items to be read again, which the feed and what reads them again write at the same time.

use aws_sdk_dynamodb::types::AttributeValue;
use lockstep_core::{Attributes, Epoch, MigratableTable, Phase, TargetKey, Version, key_of_place};
use lockstep_payments::Payments;
use lockstep_postgres::reverse::{FedTable, ItemNow};
use lockstep_tests::World;
use lockstep_tests::world::rows::payment_row;
use lockstep_tests::world::{PAYMENTS, eventually, run};

const NOTES: &str = "lockstep.reverse_again";
const REFUSES: &str = "ALTER TABLE payments ADD CONSTRAINT spoken CHECK (transaction_reference <> 'refused')";
const LETS: &str = "ALTER TABLE payments DROP CONSTRAINT spoken";

/// A world in DynamoOnly without a feed.
struct Noted {
    world: World,
    table: FedTable,
    epoch: Epoch,
}

impl Noted {
    async fn start() -> Self {
        let world = World::start().await;
        world.prepared().await.close().await;
        let table = world.source.fed_table(&world.payments_table()).await.expect("a table");
        world.source.open_reverse(&table, "by hand").await.expect("opens");
        let epoch = world.flip(Phase::DynamoOnly).await;
        world.sql(REFUSES).await;
        Self { world, table, epoch }
    }

    fn key(payment_id: i64) -> TargetKey {
        let key = Payments::key(&payment_row(payment_id, 1, ""));
        MigratableTable::target_key(&Payments::default(), &key).expect("a key")
    }

    /// Has an application write an item that PostgreSQL refuses, and the feed note it.
    async fn refused(&self, payment_id: i64) -> Version {
        let row = payment_row(payment_id, 1, "refused");
        let version = self.world.put_item(&Payments::default(), &row, self.epoch).await;
        let item = self.item(payment_id).await.expect("it was written");
        self.take(&[item]).await;
        version
    }

    async fn item(&self, payment_id: i64) -> Option<Attributes> {
        self.world.plain_target.get(PAYMENTS, &Self::key(payment_id)).await.expect("reads")
    }

    /// Has the feed take items, of which each is noted.
    async fn take(&self, items: &[Attributes]) {
        let taken = self.world.source.apply_items(&self.table, items).await.expect("applies");
        assert_eq!(taken.again, items.len() as u64, "PostgreSQL took one");
    }

    /// Lists what is noted, with the items as they are now.
    async fn read(&self) -> Vec<ItemNow> {
        let mut found = Vec::new();
        for again in self.world.source.reverse_again(PAYMENTS, 10).await.expect("lists") {
            let key = key_of_place(&again.place).expect("our own");
            let item = self.world.plain_target.get(PAYMENTS, &key).await.expect("reads");
            found.push(ItemNow { again, item });
        }
        found
    }

    async fn read_again(&self, found: &[ItemNow]) -> u64 {
        self.world.source.apply_again(&self.table, found).await.expect("applies").done
    }
}

/// 1. An item is noted, as PostgreSQL refused its row. 2. The feed takes the note out with a newer state,
/// which PostgreSQL refuses as well, and notes that. 3. Meanwhile the item was read again, and waits for the
/// old note. 4. It finds none, for the new one is later than its question, and took the new one out.
#[tokio::test]
async fn a_note_that_the_feed_made_while_its_item_was_read_again_stays() {
    let noted = Noted::start().await;
    let world = &noted.world;
    noted.refused(7).await;
    let found = noted.read().await;
    let mut feed = world.stranger().await;
    let replaced = format!(
        "BEGIN; CREATE TEMP TABLE notes AS TABLE {NOTES}; DELETE FROM {NOTES};
         INSERT INTO {NOTES} SELECT * FROM notes"
    );
    run(&mut feed, &replaced).await;
    let (done, ()) = tokio::join!(noted.read_again(&found), async {
        eventually("it waits for the note", || world.is_held_up()).await;
        run(&mut feed, "COMMIT").await;
    });
    assert_eq!((done, world.count(NOTES).await), (0, 1), "what it did not hold is gone");
    // The note leads on.
    world.sql(LETS).await;
    let found = noted.read().await;
    assert_eq!((noted.read_again(&found).await, world.count(NOTES).await), (1, 0));
    assert_eq!(world.count("payments").await, 1);
}

/// 1. A noted item is read again, in a state that PostgreSQL takes, or is not there. 2. Another program
/// writes over it what no row can be, or under a version of no epoch, and the feed notes that: the note is
/// the same, of a newer state. 3. It was taken out with the older one, and no comparison before the way back
/// asks for an item of which nothing was ever taken.
#[tokio::test]
async fn a_note_of_a_newer_state_than_was_read_stays() {
    let noted = Noted::start().await;
    let world = &noted.world;
    let mut versions = Vec::new();
    for payment_id in [7, 8, 9] {
        versions.push(noted.refused(payment_id).await);
    }
    let client = world.plain_target.client();
    let removed = client.delete_item().table_name(PAYMENTS).set_key(Some(Noted::key(9).to_attributes()));
    let before = noted.item(9).await.expect("it is there");
    removed.send().await.expect("the emulator deletes");
    world.sql(LETS).await;
    let found = noted.read().await;
    let live = found.iter().filter(|found| found.item.is_some()).count();
    assert_eq!((found.len(), live), (3, 2), "one is not there");

    let mut newer = vec![noted.item(7).await.expect("there"), noted.item(8).await.expect("there"), before];
    let never = Version(Epoch(99).floor() + 1);
    for (item, version) in
        newer.iter_mut().zip([Version(versions[0].0 + 1), never, Version(versions[2].0 + 1)])
    {
        item.insert(lockstep_core::VERSION_ATTRIBUTE.to_owned(), AttributeValue::N(version.0.to_string()));
        if version != never {
            item.insert("currency".to_owned(), AttributeValue::Bool(true));
        }
        let put = client.put_item().table_name(PAYMENTS).set_item(Some(item.clone()));
        put.send().await.expect("the emulator writes");
    }
    noted.take(&newer).await;
    assert_eq!(noted.read_again(&found).await, 0, "a state that is over was taken for the newest");
    assert_eq!((world.count(NOTES).await, world.count("payments").await), (3, 0));
    // Read once more they are what they were noted for.
    let found = noted.read().await;
    assert_eq!((noted.read_again(&found).await, world.count(NOTES).await), (0, 3));
    let waits: i64 = world.source.reverse_left(&[PAYMENTS]).await.expect("counts");
    assert_eq!(waits, 3, "the way back is closed");
}
