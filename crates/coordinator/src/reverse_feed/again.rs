//! Items that are read from the target once more; see `lockstep_postgres::reverse` for why there are any.

use std::collections::{BTreeSet, HashMap, HashSet};

use lockstep_core::{Result, is_tombstone, key_of_place, place};
use lockstep_dynamo::{Backoff, READ_KEYS_MAX, Target};
use lockstep_postgres::reverse::{FedTable, ItemNow, ReadAgain};
use lockstep_postgres::{Source, TableBinding};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::rounds::briefly;
use crate::error::Result as StepResult;
use crate::options::MigrationContext;

/// Reads them until told to stop: at once when there are new ones, and those that PostgreSQL refused whenever
/// a round finds them.
pub(super) async fn read_again(
    source: &Source,
    target: &Target,
    table: &FedTable,
    noted: &Notify,
    stop: &CancellationToken,
) -> Result<()> {
    while !stop.is_cancelled() {
        briefly().retry(|| passes(source, target, table)).await?;
        tokio::select! {
            () = stop.cancelled() => {}
            () = noted.notified() => {}
        }
    }
    Ok(())
}

/// Goes once through what is to be read again, of every table, where anything is: beside the feed, or where
/// none runs.
///
/// # Errors
/// The stores'. A row that PostgreSQL refuses stays noted, and is no error.
pub(crate) async fn bring_back(migration: &MigrationContext) -> Result<()> {
    let names: Vec<&str> = migration.tables.iter().map(TableBinding::name).collect();
    if migration.source.reverse_left(&names).await? == 0 {
        return Ok(());
    }
    for binding in &migration.tables {
        let table = migration.source.fed_table(binding).await?;
        pass(&migration.source, &migration.target, &table).await?;
    }
    Ok(())
}

/// Makes PostgreSQL the truth, or what leads to it, by `attempt`: behind what rode along with a late write,
/// which is brought back first, and again for as long as a lock keeps it from being done.
///
/// # Errors
/// The stores'; those of `attempt`.
pub(crate) async fn once_brought_back<T, F>(
    migration: &MigrationContext,
    attempt: impl Fn() -> F,
) -> StepResult<T>
where
    F: Future<Output = Result<T>>,
{
    let attempt = || {
        let attempted = attempt();
        async {
            bring_back(migration).await?;
            attempted.await
        }
    };
    migration.options.steps.while_busy(attempt).await
}

/// Most items of one pass. Rows that wait for each other can only be written together, so a pass takes more
/// of them than a read does.
const ITEMS_MAX: i64 = 1_000;

/// Most passes that follow one another at once.
const PASSES_MAX: usize = 50;

/// Goes through what is noted, again for as long as each pass ends all that it takes and there is more: 1.
/// The stream of a day is read once more. 2. Each insert of it is noted. 3. A thousand every two seconds
/// would hold the way back for hours.
pub(super) async fn passes(source: &Source, target: &Target, table: &FedTable) -> Result<()> {
    for _ in 0..PASSES_MAX {
        if pass(source, target, table).await? < ITEMS_MAX as u64 {
            break;
        }
    }
    Ok(())
}

/// Notes what rode along, then goes once through the least often tried; how many of them are done.
pub(super) async fn pass(source: &Source, target: &Target, table: &FedTable) -> Result<u64> {
    let binding = table.binding();
    // A partition that was made for rows of now is known before long: one that goes again is missed.
    source.record_shape(binding).await?;
    source.take_riders(table, ITEMS_MAX).await?;
    let noted = source.reverse_again(binding.name(), ITEMS_MAX).await?;
    if noted.is_empty() {
        return Ok(0);
    }
    let keys: Vec<_> = noted.iter().filter_map(|again| key_of_place(&again.place)).collect();
    let mut items = HashMap::new();
    for keys in keys.chunks(READ_KEYS_MAX) {
        let read = target.get_many(&binding.target_name, keys, Backoff::patient()).await?;
        items.extend(read.into_iter().map(|item| (place(&item), item)));
    }
    let found = noted.into_iter().map(|again| {
        let item = items.remove(&again.place);
        ItemNow { again, item }
    });
    let found: Vec<ItemNow> = found.collect();
    let ReadAgain { done, in_the_way } = source.apply_again(table, &found).await?;
    let removed = without_items(target, table, in_the_way).await?;
    if !removed.is_empty() {
        source.apply_again_over(table, &found, &removed).await?;
    }
    Ok(done)
}

/// Returns which of these places have no live item.
async fn without_items(
    target: &Target,
    table: &FedTable,
    mut places: BTreeSet<String>,
) -> Result<HashSet<String>> {
    let keys: Vec<_> = places.iter().filter_map(|place| key_of_place(place)).collect();
    for keys in keys.chunks(READ_KEYS_MAX) {
        let read = target.get_many(&table.binding().target_name, keys, Backoff::patient()).await?;
        for item in read.iter().filter(|item| !is_tombstone(item)) {
            places.remove(&place(item));
        }
    }
    Ok(places.into_iter().collect())
}
