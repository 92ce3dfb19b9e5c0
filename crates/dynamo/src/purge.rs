//! Taking out of a target table what only a migration needs: tombstones, and the versions of items.
//!
//! Only once the migration is complete, and every request of before is dead. A tombstone outranks older
//! states (I3): taken out while such a state could still arrive, it would let a deleted row come back.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;
use lockstep_core::{
    Attributes, DELETED_ATTRIBUTE, Kind, PK, Result, SK, TargetKey, VERSION_ATTRIBUTE, Version, version_of,
};

use super::{Target, fault};

/// Names the last writers of an item while the target is the truth.
const WRITERS_ATTRIBUTE: &str = "_w";

/// Items that are taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Purge {
    /// Tombstones, marks and markers.
    Tombstones,
    /// Versions of live items, and the names of their writers.
    Versions,
}

/// Items of one page of a scan that a purge takes out.
#[derive(Clone, Debug, Default)]
pub struct PurgePage {
    /// Keys and versions.
    pub found: Vec<(TargetKey, Version)>,
    /// Items that the page looked at.
    pub looked_at: u64,
    /// Start of the next page; `None` at the end.
    pub next: Option<Attributes>,
}

impl Target {
    /// Returns the next page of what is to be taken out, with versions below `below` only.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn purge_page(
        &self,
        table: &str,
        what: Purge,
        below: Version,
        start: Option<Attributes>,
    ) -> Result<PurgePage> {
        let filter = match what {
            Purge::Tombstones => "attribute_exists(#d)",
            Purge::Versions => "attribute_exists(#v) AND attribute_not_exists(#d)",
        };
        // Keys are all that is moved, and sort keys are there or not.
        let request = self.scan_segment(table, (0, 1), start).filter_expression(filter);
        let request =
            request.projection_expression("#pk, #sk, #v").expression_attribute_names("#d", DELETED_ATTRIBUTE);
        let request = request
            .expression_attribute_names("#v", VERSION_ATTRIBUTE)
            .expression_attribute_names("#pk", PK)
            .expression_attribute_names("#sk", SK);
        let output = request.send().await.map_err(|e| fault::error(format!("purging {table}"), e))?;
        let found = output.items().iter().filter_map(|item| Some((TargetKey::of(item)?, version_of(item)?)));
        Ok(PurgePage {
            found: found.filter(|(_, version)| *version < below).collect(),
            looked_at: u64::from(output.scanned_count.unsigned_abs()),
            next: output.last_evaluated_key.filter(|key| !key.is_empty()),
        })
    }

    /// Takes one out, if it is still as it was seen; says whether it was. Repeated or late it changes
    /// nothing.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn purge_one(&self, table: &str, what: Purge, key: &TargetKey, seen: Version) -> Result<bool> {
        let doing = || format!("purging {table}");
        let key = Some(key.to_attributes());
        let seen = AttributeValue::N(seen.0.to_string());
        let sent = match what {
            Purge::Tombstones => {
                let request = self.client.delete_item().table_name(table).set_key(key);
                let request = request
                    .condition_expression("#v = :seen AND attribute_exists(#d)")
                    .expression_attribute_names("#v", VERSION_ATTRIBUTE)
                    .expression_attribute_names("#d", DELETED_ATTRIBUTE)
                    .expression_attribute_values(":seen", seen);
                request.send().await.map(drop).map_err(|e| fault::error(doing(), e))
            }
            Purge::Versions => {
                let names = [("#v", VERSION_ATTRIBUTE), ("#w", WRITERS_ATTRIBUTE), ("#d", DELETED_ATTRIBUTE)];
                let names: HashMap<String, String> =
                    names.into_iter().map(|(place, name)| (place.to_owned(), name.to_owned())).collect();
                let request = self
                    .client
                    .update_item()
                    .table_name(table)
                    .set_key(key)
                    .set_expression_attribute_names(Some(names));
                let request = request
                    .update_expression("REMOVE #v, #w")
                    .condition_expression("#v = :seen AND attribute_not_exists(#d)")
                    .expression_attribute_values(":seen", seen);
                request.send().await.map(drop).map_err(|e| fault::error(doing(), e))
            }
        };
        match sent {
            Ok(()) => Ok(true),
            Err(error) if error.kind == Kind::Refused => Ok(false),
            Err(error) => Err(error),
        }
    }
}
