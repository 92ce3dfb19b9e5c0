//! Rows that canary reads ask for: of each table its first row, its last one and one between, of those that
//! can be held.

use lockstep_core::{Error, Fields, Kind, Result, Unholdable};
use lockstep_postgres::{Source, TableBinding};

use crate::canary::{BY_KEY, CanaryRead};

/// Rows that are looked at in each part of a table until one is met that can be held.
const LOOKED_AT: usize = 50;

/// Returns the reads that `ask` makes of some rows of a table. None for a table that has no row, or is not
/// there yet; that is for other gates to say. A table of whose rows none can be asked for gets one read,
/// which fails with the reason: nothing passes unasked.
///
/// # Errors
/// When the source does not answer.
///
/// # Cancel safety
/// Reading has no effect.
pub(crate) async fn reads_of_some_rows(
    source: &Source,
    binding: &TableBinding,
    ask: impl Fn(&mut Fields<'_>) -> std::result::Result<Vec<CanaryRead>, Unholdable>,
) -> Result<Vec<CanaryRead>> {
    if source.fingerprint(binding).await?.is_empty() {
        return Ok(Vec::new());
    }
    let (mut reads, mut refused, mut last_reason) = (Vec::new(), 0, None);
    for part in source.some_rows(binding, LOOKED_AT).await? {
        for tuple in part.tuples() {
            match ask(&mut Fields::of_copy(tuple)) {
                Ok(asked) => {
                    reads.extend(asked);
                    break;
                }
                Err(reason) => (refused, last_reason) = (refused + 1, Some(reason)),
            }
        }
    }
    if let (true, Some(reason)) = (reads.is_empty(), last_reason) {
        reads.push(nothing_to_ask(binding.name(), refused, &reason));
    }
    Ok(reads)
}

fn nothing_to_ask(table: &'static str, looked_at: usize, reason: &Unholdable) -> CanaryRead {
    let why = format!("none of {looked_at} rows looked at can be held in DynamoDB; the last one: {reason}");
    CanaryRead::new(table, BY_KEY, move || {
        let error = Error::source(Kind::Invalid, "choosing rows for canary reads", why.clone());
        async move { Err(error) }
    })
}
