//! Items: what a row becomes in DynamoDB, its size, its limits.

use aws_sdk_dynamodb::types::AttributeValue;

use crate::attribute::{Attributes, VERSION_ATTRIBUTE};
use crate::index::{Index, KeyAttribute, Projected};
use crate::unholdable::Unholdable;
use crate::version::Version;

/// Largest item, names and values together (DynamoDB Developer Guide, "Quotas", item size).
pub const ITEM_BYTES_MAX: usize = 400 * 1024;
/// Longest partition key value, in bytes.
pub(crate) const PARTITION_KEY_BYTES_MAX: usize = 2_048;
/// Longest sort key value, in bytes.
pub(crate) const SORT_KEY_BYTES_MAX: usize = 1_024;
/// One write unit covers this many bytes of an item, rounded up.
pub const WRITE_UNIT_BYTES: usize = 1_024;
/// Bytes of the keys that an index has of an item, as most are.
const KEYS_BYTES: usize = 100;

/// An item on its way to DynamoDB: attributes in a fixed order, names borrowed from the table's definition.
///
/// The order makes two rows with the same NULLs share one PartiQL statement text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Item(Vec<(&'static str, AttributeValue)>);

impl Item {
    /// Makes an empty item with room for `attributes`.
    pub fn with_capacity(attributes: usize) -> Self {
        Self(Vec::with_capacity(attributes))
    }

    /// Adds an attribute; its name must not be there yet.
    pub fn push(&mut self, name: &'static str, value: AttributeValue) {
        debug_assert!(self.get(name).is_none(), "attribute {name} written twice");
        self.0.push((name, value));
    }

    /// Adds the attributes of another item, behind its own; none of their names may be there yet.
    pub fn append(&mut self, other: Self) {
        for (name, value) in other.0 {
            self.push(name, value);
        }
    }

    /// Returns the attribute of that name.
    pub fn get(&self, name: &str) -> Option<&AttributeValue> {
        self.0.iter().find(|(n, _)| *n == name).map(|(_, value)| value)
    }

    /// Puts `value` in the place of what an attribute has.
    pub(crate) fn replace(&mut self, name: &'static str, value: AttributeValue) {
        if let Some((_, there)) = self.0.iter_mut().find(|(n, _)| *n == name) {
            *there = value;
        }
    }

    /// Names and values in order.
    pub fn iter(&self) -> impl Iterator<Item = &(&'static str, AttributeValue)> {
        self.0.iter()
    }

    /// Names and values in order, by value.
    pub fn into_parts(self) -> Vec<(&'static str, AttributeValue)> {
        self.0
    }

    /// Returns the same item at `version`.
    #[must_use]
    pub fn at(mut self, version: Version) -> Self {
        self.push(VERSION_ATTRIBUTE, AttributeValue::N(version.0.to_string()));
        self
    }

    /// Returns the form the SDK's put requests take.
    pub fn into_attributes(self) -> Attributes {
        self.0.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// Size as DynamoDB counts it (Developer Guide, "DynamoDB item sizes and formats"), an upper bound for
    /// numbers.
    pub fn bytes(&self) -> usize {
        self.0.iter().map(|(name, value)| name.len() + value_bytes(value)).sum()
    }

    /// Write units of one write of this item to the table, its indexes not counted.
    pub fn write_units(&self) -> usize {
        self.bytes().div_ceil(WRITE_UNIT_BYTES).max(1)
    }

    /// Write units of putting this item where there is none: the table's, and those of each index that it
    /// appears in.
    pub fn write_units_with(&self, indexes: &[Index]) -> usize {
        let has = |attribute: &KeyAttribute| self.get(attribute.name).is_some();
        let appears =
            indexes.iter().filter(|index| has(&index.partition) && index.sort.as_ref().is_none_or(has));
        let size = |name: &&str| self.get(name).map_or(0, |value| name.len() + value_bytes(value));
        let of_index = |index: &Index| match index.projection {
            Projected::All => self.write_units(),
            // Keys alone are of less than one unit; most are of a tenth.
            Projected::Keys => 1,
            Projected::List(names) => {
                let beside: usize = names.iter().map(size).sum();
                (beside + KEYS_BYTES).div_ceil(WRITE_UNIT_BYTES)
            }
        };
        self.write_units() + appears.map(of_index).sum::<usize>()
    }

    /// Refuses an item that is too large.
    ///
    /// # Errors
    /// Names the size and the limit.
    pub fn check_size(&self) -> Result<(), Unholdable> {
        // The version is added later; leave room for it.
        let bytes = self.bytes() + VERSION_ATTRIBUTE.len() + 12;
        if bytes > ITEM_BYTES_MAX {
            return Err(Unholdable::because(format!(
                "the item has {bytes} bytes; DynamoDB holds {ITEM_BYTES_MAX}"
            )));
        }
        Ok(())
    }
}

pub(crate) fn value_bytes(value: &AttributeValue) -> usize {
    match value {
        AttributeValue::S(text) => text.len(),
        // A byte per two digits, one for the sign, one more: never more than the text and two.
        AttributeValue::N(text) => text.len().div_ceil(2) + 2,
        AttributeValue::B(blob) => blob.as_ref().len(),
        AttributeValue::M(map) => {
            3 + map.iter().map(|(name, value)| name.len() + value_bytes(value) + 1).sum::<usize>()
        }
        AttributeValue::L(list) => 3 + list.iter().map(|value| value_bytes(value) + 1).sum::<usize>(),
        // An overhead as of a list, which AWS does not tell of a set: never more than it counts.
        AttributeValue::Ss(set) => 3 + set.iter().map(|text| text.len() + 1).sum::<usize>(),
        AttributeValue::Ns(set) => 3 + set.iter().map(|digits| digits.len().div_ceil(2) + 3).sum::<usize>(),
        AttributeValue::Bs(set) => 3 + set.iter().map(|blob| blob.as_ref().len() + 1).sum::<usize>(),
        _ => 1,
    }
}

/// Counts bytes as [`Item::bytes`] does.
pub fn attributes_bytes(attributes: &Attributes) -> usize {
    attributes.iter().map(|(name, value)| name.len() + value_bytes(value)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::KeyType;

    #[test]
    fn a_set_counts_with_each_of_its_elements() {
        let text = "x".repeat(ITEM_BYTES_MAX / 2);
        let bytes = aws_sdk_dynamodb::primitives::Blob::new(text.as_bytes());
        for (one, two) in [
            (AttributeValue::Bs(vec![bytes.clone()]), AttributeValue::Bs(vec![bytes.clone(), bytes])),
            (AttributeValue::Ss(vec![text.clone()]), AttributeValue::Ss(vec![text.clone(), text.clone()])),
            (
                AttributeValue::Ns(vec!["12345678".to_owned(); 30_000]),
                AttributeValue::Ns(vec!["12345678".to_owned(); 100_000]),
            ),
        ] {
            let of = |value| {
                let mut item = Item::default();
                item.push("a", value);
                item.check_size()
            };
            assert!(of(one).is_ok() && of(two).is_err());
        }
    }

    #[test]
    fn the_units_of_an_item_count_each_index_that_it_appears_in() {
        let attribute = |name| KeyAttribute { name, key_type: KeyType::S };
        let index = |name, partition, projection| Index {
            name,
            partition: attribute(partition),
            sort: None,
            projection,
        };
        let (all, keys) = (Projected::All, Projected::Keys);
        let indexes = [index("whole", "a", all), index("keys", "a", keys), index("sparse", "absent", all)];
        let mut item = Item::default();
        item.push("a", AttributeValue::S("x".repeat(2_500)));
        assert_eq!(item.write_units(), 3);
        assert_eq!(item.write_units_with(&indexes), 3 + 3 + 1);
        assert_eq!(item.write_units_with(&[]), 3);
        item.push("b", AttributeValue::S("short".to_owned()));
        for (listed, units) in [(&["a", "b"] as &[_], 3), (&["b", "absent"], 1), (&[], 1)] {
            assert_eq!(item.write_units_with(&[index("list", "a", Projected::List(listed))]), 3 + units);
        }
    }
}
