//! Rows that waited for too long to be sent are read again, once they have their turn (P19).
//!
//! 1. A chunk has a row that expires next year, and waits: an operator has paused the backfill. 2. The row's
//! expiry is set into the past, which the relay puts. 3. DynamoDB removes the item, and its version with it.
//! 4. The pause ends, and the chunk would put the row as it was, for a year.
//!
//! They are read by their keys, a request at a time, and when the request may be sent: at a rate of a unit a
//! second each batch still gets through, and no chunk is given back that would be read in vain again. It is
//! one small query for each request that waited; a rate that sends what the queue holds within the time has
//! none. The watermark knows nothing of it: the rows of a chunk are settled, whatever became of them since.

use std::sync::atomic::Ordering::Relaxed;

use lockstep_core::{Error as StoreError, Unholdable};
use lockstep_postgres::{KeyBound, RangeProgress};

use super::encode::{Batch, encode};
use super::table::TableRun;
use crate::error::{CoordinatorError, Result};

impl TableRun {
    /// Makes sure that a batch may leave by when it was read, and adds to `done` what needs no sending any
    /// more. `None` where that is all of it.
    ///
    /// # Errors
    /// Either store's.
    pub(super) async fn in_time(&self, batch: Batch, done: &mut RangeProgress) -> Result<Option<Batch>> {
        if batch.read_at.may_leave() {
            return Ok(Some(batch));
        }
        let (source, binding) = (&self.migration.source, &self.binding);
        let unholdable = |why: Unholdable| StoreError::unholdable(binding.name(), &why);
        let keys: std::result::Result<Vec<KeyBound>, Unholdable> =
            (0..batch.len()).map(|index| batch.key(binding, index)).collect();
        let keys = keys.map_err(unholdable)?;
        let reader = self.shared.readers.acquire().await.map_err(|_| CoordinatorError::Interrupted)?;
        let rows = self.of_one_file(|| source.read_rows(binding, &keys)).await?;
        drop(reader);
        let mut encoded = encode(binding, rows, source.now_at_least()).await.map_err(unholdable)?;
        self.progress().rows_expired.fetch_add(encoded.expired as u64, Relaxed);
        for (key, tuple, reason) in &encoded.unholdable {
            self.set_aside_key(key, tuple, &reason.to_string()).await?;
            done.dead_letters += 1;
        }
        // No more rows than keys were asked for, so there is one batch at most.
        let left = encoded.batches.pop();
        let sent = left.as_ref().map_or(0, Batch::len);
        // A row that is gone, or whose key is another one, was captured: the relay has it.
        done.rows_present += (batch.len() - sent - encoded.unholdable.len()) as i64;
        Ok(left)
    }
}
