//! Markers: written to see that everything before them has come through the stream.

use aws_sdk_dynamodb::types::AttributeValue;
use lockstep_core::{Attributes, MARKER_ATTRIBUTE, Result, TargetKey, TargetSchema, Version, tombstone};

use super::super::own_place::MARKER;
use super::super::{Target, fault};

/// The round of a marker; `None` where the item is none, by its attribute or by its place.
///
/// 1. Another program puts an item at the place of a marker, with some kilobytes of text for a round. 2. No
/// index of PostgreSQL takes that text, so the page that it is in fails each time. 3. The feed stands still.
pub(super) fn round_of(item: &Attributes) -> Option<&str> {
    let round = item.get(MARKER_ATTRIBUTE)?.as_s().ok().map(String::as_str);
    round.filter(|round| is_round(round) && MARKER.is_of(item))
}

/// Tells whether a text is the number of a round as steps write it.
fn is_round(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Returns where marker number `number` lives. The place does not change from round to round, so that what
/// a crash left behind is overwritten and never piles up; numbers spread over all partitions as their
/// hashes do.
fn place(schema: &TargetSchema, number: u32) -> TargetKey {
    MARKER.key(schema, number)
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
        let mut item = tombstone(place(schema, number), Version::INITIAL_LOAD);
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
    fn a_round_is_what_a_step_writes_and_nothing_that_an_index_refuses() {
        assert!(is_round(&format!("{:032x}", u128::MAX)) && is_round(&format!("{:032x}", 7)));
        for other in [String::new(), "a".repeat(31), "A".repeat(32), "\0".repeat(32), "a".repeat(3_000)] {
            assert!(!is_round(&other), "{} bytes", other.len());
        }
    }
}
