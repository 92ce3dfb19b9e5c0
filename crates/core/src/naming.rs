//! Puts what leaves for a table into its words, and what comes back into ours.
//!
//! Everywhere in this program an attribute of Lockstep's has one name (`PK`, `_v`, …): the
//! guard, the versions, the tombstones, the feed and the comparison are the same for every table. A table
//! in which they are called otherwise is spoken to in its own words where a request leaves, and what comes
//! back is put into ours where it arrives, in one place: the target's client.
//!
//! A key attribute may be a column: 1. A table was made beforehand, keyed by `customer_id`. 2. Each item
//! has that attribute once, and here it is both the key and the column. So on its way out the column is
//! left out, once it is known to say the same, and on its way in it is put beside the key.

use std::borrow::Cow;

use crate::attribute::{Attributes, DELETED_ATTRIBUTE, PK, RESERVED_ATTRIBUTES, SK};
use crate::index::{Index, KeyAttribute};
use crate::item::{ITEM_BYTES_MAX, Item, value_bytes};
use crate::key::TargetSchema;
use crate::names::{ANOTHERS, OwnNames};
use crate::row::ColumnSpec;
use crate::same::is_same_value;
use crate::unholdable::Unholdable;

/// The names of a table, and which of its key attributes are columns. It puts what leaves into the table's
/// words, and what comes back into ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Naming {
    names: OwnNames,
    is_usual: bool,
    partition_is_column: bool,
    sort_is_column: bool,
}

impl Default for Naming {
    fn default() -> Self {
        Self::USUAL
    }
}

impl Naming {
    /// Every attribute is called as it is here.
    pub const USUAL: Self = Self::of(OwnNames::DEFAULT, &[]);

    /// Returns the naming of a table with these columns.
    pub const fn of(names: OwnNames, columns: &[ColumnSpec]) -> Self {
        let (all, mut is_usual, mut at) = (names.all(), true, 0);
        while at < all.len() {
            is_usual = is_usual && is_same(all[at], RESERVED_ATTRIBUTES[at]);
            at += 1;
        }
        let (mut partition_is_column, mut sort_is_column, mut at) = (false, false, 0);
        while at < columns.len() {
            partition_is_column = partition_is_column || is_same(columns[at].attribute, names.partition);
            sort_is_column = sort_is_column || is_same(columns[at].attribute, names.sort);
            at += 1;
        }
        Self { names, is_usual, partition_is_column, sort_is_column }
    }

    /// Returns the names.
    pub fn names(&self) -> &OwnNames {
        &self.names
    }

    /// Tells whether every attribute is called as it is here, so that nothing is to be done.
    pub fn is_usual(&self) -> bool {
        self.is_usual
    }

    /// Returns what decides items, for the layout that a migration notes; nothing where all is as usual.
    pub fn layout(&self) -> String {
        let differing = OwnNames::WORDS.iter().zip(self.names.all()).zip(RESERVED_ATTRIBUTES);
        let mut said = String::new();
        for ((word, name), usual) in differing {
            if name != usual {
                said += &format!(" names.{word}={name}");
            }
        }
        for (word, is) in [("partition", self.partition_is_column), ("sort", self.sort_is_column)] {
            if is && !self.is_usual {
                said += &format!(" names.{word}.is_column");
            }
        }
        said
    }

    /// Key attributes that are columns: as they are called here, and the column's attribute.
    fn columns_in_key(&self) -> impl Iterator<Item = (&'static str, &'static str)> + use<> {
        let partition = self.partition_is_column.then_some((PK, self.names.partition));
        partition.into_iter().chain(self.sort_is_column.then_some((SK, self.names.sort)))
    }

    /// Tells whether an attribute is both a key and a column.
    pub fn is_column_in_key(&self, attribute: &str) -> bool {
        !self.is_usual && self.columns_in_key().any(|(_, column)| column == attribute)
    }

    /// Returns what an attribute that is named here is called in the table.
    pub fn called(&self, name: &'static str) -> &'static str {
        let place = RESERVED_ATTRIBUTES.iter().position(|usual| *usual == name);
        place.map_or(name, |place| self.names.all()[place])
    }

    /// Returns the same of a key attribute.
    pub fn key(&self, attribute: KeyAttribute) -> KeyAttribute {
        KeyAttribute { name: self.called(attribute.name), ..attribute }
    }

    /// Returns the key attributes of a table.
    pub fn table_key(&self, schema: &TargetSchema) -> impl Iterator<Item = KeyAttribute> + use<> {
        let sort = schema.sort.map(|key_type| self.key(KeyAttribute { name: SK, key_type }));
        std::iter::once(self.key(KeyAttribute { name: PK, key_type: schema.partition })).chain(sort)
    }

    /// Returns those of an index.
    pub fn index_key(&self, index: &Index) -> impl Iterator<Item = KeyAttribute> + use<> {
        let sort = index.sort.map(|sort| self.key(sort));
        std::iter::once(self.key(index.partition)).chain(sort)
    }

    /// Returns every attribute that is a key somewhere, each once.
    pub fn key_attributes(&self, schema: &TargetSchema) -> Vec<KeyAttribute> {
        let of_indexes = schema.indexes.iter().flat_map(|index| self.index_key(index));
        let mut all: Vec<KeyAttribute> = Vec::new();
        for attribute in self.table_key(schema).chain(of_indexes) {
            if !all.iter().any(|known| known.name == attribute.name) {
                all.push(attribute);
            }
        }
        all
    }

    /// Returns the same of any name.
    pub fn sent<'a>(&self, name: &'a str) -> Cow<'a, str> {
        match RESERVED_ATTRIBUTES.iter().position(|usual| *usual == name) {
            Some(place) => Cow::Borrowed(self.names.all()[place]),
            None => Cow::Borrowed(name.strip_prefix(ANOTHERS).unwrap_or(name)),
        }
    }

    /// Returns what an attribute of the table is called here.
    pub fn read<'a>(&self, name: Cow<'a, str>) -> Cow<'a, str> {
        if let Some(place) = self.names.all().iter().position(|ours| *ours == name) {
            return Cow::Borrowed(RESERVED_ATTRIBUTES[place]);
        }
        // An attribute of another program, which is to differ from ours wherever items are compared.
        let is_taken = RESERVED_ATTRIBUTES.iter().any(|usual| *usual == name) || name.starts_with(ANOTHERS);
        if is_taken { Cow::Owned(format!("{ANOTHERS}{name}")) } else { name }
    }

    /// Puts the attributes of an item or of a key into the table's words.
    ///
    /// # Errors
    /// Names the column that says another thing than the key attribute which it is: nothing may be sent
    /// then.
    pub fn send(&self, mut item: Attributes) -> Result<Attributes, Unholdable> {
        if self.is_usual {
            return Ok(item);
        }
        for (key, column) in self.columns_in_key() {
            if let Some(value) = item.get(key) {
                if item.get(column).is_some_and(|copy| !is_same_value(value, copy)) {
                    return Err(unlike(column));
                }
                item.remove(column);
            }
        }
        Ok(item.into_iter().map(|(name, value)| (self.sent(&name).into_owned(), value)).collect())
    }

    /// Puts an item on its way into the table's words, for requests that are written by hand.
    ///
    /// # Errors
    /// As [`Naming::send`].
    pub fn send_item(&self, item: Item) -> Result<Item, Unholdable> {
        if self.is_usual {
            return Ok(item);
        }
        self.check_columns_in_key(&item)?;
        let parts = item.into_parts().into_iter();
        let parts = parts.filter(|(name, _)| !self.is_column_in_key(name));
        let mut sent = Item::with_capacity(parts.size_hint().1.unwrap_or_default());
        parts.for_each(|(name, value)| sent.push(self.called(name), value));
        Ok(sent)
    }

    /// Puts an item that was read into our words.
    pub fn receive(&self, item: Attributes) -> Attributes {
        if self.is_usual {
            return item;
        }
        let mut read = self.receive_key(item);
        // A tombstone has no columns.
        if !read.contains_key(DELETED_ATTRIBUTE) {
            for (key, column) in self.columns_in_key() {
                if let Some(value) = read.get(key).cloned() {
                    read.insert(column.to_owned(), value);
                }
            }
        }
        read
    }

    /// Puts a key that was read into our words: it has no columns.
    pub fn receive_key(&self, key: Attributes) -> Attributes {
        if self.is_usual {
            return key;
        }
        key.into_iter().map(|(name, value)| (self.read(Cow::Owned(name)).into_owned(), value)).collect()
    }

    /// Columns to be put beside the keys of an item that was read, each with the key which it is.
    pub fn columns_beside_key(&self) -> impl Iterator<Item = (&'static str, &'static str)> + use<> {
        let is_usual = self.is_usual;
        self.columns_in_key().filter(move |_| !is_usual)
    }

    /// Refuses an item of a row whose column is not what the key attribute says that it is: in the table
    /// there is one of both.
    ///
    /// # Errors
    /// Names the column.
    pub fn check_columns_in_key(&self, item: &Item) -> Result<(), Unholdable> {
        if self.is_usual {
            return Ok(());
        }
        for (key, column) in self.columns_in_key() {
            // A tombstone and a key have none.
            let copy = item.get(column);
            if copy.is_some_and(|copy| item.get(key).is_none_or(|value| !is_same_value(value, copy))) {
                return Err(unlike(column));
            }
        }
        Ok(())
    }

    /// Refuses an item of a row that is too large as the table holds it, or has a column that is a key and
    /// says another thing.
    ///
    /// # Errors
    /// Names the column, or size and limit.
    pub fn check(&self, item: &Item) -> Result<(), Unholdable> {
        if self.is_usual {
            return item.check_size();
        }
        self.check_columns_in_key(item)?;
        if let Some((_, column)) = self.columns_in_key().find(|(_, column)| item.get(column).is_none()) {
            return Err(Unholdable::because("is NULL, and a key attribute never is").of(column));
        }
        let held = item.iter().filter(|(name, _)| !self.is_column_in_key(name));
        let bytes: usize = held.map(|(name, value)| self.called(name).len() + value_bytes(value)).sum();
        // The version is added later; leave room for it.
        let bytes = bytes + self.names.version.len() + 12;
        if bytes > ITEM_BYTES_MAX {
            return Err(Unholdable::because(format!(
                "the item has {bytes} bytes; DynamoDB holds {ITEM_BYTES_MAX}"
            )));
        }
        Ok(())
    }

    /// Returns a reason in the table's words.
    pub fn explain(&self, reason: Unholdable) -> Unholdable {
        let column = self.sent(&reason.column).into_owned();
        Unholdable { column, ..reason }
    }
}

fn unlike(column: &str) -> Unholdable {
    let why = "is the key attribute of that name as well, and the key has another value or type; hold the \
               column in another attribute, or make the key of the column alone";
    Unholdable::because(why).of(column)
}

/// As `==`, at compile time.
const fn is_same(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    if one.len() != other.len() {
        return false;
    }
    let mut at = 0;
    while at < one.len() {
        if one[at] != other[at] {
            return false;
        }
        at += 1;
    }
    true
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodb::types::AttributeValue;
    use proptest::prelude::*;

    use super::*;
    use crate::names::tests::NAMES;

    fn column(attribute: &'static str) -> ColumnSpec {
        ColumnSpec {
            name: attribute,
            attribute,
            sql_type: "text",
            nullable: false,
            labels: &[],
            accepts: |_| true,
            reads: |_| true,
            key_expression: |name| name.to_owned(),
            literal: |_| Ok(String::new()),
            held_as: None,
        }
    }

    fn text(text: &str) -> AttributeValue {
        AttributeValue::S(text.to_owned())
    }

    /// Any names at all, those of ours in other roles among them.
    fn naming() -> impl Strategy<Value = Naming> {
        (prop::bool::ANY, prop::bool::ANY, prop::bool::ANY).prop_map(|(is_other, partition, sort)| {
            let names = if is_other { NAMES } else { OwnNames { sort: "created", ..OwnNames::DEFAULT } };
            let mut columns = vec![column("other")];
            columns.extend((partition && is_other).then(|| column(names.partition)));
            // A column that is called as a usual name is refused where a table is declared.
            let may_be_column = !RESERVED_ATTRIBUTES.contains(&names.sort);
            columns.extend((sort && may_be_column).then(|| column(names.sort)));
            Naming::of(names, &columns)
        })
    }

    fn name() -> impl Strategy<Value = String> {
        let words: Vec<&str> =
            RESERVED_ATTRIBUTES.into_iter().chain(NAMES.all()).chain(["other", ""]).collect();
        (prop::collection::vec(Just('\0'), 0..3), prop::sample::select(words))
            .prop_map(|(before, word)| before.into_iter().collect::<String>() + word)
    }

    proptest! {
        /// No two attributes become one, whatever another program has put there, and written back it is the
        /// same.
        #[test]
        fn what_comes_in_goes_out_as_it_was(
            naming in naming(),
            there in prop::collection::hash_map(name(), "[a-c]", 0..12),
        ) {
            let there: Attributes = there.into_iter().map(|(name, value)| (name, text(&value))).collect();
            let key = naming.receive_key(there.clone());
            prop_assert_eq!(key.len(), there.len());
            prop_assert_eq!(naming.send(key).expect("one value each"), there.clone());
            prop_assert_eq!(naming.send(naming.receive(there.clone())).expect("one value each"), there);
        }
    }

    #[test]
    fn a_key_that_is_a_column_is_one_attribute_and_says_one_thing() {
        let naming = Naming::of(NAMES, &[column("key"), column("note")]);
        let item = |key: &str, column: &str| {
            let mut item = Item::default();
            item.push(PK, text(key));
            item.push("key", text(column));
            item.push("note", text("n"));
            item
        };
        let sent = naming.send_item(item("a", "a")).expect("one thing").into_attributes();
        let expected = Attributes::from([("key".to_owned(), text("a")), ("note".to_owned(), text("n"))]);
        assert_eq!(sent, expected);
        assert_eq!(naming.send(item("a", "a").into_attributes()), Ok(expected.clone()));
        assert_eq!(naming.receive(expected), item("a", "a").into_attributes());
        for refused in [
            naming.send_item(item("a", "b")).map(drop),
            naming.send(item("a", "b").into_attributes()).map(drop),
            naming.check(&item("a", "b")),
        ] {
            assert_eq!(refused.expect_err("two things").column, "key");
        }
        let dead = Attributes::from([("key".to_owned(), text("a")), ("_v".to_owned(), text("yes"))]);
        let read = naming.receive(dead);
        assert_eq!(read.len(), 2, "a tombstone has no columns: {read:?}");
        assert!(read.contains_key(DELETED_ATTRIBUTE) && read.contains_key(PK));
    }

    #[test]
    fn the_size_of_an_item_is_that_of_the_tables_names() {
        let mut item = Item::default();
        item.push(PK, text(&"k".repeat(2_000)));
        item.push("key", text(&"k".repeat(2_000)));
        item.push("note", text(&"n".repeat(ITEM_BYTES_MAX - 2_100)));
        assert!(item.check_size().is_err(), "the column counts twice");
        let naming = Naming::of(NAMES, &[column("key"), column("note")]);
        naming.check(&item).expect("it is there once");
        let long = OwnNames { partition: &"long name ".repeat(20).leak()[..], ..NAMES };
        assert!(Naming::of(long, &[column("note")]).check(&item).is_err(), "names count");
    }
}
