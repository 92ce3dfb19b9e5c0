//! Items whose version another program chose are written again under one of ours.
//!
//! In DynamoOnly what such an item says is the truth, and it is kept; only its version is changed, to one of
//! the present epoch, above all that the feed may still read of that place. Then the stream brings it as any
//! write, and applications can write the row. While PostgreSQL is the truth, its row is put over the item.

use std::collections::HashMap;

use lockstep_core::{
    Attributes, Error as StoreError, Kind, Result as StoreResult, TargetKey, Version, is_tombstone,
    key_of_place, place, version_of,
};
use lockstep_dynamo::{Backoff, READ_KEYS_MAX, is_mark};
use lockstep_postgres::TableBinding;
use lockstep_postgres::reverse::FedTable;
use serde::Serialize;

use super::again;
use super::begun::{self, Begun};
use crate::error::Result;
use crate::options::MigrationContext;

/// Distance at which a version is chosen above what is known of its place: more than a partition takes writes
/// in the day for which a stream keeps them (1,000 a second). 1. A row is written seven times, and the feed
/// is behind. 2. Another program gives it version 99, and it is given one of ours. 3. The feed reads the
/// seven: none of them may outrank that.
const ABOVE: i64 = 1 << 28;
/// Number of times that an item that changes under our hands is read again.
const TRIES_MAX: usize = 5;

/// Counts of items that were set aside for their version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Renumbered {
    /// Written again under a version of ours; while PostgreSQL is the truth, given up to their rows.
    pub done: u64,
    /// Left as they were: they changed at every try, or their epoch has no room.
    pub left: u64,
}

/// Writes the items of a table that the feed has set aside for their version again, under a version of ours.
///
/// # Errors
/// [`Kind::Refused`] where a store may have lost history, so that such a version may be ours, or while writes
/// are paused by a step; the stores'.
///
/// # Cancel safety
/// Run it again.
#[crate::boxed]
pub async fn renumber_foreign(migration: &MigrationContext, binding: &TableBinding) -> Result<Renumbered> {
    let (source, mut done) = (&migration.source, Renumbered::default());
    source.migrate_schema().await?;
    if source.foreign_versions(binding.name(), None, 1).await?.is_empty() {
        return Ok(done);
    }
    let begun = begun::newest(migration).await?.map_err(|why| refused(binding, why))?;
    let table = source.fed_table(binding).await?;
    let mut after: Option<String> = None;
    loop {
        let limit = READ_KEYS_MAX as i64;
        let places = source.foreign_versions(binding.name(), after.as_deref(), limit).await?;
        let Some(last) = places.last() else { break };
        after = Some(last.clone());
        let keys: Vec<TargetKey> = places.iter().filter_map(|place| key_of_place(place)).collect();
        let items = migration.target.get_many(&binding.target_name, &keys, Backoff::patient()).await?;
        let mut outranked: Vec<String> = places;
        for item in items.into_iter().filter(|item| is_foreign(item, begun)) {
            let at = place(&item);
            match renumber_one(migration, binding, begun, item).await? {
                Some(_) => done.done += 1,
                None => {
                    done.left += 1;
                    outranked.retain(|place| *place != at);
                }
            }
        }
        if begun.truth_there.is_none() {
            source.mark_foreign(binding, &outranked).await?;
        }
    }
    if begun.truth_there.is_some() {
        // Where no feed runs, their rows come all the same.
        again::pass(source, &migration.target, &table).await?;
    }
    Ok(done)
}

/// Renumbers, among items of a page that are rows of the table, those whose version is none of ours, in place.
pub(super) async fn renumber_page(
    migration: &MigrationContext,
    table: &FedTable,
    begun: Begun,
    items: &mut [Attributes],
) -> Result<u64> {
    let binding = table.binding();
    let mut done = 0;
    for item in items.iter_mut() {
        // An item that is no row of this table is for a person to look at.
        if !is_foreign(item, begun) || binding.table.row_of_item(item).is_err() && !is_tombstone(item) {
            continue;
        }
        if let Some(now) = renumber_one(migration, binding, begun, item.clone()).await? {
            *item = now;
            done += 1;
        }
    }
    Ok(done)
}

/// Tells whether no epoch of ours handed out the version that an item has.
fn is_foreign(item: &Attributes, begun: Begun) -> bool {
    if is_mark(item) {
        return false;
    }
    match version_of(item) {
        Some(version) => version.epoch() > begun.epoch,
        // A tombstone without a version is none that a program of ours or theirs writes.
        None => !is_tombstone(item),
    }
}

/// Returns the item as it is then; `None` where it was left.
async fn renumber_one(
    migration: &MigrationContext,
    binding: &TableBinding,
    begun: Begun,
    mut item: Attributes,
) -> Result<Option<Attributes>> {
    let name = &binding.target_name;
    let key = TargetKey::of(&item).ok_or_else(|| refused(binding, "an item has no key".to_owned()))?;
    for _ in 0..TRIES_MAX {
        let changed = match try_renumber(migration, binding, begun, &item).await {
            // Read again: it may have been done (I8).
            Err(error) if error.kind.retry() != lockstep_core::Retry::Never => None,
            // It is as large as an item may be, or the like: that one alone is left.
            Err(error) if error.kind == Kind::Invalid => return Ok(None),
            changed => changed?,
        };
        if let Some(changed) = changed {
            item.extend(changed);
            return Ok(Some(item));
        }
        let now = Backoff::patient().retry(|| migration.target.get(name, &key)).await?;
        match now {
            Some(now) if is_foreign(&now, begun) => item = now,
            now => return Ok(now),
        }
    }
    Ok(None)
}

async fn try_renumber(
    migration: &MigrationContext,
    binding: &TableBinding,
    begun: Begun,
    item: &Attributes,
) -> StoreResult<Option<Attributes>> {
    let (name, places) = (binding.name(), [place(item)]);
    let Some(record) = begun.truth_there else {
        let done = migration.target.outrank(&binding.target_name, item).await?;
        return Ok(done.then(Attributes::new));
    };
    // Of a version that the feed took for ours once, as after a repair that read it.
    migration.source.forget_above(name, &places, begun.epoch).await?;
    let known: HashMap<String, Version> = migration.source.reverse_versions(binding, &places).await?;
    let floor = record.epoch.floor();
    let version = Version(known.get(&places[0]).map_or(floor, |known| known.0.max(floor)) + ABOVE);
    if version.epoch() != record.epoch {
        let message = "its epoch has no room for a newer version";
        return Err(StoreError::target(Kind::Invalid, "choosing a version", message));
    }
    migration.target.control().renumber(&binding.target_name, item, version, record.epoch).await
}

fn refused(binding: &TableBinding, why: String) -> crate::CoordinatorError {
    let doing = format!("giving items of {} versions of ours", binding.name());
    crate::CoordinatorError::Store(StoreError::source(Kind::Refused, doing, why))
}
