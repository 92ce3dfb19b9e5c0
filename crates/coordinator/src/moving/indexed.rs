//! Whether the index by primary key shows what was delivered lately.
//!
//! In DynamoOnly it is how a row is found of which there is no place yet, and it follows its table without a
//! bound: mostly within a second, later where it throttles. 1. A row is delivered. 2. The truth moves. 3. It
//! is updated by its id, the index does not show it yet, and the answer is "no such row"; or it is put under
//! another key, and lives twice. So it is not waited for some time but looked at, before the pause and in it.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use futures::stream::{self, StreamExt, TryStreamExt};
use lockstep_core::{Error as StoreError, Index, Kind, TargetKey};
use lockstep_dynamo::{Backoff, PartitionRange};
use lockstep_postgres::{KeyDigest, TableBinding};

use crate::error::{CoordinatorError, Result};
use crate::options::MigrationContext;

/// Keys of a table that are listed at once; and that can be looked at in a pause in a few milliseconds.
const KEYS_LISTED: usize = 2_000;
/// Passes before a pause; each looks at what was delivered during the one before it.
const PASSES_MAX: usize = 5;
/// Keys that are looked up in one statement.
const KEYS_AT_ONCE: usize = 200;
const REQUESTS_IN_FLIGHT: usize = 64;
/// Tables that are looked at at once.
const TABLES_IN_FLIGHT: usize = 8;
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// Deliveries that are to be seen in the indexes.
pub(super) struct Indexed {
    /// Those from this number on are to be looked at in the pause.
    since: i64,
    missing: AtomicUsize,
}

impl Indexed {
    /// Begins to note deliveries. To be called some time before the pause.
    pub(super) async fn begin(migration: &MigrationContext) -> Result<Self> {
        Ok(Self { since: migration.source.note_deliveries().await?, missing: AtomicUsize::new(0) })
    }

    /// Sees, while writers go on, that the indexes show some of what was delivered since the newest pass of
    /// the validator, and everything since [`Indexed::begin`], until little is left.
    ///
    /// 1. A relay delivers five thousand keys before the pause, and the last one in it. 2. An index lags by
    /// seconds: it shows the five thousand, and not that one. 3. Two thousand of all of them were looked at,
    /// whichever they were, and writes went on.
    ///
    /// # Errors
    /// [`Kind::Refused`] where they do not `within`; the stores'.
    pub(super) async fn approach(&mut self, migration: &MigrationContext, within: Duration) -> Result<()> {
        let seen = tokio::time::timeout(within, self.narrow(migration)).await;
        match seen {
            Ok(seen) => seen,
            Err(_) => {
                let message =
                    format!("{}; everything is as it was. Try again when it has caught up", self.why());
                Err(CoordinatorError::Store(StoreError::target(
                    Kind::Refused,
                    "waiting for the indexes",
                    message,
                )))
            }
        }
    }

    async fn narrow(&mut self, migration: &MigrationContext) -> Result<()> {
        self.wait(migration, 0, Listed::Some).await?;
        // One number behind: a delivery that took its number just before the last one was given out may be of
        // a transaction that was still open while that pass looked.
        let mut behind = self.since;
        for _ in 0..PASSES_MAX {
            // Before the look: what is delivered from here on is looked at by the next one.
            let next = migration.source.note_deliveries().await?;
            let looked_at = self.wait(migration, self.since, Listed::All).await?;
            // Few are looked at once more in the pause: a delivery that was noted before this look, in a
            // transaction that was still open then, is one of them.
            if looked_at <= KEYS_LISTED {
                break;
            }
            (self.since, behind) = (behind, next);
        }
        Ok(())
    }

    /// Sees that they show everything that was delivered since the last pass with many. Waits without an end.
    pub(super) async fn caught_up(&self, migration: &MigrationContext) -> Result<()> {
        self.wait(migration, self.since, Listed::All).await.map(drop)
    }

    /// Returns what it waits for, if it does.
    pub(super) fn waits_for(&self) -> Option<String> {
        (self.missing.load(SeqCst) > 0).then(|| self.why())
    }

    fn why(&self) -> String {
        let missing = self.missing.load(SeqCst);
        format!(
            "the index by primary key does not show {missing} of the rows that were delivered last: it throttles, or lags"
        )
    }

    /// Waits until they show what was delivered since, page by page; says how many keys those were.
    async fn wait(&self, migration: &MigrationContext, since: i64, listed: Listed) -> Result<usize> {
        let found_by = |binding| by_primary_key(binding).map(|index| (binding, index, None));
        let mut left: Vec<Left<'_>> = migration.tables.iter().filter_map(found_by).collect();
        let mut looked_at = 0;
        while !left.is_empty() {
            let asked: Vec<(&str, Option<&KeyDigest>)> =
                left.iter().map(|(binding, _, after)| (binding.name(), after.as_ref())).collect();
            let pages = migration.source.delivered_since(&asked, since, KEYS_LISTED).await?;
            let (mut with_keys, mut next) = (Vec::new(), Vec::new());
            for ((binding, index, _), page) in left.into_iter().zip(pages) {
                if page.next.is_some() && listed == Listed::All {
                    next.push((binding, index, page.next));
                }
                if !page.keys.is_empty() {
                    looked_at += page.keys.len();
                    with_keys.push(((binding, index), page.keys));
                }
            }
            self.see(migration, with_keys).await?;
            left = next;
        }
        Ok(looked_at)
    }

    /// Waits until the indexes show the rows of these keys.
    async fn see(&self, migration: &MigrationContext, with_keys: Vec<WithKeys<'_>>) -> Result<()> {
        let look_up = |((binding, index), keys): ((_, Index), Vec<Vec<String>>)| async move {
            let mut unseen = Vec::new();
            for keys in keys.chunks(KEYS_AT_ONCE) {
                unseen.extend(places(migration, binding, &index, keys).await?);
            }
            Ok::<_, CoordinatorError>((binding, index, unseen))
        };
        let looking: Vec<BoxFuture<'_, Result<Unseen<'_>>>> =
            with_keys.into_iter().map(|found| look_up(found).boxed()).collect();
        let mut unseen: Vec<Unseen<'_>> =
            stream::iter(looking).buffer_unordered(TABLES_IN_FLIGHT).try_collect().await?;
        loop {
            let looking: Vec<BoxFuture<'_, Result<Unseen<'_>>>> =
                unseen.into_iter().map(|unseen| still_unseen(migration, unseen).boxed()).collect();
            unseen = stream::iter(looking).buffer_unordered(TABLES_IN_FLIGHT).try_collect().await?;
            unseen.retain(|(_, _, places)| !places.is_empty());
            self.missing.store(unseen.iter().map(|(_, _, places)| places.len()).sum(), SeqCst);
            if unseen.is_empty() {
                return Ok(());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// Extent of what is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Listed {
    /// A page of each table.
    Some,
    /// Every key.
    All,
}

/// Table, index, and the key up to which what was delivered has been looked at.
type Left<'a> = (&'a TableBinding, Index, Option<KeyDigest>);

/// Table and index with keys of it.
type WithKeys<'a> = ((&'a TableBinding, Index), Vec<Vec<String>>);

/// Table, index and places that the index does not show yet.
type Unseen<'a> = (&'a TableBinding, Index, Vec<Place>);

async fn still_unseen<'a>(migration: &MigrationContext, unseen: Unseen<'a>) -> Result<Unseen<'a>> {
    let (binding, index, places) = unseen;
    let places = not_shown(migration, binding, &index, places).await?;
    Ok((binding, index, places))
}

/// Returns the index by which rows are found, where a row may be in different places.
fn by_primary_key(binding: &TableBinding) -> Option<Index> {
    let (columns, of_key) = (binding.table.key_columns(), binding.table.primary_key_columns());
    let column = columns.first().filter(|_| of_key == 1 && columns.len() > of_key)?;
    binding.table.target().indexes.iter().find(|index| index.partition.name == column.attribute).copied()
}

/// Value by which a row is found, and the place and key of the row.
type Place = (lockstep_core::AttributeValue, TargetKey, Vec<String>);

/// Returns the places of the rows of these keys. Those that are gone, that no item can hold, or whose items
/// have expired, are nowhere; those that are pending again will be noted again.
async fn places(
    migration: &MigrationContext,
    binding: &TableBinding,
    index: &Index,
    keys: &[Vec<String>],
) -> Result<Vec<Place>> {
    let states = migration.source.look_up(binding, keys).await?;
    let now_s = migration.source.now_at_least().timestamp();
    let delivered =
        states.iter().zip(keys).filter(|(state, _)| state.pending.is_none() && !state.dead_letter);
    let found = delivered.filter_map(|(state, literals)| {
        let (item, _, expires_at_s) =
            state.with_fields(|fields| binding.table.encode_keyed(fields).ok()).flatten()?;
        if expires_at_s.is_some_and(|at_s| at_s <= now_s) {
            return None;
        }
        let item = item.into_attributes();
        Some((item.get(index.partition.name)?.clone(), TargetKey::of(&item)?, literals.clone()))
    });
    Ok(found.collect())
}

/// Those that the index does not show, and that have not changed meanwhile.
async fn not_shown(
    migration: &MigrationContext,
    binding: &TableBinding,
    index: &Index,
    unseen: Vec<Place>,
) -> Result<Vec<Place>> {
    let look = |place: Place| async move {
        let range = PartitionRange { index: Some(*index), partition: place.0.clone(), from: None, to: None };
        let ask = || migration.target.query_page(&binding.target_name, &range, true, None, None);
        let page = Backoff::brief().retry(ask).await?;
        let shown = page.items.iter().any(|item| TargetKey::of(item).is_some_and(|key| key == place.1));
        Ok::<_, CoordinatorError>((!shown).then_some(place))
    };
    let left: Vec<Option<Place>> = stream::iter(unseen.into_iter().map(|place| Ok(look(place))))
        .try_buffer_unordered(REQUESTS_IN_FLIGHT)
        .try_collect()
        .await?;
    let left: Vec<Place> = left.into_iter().flatten().collect();
    let keys: Vec<Vec<String>> = left.iter().map(|(_, _, literals)| literals.clone()).collect();
    let mut still = Vec::new();
    for keys in keys.chunks(KEYS_AT_ONCE) {
        still.extend(places(migration, binding, index, keys).await?);
    }
    Ok(still)
}
