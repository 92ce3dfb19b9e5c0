//! A range on its way to an import: its rows go into files or objects, and the watermark follows file by file
//! (I4).

use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;

use lockstep_core::Advice::ImportFolder;
use lockstep_core::{Error as StoreError, Kind};
use lockstep_postgres::{HeldRange, ImportRow, KeyBound, PartRow, RangeProgress};

use super::encode::{Batch, encode};
use super::lease::WorkerLease;
use super::piece::{Chunk, Piece};
use super::range::RangeEnd;
use super::table::TableRun;
use crate::error::{CoordinatorError, Result};
use crate::import::{self, Part, lines_of};

/// Rows that have been read and are not behind the watermark.
#[derive(Default)]
struct Unsaved {
    part: Option<Part>,
    progress: RangeProgress,
    mark: Option<KeyBound>,
}

impl TableRun {
    /// Writes one range as parts, from its watermark to its end, or for as long as it is this worker's.
    ///
    /// The name of a part has the number of the lease in it: a worker that was stopped, lost its range and
    /// wakes writes over no file of its successor.
    pub(super) async fn range_to_parts(&self, import: &ImportRow, held: HeldRange) -> Result<RangeEnd> {
        let mut piece = Piece::of(&held, &self.window);
        let (mut unsaved, mut number, mut at_end) = (Unsaved::default(), 0, false);
        while !at_end {
            let next = tokio::select! {
                biased;
                () = self.cancel.cancelled() => return Err(CoordinatorError::Interrupted),
                () = self.lease.over() => return Err(WorkerLease::ended()),
                next = self.next_chunk(piece.clone()) => next?,
            };
            let Some((rows, room)) = next else { return Ok(RangeEnd::of(held)) };
            let bytes = rows.0.bytes();
            let encoded = encode(&self.binding, rows, self.migration.source.now_at_least())
                .await
                .map_err(|why| StoreError::unholdable(self.binding.name(), &why))?;
            self.progress().rows_read.fetch_add(encoded.rows as u64, Relaxed);
            self.progress().bytes_read.fetch_add(bytes as u64, Relaxed);
            self.progress().rows_expired.fetch_add(encoded.expired as u64, Relaxed);
            let read = Chunk { rows: encoded.rows, bytes, last_key: encoded.last_key };
            let (mark, is_last) = piece.go_on(read, self.migration.options.backfill.chunk_bytes);
            at_end = is_last;
            let sum = &mut unsaved.progress;
            sum.rows_read += encoded.rows as i64;
            sum.bytes_read += bytes as i64;
            sum.rows_present += encoded.expired as i64;
            for (key, tuple, reason) in &encoded.unholdable {
                self.set_aside_key(key, tuple, &reason.to_string()).await?;
                sum.dead_letters += 1;
            }
            sum.rows_written += encoded.batches.iter().map(|batch| batch.len() as i64).sum::<i64>();
            unsaved.mark = mark.or(unsaved.mark);
            if unsaved.part.is_none() {
                number += 1;
            }
            let name = format!("{:06}-{}-{number:06}.json.gz", held.range.number, held.token);
            unsaved.part = Some(self.write(import, name, unsaved.part.take(), encoded.batches).await?);
            drop(room);
            let is_full = unsaved.part.as_ref().is_some_and(|part| part.bytes >= import.part_bytes as u64);
            if (is_full || at_end) && !self.save(import, &held, std::mem::take(&mut unsaved)).await? {
                return Ok(RangeEnd::of(held));
            }
        }
        let done = self.migration.source.move_watermark(&held, None, true, RangeProgress::default()).await?;
        if done.is_none() {
            return Ok(RangeEnd::of(held));
        }
        self.progress().range_ended();
        Ok(RangeEnd::Done)
    }

    async fn write(
        &self,
        import: &ImportRow,
        name: String,
        part: Option<Part>,
        batches: Vec<Batch>,
    ) -> Result<Part> {
        let folder = (!import.direct).then(|| PathBuf::from(&import.folder));
        let naming = self.binding.table.naming();
        let writing = move || {
            let mut part = match part {
                Some(part) => part,
                None => match &folder {
                    Some(folder) => Part::begin(folder, &name)?,
                    None => Part::in_memory(&name),
                },
            };
            let mut lines = Vec::new();
            for mut batch in batches {
                let items = batch.take_items();
                let count = items.len();
                lines_of(items, &naming, &mut lines)?;
                part.add(&lines, count)?;
                lines.clear();
            }
            Ok(part)
        };
        self.on_disk(writing).await
    }

    /// Makes a part of what was written, and moves the watermark behind it; `false` where the range is lost.
    async fn save(&self, import: &ImportRow, held: &HeldRange, unsaved: Unsaved) -> Result<bool> {
        let Unsaved { part, progress, mark } = unsaved;
        let finished = progress.rows_written + progress.rows_present + progress.dead_letters;
        assert_eq!(finished, progress.rows_read, "I4: a part is finished when each of its rows is");
        let Some(mark) = mark else { return Ok(true) };
        self.lease.require()?;
        let source = &self.migration.source;
        let saved = match part.filter(|part| !part.is_empty()) {
            Some(part) => {
                let (mut whole, body): (PartRow, _) = self.on_disk(move || part.finish()).await?;
                if let Some(body) = body {
                    let Some(bucket) = self.bucket.as_ref() else {
                        // It had been asked for a job when this turn began.
                        return self.require_same(import).await.map(|()| false);
                    };
                    let key = format!("{}{}", import.prefix, whole.name);
                    whole.e_tag = tokio::select! {
                        biased;
                        () = self.cancel.cancelled() => return Err(CoordinatorError::Interrupted),
                        () = self.lease.over() => return Err(WorkerLease::ended()),
                        put = import::put(bucket, &key, body) => put?,
                    };
                }
                source.acknowledge_part(held, &mark, progress, (import, &whole)).await?
            }
            None => source.move_watermark(held, Some(&mark), false, progress).await?.is_some(),
        };
        if saved {
            self.progress().rows_written.fetch_add(progress.rows_written as u64, Relaxed);
            self.progress().rows_present.fetch_add(progress.rows_present as u64, Relaxed);
        } else {
            self.require_same(import).await?;
        }
        Ok(saved)
    }

    /// Ends the work for an import that is another one by now, or none.
    ///
    /// 1. A worker writes parts, and an operator begins the import again, or gives it up. 2. The ranges of
    /// the new plan are free, and the worker takes them for the import that it knows. 3. Each part of it is
    /// refused, and each range is held by it without an end.
    async fn require_same(&self, import: &ImportRow) -> Result<()> {
        let name = self.binding.name();
        let now = self.migration.source.import(name).await?;
        if now.is_some_and(|now| now.begun_at == import.begun_at && now.state == "writing") {
            return Ok(());
        }
        let why = "the import was begun again, or given up, meanwhile; its ranges are taken again";
        Err(StoreError::source(Kind::Busy, format!("writing parts of {name}"), why).into())
    }

    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
    ) -> Result<T> {
        let done = tokio::task::spawn_blocking(work).await.map_err(CoordinatorError::from)?;
        done.map_err(|error| CoordinatorError::ImportFailed {
            table: self.binding.name().to_owned(),
            why: format!(
                "a part could not be written: {error}; make room, or set \
                    {ImportFolder}, and run it again"
            ),
        })
    }
}
