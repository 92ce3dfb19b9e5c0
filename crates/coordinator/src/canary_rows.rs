//! Which canary reads a table is asked: by key of some of its rows, and whatever else its
//! [`CanaryQueries`](lockstep::store::CanaryQueries) name of them.

use lockstep::store::{CanaryStore, StoreRead};
use lockstep_core::{Error, Fields, Kind, Result};
use lockstep_dynamo::Target;
use lockstep_postgres::{CopyChunk, Source, TableBinding};

use crate::canary::{BY_KEY, CanaryRead};
use crate::canary_bound::canary_reads_of_binding;

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
pub async fn canary_reads_of(
    store: &dyn CanaryStore,
    source: &Source,
    binding: &TableBinding,
) -> Result<Vec<CanaryRead>> {
    if source.fingerprint(binding).await?.is_empty() {
        return Ok(Vec::new());
    }
    let (mut reads, mut met, mut last_reason) = (Vec::new(), 0, None);
    for part in source.some_rows(binding, LOOKED_AT).await? {
        match holdable(store, &part) {
            Ok(asked) => reads.extend(asked.into_iter().map(|read| CanaryRead::of(binding.name(), read))),
            Err((looked_at, reason)) => (met, last_reason) = (met + looked_at, Some(reason)),
        }
    }
    if let (true, Some(reason)) = (reads.is_empty(), last_reason) {
        reads.push(nothing_to_ask(binding.name(), met, reason));
    }
    Ok(reads)
}

/// The same, and of a table that names no query of its own each of its indexes, as they are declared: none of
/// them moves untried.
///
/// # Errors
/// When the source does not answer.
///
/// # Cancel safety
/// Reading has no effect.
pub async fn canary_reads_with_indexes(
    store: &dyn CanaryStore,
    source: &Source,
    target: &Target,
    binding: &TableBinding,
) -> Result<Vec<CanaryRead>> {
    let mut reads = canary_reads_of(store, source, binding).await?;
    if reads.iter().all(|read| read.query == BY_KEY) {
        let declared = canary_reads_of_binding(binding, source, target).await?;
        reads.extend(declared.into_iter().filter(|read| read.query != BY_KEY));
    }
    Ok(reads)
}

/// What to ask of the first row of a part that can be held, nothing of an empty part; else how many were
/// looked at, and why the last cannot be.
fn holdable(
    store: &dyn CanaryStore,
    part: &CopyChunk,
) -> std::result::Result<Vec<StoreRead>, (usize, String)> {
    let mut why = None;
    for (nth, tuple) in part.tuples().enumerate() {
        match store.reads_of(&mut Fields::of_copy(tuple)) {
            Ok(reads) => return Ok(reads),
            Err(reason) => why = Some((nth + 1, reason.to_string())),
        }
    }
    why.map_or(Ok(Vec::new()), Err)
}

fn nothing_to_ask(table: &'static str, looked_at: usize, reason: String) -> CanaryRead {
    let why = format!("none of {looked_at} rows looked at can be held in DynamoDB; the last one: {reason}");
    CanaryRead::new(table, BY_KEY, move || {
        let error = Error::source(Kind::Invalid, "choosing rows for canary reads", why.clone());
        async move { Err(error) }
    })
}
