//! Markers: written to see that everything before them has come through the stream.

use aws_sdk_dynamodb::types::AttributeValue;
use lockstep_core::{Attributes, KeyType, Result, TargetKey, TargetSchema, Version, tombstone};

use super::super::{Target, fault};

/// Names the round that a marker belongs to.
const MARKER_ATTRIBUTE: &str = "_marker";

/// The round of a marker; `None` where the item is none.
pub(super) fn round_of(item: &Attributes) -> Option<&str> {
    item.get(MARKER_ATTRIBUTE)?.as_s().ok().map(String::as_str)
}

/// Where marker number `number` lives. The place does not change from round to round, so that what a crash
/// left behind is overwritten and never piles up; numbers spread over all partitions as their hashes do.
fn place(schema: &TargetSchema, number: u32) -> TargetKey {
    let part = |key_type: KeyType| match key_type {
        KeyType::S => AttributeValue::S(format!("lockstep-marker#{number}")),
        // No key column counts from here: the identities and integers of PostgreSQL end before it.
        KeyType::N => AttributeValue::N(format!("-9{:037}", number)),
    };
    TargetKey { partition: part(schema.partition), sort: schema.sort.map(part) }
}

impl Target {
    /// Writes marker `number` of `round`. It is a tombstone at version 0: every reader passes over it.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn put_marker(
        &self,
        table: &str,
        schema: &TargetSchema,
        number: u32,
        round: &str,
    ) -> Result<()> {
        let mut item = tombstone(place(schema, number), Version::HISTORY);
        item.push(MARKER_ATTRIBUTE, AttributeValue::S(round.to_owned()));
        let sent =
            self.client.put_item().table_name(table).set_item(Some(item.into_attributes())).send().await;
        sent.map(drop).map_err(|e| fault::error(format!("writing a marker to {table}"), e))
    }

    /// Removes marker `number`.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn remove_marker(&self, table: &str, schema: &TargetSchema, number: u32) -> Result<()> {
        let key = place(schema, number).to_attributes();
        let sent = self.client.delete_item().table_name(table).set_key(Some(key)).send().await;
        sent.map(drop).map_err(|e| fault::error(format!("removing a marker from {table}"), e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_markers_are_keys_that_dynamodb_holds_and_differ() {
        let schema = TargetSchema { partition: KeyType::N, sort: Some(KeyType::S), indexes: &[] };
        for number in [0, 1, u32::MAX] {
            let AttributeValue::N(text) = place(&schema, number).partition else { panic!("a number") };
            // DynamoDB holds 38 digits.
            assert!(text.trim_start_matches('-').len() <= 38, "{text}");
            place(&schema, number).check().expect_err("no row may be there");
        }
        assert_ne!(place(&schema, 1), place(&schema, 2));
    }
}
