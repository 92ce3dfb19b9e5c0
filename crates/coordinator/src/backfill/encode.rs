//! Encoding of a chunk of PostgreSQL's bytes to batches of items, on rayon.

use std::ops::Range;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use lockstep_core::{AttributeValue, Fields, Index, Item, TTL_ATTRIBUTE, Unholdable};
use lockstep_dynamo::{ReadAt, STATEMENTS_MAX};
use lockstep_postgres::{CopyChunk, KeyBound, TableBinding};
use tokio::sync::oneshot;

use super::chunk::RowsAt;

/// For how long a row must have been past its expiry to be left behind: longer than any clock is wrong.
const EXPIRED_FOR: TimeDelta = TimeDelta::days(1);

/// A chunk whose rows have been found and encoded.
pub(super) struct Encoded {
    /// Batches of up to [`STATEMENTS_MAX`] rows.
    pub(super) batches: Vec<Batch>,
    /// Rows that cannot be held: their keys, what was read of them, and why.
    pub(super) unholdable: Vec<(KeyBound, Vec<u8>, Unholdable)>,
    /// Rows that are long past their expiry, and are not brought over: each would cost a write now and a
    /// removal later, and what expired more than five years ago DynamoDB never removes.
    pub(super) expired: usize,
    /// Number of rows that the chunk has.
    pub(super) rows: usize,
    /// The key of its last row.
    pub(super) last_key: Option<KeyBound>,
}

/// Rows of one request. The bytes stay with it, so that a row can be encoded again for a retry: the first
/// sending consumes the items, and keeping a copy of each would cost more than encoding the few that are sent
/// twice.
pub(super) struct Batch {
    chunk: Arc<CopyChunk>,
    rows: Vec<Range<usize>>,
    items: Vec<Item>,
    /// The time from which it may be sent for a while.
    pub(super) read_at: ReadAt,
    /// Write units of the whole batch.
    pub(super) units: f64,
}

/// Encodes a chunk on rayon; by `now` rows have expired.
///
/// # Errors
/// When the key of a row cannot border a range, which no table of a supported shape can have.
pub(super) async fn encode(
    binding: &TableBinding,
    rows: RowsAt,
    now: DateTime<Utc>,
) -> Result<Encoded, Unholdable> {
    let binding = binding.clone();
    let (send, receive) = oneshot::channel();
    rayon::spawn(move || {
        // The receiver is gone only when the run was cancelled.
        let _ = send.send(encode_now(&binding, rows, now));
    });
    receive.await.unwrap_or_else(|_| Err(Unholdable::because("encoding panicked; see the log")))
}

/// Returns when an item expires, in seconds since 1970.
fn expires_at_s(item: &Item) -> Option<i64> {
    match item.get(TTL_ATTRIBUTE) {
        Some(AttributeValue::N(at_s)) => at_s.parse().ok(),
        _ => None,
    }
}

fn encode_now(
    binding: &TableBinding,
    (chunk, read_at): RowsAt,
    now: DateTime<Utc>,
) -> Result<Encoded, Unholdable> {
    let chunk = Arc::new(chunk);
    let mut encoded =
        Encoded { batches: Vec::new(), unholdable: Vec::new(), expired: 0, rows: 0, last_key: None };
    let expired_before_s = (now - EXPIRED_FOR).timestamp();
    let indexes = binding.table.target().indexes;
    let mut batch = Batch::new(&chunk, read_at);
    let mut last = None;
    for row in chunk.rows() {
        encoded.rows += 1;
        last = Some(row.clone());
        match binding.table.encode(&mut Fields::of_copy(chunk.row(&row))) {
            Ok(item) if expires_at_s(&item).is_some_and(|at_s| at_s < expired_before_s) => {
                encoded.expired += 1
            }
            Ok(item) => batch.push(row, item, indexes),
            Err(reason) => {
                let tuple = chunk.row(&row);
                encoded.unholdable.push((binding.bound_of(tuple)?, tuple.to_vec(), reason));
            }
        }
        if batch.rows.len() == STATEMENTS_MAX {
            encoded.batches.push(std::mem::replace(&mut batch, Batch::new(&chunk, read_at)));
        }
    }
    if !batch.rows.is_empty() {
        encoded.batches.push(batch);
    }
    encoded.last_key = last.map(|row| binding.bound_of(chunk.row(&row))).transpose()?;
    Ok(encoded)
}

impl Batch {
    fn new(chunk: &Arc<CopyChunk>, read_at: ReadAt) -> Self {
        Self {
            chunk: chunk.clone(),
            rows: Vec::with_capacity(STATEMENTS_MAX),
            items: Vec::with_capacity(STATEMENTS_MAX),
            read_at,
            units: 0.0,
        }
    }

    /// Returns the row at `index` as a batch of its own, to be encoded by [`Batch::again`].
    pub(super) fn only(&self, index: usize) -> Self {
        let rows = vec![self.rows[index].clone()];
        Self { chunk: self.chunk.clone(), rows, items: Vec::new(), read_at: self.read_at, units: 0.0 }
    }

    fn push(&mut self, row: Range<usize>, item: Item, indexes: &[Index]) {
        self.units += item.write_units_with(indexes) as f64;
        self.rows.push(row);
        self.items.push(item);
    }

    /// Returns the items for the first sending.
    pub(super) fn take_items(&mut self) -> Vec<Item> {
        std::mem::take(&mut self.items)
    }

    /// Narrows the batch to the rows at `indices` and encodes them again.
    pub(super) fn again(&mut self, binding: &TableBinding, indices: &[usize]) -> Vec<Item> {
        self.rows = indices.iter().map(|index| self.rows[*index].clone()).collect();
        let items: Vec<Item> = self.rows.iter().filter_map(|row| self.encode_row(binding, row)).collect();
        assert_eq!(items.len(), self.rows.len(), "a row that was encoded once is encoded again");
        let indexes = binding.table.target().indexes;
        self.units = items.iter().map(|item| item.write_units_with(indexes) as f64).sum();
        items
    }

    fn encode_row(&self, binding: &TableBinding, row: &Range<usize>) -> Option<Item> {
        binding.table.encode(&mut Fields::of_copy(self.chunk.row(row))).ok()
    }

    /// Encodes all of its rows again.
    pub(super) fn whole(&mut self, binding: &TableBinding) -> Vec<Item> {
        self.again(binding, &(0..self.rows.len()).collect::<Vec<_>>())
    }

    /// Returns how many rows it has now.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Returns the bytes that were read of the row at `index`.
    pub(super) fn tuple(&self, index: usize) -> &[u8] {
        self.chunk.row(&self.rows[index])
    }

    /// Returns the primary key of the row at `index`.
    pub(super) fn key(&self, binding: &TableBinding, index: usize) -> Result<KeyBound, Unholdable> {
        binding.bound_of(self.chunk.row(&self.rows[index]))
    }
}
