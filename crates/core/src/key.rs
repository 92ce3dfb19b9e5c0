//! Keys: of a row in the source, of its item in the target, and the schema of the target.

use std::fmt;

use aws_sdk_dynamodb::types::AttributeValue;
use serde::{Deserialize, Serialize};

use crate::attribute::{Attributes, PK, SK};
use crate::index::{Index, KeyType};
use crate::item::{Item, PARTITION_KEY_BYTES_MAX, SORT_KEY_BYTES_MAX};
use crate::same::is_same_value;
use crate::serde_words;
use crate::unholdable::Unholdable;

/// A row's key in the source: its primary key and every column the target key is derived from, as the JSON
/// array that PostgreSQL built. It is what the pending set and the dead letters are keyed by.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SourceKey(pub Vec<serde_json::Value>);

impl SourceKey {
    /// Parses the array as PostgreSQL prints it.
    ///
    /// # Errors
    /// When it is not a JSON array.
    pub fn parse(text: &str) -> Result<Self, Unholdable> {
        serde_json::from_str(text)
            .map(Self)
            .map_err(|error| Unholdable::because(format!("is no key: {}", serde_words::of_json(&error))))
    }

    /// Returns the array as JSON text, to be compared as `jsonb`.
    pub fn to_json(&self) -> String {
        serde_json::Value::Array(self.0.clone()).to_string()
    }
}

impl fmt::Display for SourceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_json())
    }
}

/// Key schema of a target table. Partition and sort key are called `PK` and `SK` here; what they are called
/// in the table, its [`Naming`](crate::Naming) says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TargetSchema {
    /// Type of `PK`.
    pub partition: KeyType,
    /// Type of `SK`; `None` where the table has no sort key.
    pub sort: Option<KeyType>,
    /// Global secondary indexes.
    pub indexes: &'static [Index],
}

impl TargetSchema {
    /// Some key of the right types, to ask what an endpoint can do; nothing is ever written under it.
    pub fn unused_key(&self) -> TargetKey {
        let value = |key_type: KeyType| match key_type {
            KeyType::S => AttributeValue::S("lockstep-probe".to_owned()),
            KeyType::N => AttributeValue::N("0".to_owned()),
        };
        TargetKey { partition: value(self.partition), sort: self.sort.map(value) }
    }

    /// Refuses an item that breaks a key limit of the table or of one of its indexes.
    ///
    /// # Errors
    /// Names the attribute: empty, or longer than DynamoDB allows.
    pub fn check_keys(&self, item: &Item) -> Result<(), Unholdable> {
        let partitions = std::iter::once(PK).chain(self.indexes.iter().map(|index| index.partition.name));
        let sorts = std::iter::once(SK)
            .chain(self.indexes.iter().filter_map(|index| index.sort).map(|sort| sort.name));
        let limits = partitions
            .map(|name| (name, PARTITION_KEY_BYTES_MAX))
            .chain(sorts.map(|name| (name, SORT_KEY_BYTES_MAX)));
        for (name, bytes_max) in limits {
            if let Some(AttributeValue::S(text)) = item.get(name) {
                check_length(text, bytes_max).map_err(|e| e.of(name))?;
            }
        }
        Ok(())
    }
}

/// Prefixes of the partition keys under which Lockstep keeps items of its own in a target table.
const RESERVED: [&str; 3] = ["lockstep-history", "lockstep-marker#", "lockstep-probe"];
/// Digits of those that are numbers.
const RESERVED_DIGITS: usize = 38;

fn check_length(text: &str, bytes_max: usize) -> Result<(), Unholdable> {
    match text.len() {
        0 => Err(Unholdable::because("is empty, which a DynamoDB key may not be")),
        n if n > bytes_max => {
            Err(Unholdable::because(format!("has {n} bytes; a DynamoDB key of its kind holds {bytes_max}")))
        }
        _ => Ok(()),
    }
}

/// Returns a sort key in the order of times, and of ids within a time: `{at}#{id}`, the id padded with zeros
/// to 19 characters. One is made for each row, so it is put together by hand.
pub fn time_and_id(at: &str, id: i64) -> String {
    let Ok(positive) = u64::try_from(id) else {
        // No identity is, but a column may hold it.
        return format!("{at}#{id:019}");
    };
    let mut digits = [b'0'; 19];
    let mut rest = positive;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    let mut key = String::with_capacity(at.len() + 1 + digits.len());
    key.push_str(at);
    key.push('#');
    key.push_str(std::str::from_utf8(&digits).expect("digits are ASCII"));
    key
}

/// Returns the key of an item as one text, the same for equal keys: what the reverse feed remembers it by.
pub fn place(key: &Attributes) -> String {
    let part = |name: &str| match key.get(name) {
        Some(AttributeValue::S(text)) => Some(("S", text)),
        Some(AttributeValue::N(text)) => Some(("N", text)),
        _ => None,
    };
    serde_json::to_string(&(part(PK), part(SK))).expect("texts are JSON")
}

/// Returns the key that [`place`] made a text of.
pub fn key_of_place(place: &str) -> Option<TargetKey> {
    let (partition, sort): (Part, Option<Part>) = serde_json::from_str(place).ok()?;
    let value = |Part(key_type, text)| match key_type {
        KeyType::S => AttributeValue::S(text),
        KeyType::N => AttributeValue::N(text),
    };
    Some(TargetKey { partition: value(partition), sort: sort.map(value) })
}

#[derive(Deserialize)]
struct Part(KeyType, String);

/// The key of an item in the target.
#[derive(Clone, Debug, PartialEq)]
pub struct TargetKey {
    /// Value of `PK`.
    pub partition: AttributeValue,
    /// Value of `SK`, where the table has one.
    pub sort: Option<AttributeValue>,
}

impl TargetKey {
    /// Checks the lengths of string keys, and that the place is none that Lockstep keeps for itself.
    ///
    /// # Errors
    /// When a part is empty or too long, or the place is Lockstep's own: 1. A dictionary has the word
    /// `lockstep-history` as its key. 2. Its row moves to the place of the table's mark. 3. The next mark
    /// makes a tombstone of it.
    pub fn check(&self) -> Result<(), Unholdable> {
        if self.is_reserved() {
            return Err(Unholdable::because("is the place of an item of Lockstep's own").of(PK));
        }
        if let AttributeValue::S(text) = &self.partition {
            check_length(text, PARTITION_KEY_BYTES_MAX).map_err(|e| e.of(PK))?;
        }
        if let Some(AttributeValue::S(text)) = &self.sort {
            check_length(text, SORT_KEY_BYTES_MAX).map_err(|e| e.of(SK))?;
        }
        Ok(())
    }

    /// Tells whether an item of Lockstep's own (a mark, a marker, a probe) may live there.
    fn is_reserved(&self) -> bool {
        match &self.partition {
            AttributeValue::S(text) => RESERVED.iter().any(|start| text.starts_with(start)),
            // Each of them has 38 digits and is negative; no number that a column counts by comes near.
            AttributeValue::N(text) => {
                text.strip_prefix('-').is_some_and(|digits| digits.len() >= RESERVED_DIGITS)
            }
            _ => false,
        }
    }

    /// Returns the key as an item with nothing else in it.
    pub fn into_item(self) -> Item {
        let mut item = Item::with_capacity(4);
        item.push(PK, self.partition);
        if let Some(sort) = self.sort {
            item.push(SK, sort);
        }
        item
    }

    /// Returns the key as the SDK's requests take it.
    pub fn to_attributes(&self) -> Attributes {
        self.clone().into_item().into_attributes()
    }

    /// Tells whether this is the key of an item with these attributes, numbers by value.
    pub fn is_of(&self, item: &Attributes) -> bool {
        let is_part = |name: &str, part: Option<&AttributeValue>| match (part, item.get(name)) {
            (Some(part), Some(there)) => is_same_value(part, there),
            (None, there) => there.is_none(),
            _ => false,
        };
        is_part(PK, Some(&self.partition)) && is_part(SK, self.sort.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_row_is_never_at_a_place_of_lockstep_itself() {
        let at = |partition| TargetKey { partition, sort: None }.check();
        for reserved in ["lockstep-history", "lockstep-marker#3", "lockstep-probe"] {
            assert!(at(AttributeValue::S(reserved.to_owned())).is_err(), "{reserved}");
        }
        assert!(at(AttributeValue::N(format!("-8{:037}", 0))).is_err());
        assert!(at(AttributeValue::S("LOG#lockstep-history".to_owned())).is_ok());
        assert!(at(AttributeValue::N(i64::MIN.to_string())).is_ok());
    }

    /// PostgreSQL keeps places: spelled otherwise by another version, an item would be another one, and the
    /// newest of its versions unknown.
    #[test]
    fn a_place_is_spelled_as_it_is_kept() {
        let text = |text: &str| AttributeValue::S(text.to_owned());
        let number = AttributeValue::N("-1.50".to_owned());
        let cases = [
            (
                text("a\"b\\c\n\u{1f}\u{7f}é😀/"),
                Some(number),
                "[[\"S\",\"a\\\"b\\\\c\\n\\u001f\u{7f}é😀/\"],[\"N\",\"-1.50\"]]",
            ),
            (text(""), Some(text("\0")), "[[\"S\",\"\"],[\"S\",\"\\u0000\"]]"),
            (AttributeValue::N("7".to_owned()), None, "[[\"N\",\"7\"],null]"),
        ];
        for (partition, sort, expected) in cases {
            let key = TargetKey { partition, sort };
            assert_eq!(place(&key.to_attributes()), expected);
            assert_eq!(key_of_place(expected), Some(key));
        }
    }

    #[track_caller]
    fn check(id: i64) {
        assert_eq!(
            time_and_id("2026-01-31T23:59:59.000001Z", id),
            format!("2026-01-31T23:59:59.000001Z#{id:019}")
        );
    }

    #[test]
    fn a_time_and_an_id_are_put_together_to_the_letter() {
        for id in [0, 1, 9, 10, 42, i64::MAX, i64::MAX - 1, 1_000_000_000_000_000_000, -1, i64::MIN] {
            check(id);
        }
    }

    proptest! {
        #[test]
        fn any_id_is_padded_as_the_formatter_pads_it(id in any::<i64>(), shift in 0..63) {
            check(id);
            check(id >> shift);
        }
    }
}
