//! The way back of items that PostgreSQL knows under another key of their place, or has not had at all. Pages
//! are made by hand, and what they leave is the row that DynamoDB has.

use lockstep_core::{
    AttributeValue, Attributes, Epoch, Fields, Phase, TargetKey, Version, is_tombstone, key_of_place, place,
    tombstone,
};
use lockstep_dynamo::streams::{StreamRecord, changes_of};
use lockstep_postgres::TableBinding;
use lockstep_postgres::reverse::{FedPage, FedTable, GoneRow, ItemNow};
use lockstep_tests::World;

use super::{bound, migration};

/// Two keys of one place, and one of another, by the column that the target knows only part of.
#[derive(Clone)]
struct Keys {
    column: &'static str,
    partition: &'static str,
    of: [String; 3],
}

impl Keys {
    fn days() -> Self {
        let of = ["2026-03-04 05:06:07+00", "2026-03-04 06:06:07+00", "2026-03-05 05:06:07+00"];
        Self { column: "at", partition: "DAY#{at:date}", of: of.map(str::to_owned) }
    }

    fn regions() -> Self {
        Self { column: "region", partition: "{region:upper}", of: ["eu", "Eu", "us"].map(str::to_owned) }
    }
}

/// One of the keys of [`Keys`].
const HERE: usize = 0;
const HERE_TOO: usize = 1;
const ELSEWHERE: usize = 2;

/// A world in DynamoOnly, with rows of before in PostgreSQL.
struct Back {
    world: World,
    binding: TableBinding,
    table: FedTable,
    epoch: Epoch,
    keys: Keys,
    page: u32,
}

impl Back {
    async fn start(keys: Keys, rows: &str) -> Self {
        let world = World::start().await;
        let table = "CREATE TABLE visits (id bigint PRIMARY KEY,
            at timestamptz NOT NULL DEFAULT '2026-03-04 05:06:07+00', region text NOT NULL DEFAULT 'eu',
            customer_id bigint NOT NULL DEFAULT 1, note text, ends timestamptz,
            CONSTRAINT spoken CHECK (note <> 'refused'))";
        world.sql(&format!("{table}; INSERT INTO visits (id, note, ends) {rows}")).await;
        world.sql("CREATE TABLE held (id bigint REFERENCES visits (id))").await;
        let declared = format!(
            "[tables.visits]\npartition = \"{}\"\nsort = \"{{id:020}}\"\nexpires = \"ends + 1s\"\n",
            keys.partition
        );
        let tables = bound(&world, &declared).await.expect("binds");
        let coordinator = world.coordinator_of(migration(&world, &tables)).await;
        coordinator.prepare(&()).await.expect("nothing refuses");
        coordinator.close().await;
        let table = world.source.fed_table(&tables[0]).await.expect("a table");
        world.source.open_reverse(&table, "by hand").await.expect("opens");
        let epoch = world.flip(Phase::DynamoOnly).await;
        Self { world, binding: tables[0].clone(), table, epoch, keys, page: 0 }
    }

    /// The item of row `id` under one of its keys.
    async fn item(&self, id: i64, key: usize, note: &str, version: i64) -> Attributes {
        self.item_of(id, &self.keys.of[key], note, version).await
    }

    async fn item_of(&self, id: i64, key: &str, note: &str, version: i64) -> Attributes {
        let columns = [("at", "timestamptz"), ("region", "text"), ("customer_id", "bigint")];
        let usual = ["2026-03-04 05:06:07+00", "eu", "1"];
        let columns: Vec<String> = columns
            .iter()
            .zip(usual)
            .map(|((name, of), usual)| {
                let value = if *name == self.keys.column { key } else { usual };
                format!("'{value}'::{of} AS {name}")
            })
            .collect();
        let sql = format!(
            "SELECT {} FROM (SELECT {id}::bigint AS id, {}, '{note}'::text AS note,
                                    NULL::timestamptz AS ends) s",
            self.binding.columns_sql("s"),
            columns.join(", ")
        );
        let row = sqlx::query(sqlx::AssertSqlSafe(sql)).fetch_one(&mut self.world.stranger().await).await;
        let row = row.expect("a row");
        let item = Fields::of_query(&row, 0, |fields| self.binding.table.encode(fields));
        item.expect("fits").at(self.version(version)).into_attributes()
    }

    fn version(&self, version: i64) -> Version {
        Version(self.epoch.floor() + version)
    }

    fn tombstone(&self, of: &Attributes, version: i64) -> Attributes {
        tombstone(TargetKey::of(of).expect("a key"), self.version(version)).into_attributes()
    }

    fn literals(&self, item: &Attributes) -> Vec<String> {
        self.binding.table.key_of_item(item).expect("a key")
    }

    /// Puts this at the place of an item, or nothing.
    async fn set(&self, of: &Attributes, now: Option<&Attributes>) {
        let client = self.world.plain_target.client();
        let key = TargetKey::of(of).expect("a key").to_attributes();
        match now {
            Some(item) => {
                let put = client.put_item().table_name("visits").set_item(Some(item.clone()));
                put.send().await.expect("the emulator writes");
            }
            None => {
                let gone = client.delete_item().table_name("visits").set_key(Some(key));
                gone.send().await.expect("the emulator deletes");
            }
        }
    }

    /// Delivers a page: of each record the item before it, and after it.
    async fn deliver(&mut self, changes: &[(Option<&Attributes>, Option<&Attributes>)], expired: bool) {
        let record = |(old, new): &(Option<&Attributes>, Option<&Attributes>)| StreamRecord {
            sequence: String::new(),
            at: None,
            key: TargetKey::of(old.or(*new).expect("an item")).expect("a key").to_attributes(),
            old: old.cloned(),
            new: new.cloned(),
            expired: expired && new.is_none(),
        };
        let folded = changes_of(changes.iter().map(record).collect());
        let from = (self.page > 0).then(|| self.page.to_string());
        self.page += 1;
        let to = self.page.to_string();
        let page = FedPage {
            shard: "one",
            from: from.as_deref(),
            to: Some(&to),
            finished: false,
            newest_at: None,
            folded: &folded,
            begun: None,
        };
        self.world.source.apply_reverse(&self.table, page).await.expect("applies");
    }

    async fn read_again(&self) {
        let mut found = Vec::new();
        for again in self.world.source.reverse_again("visits", 100).await.expect("lists") {
            let key = key_of_place(&again.place).expect("our own");
            let item = self.world.plain_target.get("visits", &key).await.expect("reads");
            found.push(ItemNow { again, item });
        }
        self.world.source.apply_again(&self.table, &found).await.expect("applies");
    }

    async fn note(&self, id: i64) -> String {
        self.world.value(&format!("SELECT coalesce(max(note), 'gone') FROM visits WHERE id = {id}")).await
    }

    async fn notes(&self) -> i64 {
        self.world.count("lockstep.reverse_again").await
    }
}

/// 1. Row and item are of before DynamoOnly. 2. An application gives the row another key of the same place.
/// 3. It deletes it. 4. The tombstone's image has the key of step 2, which PostgreSQL has no row of: by that
/// key none went, none was compared, and the row was the truth again after the way back.
#[tokio::test]
async fn a_deletion_takes_the_row_that_postgresql_has_under_another_key_of_the_place() {
    for keys in [Keys::days(), Keys::regions(), hashed().await] {
        let mut back =
            Back::start(keys, "SELECT i, 'old', NULL::timestamptz FROM generate_series(1, 7) AS i").await;
        let what = back.keys.partition;
        let (mut before, mut after, mut refused, mut gone) = (vec![], vec![], vec![], vec![]);
        for id in 0..=7 {
            before.push(back.item(id, HERE, "old", 0).await);
            after.push(back.item(id, HERE_TOO, "new", 1).await);
            refused.push(back.item(id, HERE_TOO, "refused", 1).await);
            gone.push(back.tombstone(&before[id as usize], 2));
        }
        assert_eq!(place(&before[1]), place(&gone[1]), "{what}");
        assert_eq!(place(&key_of(&before[1])), place(&key_of(&after[1])), "{what}: they share a place");
        // Both in one page.
        back.deliver(&[(Some(&before[1]), Some(&after[1])), (Some(&after[1]), Some(&gone[1]))], false).await;
        assert_eq!(back.note(1).await, "gone", "{what}: folded");
        // PostgreSQL refuses the state between.
        back.deliver(&[(Some(&before[2]), Some(&refused[2]))], false).await;
        assert_eq!((back.note(2).await.as_str(), back.notes().await), ("old", 1));
        back.deliver(&[(Some(&refused[2]), Some(&gone[2]))], false).await;
        assert_eq!((back.note(2).await.as_str(), back.notes().await), ("gone", 0), "{what}: refused before");
        // And its deletion, which the re-reading does.
        back.deliver(&[(Some(&before[3]), Some(&refused[3]))], false).await;
        back.world.sql("INSERT INTO held VALUES (3)").await;
        back.deliver(&[(Some(&refused[3]), Some(&gone[3]))], false).await;
        back.set(&gone[3], Some(&gone[3])).await;
        back.read_again().await;
        assert_eq!((back.note(3).await.as_str(), back.notes().await), ("old", 1), "{what}: held");
        back.world.sql("DELETE FROM held").await;
        back.read_again().await;
        assert_eq!((back.note(3).await.as_str(), back.notes().await), ("gone", 0), "{what}: read again");
        // Deleted, put under the other key, and deleted again.
        let (first, second) = (back.tombstone(&before[4], 1), back.tombstone(&before[4], 3));
        let between = back.item(4, HERE_TOO, "new", 2).await;
        let records = [
            (Some(&before[4]), Some(&first)),
            (Some(&first), Some(&between)),
            (Some(&between), Some(&second)),
        ];
        back.deliver(&records, false).await;
        assert_eq!(back.note(4).await, "gone", "{what}: put between");
        // A row that has moved on to another place is not this place's.
        let moved = back.item(5, ELSEWHERE, "moved", 1).await;
        back.deliver(&[(None, Some(&moved))], false).await;
        back.deliver(&[(Some(&before[5]), Some(&after[5])), (Some(&after[5]), Some(&gone[5]))], false).await;
        assert_eq!(back.note(5).await, "moved", "{what}: moved");
        // The tombstone tells nothing, and the state between is remembered.
        back.deliver(&[(Some(&before[6]), Some(&refused[6]))], false).await;
        back.deliver(&[(None, Some(&gone[6]))], false).await;
        assert_eq!((back.note(6).await.as_str(), back.notes().await), ("gone", 0), "{what}: remembered");
        // What the comparison before the way back looks for.
        let away = back.item(7, ELSEWHERE, "moved", 1).await;
        let mut asked = [back.literals(&after[7]), back.literals(&away)];
        let places = [place(&key_of(&after[7])), place(&key_of(&away))];
        let places: Vec<&str> = places.iter().map(String::as_str).collect();
        back.world.source.keys_at_places(&back.binding, &places, &mut asked).await.expect("asked");
        assert_eq!(asked, [back.literals(&before[7]), back.literals(&away)], "{what}");
        let left: String = back.world.value("SELECT string_agg(id::text, ' ' ORDER BY id) FROM visits").await;
        assert_eq!(left, "5 7", "{what}");
    }
}

fn key_of(item: &Attributes) -> Attributes {
    TargetKey::of(item).expect("a key").to_attributes()
}

/// Numbers of customers: two that share a shard, and one of another.
async fn hashed() -> Keys {
    let of = |numbers: [i64; 3]| Keys {
        column: "customer_id",
        partition: "S{hash(customer_id) % 4}",
        of: numbers.map(|number| number.to_string()),
    };
    let back = Back::start(of([1; 3]), "VALUES (1, 'old', NULL::timestamptz)").await;
    let (mut same, mut other) = (None, None);
    let first = place(&key_of(&back.item_of(1, "1", "", 0).await));
    for number in 2..100 {
        let there = place(&key_of(&back.item_of(1, &number.to_string(), "", 0).await));
        let found = if there == first { &mut same } else { &mut other };
        *found = found.or(Some(number));
        if let (Some(same), Some(other)) = (same, other) {
            return of([1, same, other]);
        }
    }
    panic!("all numbers have one shard, or each its own");
}

/// 1. PostgreSQL has a row of before. 2. It refuses a state of it, or the deletion. 3. DynamoDB removes the
/// item, of itself, and the note of step 2 ends: the row of before was compared with nothing, and the truth
/// again after the way back.
#[tokio::test]
async fn a_row_of_before_a_state_that_postgresql_never_had_goes_when_dynamodb_removes_the_item() {
    let rows =
        "SELECT i, 'old', CASE WHEN i = 6 THEN timestamptz '2020-01-01' END FROM generate_series(1, 6) AS i";
    let mut back = Back::start(Keys::days(), rows).await;
    let (mut before, mut refused) = (vec![], vec![]);
    for id in 0..=7 {
        before.push(back.item(id, HERE, "old", 0).await);
        refused.push(back.item(id, if id % 2 == 0 { HERE } else { HERE_TOO }, "refused", 1).await);
    }
    // Read again before the stream tells who removed it, and after.
    back.deliver(&[(Some(&before[1]), Some(&refused[1]))], false).await;
    back.read_again().await;
    assert_eq!((back.note(1).await.as_str(), back.notes().await), ("old", 1), "it waits for the stream");
    back.deliver(&[(Some(&refused[1]), None)], true).await;
    back.read_again().await;
    assert_eq!((back.note(1).await.as_str(), back.notes().await), ("gone", 0), "removed");
    // In one page.
    back.deliver(&[(Some(&before[2]), Some(&refused[2])), (Some(&refused[2]), None)], true).await;
    back.read_again().await;
    assert_eq!((back.note(2).await.as_str(), back.notes().await), ("gone", 0), "folded");
    // A state that is no row: what went tells which row it was.
    let mut no_row = before[3].clone();
    no_row.extend(back.item(3, HERE, "new", 1).await);
    no_row.insert("note".to_owned(), AttributeValue::L(Vec::new()));
    back.deliver(&[(Some(&before[3]), Some(&no_row))], false).await;
    back.read_again().await;
    assert_eq!((back.note(3).await.as_str(), back.notes().await), ("old", 1), "it is no row");
    back.deliver(&[(Some(&no_row), None)], true).await;
    back.read_again().await;
    assert_eq!((back.note(3).await.as_str(), back.notes().await), ("gone", 0), "undecodable");
    // A deletion that has to wait, until the tombstone has gone as well.
    let gone = back.tombstone(&before[4], 1);
    back.world.sql("INSERT INTO held VALUES (4)").await;
    back.deliver(&[(Some(&before[4]), Some(&gone))], false).await;
    back.deliver(&[(Some(&gone), None)], true).await;
    back.read_again().await;
    assert_eq!((back.note(4).await.as_str(), back.notes().await), ("old", 1), "held");
    back.world.sql("DELETE FROM held").await;
    back.read_again().await;
    assert_eq!((back.note(4).await.as_str(), back.notes().await), ("gone", 0), "purged");
    // Retention is of a row that has expired, whichever state of it PostgreSQL has; and without a row nothing
    // is left.
    for id in [6, 7] {
        back.deliver(&[(Some(&before[id]), Some(&refused[id])), (Some(&refused[id]), None)], true).await;
        back.read_again().await;
    }
    let left = (back.note(6).await, back.note(7).await, back.notes().await);
    assert_eq!(left, ("old".to_owned(), "gone".to_owned(), 0), "expired before");
    // Another program took it: an operator decides, once.
    back.deliver(&[(Some(&before[5]), Some(&refused[5]))], false).await;
    back.deliver(&[(Some(&refused[5]), None)], false).await;
    back.read_again().await;
    assert_eq!((back.note(5).await.as_str(), back.notes().await), ("old", 1), "by hand");
    let why: String = back.world.value("SELECT why FROM lockstep.reverse_again").await;
    assert!(why.contains("a row of before a state of it"), "{why}");
    back.world.sql("UPDATE lockstep.reverse_again SET found_at = found_at - interval '6 minutes'").await;
    let source = &back.world.source;
    assert_eq!(
        lockstep_tests::world::acknowledge(source, "visits", "an operator").await.expect("accepted"),
        1
    );
    back.read_again().await;
    back.read_again().await;
    assert_eq!(source.reverse_left(&["visits"]).await.expect("counted"), 0, "it stays accepted");
    assert_eq!(back.note(5).await, "old");
}

/// 1. A reverse backfill reads an item, and has to wait. 2. The item expires, and the feed forgets it. 3. The
/// backfill has its version remembered. 4. The row is put again, at a version below that: the feed passed it
/// over, the comparison before the way back refused, and the backfill that it asks for passed it over too.
#[tokio::test]
async fn an_item_that_is_put_again_below_what_a_late_backfill_remembers_is_taken() {
    let mut back =
        Back::start(Keys::days(), "SELECT i, 'old', NULL::timestamptz FROM generate_series(1, 3) AS i").await;
    for id in 1..=3 {
        let (before, scanned) =
            (back.item(id, HERE, "old", 0).await, back.item(id, HERE, "scanned", 7).await);
        back.deliver(&[(Some(&before), Some(&scanned)), (Some(&scanned), None)], true).await;
        back.world.source.apply_items(&back.table, &[scanned]).await.expect("late");
        let renewed = back.item(id, HERE, "renewed", 1).await;
        back.set(&renewed, Some(&renewed)).await;
        back.deliver(&[(None, Some(&renewed))], false).await;
        assert_eq!(back.note(id).await, "scanned", "passed over");
        let now = match id {
            1 => renewed.clone(),
            // The next states are passed over as well.
            2 => back.item(id, HERE_TOO, "renewed", 2).await,
            _ => back.tombstone(&renewed, 2),
        };
        back.set(&now, Some(&now)).await;
        // As a reverse backfill reads items, and rows.
        if is_tombstone(&now) {
            let place = place(&key_of(&now));
            let key = back.literals(&renewed);
            let gone = GoneRow { place, version: back.version(2), key, unasked: false };
            back.world.source.delete_fed(&back.table, &[gone]).await.expect("reads");
        } else {
            back.world.source.apply_items(&back.table, std::slice::from_ref(&now)).await.expect("reads");
        }
        back.read_again().await;
        let expected = if is_tombstone(&now) { "gone" } else { "renewed" };
        assert_eq!((back.note(id).await.as_str(), back.notes().await), (expected, 0), "{id}");
        // And what comes after it through the stream.
        let newer = back.item(id, HERE, "newer", 3).await;
        back.deliver(&[(Some(&now), Some(&newer))], false).await;
        assert_eq!(back.note(id).await, "newer", "{id}");
    }
    // A state that was read before the feed had a newer one is passed over for good.
    let older = back.item(1, HERE, "older", 2).await;
    let newest = back.item(1, HERE, "newer", 3).await;
    back.set(&newest, Some(&newest)).await;
    back.world.source.apply_items(&back.table, &[older]).await.expect("reads");
    back.read_again().await;
    assert_eq!((back.note(1).await.as_str(), back.notes().await), ("newer", 0));
}
