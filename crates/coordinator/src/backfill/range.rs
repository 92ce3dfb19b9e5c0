//! One range: its chunks are read in order, delivered in any order, and its watermark follows behind (I4).

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use futures::future::{BoxFuture, OptionFuture};
use futures::stream::{FuturesUnordered, StreamExt};
use lockstep_core::Error as StoreError;
use lockstep_dynamo::LoadPath;
use lockstep_postgres::{HeldRange, RangeProgress};

use super::chunk::ReadChunk;
use super::encode::encode;
use super::lease::WorkerLease;
use super::piece::{Chunk, Piece};
use super::table::TableRun;
use super::watermark::Watermark;
use crate::error::{CoordinatorError, Result};

/// Chunks of a range that are moved before it is split, and that what is left must have.
const SPLIT_CHUNKS: usize = 4;

/// End of a range for this worker.
#[derive(Debug)]
pub(super) enum RangeEnd {
    /// It is done.
    Done,
    /// It is no longer this worker's; nothing was acknowledged under a lease that was over.
    Lost {
        /// Name of the table.
        table: String,
        /// Number of the range.
        number: i32,
    },
}

/// A chunk that is finished.
struct Finished {
    number: u64,
    progress: RangeProgress,
}

impl TableRun {
    /// Moves one range from its watermark to its end, or for as long as it is this worker's.
    #[tracing::instrument(
        level = "error",
        skip_all,
        fields(table = held.table_name, range = held.range.number)
    )]
    pub(super) async fn range(self: Arc<Self>, mut held: HeldRange) -> Result<RangeEnd> {
        if let Some(import) = self.import.as_ref().filter(|_| self.path == LoadPath::Import) {
            return self.range_to_parts(import, held).await;
        }
        let mut watermark = Watermark::default();
        let mut delivering: FuturesUnordered<BoxFuture<'_, Result<Finished>>> = FuturesUnordered::new();
        let mut piece = Piece::of(&held, &self.window);
        let (mut at_end, mut others_idle, mut chunks) = (false, false, 0);
        // Kept across turns: a read that was dropped because a delivery ended first would be made again.
        let mut reading: Option<BoxFuture<'_, Result<Option<ReadChunk>>>> = None;
        while !at_end || !delivering.is_empty() {
            if !at_end && reading.is_none() {
                if others_idle && chunks >= SPLIT_CHUNKS {
                    // Only here: nothing behind the chunk that was read last is being read.
                    self.split(&mut held, &mut piece).await?;
                    (others_idle, chunks) = (false, 0);
                }
                reading = Some(Box::pin(self.next_chunk(piece.clone())));
            }
            tokio::select! {
                biased;
                () = self.cancel.cancelled() => return Err(CoordinatorError::Interrupted),
                () = self.lease.over() => return Err(WorkerLease::ended()),
                Some(finished) = delivering.next(), if !delivering.is_empty() => {
                    match self.finish(&held, &mut watermark, &finished?).await? {
                        Some(idle) => others_idle |= idle,
                        None => return Ok(RangeEnd::of(held)),
                    }
                }
                Some(next) = OptionFuture::from(reading.as_mut()) => {
                    reading = None;
                    let Some((rows, permit)) = next? else { return Ok(RangeEnd::of(held)) };
                    let bytes = rows.0.bytes();
                    let encoded = encode(&self.binding, rows, self.migration.source.now_at_least())
                        .await
                        .map_err(|why| StoreError::unholdable(self.binding.name(), &why))?;
                    self.progress().rows_read.fetch_add(encoded.rows as u64, Relaxed);
                    self.progress().bytes_read.fetch_add(bytes as u64, Relaxed);
                    let chunk_bytes = self.migration.options.backfill.chunk_bytes;
                    let read = Chunk { rows: encoded.rows, bytes, last_key: encoded.last_key.clone() };
                    let (mark, is_last) = piece.go_on(read, chunk_bytes);
                    (at_end, chunks) = (is_last, chunks + 1);
                    let number = watermark.read(mark);
                    let run = &self;
                    delivering.push(Box::pin(async move {
                        let progress = run.deliver_chunk(encoded, bytes).await?;
                        drop(permit);
                        Ok(Finished { number, progress })
                    }));
                }
            }
        }
        debug_assert!(watermark.is_finished(), "I4: the range ended with a chunk under way");
        let done = self.migration.source.move_watermark(&held, None, true, RangeProgress::default()).await?;
        if done.is_none() {
            return Ok(RangeEnd::of(held));
        }
        self.progress().range_ended();
        Ok(RangeEnd::Done)
    }

    /// Gives the second half of what is not read yet to workers that have none, if it is worth it.
    async fn split(&self, held: &mut HeldRange, piece: &mut Piece) -> Result<()> {
        let source = &self.migration.source;
        match piece {
            Piece::Blocks { next, end } => {
                let left = *end - next.from;
                if left < (SPLIT_CHUNKS as i64 * (next.until - next.from)).max(2) {
                    return Ok(());
                }
                let middle = next.from + left / 2;
                if source.split_blocks(held, middle).await? {
                    (*end, held.range.until_block) = (middle, Some(middle));
                    next.until = middle.min(next.until);
                }
            }
            Piece::Keys(read) => {
                let (Some(percent), Some(until)) = (self.sample_percent, read.until.as_ref()) else {
                    return Ok(());
                };
                let between = (read.after.as_ref(), until);
                let Some((middle, sampled)) = source.middle_key(&self.binding, between, percent).await?
                else {
                    return Ok(());
                };
                let rows_left = sampled as f64 * 100.0 / percent;
                if rows_left < (SPLIT_CHUNKS * read.rows_max) as f64 {
                    return Ok(());
                }
                if source.split_range(held, &middle).await? {
                    read.until = Some(middle.clone());
                    held.range.upper = Some(middle);
                }
            }
        }
        Ok(())
    }

    async fn deliver_chunk(&self, encoded: super::encode::Encoded, bytes: usize) -> Result<RangeProgress> {
        let mut sum = RangeProgress {
            rows_read: encoded.rows as i64,
            bytes_read: bytes as i64,
            ..RangeProgress::default()
        };
        // Nothing is to be done about them, as about those that are there.
        sum.rows_present += encoded.expired as i64;
        self.progress().rows_expired.fetch_add(encoded.expired as u64, Relaxed);
        for (key, tuple, reason) in &encoded.unholdable {
            self.set_aside_key(key, tuple, &reason.to_string()).await?;
            sum.dead_letters += 1;
        }
        let mut batches: FuturesUnordered<_> =
            encoded.batches.into_iter().map(|batch| self.deliver(batch)).collect();
        while let Some(done) = batches.next().await {
            sum += done?;
        }
        let finished = sum.rows_written + sum.rows_present + sum.dead_letters;
        assert_eq!(finished, sum.rows_read, "I4: a chunk is finished when each of its rows is");
        Ok(sum)
    }

    /// Acknowledges what is finished; says whether other workers wait for a range, or that this one is
    /// theirs.
    async fn finish(
        &self,
        held: &HeldRange,
        watermark: &mut Watermark,
        finished: &Finished,
    ) -> Result<Option<bool>> {
        self.progress().rows_written.fetch_add(finished.progress.rows_written as u64, Relaxed);
        self.progress().rows_present.fetch_add(finished.progress.rows_present as u64, Relaxed);
        let Some(advance) = watermark.finish(finished.number, finished.progress) else {
            return Ok(Some(false));
        };
        let key = advance.key.as_ref();
        let moved = self.migration.source.move_watermark(held, key, false, advance.progress).await?;
        Ok(moved.map(|moved| moved.idle_workers > 0))
    }
}

impl RangeEnd {
    pub(super) fn of(lost: HeldRange) -> Self {
        Self::Lost { table: lost.table_name, number: lost.range.number }
    }
}
