//! Differences between an item as it should be and one that is there, in what is no column.

use aws_sdk_dynamodb::types::AttributeValue;

use crate::attribute::{Attributes, TTL_ATTRIBUTE, is_bookkeeping};
use crate::difference::{Difference, FieldDiff, FieldValue};
use crate::expiry::is_expiry;
use crate::item::Item;

/// Differences in attributes that are not columns: keys, index keys, expiry. They are derived, so they must
/// be equal to the letter, but for an expiry that was put off (see [`Item::staying`]), and an attribute that
/// no rule of the table makes is one too many. `shown` makes a text of a value.
pub fn beside_columns(
    expected: &Item,
    found: &Attributes,
    is_column: &dyn Fn(&str) -> bool,
    shown: &dyn Fn(&AttributeValue) -> String,
) -> Vec<FieldDiff> {
    let (mut differing, now_s) = (Vec::new(), chrono::Utc::now().timestamp());
    for (name, value) in expected.iter().filter(|(name, _)| !is_column(name)) {
        let there = found.get(*name);
        let is_put_off = |there| *name == TTL_ATTRIBUTE && is_expiry(value, there, now_s);
        if there != Some(value) && !there.is_some_and(is_put_off) {
            let there = there.map(shown);
            differing.push(Difference::of(Some(&shown(value)), there.as_deref()).in_column(name));
        }
    }
    let known = |name: &str| expected.get(name).is_some() || is_column(name) || is_bookkeeping(name);
    let mut unexpected: Vec<_> = found.iter().filter(|(name, _)| !known(name)).collect();
    unexpected.sort_unstable_by_key(|(name, _)| *name);
    differing.extend(unexpected.into_iter().map(|(name, value)| FieldDiff {
        column: name.clone(),
        path: None,
        source: FieldValue::Absent,
        target: FieldValue::of(&shown(value)),
    }));
    differing
}
