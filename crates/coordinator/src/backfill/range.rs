//! One range: its chunks are read in order, delivered in any order, and its watermark follows behind (I4).

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use futures::future::{BoxFuture, OptionFuture};
use futures::stream::{FuturesUnordered, StreamExt};
use lockstep_core::Error as StoreError;
use lockstep_postgres::{CopyChunk, KeyBound, RangeProgress, RangeRead, RangeRow};
use tokio::sync::OwnedSemaphorePermit;

use super::TableRun;
use super::encode::encode;
use super::watermark::Watermark;
use crate::error::{Error, Result, require_shape};

/// Rows of the first chunk, before their size is known.
const ROWS_FIRST: usize = 500;
/// Bounds of the adapted number of rows: one request at least, and no statement that runs for long.
const ROWS_MIN: usize = 25;
const ROWS_MAX: usize = 20_000;

/// A chunk, and the room in the queue that it takes until it is settled.
type ReadChunk = (CopyChunk, OwnedSemaphorePermit);

/// A chunk that is settled.
struct Settled {
    number: u64,
    progress: RangeProgress,
}

impl TableRun {
    /// Moves one range from its watermark to its end.
    #[tracing::instrument(level = "error", skip_all, fields(table = self.binding.name(), range = range.number))]
    pub(super) async fn range(self: Arc<Self>, range: RangeRow) -> Result<()> {
        let mut watermark = Watermark::default();
        let mut delivering: FuturesUnordered<BoxFuture<'_, Result<Settled>>> = FuturesUnordered::new();
        let mut read = RangeRead {
            after: range.watermark.clone().or_else(|| range.lower.clone()),
            until: range.upper.clone(),
            rows_max: ROWS_FIRST,
            window: self.window.clone(),
            bytes_expected: 0,
        };
        let mut at_end = false;
        // Kept across turns: a read that was dropped because a delivery ended first would be made again.
        let mut reading: Option<BoxFuture<'_, Result<ReadChunk>>> = None;
        while !at_end || !delivering.is_empty() {
            if !at_end && reading.is_none() {
                reading = Some(Box::pin(self.next_chunk(read.clone())));
            }
            tokio::select! {
                biased;
                () = self.cancel.cancelled() => return Err(Error::Interrupted),
                Some(settled) = delivering.next(), if !delivering.is_empty() => {
                    let settled = settled?;
                    self.settle(&range, &mut watermark, &settled).await?;
                }
                Some(next) = OptionFuture::from(reading.as_mut()) => {
                    reading = None;
                    let (chunk, permit) = next?;
                    let bytes = chunk.bytes();
                    let encoded = encode(&self.binding, chunk).await.map_err(|e| StoreError::unholdable(self.binding.name(), &e))?;
                    self.progress().rows_read.fetch_add(encoded.rows as u64, Relaxed);
                    self.progress().bytes_read.fetch_add(bytes as u64, Relaxed);
                    at_end = encoded.rows < read.rows_max;
                    read.rows_max = rows_for(self.migration.options.backfill.chunk_bytes, bytes, encoded.rows);
                    read.expect_like(bytes, encoded.rows);
                    read.after = encoded.last_key.clone().or(read.after);
                    let number = watermark.read(encoded.last_key.clone());
                    let run = &self;
                    delivering.push(Box::pin(async move {
                        let progress = run.deliver_chunk(encoded, bytes).await?;
                        drop(permit);
                        Ok(Settled { number, progress })
                    }));
                }
            }
        }
        debug_assert!(watermark.is_settled(), "I4: the range ended with a chunk under way");
        self.migration
            .source
            .move_watermark(self.binding.name(), range.number, None, true, RangeProgress::default())
            .await
            .map_err(Into::into)
    }

    /// Reads a chunk once there is room for it.
    async fn next_chunk(&self, read: RangeRead) -> Result<ReadChunk> {
        let backfill = &self.migration.options.backfill;
        let kib = (backfill.chunk_bytes / 1024).clamp(1, (backfill.queue_bytes_max / 1024).max(1));
        let closed = |_| Error::Interrupted;
        let room = Arc::clone(&self.shared.queue_kib).acquire_many_owned(kib as u32).await.map_err(closed)?;
        let _reader = self.shared.readers.acquire().await.map_err(closed)?;
        let chunk = self.migration.source.read_chunk(&self.binding, &read).await?;
        let now = self.migration.source.fingerprint(&self.binding).await?;
        require_shape(&self.binding, &self.fingerprint, &now)?;
        Ok((chunk, room))
    }

    async fn deliver_chunk(&self, encoded: super::encode::Encoded, bytes: usize) -> Result<RangeProgress> {
        let mut sum = RangeProgress {
            rows_read: encoded.rows as i64,
            bytes_read: bytes as i64,
            ..RangeProgress::default()
        };
        for (key, tuple, reason) in &encoded.unholdable {
            self.set_aside_key(key, tuple, &reason.to_string()).await?;
            sum.dead_letters += 1;
        }
        let mut batches: FuturesUnordered<_> =
            encoded.batches.into_iter().map(|batch| self.deliver(batch)).collect();
        while let Some(done) = batches.next().await {
            sum += done?;
        }
        let settled = sum.rows_written + sum.rows_present + sum.dead_letters;
        assert_eq!(settled, sum.rows_read, "I4: a chunk is settled when each of its rows is");
        Ok(sum)
    }

    async fn settle(&self, range: &RangeRow, watermark: &mut Watermark, settled: &Settled) -> Result<()> {
        self.progress().rows_written.fetch_add(settled.progress.rows_written as u64, Relaxed);
        self.progress().rows_present.fetch_add(settled.progress.rows_present as u64, Relaxed);
        if let Some(advance) = watermark.settle(settled.number, settled.progress) {
            let key: Option<&KeyBound> = advance.key.as_ref();
            self.migration
                .source
                .move_watermark(self.binding.name(), range.number, key, false, advance.progress)
                .await?;
        }
        Ok(())
    }
}

/// How many rows make a chunk of about `target` bytes, judged by the one before.
fn rows_for(target: usize, bytes: usize, rows: usize) -> usize {
    let per_row = bytes / rows.max(1);
    (target / per_row.max(1)).clamp(ROWS_MIN, ROWS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_sized_by_bytes() {
        assert_eq!(rows_for(512 * 1024, 600 * 500, 500), 873);
        assert_eq!(rows_for(512 * 1024, 300_000 * 10, 10), ROWS_MIN);
        assert_eq!(rows_for(512 * 1024, 500, 500), ROWS_MAX);
        assert_eq!(rows_for(512 * 1024, 0, 0), ROWS_MAX);
    }
}
