//! Rows whose items may be given columns while it is undecided what PostgreSQL lost: those that agree in all
//! that was there before.
//!
//! 1. In DynamoOnly PostgreSQL refuses an update, and an operator accepts that it stays behind. 2. The way
//! back goes through, and DynamoDB has the only copy of that state. 3. A column is added and taken. 4. Were
//! each row marked that has a value of it, a relay would put this one over the only copy, unasked.

use std::collections::HashMap;

use lockstep_core::{AnyTable, Attributes, Fields, TargetKey, is_tombstone, place};
use lockstep_dynamo::{Backoff, READ_KEYS_MAX};
use lockstep_postgres::{RangeRead, TableBinding};
use tokio_util::sync::CancellationToken;

use crate::error::{CoordinatorError, Result};
use crate::options::MigrationContext;

/// Rows of one chunk; their keys are asked for a hundred at a time.
const CHUNK_ROWS: usize = 500;

/// Numbers of rows that were looked at.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Agreeing {
    /// Rows that agree in all other columns, and are marked.
    pub(super) marked: u64,
    /// Rows that do not, or have no item, and stay as they are.
    pub(super) left: u64,
}

/// Marks the rows that agree with their items in every column but `columns`.
pub(super) async fn mark(
    migration: &MigrationContext,
    binding: &TableBinding,
    columns: &[String],
    cancel: &CancellationToken,
) -> Result<Agreeing> {
    let (source, table) = (&migration.source, &*binding.table);
    let mut range = RangeRead { rows_max: CHUNK_ROWS, ..RangeRead::default() };
    let mut done = Agreeing::default();
    loop {
        if cancel.is_cancelled() {
            return Err(CoordinatorError::Interrupted);
        }
        let chunk = Backoff::patient().retry(|| source.read_chunk(binding, &range)).await?;
        let tuples: Vec<_> = chunk.tuples().collect();
        let mut keys = Vec::new();
        for some in tuples.chunks(READ_KEYS_MAX) {
            let encoded = some.iter().filter_map(|tuple| {
                let (item, key, _) = table.encode_keyed(&mut Fields::of_copy(tuple)).ok()?;
                let expected = item.into_attributes();
                let at = TargetKey::of(&expected)?;
                Some((tuple, expected, key, at))
            });
            let encoded: Vec<_> = encoded.collect();
            let places: Vec<TargetKey> = encoded.iter().map(|(.., at)| at.clone()).collect();
            let found = migration.target.get_many(&binding.target_name, &places, Backoff::patient()).await?;
            let found: HashMap<String, Attributes> =
                found.into_iter().map(|item| (place(&item), item)).collect();
            for (tuple, expected, key, at) in encoded {
                let item = found.get(&place(&at.to_attributes())).filter(|item| !is_tombstone(item));
                let row = &mut Fields::of_copy(tuple);
                if item.is_some_and(|item| agree_but_for(table, columns, row, expected, item)) {
                    keys.push(key);
                }
            }
        }
        source.mark_for_repair(binding, &keys).await?;
        done.marked += keys.len() as u64;
        done.left += (tuples.len() - keys.len()) as u64;
        if !range.go_on(binding, tuples.len(), tuples.last().copied())? {
            return Ok(done);
        }
    }
}

/// Tells whether a row and its item agree but for those of `columns` that the item has not. What is not of a
/// column, as the keys of indexes, follows from columns, and says nothing by itself.
///
/// 1. In DynamoOnly an item gets a text that is too long for its column, and an operator accepts that
/// PostgreSQL refuses it. 2. After the way back the column is given room: it comes as a column of another
/// type. 3. The item has the only copy of the long text, in this very column.
fn agree_but_for(
    table: &dyn AnyTable,
    columns: &[String],
    row: &mut Fields<'_>,
    mut expected: Attributes,
    item: &Attributes,
) -> bool {
    for column in table.columns() {
        match item.get(column.attribute) {
            Some(value) => expected.insert(column.attribute.to_owned(), value.clone()),
            None if columns.iter().any(|name| name == column.name) => continue,
            None => expected.remove(column.attribute),
        };
    }
    table.differences(row, &expected).is_ok_and(|differing| differing.is_empty())
}
