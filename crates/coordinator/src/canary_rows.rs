//! Which canary reads a table is asked: by key of some of its rows, and whatever else its [`CanaryQueries`]
//! name of them.

use std::sync::Arc;

use lockstep::store::{CanaryQueries, Selection, Store};
use lockstep_core::{Error, Fields, Kind, MigratableTable, Result, Row};
use lockstep_postgres::{CopyChunk, Source, TableBinding};

use crate::canary::CanaryRead;

/// Most rows that one read compares.
const ROWS_MAX: usize = 50;
/// How many rows are looked at in each part of a table until one is met that can be held.
const LOOKED_AT: usize = 50;

/// Makes the reads of one table: of its first row, its last one and one between, of those that can be held.
/// None for a table that has no row, or is not there yet; that is for other gates to say. A table of whose
/// rows none can be asked for gets one read, which fails with the reason: nothing passes unasked.
///
/// # Errors
/// When the source does not answer.
///
/// # Cancel safety
/// Reading has no effect.
pub async fn canary_reads_of<T: CanaryQueries>(
    store: &Store<T>,
    source: &Source,
    binding: &TableBinding,
) -> Result<Vec<CanaryRead>> {
    if source.fingerprint(binding).await?.is_empty() {
        return Ok(Vec::new());
    }
    let (mut reads, mut met, mut last_reason) = (Vec::new(), 0, None);
    for part in source.some_rows(binding, LOOKED_AT).await? {
        match holdable(store, &part) {
            Ok(row) => reads.extend(row.iter().flat_map(|row| reads_of(store, row))),
            Err((looked_at, reason)) => (met, last_reason) = (met + looked_at, Some(reason)),
        }
    }
    if let (true, Some(reason)) = (reads.is_empty(), last_reason) {
        reads.push(nothing_to_ask(T::NAME, met, reason));
    }
    Ok(reads)
}

/// The first row of a part that can be held, `None` for an empty part; else how many were looked at, and why
/// the last cannot be.
fn holdable<T: MigratableTable>(
    store: &Store<T>,
    part: &CopyChunk,
) -> std::result::Result<Option<T::Row>, (usize, String)> {
    let mut why = None;
    for (nth, tuple) in part.tuples().enumerate() {
        let row = T::Row::from_fields(&mut Fields::of_copy(tuple));
        match row.and_then(|row| MigratableTable::encode(store.table(), &row).map(|_| row)) {
            Ok(row) => return Ok(Some(row)),
            Err(reason) => why = Some((nth + 1, reason.to_string())),
        }
    }
    why.map_or(Ok(None), Err)
}

fn nothing_to_ask(table: &'static str, looked_at: usize, reason: String) -> CanaryRead {
    let why = format!("none of {looked_at} rows looked at can be held in DynamoDB; the last one: {reason}");
    CanaryRead::new(table, "by key", move || {
        let error = Error::source(Kind::Invalid, "choosing rows for canary reads", why.clone());
        async move { Err(error) }
    })
}

fn reads_of<T: CanaryQueries>(store: &Store<T>, row: &T::Row) -> Vec<CanaryRead> {
    let mut reads = vec![by_key(store, T::key(row))];
    reads.extend(
        T::canary_queries(store, row).into_iter().map(|(query, selection)| of_query(query, selection)),
    );
    reads
}

fn of_query<T: MigratableTable>(query: &'static str, selection: Selection<T>) -> CanaryRead {
    let selection = Arc::new(selection);
    let (in_source, in_target) = (selection.clone(), selection.clone());
    let read = CanaryRead::new(T::NAME, query, move || {
        let selection = selection.clone();
        async move { selection.compare(ROWS_MAX).await }
    });
    read.timed(
        move || {
            let selection = in_source.clone();
            async move { selection.ask_source(ROWS_MAX).await.map(|rows| rows as u64) }
        },
        move || {
            let selection = in_target.clone();
            async move { selection.ask_target(ROWS_MAX).await.map(|rows| rows as u64) }
        },
    )
}

fn by_key<T: MigratableTable>(store: &Store<T>, key: T::Key) -> CanaryRead {
    let one = Arc::new((store.clone(), key));
    let (in_source, in_target) = (one.clone(), one.clone());
    let read = CanaryRead::new(T::NAME, "by key", move || {
        let one = one.clone();
        async move { one.0.compare(&one.1).await }
    });
    read.timed(
        move || {
            let one = in_source.clone();
            async move { one.0.ask_source(&one.1).await.map(u64::from) }
        },
        move || {
            let one = in_target.clone();
            async move { one.0.ask_target(&one.1).await.map(u64::from) }
        },
    )
}
