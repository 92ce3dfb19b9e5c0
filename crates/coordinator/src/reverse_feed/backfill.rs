//! The reverse backfill: the whole target is read into the source, when the stream no longer has what was
//! missed.
//!
//! It runs beside the feed and under the same guard, so whichever of them comes second with an older state
//! yields. First every item: those of any DynamoOnly are upserted, and of the others those whose rows differ:
//! a trigger, or SQL while the triggers of capture were off, has changed them past the feed. Then every row:
//! where its place holds a tombstone of a DynamoOnly it is deleted; where its place holds nothing, its item
//! has expired, or was removed by hand, and it is only deleted when that is asked for: by an operator, or by
//! a repair after SQL could write past the triggers, as then it may be a row that SQL has put there. The same
//! of a tombstone that came from the source. What has expired stays in any case, and so do dead letters. A
//! row that stays without an item and has not expired holds up the way back: no record is left that tells
//! whether it was deleted.

use std::collections::HashSet;

use lockstep_core::Advice::RepairStateAtOnce;
use lockstep_core::{
    Attributes, Error as StoreError, Fields, Kind, TargetKey, Version, is_tombstone, key_of_place, place,
    version_of,
};
use lockstep_dynamo::{Backoff, READ_KEYS_MAX};
use lockstep_postgres::reverse::{FedTable, GoneRow, KnownPlace};
use lockstep_postgres::{RangeRead, TableBinding};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::begun;
use super::renumber::renumber_page;
use crate::error::{CoordinatorError, Result};
use crate::options::MigrationContext;
use crate::planned::planned_in;
use crate::remedy::Remedy;

/// Rows of one chunk; their keys are asked for a hundred at a time.
const CHUNK_ROWS: usize = 500;

/// Counts of what a reverse backfill did to one table.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ReverseBackfill {
    /// Table name.
    pub name: &'static str,
    /// Items read, tombstones included.
    pub items: u64,
    /// Rows upserted.
    pub upserted: u64,
    /// Rows read.
    pub rows: u64,
    /// Rows deleted, because their item is a tombstone, or because it was asked for.
    pub deleted: u64,
    /// Rows that have no item and were left.
    pub absent: u64,
    /// Those of them that have not expired and are no dead letters: they hold up the way back, until an
    /// operator has accepted each of them, or has them deleted.
    pub held: u64,
    /// Items that PostgreSQL would not have yet.
    pub again: u64,
    /// Items whose version another program chose, that were given one of ours.
    pub renumbered: u64,
}

/// Reads a table's whole target into the source. With `delete_absent`, rows without a live item are deleted,
/// but for those that have expired, and dead letters.
///
/// # Errors
/// [`Kind::Refused`] while a repair that makes PostgreSQL the truth again is not over; the stores';
/// [`CoordinatorError::Interrupted`] when cancelled: run it again.
///
/// # Cancel safety
/// It may be broken off at any point; it begins again then.
#[crate::boxed]
pub async fn reverse_backfill(
    migration: &MigrationContext,
    binding: &TableBinding,
    delete_absent: bool,
    cancel: &CancellationToken,
) -> Result<ReverseBackfill> {
    require_no_return(migration).await?;
    reverse_backfill_in_repair(migration, binding, delete_absent, cancel).await
}

/// Does the same as a part of a repair, which knows what else it does.
///
/// # Errors
/// As [`reverse_backfill`].
pub(crate) async fn reverse_backfill_in_repair(
    migration: &MigrationContext,
    binding: &TableBinding,
    delete_absent: bool,
    cancel: &CancellationToken,
) -> Result<ReverseBackfill> {
    read_back(migration, binding, Reading { delete_absent, overwrite: true }, cancel).await
}

/// Refuses to read the target over PostgreSQL while a repair is to make PostgreSQL the truth again.
///
/// 1. PostgreSQL changes a row, and the truth moves to the target, whose table is restored from a backup of
/// before. 2. The repair has taken the histories of both for right, and is killed while it reads what is
/// newer. 3. Nothing shows any more that the table is older than PostgreSQL: read over it, the table undoes
/// the change.
async fn require_no_return(migration: &MigrationContext) -> Result<()> {
    let open = migration.source.open_intents().await?;
    if !planned_in(&open).contains(&Remedy::ReturnToSource) {
        return Ok(());
    }
    let message = format!(
        "a repair that makes PostgreSQL the truth again was broken off: {RepairStateAtOnce} goes on with it, and \
         reads what PostgreSQL lacks"
    );
    Err(StoreError::source(Kind::Refused, "reading the target into PostgreSQL", message).into())
}

/// Returns the same of a target that lost history: 1. A backup of its table is made. 2. PostgreSQL, the truth
/// then, changes a row and deletes another. 3. The truth moves to the target, whose table is lost and
/// restored. So what PostgreSQL wrote last itself stays; only what was written as the truth is taken.
///
/// # Errors
/// As [`reverse_backfill`].
pub(crate) async fn reverse_backfill_news(
    migration: &MigrationContext,
    binding: &TableBinding,
    cancel: &CancellationToken,
) -> Result<ReverseBackfill> {
    read_back(migration, binding, Reading { delete_absent: false, overwrite: false }, cancel).await
}

#[derive(Clone, Copy)]
struct Reading {
    /// Whether rows without an item are deleted.
    delete_absent: bool,
    /// Whether a row that differs becomes what its item says, whatever the item's version.
    overwrite: bool,
}

async fn read_back(
    migration: &MigrationContext,
    binding: &TableBinding,
    reading: Reading,
    cancel: &CancellationToken,
) -> Result<ReverseBackfill> {
    crate::continuity::require_kept(migration).await?;
    let table = migration.source.fed_table(binding).await?;
    let table = if reading.overwrite { table } else { table.of_lost_history() };
    // The stream first: what is written from here on is in it, and what was written before is in what is read
    // here.
    let stream = migration.target.enable_stream(&binding.target_name).await?;
    migration.source.open_reverse(&table, stream.arn()).await?;
    let begun = migration.source.clock().await?;
    let foreign =
        migration.source.reverse_standing(binding.name()).await?.map_or(0, |standing| standing.foreign_count);
    let mut done = ReverseBackfill { name: binding.name(), ..ReverseBackfill::default() };
    if reading.overwrite {
        forget_emptied(migration, &table, cancel).await?;
    }
    items(migration, &table, reading.overwrite, &mut done, cancel).await?;
    rows(migration, &table, reading, &mut done, cancel).await?;
    // Where nothing was written over, the loss stands until PostgreSQL is the truth: what has waited
    // before is held against it.
    if reading.overwrite {
        migration.source.take_back_loss(binding.name(), begun, foreign).await?;
    }
    Ok(done)
}

/// Forgets what is known of places that hold nothing: their versions begin at 1 again. Not where the target
/// lost history, as what is known is of the only copy there. A version that is known is read before its item
/// is asked for, so of an item that comes between more is known, or its record comes, and is held against
/// what is known by then.
async fn forget_emptied(
    migration: &MigrationContext,
    table: &FedTable,
    cancel: &CancellationToken,
) -> Result<()> {
    let binding = table.binding();
    let mut after: Option<String> = None;
    loop {
        stop_if(cancel)?;
        let limit = READ_KEYS_MAX as i64;
        let listed = || migration.source.known_places(binding.name(), after.as_deref(), limit);
        let known = Backoff::patient().retry(listed).await?;
        let Some(last) = known.last().map(|known| known.place.clone()) else { return Ok(()) };
        let keys: Vec<TargetKey> = known.iter().filter_map(|known| key_of_place(&known.place)).collect();
        let items = migration.target.get_many(&binding.target_name, &keys, Backoff::patient()).await?;
        let there: HashSet<String> = items.iter().map(place).collect();
        let is_emptied =
            |known: &KnownPlace| key_of_place(&known.place).is_some() && !there.contains(&known.place);
        let emptied: Vec<KnownPlace> = known.into_iter().filter(is_emptied).collect();
        if !emptied.is_empty() {
            Backoff::patient().retry(|| migration.source.forget_emptied(table, &emptied)).await?;
        }
        after = Some(last);
    }
}

async fn items(
    migration: &MigrationContext,
    table: &FedTable,
    overwrite: bool,
    done: &mut ReverseBackfill,
    cancel: &CancellationToken,
) -> Result<()> {
    // On the way to PostgreSQL as the truth its rows are put over such items.
    let begun = if overwrite { begun::newest(migration).await?.ok() } else { None };
    let mut start = None;
    loop {
        stop_if(cancel)?;
        let page = || migration.target.scan_page(&table.binding().target_name, (0, 1), start.clone());
        let mut page = Backoff::patient().retry(page).await?;
        if let Some(begun) = begun.filter(|begun| begun.truth_there.is_some()) {
            done.renumbered += renumber_page(migration, table, begun, &mut page.items).await?;
        }
        let applied = Backoff::patient().retry(|| migration.source.apply_items(table, &page.items)).await?;
        done.items += page.items.len() as u64;
        done.upserted += applied.applied;
        done.again += applied.again;
        if overwrite {
            done.upserted += put_back_differing(migration, table, &page.items).await?;
        }
        start = page.next;
        if start.is_none() {
            return Ok(());
        }
    }
}

/// Brings rows that differ from live items of a page to what these say; how many.
async fn put_back_differing(
    migration: &MigrationContext,
    table: &FedTable,
    items: &[Attributes],
) -> Result<u64> {
    let binding = table.binding();
    let live = items.iter().filter(|item| !is_tombstone(item) && version_of(item).is_some());
    let keyed: Vec<(&Attributes, Vec<String>)> =
        live.filter_map(|item| binding.table.key_of_item(item).ok().map(|key| (item, key))).collect();
    let mut upserted = 0;
    for keyed in keyed.chunks(READ_KEYS_MAX) {
        let keys: Vec<Vec<String>> = keyed.iter().map(|(_, key)| key.clone()).collect();
        let states = migration.source.look_up(binding, &keys).await?;
        let differ = keyed.iter().zip(states).filter(|((item, _), state)| {
            let found = state.with_fields(|fields| binding.table.differences(fields, item));
            found.is_none_or(|found| found.is_ok_and(|differing| !differing.is_empty()))
        });
        let differ: Vec<Attributes> = differ.map(|((item, _), _)| (*item).clone()).collect();
        if !differ.is_empty() {
            let put = || migration.source.put_back_items(table, &differ);
            upserted += Backoff::patient().retry(put).await?.applied;
        }
    }
    Ok(upserted)
}

async fn rows(
    migration: &MigrationContext,
    table: &FedTable,
    reading: Reading,
    done: &mut ReverseBackfill,
    cancel: &CancellationToken,
) -> Result<()> {
    let binding = table.binding();
    let mut range = RangeRead { rows_max: CHUNK_ROWS, ..RangeRead::default() };
    loop {
        stop_if(cancel)?;
        let chunk = Backoff::patient().retry(|| migration.source.read_chunk(binding, &range)).await?;
        let (mut read, mut last, mut wanted) = (0, None, Vec::new());
        for tuple in chunk.tuples() {
            (read, last) = (read + 1, Some(tuple));
            // A row that no item can hold is a dead letter, and has no place in the target.
            if let Ok((item, key, expires_at_s)) = binding.table.encode_keyed(&mut Fields::of_copy(tuple)) {
                let expired =
                    expires_at_s.is_some_and(|at_s| at_s <= migration.source.now_at_least().timestamp());
                let found = TargetKey::of(&item.into_attributes());
                wanted.extend(found.map(|target_key| Wanted { target_key, key, expired }));
            }
        }
        done.rows += read as u64;
        for wanted in wanted.chunks(READ_KEYS_MAX) {
            look_up(migration, table, wanted, reading, done).await?;
        }
        if !range.go_on(binding, read, last)? {
            return Ok(());
        }
    }
}

struct Wanted {
    target_key: TargetKey,
    key: Vec<String>,
    expired: bool,
}

async fn look_up(
    migration: &MigrationContext,
    table: &FedTable,
    wanted: &[Wanted],
    reading: Reading,
    done: &mut ReverseBackfill,
) -> Result<()> {
    let keys: Vec<TargetKey> = wanted.iter().map(|wanted| wanted.target_key.clone()).collect();
    let items = migration.target.get_many(&table.binding().target_name, &keys, Backoff::patient()).await?;
    let (mut gone, mut absent) = (Vec::new(), Vec::new());
    for wanted in wanted {
        let at = place(&wanted.target_key.to_attributes());
        let unasked = reading.delete_absent && !wanted.expired;
        match items.iter().find(|item| place(item) == at) {
            Some(item) if is_tombstone(item) => {
                let version = version_of(item).unwrap_or(Version::INITIAL_LOAD);
                gone.push(GoneRow { place: at, version, key: wanted.key.clone(), unasked });
            }
            Some(_) => {}
            None if unasked => {
                let (version, key) = (Version::INITIAL_LOAD, wanted.key.clone());
                gone.push(GoneRow { place: at, version, key, unasked });
            }
            None => {
                done.absent += 1;
                if !wanted.expired {
                    let (version, key) = (Version::INITIAL_LOAD, wanted.key.clone());
                    absent.push(GoneRow { place: at, version, key, unasked });
                }
            }
        }
    }
    // Where the target lost history, what PostgreSQL alone has is told by what repairs that.
    if reading.overwrite && !absent.is_empty() {
        let noted = || migration.source.note_absent(table, &absent);
        done.held += Backoff::patient().retry(noted).await?;
    }
    if !gone.is_empty() {
        let applied = Backoff::patient().retry(|| migration.source.delete_fed(table, &gone)).await?;
        done.deleted += applied.applied;
        // The feed knows of an item there; it will have the last word.
        done.absent += applied.skipped;
        done.again += applied.again;
    }
    Ok(())
}

fn stop_if(cancel: &CancellationToken) -> Result<()> {
    if cancel.is_cancelled() { Err(CoordinatorError::Interrupted) } else { Ok(()) }
}
