//! One chunk: what is read of a range at once, and whether it counts.

use std::sync::Arc;

use lockstep_core::Result as StoreResult;
use lockstep_dynamo::ReadAt;
use lockstep_postgres::{BlockRead, CopyChunk, RangeRead, is_moved};
use tokio::sync::OwnedSemaphorePermit;

use super::cut;
use super::piece::Piece;
use super::table::TableRun;
use crate::error::{CoordinatorError, Result, read_of_the_shape, require_shape_now};

/// Rows, and a moment before the snapshot that they are of: what is put of them later outlives an insert that
/// leaves in time.
pub(super) type RowsAt = (CopyChunk, ReadAt);

/// A chunk, and the room in the queue that it takes until it is finished.
pub(super) type ReadChunk = (RowsAt, OwnedSemaphorePermit);

impl TableRun {
    /// Reads a chunk once there is room for it. `None` where the blocks that it is of are no more the
    /// table's: its ranges begin again then, and this one is lost.
    pub(super) async fn next_chunk(&self, piece: Piece) -> Result<Option<ReadChunk>> {
        let backfill = &self.migration.options.backfill;
        let kib = (backfill.chunk_bytes / 1024).clamp(1, (backfill.queue_bytes_max / 1024).max(1));
        let closed = |_| CoordinatorError::Interrupted;
        let room = Arc::clone(&self.shared.queue_kib).acquire_many_owned(kib as u32).await.map_err(closed)?;
        let _reader = self.shared.readers.acquire().await.map_err(closed)?;
        self.lease.require()?;
        let chunk = match &piece {
            Piece::Keys(read) => Some(self.chunk_of_keys(read).await?),
            Piece::Blocks { next, .. } => self.chunk_of_blocks(next).await?,
        };
        Ok(chunk.map(|chunk| (chunk, room)))
    }

    /// Reads by keys, and once more where the table has got another file meanwhile.
    ///
    /// 1. pg_repack has copied a table; a row is changed. 2. Capture begins, and a chunk waits for the lock
    ///    under which pg_repack swaps the files. A `COPY` of a query has taken its snapshot by then. 3. Under
    ///    the lock pg_repack carries the change over, in the transaction that swaps. 4. The chunk reads the
    ///    new file, and by its snapshot the row is as it was before. The change is from before capture, so no
    ///    mark repairs that.
    async fn chunk_of_keys(&self, read: &RangeRead) -> Result<RowsAt> {
        self.of_one_file(|| self.migration.source.read_chunk(&self.binding, read)).await
    }

    /// As [`TableRun::chunk_of_keys`], whatever it is that is read.
    pub(super) async fn of_one_file<F>(&self, read: impl Fn() -> F) -> Result<RowsAt>
    where
        F: Future<Output = StoreResult<CopyChunk>>,
    {
        let (source, binding) = (&self.migration.source, &self.binding);
        loop {
            let (before, at) = (self.seen(), self.migration.target.reading());
            let chunk = read_of_the_shape(source, binding, &self.fingerprint, read()).await?;
            let now = require_shape_now(source, binding, &self.fingerprint).await?;
            if !is_moved(&before, &now) {
                return Ok((chunk, at));
            }
            self.see(now);
        }
    }

    async fn chunk_of_blocks(&self, read: &BlockRead) -> Result<Option<RowsAt>> {
        let (source, binding) = (&self.migration.source, &self.binding);
        let at = self.migration.target.reading();
        let reading = source.read_blocks(binding, read);
        let chunk = read_of_the_shape(source, binding, &self.fingerprint, reading).await?;
        require_shape_now(source, binding, &self.fingerprint).await?;
        if chunk.is_none() {
            cut::begin_again(&self.migration, binding, &read.file).await?;
        }
        Ok(chunk.map(|chunk| (chunk, at)))
    }
}
