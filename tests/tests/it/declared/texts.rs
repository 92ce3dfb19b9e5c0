//! Keys of items that are written in DynamoOnly under another text than PostgreSQL prints of their rows.

use lockstep_core::{
    AttributeValue, Attributes, Epoch, Item, Phase, SourceKey, Version, tombstone, version_of,
};
use lockstep_postgres::TableBinding;

use super::naive::disagreements;
use super::partitions::Moved;

/// Types of a key, the text that PostgreSQL prints of a value, and another text of it. Of the last ones
/// PostgreSQL prints both texts alike.
const TEXTS: &[(&str, &str, &str)] = &[
    ("interval", "1 mon", "30 days"),
    ("span", "1 mon", "30 days"),
    ("jsonb", "1.5", "1.50"),
    ("numeric[]", "{1.0}", "{1.00}"),
    ("interval", "1 mon", "1 month"),
    ("character(3)", "a", "a  "),
    ("inet", "10.0.0.1/32", "10.0.0.1"),
    ("int4range", "[1,3)", "[1,2]"),
];

fn schema() -> String {
    let mut schema = "CREATE DOMAIN span AS interval;".to_owned();
    for (n, (sql_type, text, _)) in TEXTS.iter().enumerate() {
        schema += &format!(
            "CREATE TABLE texts_{n} (k {sql_type} PRIMARY KEY, v text);
             INSERT INTO texts_{n} VALUES ('{text}', 'a');"
        );
    }
    schema
}

/// A table of [`TEXTS`] that is moved, in DynamoOnly.
struct Keyed<'m> {
    moved: &'m Moved,
    table: &'m TableBinding,
    epoch: Epoch,
}

impl<'m> Keyed<'m> {
    async fn of(moved: &'m Moved, name: &str) -> Self {
        let table = moved.tables.iter().find(|table| table.name() == name).expect("it is moved");
        let epoch = moved.world.source.control().await.expect("a phase").epoch;
        Self { moved, table, epoch }
    }

    fn key(text: &str) -> SourceKey {
        SourceKey::parse(&serde_json::json!([text]).to_string()).expect("a source key")
    }

    async fn there(&self, text: &str) -> Option<Attributes> {
        self.moved.world.item(self.table, &Self::key(text).to_json()).await
    }

    async fn next(&self, text: &str) -> Version {
        let there = self.there(text).await.and_then(|item| version_of(&item)).map_or(0, |version| version.0);
        Version(self.epoch.floor().max(there) + 1)
    }

    /// Writes an item as a service does, its key spelled `at`, and `k` in its attributes.
    async fn put(&self, at: &str, k: &str, v: &str) {
        let key = self.table.table.target_key(&Self::key(at)).expect("a key");
        let mut item = key.into_item();
        for (name, value) in [("k", k), ("v", v)] {
            if item.get(name).is_none() {
                item.push(name, AttributeValue::S(value.to_owned()));
            }
        }
        self.write(item, at).await;
    }

    async fn delete(&self, at: &str) {
        let key = self.table.table.target_key(&Self::key(at)).expect("a key");
        let version = self.next(at).await;
        let target = &self.moved.world.plain_target;
        let (name, item) = (&self.table.target_name, tombstone(key, version));
        target.put_guarded(name, item, version).await.expect("written");
    }

    async fn write(&self, item: Item, at: &str) {
        let version = self.next(at).await;
        let target = &self.moved.world.plain_target;
        target.put_guarded(&self.table.target_name, item.at(version), version).await.expect("written");
    }

    /// Removes an item as DynamoDB does by itself, or a person by hand.
    async fn remove(&self, at: &str) {
        let key = self.table.table.target_key(&Self::key(at)).expect("a key");
        let client = self.moved.world.plain_target.client();
        let removed = client.delete_item().table_name(&self.table.target_name);
        removed.set_key(Some(key.to_attributes())).send().await.expect("removed");
    }

    /// The rows, as PostgreSQL prints them.
    async fn rows(&self) -> String {
        let sql = "SELECT coalesce(string_agg(k::text || ' = ' || v::text, '; ' ORDER BY k), '') FROM ";
        self.moved.world.value(&format!("{sql}{}", self.table.name())).await
    }
}

/// Takes the way back. A pause that a busy machine makes too short leaves everything as it was.
async fn back(moved: &Moved) -> Result<(), String> {
    for _ in 0..10 {
        match moved.step(Phase::HybridRead).await {
            Err(why) if why.contains("Try again when that is over") => {}
            done => return done,
        }
    }
    moved.step(Phase::HybridRead).await
}

async fn keyed(moved: &Moved) -> Vec<Keyed<'_>> {
    let mut all = Vec::new();
    for table in &moved.tables {
        all.push(Keyed::of(moved, table.name()).await);
    }
    all
}

async fn moved() -> Moved {
    let declared: String = (0..TEXTS.len()).map(|n| format!("[tables.texts_{n}]\n")).collect();
    Moved::of(&schema(), &declared, Phase::DynamoOnly).await
}

/// 1. Row and item of one text hold a, and came from PostgreSQL. 2. In DynamoOnly a service puts an item
/// under another text of that value, and the row holds what it says. 3. It is deleted again, as the way back
/// asks for. 4. No tombstone names the row's text, and no record of the stream the item of a: PostgreSQL was
/// the truth with what had been deleted, and a was in DynamoDB alone.
#[tokio::test]
async fn an_item_under_another_text_of_a_key_leaves_the_first_ones_row_as_it_was() {
    let moved = moved().await;
    let tables = keyed(&moved).await;
    for (table, (_, _, other)) in tables.iter().zip(TEXTS) {
        table.put(other, other, "b").await;
    }
    moved.feed().await;
    for (table, (sql_type, text, _)) in tables.iter().zip(TEXTS) {
        assert_eq!(table.rows().await.replace("  ", ""), format!("{text} = a"), "{sql_type}");
    }
    let refused = back(&moved).await.expect_err("two items are one row");
    assert!(refused.contains("delete it"), "{refused}");

    for (table, (_, _, other)) in tables.iter().zip(TEXTS) {
        table.delete(other).await;
    }
    back(&moved).await.expect("one item a row");
    for (table, (sql_type, text, _)) in tables.iter().zip(TEXTS) {
        assert_eq!(table.rows().await.replace("  ", ""), format!("{text} = a"), "{sql_type}");
        let apart = disagreements(&moved.world, table.table.name(), table.table.name(), &[]).await;
        assert_eq!(apart, [] as [String; 0], "{sql_type}");
    }
    let report = moved.compared(false).await;
    assert!(report.verdict.is_consistent(), "{report:#?}");
}

/// The item of the row's own text goes, with a tombstone or without, before or after the other one comes:
/// what is left is a row under the other text, and the way back is open.
#[tokio::test]
async fn an_item_under_another_text_of_a_key_has_the_row_once_the_first_one_went() {
    let moved = moved().await;
    let tables = keyed(&moved).await;
    // Whose other text PostgreSQL prints as it is.
    let printed = || tables.iter().zip(TEXTS).take(4);
    for (n, (table, (_, text, other))) in printed().enumerate() {
        if n == 0 {
            table.remove(text).await;
        }
        table.put(other, other, "b").await;
    }
    moved.feed().await;
    for (table, (_, text, _)) in printed().skip(1) {
        table.delete(text).await;
    }
    moved.feed().await;
    for (table, (sql_type, _, other)) in printed() {
        assert_eq!(table.rows().await, format!("{other} = b"), "{sql_type}");
    }
}

/// Tables keyed by decimals, and those that refer to them. An item of each is written with other zeros.
const DECIMALS: &str = "
    CREATE DOMAIN amount AS numeric;
    CREATE TABLE plain (k numeric PRIMARY KEY, v text);
    CREATE TABLE of_domain (k amount PRIMARY KEY, v text);
    CREATE TABLE split (k numeric PRIMARY KEY, v text) PARTITION BY HASH (k);
    CREATE TABLE split_1 PARTITION OF split FOR VALUES WITH (MODULUS 2, REMAINDER 0);
    CREATE TABLE split_2 PARTITION OF split FOR VALUES WITH (MODULUS 2, REMAINDER 1);
    CREATE TABLE followed (k numeric PRIMARY KEY, v text);
    CREATE TABLE held (k numeric PRIMARY KEY, v text);
    INSERT INTO plain VALUES (1.0, 'a'), (-0.50, 'a'); INSERT INTO of_domain VALUES (1.0, 'a');
    INSERT INTO split VALUES (1.0, 'a'); INSERT INTO followed VALUES (1.0, 'a');
    INSERT INTO held VALUES (1.0, 'a');
    CREATE TABLE follows (k int PRIMARY KEY, v numeric REFERENCES followed ON UPDATE CASCADE);
    CREATE TABLE holds (k int PRIMARY KEY, v numeric REFERENCES held ON UPDATE RESTRICT);
    INSERT INTO follows VALUES (1, 1.0); INSERT INTO holds VALUES (1, 1.0);
    CREATE TABLE updates (id bigint GENERATED ALWAYS AS IDENTITY, of_table text);
    CREATE FUNCTION note_update() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN INSERT INTO public.updates (of_table) VALUES (TG_TABLE_NAME); RETURN NULL; END $$;
    CREATE TRIGGER note_update AFTER UPDATE OF k ON plain FOR EACH ROW EXECUTE FUNCTION note_update()";

/// 1. The row of a key says 1.0, and its place 1. 2. In DynamoOnly a service writes that item with 1.00. 3.
/// PostgreSQL kept 1.0, to which it is equal, and nothing ever changed that: neither the way back nor the
/// completion went through, and the command that they named wrote the same once more.
#[tokio::test]
async fn a_decimal_key_that_is_written_with_other_zeros_is_spelled_as_its_item() {
    let declared: String = ["plain", "of_domain", "split", "followed", "held", "follows", "holds"]
        .iter()
        .map(|name| format!("[tables.{name}]\n"))
        .collect();
    let moved = Moved::of(DECIMALS, &declared, Phase::DynamoOnly).await;
    let names = ["plain", "of_domain", "split", "followed", "held"];
    for name in names {
        Keyed::of(&moved, name).await.put("1", "1.00", "b").await;
    }
    let plain = Keyed::of(&moved, "plain").await;
    plain.put("-0.5", "-0.5000", "b").await;
    plain.put("2", "2.0", "c").await;
    moved.feed().await;
    for name in names.iter().take(4) {
        let rows = Keyed::of(&moved, name).await.rows().await;
        assert!(rows.contains("1.00 = b"), "{name}: {rows}");
    }
    assert_eq!(plain.rows().await, "-0.5000 = b; 1.00 = b; 2.0 = c");
    plain.put("2", "2.0", "d").await;
    moved.feed().await;
    let updates: i64 = moved.world.count("updates").await;
    assert_eq!(updates, 2, "where the spelling stays no key is updated");
    // What refers to it with ON UPDATE CASCADE has its own zeros again.
    assert_eq!(Keyed::of(&moved, "follows").await.rows().await, "1 = 1.0");

    // A foreign key that forbids any update of the key: the way back says what leads on.
    let refused = back(&moved).await.expect_err("PostgreSQL keeps 1.0");
    assert!(refused.contains("1 keys of held differ") && refused.contains("keeps k as it is"), "{refused}");
    Keyed::of(&moved, "held").await.put("1", "1.0", "b").await;
    back(&moved).await.expect("every row is what its item says");
    for table in &moved.tables {
        let apart = disagreements(&moved.world, table.name(), table.name(), &[]).await;
        assert_eq!(apart, [] as [String; 0], "{}", table.name());
    }
    let report = moved.compared(false).await;
    assert!(report.verdict.is_consistent(), "{report:#?}");
}
