//! Keys that waited when the source was set back, and must not overwrite what the target has of the time that
//! is lost; see `lockstep_postgres`, `undecided`.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use lockstep_core::{Side, TargetKey, Version, version_of};
use lockstep_dynamo::{Backoff, READ_KEYS_MAX};
use lockstep_postgres::WaitingMark;

use crate::error::Result;
use crate::loss::{Continuity, Found};
use crate::options::MigrationContext;

/// Keys that are left to be decided.
pub(super) struct Undecided {
    /// Marks of before, over whose states the target has newer ones.
    pub(super) marks: Vec<WaitingMark>,
    /// Up to when a mark is of before.
    pub(super) until: DateTime<Utc>,
}

/// Returns what is left by what the stores say of their histories; `None` where the source has lost nothing.
///
/// # Errors
/// The stores'.
pub(super) async fn of(migration: &MigrationContext, histories: &Continuity) -> Result<Option<Undecided>> {
    if histories.losses().iter().all(|loss| loss.side() == Side::Target) {
        return Ok(None);
    }
    let until = migration.source.restored_after(newest_lost_mark(histories)).await?;
    let mut of_tables: BTreeMap<String, Vec<WaitingMark>> = BTreeMap::new();
    for mark in migration.source.marks_until(until).await? {
        of_tables.entry(mark.table.clone()).or_default().push(mark);
    }
    let mut marks = Vec::new();
    for binding in &migration.tables {
        for some in of_tables.remove(binding.name()).unwrap_or_default().chunks(READ_KEYS_MAX) {
            let place = |mark: &WaitingMark| binding.table.target_key(&mark.key).ok();
            let mut places: Vec<TargetKey> = Vec::with_capacity(some.len());
            for place in some.iter().filter_map(place) {
                if !places.contains(&place) {
                    places.push(place);
                }
            }
            let found = migration.target.get_many(&binding.target_name, &places, Backoff::patient()).await?;
            let there: Vec<(TargetKey, Version)> =
                found.iter().filter_map(|item| Some((TargetKey::of(item)?, version_of(item)?))).collect();
            let is_newer = |mark: &&WaitingMark| {
                let place = place(mark);
                there.iter().any(|(at, version)| Some(at) == place.as_ref() && *version > mark.version)
            };
            marks.extend(some.iter().filter(is_newer).cloned());
        }
    }
    Ok(Some(Undecided { marks, until }))
}

/// Returns when the newest mark of history was made that the source knows nothing of. It was set back to
/// before that.
fn newest_lost_mark(histories: &Continuity) -> Option<DateTime<Utc>> {
    let lost = histories.tables.iter().filter_map(|table| match &table.found {
        Found::There { mark: Some(mark), .. } if mark.number > table.known.marking => Some(mark.at),
        _ => None,
    });
    lost.max()
}
