//! Whether source and target hold the same of every key that came back through the feed.
//!
//! Before a pause everything that was taken since the step to DynamoOnly is compared, while writers go on. In
//! the pause only what was taken since, and what did not agree then: that may have been lag. How far it has
//! come is kept, so that a step back that was broken off goes on there when it is given again.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::future::{BoxFuture, FutureExt};
use futures::stream::{self, StreamExt, TryStreamExt};
use lockstep_core::Advice::{ReverseBackfill, Validate};
use lockstep_core::{Attributes, TargetKey, is_tombstone, key_of_place, place};
use lockstep_dynamo::{Backoff, READ_KEYS_MAX};
use lockstep_postgres::TableBinding;
use lockstep_postgres::reverse::{Compared, FedTable, TakenItem};

use crate::error::{CoordinatorError, Result};
use crate::gate::Observer;
use crate::options::MigrationContext;

/// Batches that are compared at once.
const BATCHES_IN_FLIGHT: usize = 8;
/// Tables that are compared at once in a pause.
const TABLES_IN_FLIGHT: usize = 8;
/// Items listed at once.
const LISTED: usize = READ_KEYS_MAX * BATCHES_IN_FLIGHT;
/// Passes before a pause; each looks at what changed during the one before it.
const PASSES_MAX: usize = 5;
/// Number of keys that can be compared in a pause in a few milliseconds.
const PENDING_KEYS_IN_PAUSE_MAX: usize = 2_000;
/// Time between two notes of how far it has come, and between two messages of it.
const KEPT_EVERY: Duration = Duration::from_secs(2);
const TOLD_EVERY: Duration = Duration::from_secs(30);
/// Number of differing keys above which something is wrong, and nothing is kept: it would be written every
/// time.
const KEPT_UNEQUAL_MAX: usize = 10_000;

/// Names of the columns in which rows and items differ.
type Columns = Mutex<BTreeSet<String>>;

/// Rows that are left to be compared in the pause.
pub(super) struct Level {
    tables: Vec<(FedTable, Compared)>,
}

impl Level {
    /// Compares while writers go on, until little is left.
    pub(super) async fn approach(migration: &MigrationContext, observer: &dyn Observer) -> Result<Self> {
        let mut tables = Vec::new();
        for binding in &migration.tables {
            let table = migration.source.fed_table(binding).await?;
            let mut at = match migration.source.compared(&table).await? {
                Some(kept) => {
                    observer.note(&format!(
                        "{}: the comparison before the way back goes on where it was broken off",
                        binding.name()
                    ));
                    kept
                }
                None => Compared {
                    since: None,
                    began: migration.source.reverse_moment().await?,
                    after: None,
                    unequal: Vec::new(),
                },
            };
            for _ in 0..PASSES_MAX {
                let looked_at =
                    compare(migration, &table, &mut at, &Columns::default(), Some(observer)).await?;
                // A key that this pass has not seen was touched after it began.
                let next = migration.source.reverse_moment().await?;
                at.since = Some(std::mem::replace(&mut at.began, next));
                at.after = None;
                keep(migration, &table, &at).await?;
                if looked_at <= PENDING_KEYS_IN_PAUSE_MAX {
                    break;
                }
            }
            tables.push((table, at));
        }
        Ok(Self { tables })
    }

    /// Compares the rest, while no application writes and the feed is through; says what differs, if
    /// anything.
    pub(super) async fn finish(self, migration: &MigrationContext) -> Result<Option<String>> {
        let asked: Vec<_> = self.tables.iter().map(|(table, at)| (table, at.since.as_ref())).collect();
        let taken = migration.source.reverse_taken_any(&asked).await?;
        // Where nothing came since, and everything agreed, nothing is left to be asked.
        let left =
            self.tables.into_iter().zip(taken).filter(|((_, at), taken)| *taken || !at.unequal.is_empty());
        let finish = |(table, mut at): (FedTable, Compared)| async move {
            let columns = Columns::default();
            compare(migration, &table, &mut at, &columns, None).await?;
            let columns = columns.into_inner().unwrap_or_else(PoisonError::into_inner);
            let left = at.unequal.len();
            Ok::<_, CoordinatorError>((left > 0).then(|| what_differs(&table, left, &columns)))
        };
        let comparing: Vec<BoxFuture<'_, Result<Option<String>>>> =
            left.map(|(left, _)| finish(left).boxed()).collect();
        let finished: Vec<Option<String>> =
            stream::iter(comparing).buffered(TABLES_IN_FLIGHT).try_collect().await?;
        Ok(finished.into_iter().flatten().next())
    }
}

/// Says what differs, and what leads on: no backfill changes what PostgreSQL computes by itself.
fn what_differs(table: &FedTable, keys: usize, columns: &BTreeSet<String>) -> String {
    let name = table.binding().name();
    let computed: Vec<&str> =
        table.computed().filter(|computed| columns.iter().any(|column| column == computed)).collect();
    let of_columns = match columns.is_empty() {
        true => String::new(),
        false => format!(" (columns: {})", columns.iter().map(String::as_str).collect::<Vec<_>>().join(", ")),
    };
    let differ = format!(
        "{keys} keys of {name} differ between DynamoDB and PostgreSQL although the reverse feed is \
            through{of_columns}"
    );
    if table.has_loose_key() && columns.is_empty() {
        return format!(
            "{differ}. Its key takes several texts for one value: an item under another text than PostgreSQL \
                prints of its row is no row of its own. {Validate} shows it as an item without a row: delete \
                it, or write it under that text; {ReverseBackfill} brings what else differs"
        );
    }
    let kept: Vec<&str> =
        table.kept().iter().copied().filter(|kept| columns.iter().any(|column| column == kept)).collect();
    if !kept.is_empty() {
        return format!(
            "{differ}. PostgreSQL keeps {} as it is spelled, to which other tables refer: write these items \
                again with the zeros that it has, which {Validate} shows by their keys; what differs in \
                other columns, {ReverseBackfill} brings to what DynamoDB says",
            kept.join(", ")
        );
    }
    match computed.is_empty() {
        true => format!(
            "{differ}: a trigger or a writer past Lockstep has changed them. {Validate} shows how; \
                {ReverseBackfill} brings PostgreSQL to what DynamoDB says"
        ),
        false => format!(
            "{differ}. PostgreSQL computes {} by itself, and keeps its own value whatever an item says: \
                write these items again with the value that it has, which {Validate} shows by their keys; what \
                differs in other columns, {ReverseBackfill} brings to what DynamoDB says",
            computed.join(", ")
        ),
    }
}

async fn keep(migration: &MigrationContext, table: &FedTable, at: &Compared) -> Result<()> {
    if at.unequal.len() <= KEPT_UNEQUAL_MAX {
        migration.source.keep_compared(table, at).await?;
    }
    Ok(())
}

/// Compares what was not equal before and what was taken at `at.since` or later, after `at.after`; says how
/// many, and leaves in `at` which are not equal. With an observer, how far it has come is kept and told.
async fn compare(
    migration: &MigrationContext,
    table: &FedTable,
    at: &mut Compared,
    columns: &Columns,
    observer: Option<&dyn Observer>,
) -> Result<usize> {
    // 1. PostgreSQL refuses an item while it is compared: it is kept as unequal. 2. The step back fails over
    // it, and an operator accepts that it stays behind. 3. The next step back goes on with what was kept.
    let again = migration.source.but_accepted(table, std::mem::take(&mut at.unequal)).await?;
    let mut looked_at = again.len();
    at.unequal = batches(migration, table, columns, again).await?;
    let (mut kept_at, mut told_at) = (Instant::now(), Instant::now());
    loop {
        let (since, after) = (at.since.as_ref(), at.after.as_deref());
        let taken = migration.source.reverse_taken(table, since, after, LISTED as i64).await?;
        let is_last = taken.len() < LISTED;
        let last = taken.last().map(|taken| taken.place.clone());
        looked_at += taken.len();
        for found in batches(migration, table, columns, taken).await? {
            if !at.unequal.contains(&found) {
                at.unequal.push(found);
            }
        }
        if is_last {
            return Ok(looked_at);
        }
        at.after = last;
        let Some(observer) = observer else { continue };
        if kept_at.elapsed() >= KEPT_EVERY {
            keep(migration, table, at).await?;
            kept_at = Instant::now();
        }
        if told_at.elapsed() >= TOLD_EVERY {
            let name = table.binding().name();
            observer.note(&format!(
                "{name}: {looked_at} keys are compared before the way back, while writes go on"
            ));
            told_at = Instant::now();
        }
    }
}

async fn batches(
    migration: &MigrationContext,
    table: &FedTable,
    columns: &Columns,
    taken: Vec<TakenItem>,
) -> Result<Vec<TakenItem>> {
    let pieces: Vec<Vec<TakenItem>> = taken.chunks(READ_KEYS_MAX).map(<[TakenItem]>::to_vec).collect();
    let compared = pieces.into_iter().map(|piece| Ok(batch(migration, table, columns, piece)));
    let found: Vec<Vec<TakenItem>> =
        stream::iter(compared).try_buffer_unordered(BATCHES_IN_FLIGHT).try_collect().await?;
    Ok(found.into_iter().flatten().collect())
}

/// Those of a batch whose row and item are not equal; `columns` learns in what.
async fn batch(
    migration: &MigrationContext,
    table: &FedTable,
    columns: &Columns,
    taken: Vec<TakenItem>,
) -> Result<Vec<TakenItem>> {
    let binding = table.binding();
    let places: Vec<_> = taken.iter().filter_map(|taken| key_of_place(&taken.place)).collect();
    let mut items = migration.target.get_many(&binding.target_name, &places, Backoff::brief()).await?;
    let (mut wrong, mut here, mut elsewhere) = (Vec::new(), Vec::new(), Vec::new());
    for taken in taken {
        match own_key(binding, &taken) {
            None => here.push((key_of_place(&taken.place), taken)),
            Some(_) if items.iter().any(|item| place(item) == taken.place && !is_tombstone(item)) => {
                wrong.push(taken);
            }
            // Nothing is there any more; left is whether row and item at the row's own place are equal.
            Some(own) => {
                here.push((Some(own.clone()), taken));
                elsewhere.push(own);
            }
        }
    }
    if !elsewhere.is_empty() {
        items.extend(migration.target.get_many(&binding.target_name, &elsewhere, Backoff::brief()).await?);
    }
    let live_at = |key: &TargetKey| items.iter().find(|item| key.is_of(item) && !is_tombstone(item));
    // A key without a place in the target belongs to no item.
    let keyed: Vec<_> = here
        .into_iter()
        .filter_map(|(at, taken)| Some((binding.table.literals_of_key(&taken.key).ok()?, at, taken)))
        .collect();
    let mut literals: Vec<Vec<String>> = keyed.iter().map(|(literals, ..)| literals.clone()).collect();
    // Two keys of a row may share a place: whichever of them the row has, it is the one of this item.
    let at: Vec<String> = keyed
        .iter()
        .map(|(_, at, taken)| {
            at.as_ref().map_or_else(|| taken.place.clone(), |at| place(&at.to_attributes()))
        })
        .collect();
    let at: Vec<&str> = at.iter().map(String::as_str).collect();
    migration.source.keys_at_places(binding, &at, &mut literals).await?;
    let states = migration.source.look_up(binding, &literals).await?;
    let now_s = migration.source.now_at_least().timestamp();
    let unequal = keyed.into_iter().zip(states).filter(|((_, at, _), state)| {
        let item = at.as_ref().and_then(live_at);
        let is_equal = |item: Option<&Attributes>| match item {
            Some(item) => {
                let differing = state.with_fields(|fields| binding.table.differences(fields, item));
                let Some(Ok(differing)) = differing else { return false };
                let mut columns = columns.lock().unwrap_or_else(PoisonError::into_inner);
                columns.extend(differing.iter().map(|differing| differing.column.clone()));
                differing.is_empty()
            }
            // An expired item is gone and its row stays.
            None => {
                let expires_at = state.with_fields(|fields| binding.table.expires_at(fields));
                expires_at.is_none_or(|at_s| at_s.is_some_and(|at_s| at_s <= now_s))
            }
        };
        !is_equal(item)
    });
    Ok(unequal.map(|((.., taken), _)| taken).chain(wrong).collect())
}

/// The key of the item of a row where that is another one than this; `None` where it is this one.
///
/// 1. A program puts an item whose key is not that of the row in its attributes, and a build from before the
/// feed looked at that takes it. 2. The item goes. 3. Nothing at its place, and the row is there: that pair
/// would never be equal, whatever is done, and the way back stays closed over two stores that agree.
fn own_key(binding: &TableBinding, taken: &TakenItem) -> Option<TargetKey> {
    let own = binding.table.target_key(&taken.key).ok()?;
    let at = key_of_place(&taken.place)?;
    (!own.is_of(&at.to_attributes())).then_some(own)
}
