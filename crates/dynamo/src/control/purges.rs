//! How far a purge has come, so that one that was broken off goes on.

use aws_sdk_dynamodb::types::AttributeValue;
use lockstep_core::{Result, TargetKey};

use super::{TargetControl, key};
use crate::{Purge, fault};

const AFTER: &str = "after";

impl TargetControl {
    /// The key after which a purge goes on; `None` where it begins.
    ///
    /// # Errors
    /// The driver's.
    pub async fn purge_cursor(&self, table: &str, what: Purge) -> Result<Option<TargetKey>> {
        let item = self.read(&partition(table), sort(what)).await?;
        Ok(item.and_then(|item| TargetKey::of(item.get(AFTER)?.as_m().ok()?)))
    }

    /// Remembers where a purge goes on; `None` when it has come to its end.
    ///
    /// # Errors
    /// The driver's.
    pub async fn set_purge_cursor(&self, table: &str, what: Purge, after: Option<&TargetKey>) -> Result<()> {
        self.require_own_table().await?;
        let mut item = key(&partition(table), sort(what));
        let client = &self.target.client;
        match after {
            Some(after) => {
                item.insert(AFTER.to_owned(), AttributeValue::M(after.to_attributes()));
                client
                    .put_item()
                    .table_name(&self.table)
                    .set_item(Some(item))
                    .send()
                    .await
                    .map(drop)
                    .map_err(|e| fault::error("purging", e))
            }
            None => client
                .delete_item()
                .table_name(&self.table)
                .set_key(Some(item))
                .send()
                .await
                .map(drop)
                .map_err(|e| fault::error("purging", e)),
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
