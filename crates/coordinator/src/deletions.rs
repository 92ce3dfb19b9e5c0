//! Rows that a repair would write over their deletion: DynamoDB has a tombstone where PostgreSQL has a row.
//!
//! Within one history that is a change that was not captured. After PostgreSQL lost some it may be the truth
//! of the time that is lost: 1. A row is deleted, and the deletion is delivered. 2. PostgreSQL is restored to
//! before, and has the row again. 3. A repair puts it, and what was deleted is in both stores. So a repair
//! says which rows these are, and an operator decides.

use lockstep_core::{SourceKey, TargetKey, Version, is_tombstone, version_of};
use lockstep_dynamo::{Backoff, READ_KEYS_MAX};
use lockstep_postgres::TableBinding;
use serde::Serialize;

use crate::error::Result;
use crate::options::MigrationContext;

/// The deletion that DynamoDB has of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Deletion {
    /// Version of the deletion.
    pub version: Version,
    /// Whether it may be of a time that PostgreSQL has lost.
    pub may_be_lost: bool,
}

/// Returns the deletions that DynamoDB has of rows, given by their source keys, one SQL literal a key column;
/// in their order.
///
/// # Errors
/// The stores'.
pub(crate) async fn of(
    migration: &MigrationContext,
    binding: &TableBinding,
    keys: &[Vec<String>],
) -> Result<Vec<Option<Deletion>>> {
    let mut deletions = Vec::with_capacity(keys.len());
    if keys.is_empty() {
        return Ok(deletions);
    }
    let lost = migration.source.lost_before().await?;
    for keys in keys.chunks(READ_KEYS_MAX) {
        let named: Vec<SourceKey> = migration.source.source_keys(binding, keys).await?;
        let places: Vec<Option<TargetKey>> =
            named.iter().map(|key| binding.table.target_key(key).ok()).collect();
        let mut asked: Vec<TargetKey> = Vec::with_capacity(places.len());
        for place in places.iter().flatten() {
            if !asked.contains(place) {
                asked.push(place.clone());
            }
        }
        let found = migration.target.get_many(&binding.target_name, &asked, Backoff::patient()).await?;
        let deleted: Vec<(TargetKey, Version)> = found
            .iter()
            .filter(|item| is_tombstone(item))
            .filter_map(|item| Some((TargetKey::of(item)?, version_of(item)?)))
            .collect();
        deletions.extend(places.iter().map(|place| {
            let (_, version) = deleted.iter().find(|(of, _)| Some(of) == place.as_ref())?;
            Some(Deletion { version: *version, may_be_lost: lost.may_be_lost(*version) })
        }));
    }
    Ok(deletions)
}
