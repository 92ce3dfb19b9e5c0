//! Whether source and target hold the same of every key that came back through the feed.
//!
//! Before a pause everything that was taken since the step to DynamoOnly is compared, while writers go on. In
//! the pause only what was taken since, and what did not agree then: that may have been lag.

use futures::stream::{self, TryStreamExt};
use lockstep_core::{Attributes, is_tombstone, key_of_place, place};
use lockstep_dynamo::{Backoff, READ_KEYS_MAX};
use lockstep_postgres::reverse::{FedTable, Since, Taken};

use crate::error::Result;
use crate::options::Migration;

/// Batches that are compared at once.
const BATCHES_IN_FLIGHT: usize = 8;
/// Items listed at once.
const LISTED: usize = READ_KEYS_MAX * BATCHES_IN_FLIGHT;
/// Passes before a pause; each looks at what changed during the one before it.
const PASSES_MAX: usize = 5;
/// So few are compared in a pause without being noticed.
const FEW: usize = 2_000;

/// What is left to be compared in the pause.
pub(super) struct Level {
    tables: Vec<(FedTable, Since, Vec<Taken>)>,
}

impl Level {
    /// Compares while writers go on, until little is left.
    pub(super) async fn approach(migration: &Migration) -> Result<Self> {
        let mut tables = Vec::new();
        for binding in &migration.tables {
            let table = migration.source.fed_table(binding).await?;
            let (mut since, mut unequal) = (None, Vec::new());
            for _ in 0..PASSES_MAX {
                let now = migration.source.reverse_moment().await?;
                let (looked_at, found) = compare(migration, &table, since.as_ref(), unequal).await?;
                (since, unequal) = (Some(now), found);
                if looked_at <= FEW {
                    break;
                }
            }
            let since = match since {
                Some(since) => since,
                None => migration.source.reverse_moment().await?,
            };
            tables.push((table, since, unequal));
        }
        Ok(Self { tables })
    }

    /// Compares the rest, while no application writes and the feed is through; says what differs, if
    /// anything.
    pub(super) async fn settle(self, migration: &Migration) -> Result<Option<String>> {
        for (table, since, unequal) in self.tables {
            let (_, unequal) = compare(migration, &table, Some(&since), unequal).await?;
            if !unequal.is_empty() {
                let name = table.binding().name();
                return Ok(Some(format!(
                    "{} keys of {name} differ between DynamoDB and PostgreSQL although the reverse feed is through: a trigger or \
                     a writer past Lockstep has changed them. `validate` shows how; `reverse-feed --backfill` brings PostgreSQL \
                     to what DynamoDB says",
                    unequal.len()
                )));
            }
        }
        Ok(None)
    }
}

/// Compares `again` and what was taken at `since` or later; says how many, and which are not equal.
async fn compare(
    migration: &Migration,
    table: &FedTable,
    since: Option<&Since>,
    again: Vec<Taken>,
) -> Result<(usize, Vec<Taken>)> {
    let (mut looked_at, mut unequal) = (again.len(), batches(migration, table, again).await?);
    let mut after: Option<String> = None;
    loop {
        let taken = migration.source.reverse_taken(table, since, after.as_deref(), LISTED as i64).await?;
        let is_last = taken.len() < LISTED;
        after = taken.last().map(|taken| taken.place.clone());
        looked_at += taken.len();
        for found in batches(migration, table, taken).await? {
            if !unequal.contains(&found) {
                unequal.push(found);
            }
        }
        if is_last {
            return Ok((looked_at, unequal));
        }
    }
}

async fn batches(migration: &Migration, table: &FedTable, taken: Vec<Taken>) -> Result<Vec<Taken>> {
    let pieces: Vec<Vec<Taken>> = taken.chunks(READ_KEYS_MAX).map(<[Taken]>::to_vec).collect();
    let compared = pieces.into_iter().map(|piece| Ok(batch(migration, table, piece)));
    let found: Vec<Vec<Taken>> =
        stream::iter(compared).try_buffer_unordered(BATCHES_IN_FLIGHT).try_collect().await?;
    Ok(found.into_iter().flatten().collect())
}

/// Those of a batch whose row and item are not equal.
async fn batch(migration: &Migration, table: &FedTable, taken: Vec<Taken>) -> Result<Vec<Taken>> {
    let binding = table.binding();
    let places: Vec<_> = taken.iter().filter_map(|taken| key_of_place(&taken.place)).collect();
    let items = migration.target.get_many(&binding.target_name, &places, Backoff::brief()).await?;
    // A key without a place in the target belongs to no item.
    let keyed: Vec<(Taken, Vec<String>)> = taken
        .into_iter()
        .filter_map(|taken| binding.table.literals_of_key(&taken.key).ok().map(|literals| (taken, literals)))
        .collect();
    let literals: Vec<Vec<String>> = keyed.iter().map(|(_, literals)| literals.clone()).collect();
    let states = migration.source.look_up(binding, &literals).await?;
    let now_s = migration.source.now_at_least().timestamp();
    let unequal = keyed.into_iter().zip(states).filter(|((taken, _), state)| {
        let item = items.iter().find(|item| place(item) == taken.place).filter(|item| !is_tombstone(item));
        let is_equal = |item: Option<&Attributes>| match item {
            Some(item) => {
                let differing = state.with_fields(|fields| binding.table.differences(fields, item));
                differing.is_some_and(|found| found.is_ok_and(|differing| differing.is_empty()))
            }
            // An expired item is gone and its row stays.
            None => {
                let expires_at = state.with_fields(|fields| binding.table.expires_at(fields));
                expires_at.is_none_or(|at_s| at_s.is_some_and(|at_s| at_s <= now_s))
            }
        };
        !is_equal(item)
    });
    Ok(unequal.map(|((taken, _), _)| taken).collect())
}
