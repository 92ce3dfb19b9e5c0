//! Ids that PostgreSQL hands out in its phases and DynamoDB in its own, and none of them twice.
//!
//! On the way there a counter is set above everything that PostgreSQL has handed out or holds; on the way
//! back the sequence is set above the counter. Both only raise, so both may be repeated. Blocks that were
//! taken and not used up stay valid in the process that has them: no other process is ever given their ids.

use futures::stream::{self, StreamExt, TryStreamExt};
use sqlx::postgres::PgConnection;

use lockstep_core::{Kind, Result, ids_end};
use lockstep_dynamo::TargetControl;
use lockstep_postgres::sequences::{
    highest_id_in_use, highest_ids, identities_of, identity_of, raise_sequences,
};
use lockstep_postgres::{TableBinding, column_types_of};

/// Sets the id counters of `tables` above the ids of the source, and records the types of their columns. To
/// be called after the flip to the target and before writes are opened: nothing writes the source then.
/// Tables without an identity or serial key are left alone.
///
/// # Errors
/// The drivers'.
///
/// # Cancel safety
/// Repeat it.
#[crate::boxed]
pub async fn seed_identities(
    connection: &mut PgConnection,
    control: &TargetControl,
    tables: &[TableBinding],
) -> Result<()> {
    seed_beyond(connection, control, tables, 0).await
}

/// Number of ids that are passed over where a counter was lost: far more than all processes together have
/// taken in blocks and not used up.
const TAKEN_MAX: i64 = 1 << 20;

/// Sets the id counters of `tables` above every id that was handed out, where that is not known any more. The
/// source must have every row that was written until the counters were lost.
///
/// # Errors
/// The drivers'.
///
/// # Cancel safety
/// Repeat it: it passes over as many ids again, if any was used meanwhile.
#[crate::boxed]
pub async fn seed_identities_again(
    connection: &mut PgConnection,
    control: &TargetControl,
    tables: &[TableBinding],
) -> Result<()> {
    seed_beyond(connection, control, tables, TAKEN_MAX).await
}

async fn seed_beyond(
    connection: &mut PgConnection,
    control: &TargetControl,
    tables: &[TableBinding],
    taken: i64,
) -> Result<()> {
    // Each row that is written there has to fit PostgreSQL when it comes back.
    let types = column_types_of(connection, tables).await?;
    let put = tables.iter().zip(&types).map(|(binding, types)| control.put_columns(binding.name(), types));
    at_once(put).await?;
    let numbered = numbered(connection, tables).await?;
    let highest = highest_ids(connection, &numbered).await?;
    let raise = numbered.iter().zip(highest).map(|((binding, _), highest)| {
        let end = binding.table.key_columns().first().and_then(|column| ids_end(column.sql_type));
        let next = above(highest, taken, end);
        async move { control.seed_ids(binding.name(), next, end).await }
    });
    at_once(raise).await.map(drop)
}

/// Returns the id to begin with, `taken` above the `highest` in use. 1. A table is keyed by a smallint. 2. A
/// counter that was lost begins a million above. 3. There is no such id: nothing can be inserted. So where a
/// type has few ids left, half of them stay.
fn above(highest: i64, taken: i64, end: Option<i64>) -> i64 {
    let left = end.map_or(i64::MAX, |end| end.saturating_sub(highest).max(0));
    highest.saturating_add(taken.min(left / 2)).saturating_add(1).max(1)
}

/// Requests that are under way at once.
const REQUESTS_IN_FLIGHT: usize = 16;

/// Returns the answers of `asked`, in their order.
async fn at_once<T, F: Future<Output = Result<T>>>(asked: impl Iterator<Item = F>) -> Result<Vec<T>> {
    let asked: Vec<F> = asked.collect();
    stream::iter(asked).buffered(REQUESTS_IN_FLIGHT).try_collect().await
}

/// Returns those of `tables` that a sequence numbers, with its name.
async fn numbered<'a>(
    connection: &mut PgConnection,
    tables: &'a [TableBinding],
) -> Result<Vec<(&'a TableBinding, String)>> {
    let sequences = identities_of(connection, tables).await?;
    Ok(tables.iter().zip(sequences).filter_map(|(binding, sequence)| Some((binding, sequence?))).collect())
}

/// Names of those of `tables` whose counters would hand out ids that the source knows already: no order of
/// our writes makes that.
///
/// # Errors
/// The drivers'.
#[crate::boxed]
pub async fn set_back(
    connection: &mut PgConnection,
    control: &TargetControl,
    tables: &[TableBinding],
) -> Result<Vec<String>> {
    let mut behind = Vec::new();
    for binding in tables {
        if identity_of(connection, binding).await?.is_none() {
            continue;
        }
        // In this order: a counter is raised before its ids are used. The sequence says nothing: a writer
        // whom the trigger refused has taken an id of it all the same.
        let highest = highest_id_in_use(connection, binding).await?;
        let is_behind = match control.next_id(binding.name()).await {
            // A value that stands there is no counter: none can be handed out before it is seeded again.
            Err(error) if error.kind == Kind::Misconfigured && error.cause.is_none() => true,
            next => next?.is_some_and(|next| next <= highest),
        };
        if is_behind {
            behind.push(binding.name().to_owned());
        }
    }
    Ok(behind)
}

/// Sets the sequences of `tables` above the id counters. To be called before the source accepts writes again.
///
/// # Errors
/// The drivers'.
///
/// # Cancel safety
/// Repeat it.
#[crate::boxed]
pub async fn raise_source_sequences(
    connection: &mut PgConnection,
    control: &TargetControl,
    tables: &[TableBinding],
) -> Result<()> {
    let numbered = numbered(connection, tables).await?;
    let next = at_once(numbered.iter().map(|(binding, _)| control.next_id(binding.name()))).await?;
    let raise = numbered.into_iter().zip(next);
    let raise =
        raise.filter_map(|((binding, sequence), next)| Some((binding, sequence, next?.saturating_sub(1))));
    let raise: Vec<(&TableBinding, String, i64)> = raise.collect();
    raise_sequences(connection, &raise).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_are_passed_over_leave_some_of_any_type() {
        for (sql_type, highest) in
            [("smallint", 500), ("integer", 2_146_000_000), ("bigint", i64::MAX - (1 << 21))]
        {
            let end = ids_end(sql_type).expect("a number");
            let next = above(highest, TAKEN_MAX, Some(end));
            assert!(next > highest && end - next >= (end - highest) / 2 - 1, "{sql_type}: {next} of {end}");
        }
        assert_eq!(above(500, TAKEN_MAX, ids_end("integer")), 501 + TAKEN_MAX);
        assert_eq!(above(500, 0, None), 501);
        assert_eq!(above(i64::MAX, TAKEN_MAX, ids_end("bigint")), i64::MAX, "there is none left");
    }
}
