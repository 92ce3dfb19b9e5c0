//! Progress of a purge, so that one that was broken off goes on.

use aws_sdk_dynamodb::types::AttributeValue;
use lockstep_core::{Result, TargetKey};

use super::attributes::OWNER;
use super::{TargetControl, key, text};
use crate::{Purge, fault};

const AFTER: &str = "after";

impl TargetControl {
    /// The key after which a purge goes on; `None` where it begins.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn purge_cursor(&self, table: &str, what: Purge) -> Result<Option<TargetKey>> {
        let item = self.own(self.read(&partition(table), sort(what)).await?)?;
        Ok(item.and_then(|item| TargetKey::of(item.get(AFTER)?.as_m().ok()?)))
    }

    /// Remembers where a purge goes on; `None` when it has come to its end.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn set_purge_cursor(&self, table: &str, what: Purge, after: Option<&TargetKey>) -> Result<()> {
        self.require_own_table().await?;
        let mut item = key(&partition(table), sort(what));
        match after {
            Some(after) => {
                item.insert(AFTER.to_owned(), AttributeValue::M(after.to_attributes()));
                self.put_own(item, "purging").await
            }
            None => {
                let request = self.target.client.delete_item().table_name(&self.table).set_key(Some(item));
                let request = match self.if_own() {
                    Some((if_own, owner)) => request
                        .condition_expression(if_own)
                        .expression_attribute_names("#owner", OWNER)
                        .expression_attribute_values(":owner", text(owner)),
                    None => request,
                };
                request.send().await.map(drop).map_err(|e| fault::error("purging", e))
            }
        }
    }
}

fn partition(table: &str) -> String {
    format!("PURGE#{table}")
}

fn sort(what: Purge) -> &'static str {
    match what {
        Purge::Tombstones => "TOMBSTONES",
        Purge::Versions => "VERSIONS",
    }
}
