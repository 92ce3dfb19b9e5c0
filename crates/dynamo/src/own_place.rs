//! Place at which Lockstep keeps items of its own in a target table, and how they are known.
//!
//! By the place, and not by an attribute alone: 1. A table has a column `_mark`. 2. Each of its items has
//! that attribute, and would be taken for the mark of the table: acknowledged, fed to nothing and compared
//! with nothing. No row is at one of these places ([`TargetKey::check`]), whatever its columns are called.

use aws_sdk_dynamodb::types::AttributeValue;
use lockstep_core::{Attribute, ItemView, KeyType, PK, SK, TargetKey, TargetSchema};

/// One kind of item of Lockstep's own.
pub(super) struct OwnPlace {
    /// The part of a key that is a text; with a number behind it where there are several places.
    text: &'static str,
    /// The first digit of a part that is a number. No key column counts from there: the identities and
    /// integers of PostgreSQL end before it.
    digit: u8,
    /// Whether there are several, by number.
    is_numbered: bool,
}

/// The mark of history.
pub(super) const HISTORY: OwnPlace = OwnPlace { text: "lockstep-history", digit: 8, is_numbered: false };
/// A probe.
pub(super) const PROBE: OwnPlace = OwnPlace { text: "lockstep-probe", digit: 7, is_numbered: false };
/// A marker of the reverse feed.
pub(super) const MARKER: OwnPlace = OwnPlace { text: "lockstep-marker#", digit: 9, is_numbered: true };

impl OwnPlace {
    /// Returns the key in a table of that schema; `number` is 0 where there is one place.
    pub(super) fn key(&self, schema: &TargetSchema, number: u32) -> TargetKey {
        let part = |key_type: KeyType| match key_type {
            KeyType::S if self.is_numbered => AttributeValue::S(format!("{}{number}", self.text)),
            KeyType::S => AttributeValue::S(self.text.to_owned()),
            // DynamoDB holds 38 digits.
            KeyType::N => AttributeValue::N(format!("-{}{number:037}", self.digit)),
        };
        TargetKey { partition: part(schema.partition), sort: schema.sort.map(part) }
    }

    /// Tells whether an item is at such a place, by both parts of its key.
    pub(super) fn is_of(&self, item: &dyn ItemView) -> bool {
        let is_own = |part: Attribute<'_>| match part {
            Attribute::S(text) => match text.strip_prefix(self.text) {
                Some(number) if self.is_numbered => number.parse::<u32>().is_ok(),
                rest => rest == Some(""),
            },
            // By its size: a number may come back in other digits, as with an exponent.
            Attribute::N(digits) => digits.parse::<f64>().is_ok_and(|there| {
                let first = -f64::from(self.digit) * 1e37;
                there <= first && there > first - 1e37
            }),
            Attribute::Bool(_) | Attribute::Other(_) => false,
        };
        item.attribute(PK).is_some_and(is_own) && item.attribute(SK).is_none_or(is_own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEMAS: [TargetSchema; 4] = [
        TargetSchema { partition: KeyType::S, sort: None, indexes: &[] },
        TargetSchema { partition: KeyType::N, sort: None, indexes: &[] },
        TargetSchema { partition: KeyType::N, sort: Some(KeyType::S), indexes: &[] },
        TargetSchema { partition: KeyType::S, sort: Some(KeyType::N), indexes: &[] },
    ];

    #[test]
    fn each_place_is_a_key_that_dynamodb_holds_and_that_is_no_rows_and_no_other_kinds() {
        let all = [(&HISTORY, 0), (&PROBE, 0), (&MARKER, 0), (&MARKER, 7), (&MARKER, u32::MAX)];
        for schema in SCHEMAS {
            for (at, (own, number)) in all.into_iter().enumerate() {
                let key = own.key(&schema, number);
                key.check().expect_err("no row may be there");
                if let AttributeValue::N(text) = &key.partition {
                    assert!(text.trim_start_matches('-').len() <= 38, "{text}");
                }
                let item = key.to_attributes();
                for (other, (kind, _)) in all.into_iter().enumerate() {
                    assert_eq!(kind.is_of(&item), at.min(2) == other.min(2), "{item:?}");
                }
                assert!(all[..at].iter().all(|(kind, number)| kind.key(&schema, *number) != key));
            }
        }
    }

    #[test]
    fn a_row_is_at_none_of_them() {
        let s = |text: &str| AttributeValue::S(text.to_owned());
        let n = |text: &str| AttributeValue::N(text.to_owned());
        for (partition, sort) in [
            (s("LOAN#1"), None),
            (s("lockstep-history-of-mine"), None),
            (s("lockstep-history"), Some(s("2026"))),
            (s("lockstep-marker#x"), None),
            (n("-9223372036854775808"), None),
            (n("170141183460469231731687303715884105727"), None),
        ] {
            let item = TargetKey { partition, sort }.to_attributes();
            assert!([HISTORY, PROBE, MARKER].iter().all(|own| !own.is_of(&item)), "{item:?}");
        }
        // As DynamoDB may write the same number.
        let exponent = TargetKey { partition: n("-8E+37"), sort: None }.to_attributes();
        assert!(HISTORY.is_of(&exponent) && !PROBE.is_of(&exponent) && !MARKER.is_of(&exponent));
    }
}
