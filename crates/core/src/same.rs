//! Whether an item that is there is the very state that was to be put.
//!
//! A guarded put that is refused says that a version at least as high is there, and no more. 1. PostgreSQL is
//! restored to a moment, and hands out version 12 again. 2. DynamoDB has another state of the row at 12, or
//! at 15, of the time that is lost. 3. The put is refused. The item that is there tells whether that is the
//! state meant.

use aws_sdk_dynamodb::types::AttributeValue;

use crate::attribute::{Attributes, DELETED_ATTRIBUTE, TTL_ATTRIBUTE, is_bookkeeping};
use crate::column::normal_number;
use crate::expiry::is_expiry;
use crate::item::Item;

impl Item {
    /// Tells whether `found` says the same as this item, whatever version either has: each attribute, numbers
    /// by value, and no other one. An expiry may have been put off, as seen at `now_s` (seconds since 1970).
    pub fn is_same_state(&self, found: &Attributes, now_s: i64) -> bool {
        let counts = |name: &str| !is_bookkeeping(name);
        let is_there = |name: &str, value: &AttributeValue| {
            found.get(name).is_some_and(|there| {
                // A tombstone says by the name alone what it is.
                name == DELETED_ATTRIBUTE
                    || is_same_value(value, there)
                    || name == TTL_ATTRIBUTE && is_expiry(value, there, now_s)
            })
        };
        self.iter().all(|(name, value)| !counts(name) || is_there(name, value))
            && found.keys().all(|name| !counts(name) || self.get(name).is_some())
    }
}

/// DynamoDB gives numbers back without zeros at their ends, and sets in an order of its own.
pub(crate) fn is_same_value(a: &AttributeValue, b: &AttributeValue) -> bool {
    match (a, b) {
        (AttributeValue::N(a), AttributeValue::N(b)) => is_same_number(a, b),
        (AttributeValue::Ns(a), AttributeValue::Ns(b)) => is_same_set(a, b, |digits| normal_number(digits)),
        (AttributeValue::Ss(a), AttributeValue::Ss(b)) => is_same_set(a, b, String::as_str),
        (AttributeValue::Bs(a), AttributeValue::Bs(b)) => is_same_set(a, b, AsRef::<[u8]>::as_ref),
        (AttributeValue::L(a), AttributeValue::L(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_same_value(a, b))
        }
        (AttributeValue::M(a), AttributeValue::M(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| is_same_value(a, b)))
        }
        (a, b) => a == b,
    }
}

fn is_same_number(a: &str, b: &str) -> bool {
    a == b || normal_number(a) == normal_number(b)
}

/// Compares sets sorted: an item has room for a hundred thousand numbers, and each pair of them is not tried.
fn is_same_set<'a, T, K: Ord>(a: &'a [T], b: &'a [T], meaning: impl Fn(&'a T) -> K) -> bool {
    let sorted = |set: &'a [T]| {
        let mut meanings: Vec<K> = set.iter().map(&meaning).collect();
        meanings.sort_unstable();
        meanings
    };
    a.len() == b.len() && sorted(a) == sorted(b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version::Version;

    fn item(parts: &[(&'static str, AttributeValue)]) -> Item {
        let mut item = Item::default();
        parts.iter().for_each(|(name, value)| item.push(name, value.clone()));
        item
    }

    fn n(digits: &str) -> AttributeValue {
        AttributeValue::N(digits.to_owned())
    }

    fn s(text: &str) -> AttributeValue {
        AttributeValue::S(text.to_owned())
    }

    #[test]
    fn a_state_is_known_by_its_values_whatever_its_version_and_never_by_its_version() {
        let sent = item(&[("PK", s("a")), ("amount", n("10.50"))]).at(Version(12));
        let same = |parts: &[(&'static str, AttributeValue)], version| {
            sent.is_same_state(&item(parts).at(Version(version)).into_attributes(), 1_000_000)
        };
        assert!(same(&[("PK", s("a")), ("amount", n("10.5"))], 12), "as DynamoDB gives it back");
        assert!(same(&[("PK", s("a")), ("amount", n("10.5"))], 99));
        assert!(!same(&[("PK", s("a")), ("amount", n("10.51"))], 12), "another state at the same version");
        assert!(!same(&[("PK", s("a"))], 12));
        assert!(!same(&[("PK", s("a")), ("amount", n("10.5")), ("more", n("1"))], 12));
        let tombstone = AttributeValue::Bool(true);
        assert!(!same(&[("PK", s("a")), (DELETED_ATTRIBUTE, tombstone.clone())], 12));
        let dead = item(&[("PK", s("a")), (DELETED_ATTRIBUTE, tombstone)]);
        assert!(dead.is_same_state(&dead.clone().at(Version(7)).into_attributes(), 0));
        assert!(!dead.is_same_state(&sent.clone().into_attributes(), 0));
    }

    #[test]
    fn sets_are_the_same_in_any_order_and_their_comparison_grows_with_their_size() {
        let texts = |set: &[&str]| AttributeValue::Ss(set.iter().map(|text| (*text).to_owned()).collect());
        let bytes = |set: &[u8]| AttributeValue::Bs(set.iter().map(|byte| vec![*byte].into()).collect());
        let numbers = |set: &[&str]| AttributeValue::Ns(set.iter().map(|text| (*text).to_owned()).collect());
        assert!(is_same_value(&texts(&["a", "b"]), &texts(&["b", "a"])));
        assert!(!is_same_value(&texts(&["a", "b"]), &texts(&["b", "c"])));
        assert!(
            is_same_value(&bytes(&[1, 2]), &bytes(&[2, 1])) && !is_same_value(&bytes(&[1]), &bytes(&[2]))
        );
        assert!(is_same_value(&numbers(&["1.50", "10"]), &numbers(&["1E+1", "1.5"])));
        assert!(!is_same_value(&numbers(&["1", "2"]), &numbers(&["1", "-2"])));
        // By each pair of elements these would be ten thousand million comparisons, of minutes.
        let many: Vec<String> = (0..100_000).map(|number| number.to_string()).collect();
        let reversed = many.iter().rev().cloned().collect();
        assert!(is_same_value(&AttributeValue::Ns(many), &AttributeValue::Ns(reversed)));
    }

    #[test]
    fn an_expiry_that_was_put_off_is_the_same_state_and_an_earlier_one_is_not() {
        let sent = item(&[("PK", s("a")), (TTL_ATTRIBUTE, n("100"))]);
        let found = |at: &str| item(&[("PK", s("a")), (TTL_ATTRIBUTE, n(at))]).into_attributes();
        assert!(sent.is_same_state(&found("100"), 1_000));
        assert!(sent.is_same_state(&found("4600"), 1_000));
        assert!(!sent.is_same_state(&found("99"), 1_000));
    }
}
