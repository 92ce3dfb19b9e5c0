//! The ledger itself: what passes enter into it, and the comparison of a partition.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::entry::Entry;
use super::folder::{Begun, Folder, Manifest};
use super::join::{Difference, Join};
use super::layout::Layout;
use super::pass::{Counted, Cursor, Pass, Piece};
use super::side::Side;
use super::spool::Spool;
use super::sums::{BUCKETS_PER_PARTITION, Sums, bucket_of};
use crate::print::Printer;

#[derive(Debug)]
pub(super) struct Page {
    pub(super) sums: Sums,
    /// One a partition, and one of what was set aside.
    pub(super) spools: Vec<Spool>,
    pub(super) pass: Pass,
    /// Whether an entry could not be written, so that spools and cursors are not of one moment any more.
    pub(super) broken: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Ledger {
    /// Seed of its prints, so that those of one ledger are comparable and no writer can prepare two that
    /// collide.
    pub(super) seed: u64,
    pub(super) partitions: usize,
    pub(super) source: Mutex<Page>,
    pub(super) target: Mutex<Page>,
    pub(super) kept: Option<(Folder, Manifest)>,
    /// Whether what is kept was forgotten. Held by the task that writes to the folder: of two checkpoints at
    /// once one would put half of the other's manifest in place, and one after the end would bring a finished
    /// run back.
    pub(super) is_over: Mutex<bool>,
}

/// Entries that a worker read of its piece in one go.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// Entries to compare.
    pub(crate) entries: Vec<Entry>,
    /// Entries that have no place in a bucket; the ledger does not look inside.
    pub(crate) aside: Vec<Vec<u8>>,
    pub(crate) counted: Counted,
    /// The number of the piece.
    pub(crate) piece: usize,
    /// Position at which to go on; `None` when the piece is done.
    pub(crate) after: Option<Cursor>,
}

impl Ledger {
    /// Makes an empty one for a table of about `rows` rows, whose passes have these pieces before them, and
    /// which may take about `memory_bytes`. In a folder it is kept. Its prints are made under `seed`, or
    /// under one that cannot be known before.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub(crate) fn new(
        rows: i64,
        memory_bytes: usize,
        pieces: (Vec<Piece>, Vec<Piece>),
        seed: Option<u64>,
        kept: Option<(Folder, String, Begun)>,
    ) -> io::Result<Self> {
        let layout = Layout::new(rows, memory_bytes, seed);
        let kept = match kept {
            None => None,
            Some((folder, identity, begun)) => {
                folder.clear()?;
                Some((folder, Manifest::new(identity, begun, layout.seed, layout.partitions)))
            }
        };
        Self::of_layout(layout, memory_bytes, pieces, kept)
    }

    pub(super) fn of_layout(
        layout: Layout,
        memory_bytes: usize,
        pieces: (Vec<Piece>, Vec<Piece>),
        kept: Option<(Folder, Manifest)>,
    ) -> io::Result<Self> {
        let Layout { seed, partitions } = layout;
        let in_memory_bytes = memory_bytes / 16 / (2 * partitions + 2);
        let page = |side: Side, pieces| {
            let spool = |number| match &kept {
                None => Ok(Spool::temporary(in_memory_bytes)),
                Some((folder, _)) => Spool::kept(&folder.spool(side.label(), number), 0),
            };
            let spools = (0..=partitions).map(spool).collect::<io::Result<_>>()?;
            let sums = Sums::none(partitions);
            Ok::<_, io::Error>(Mutex::new(Page { sums, spools, pass: Pass::of(pieces), broken: false }))
        };
        let (source, target) = (page(Side::Source, pieces.0)?, page(Side::Target, pieces.1)?);
        let ledger = Self { seed, partitions, source, target, kept, is_over: Mutex::new(false) };
        ledger.checkpoint()?;
        Ok(ledger)
    }

    pub(crate) fn is_kept(&self) -> bool {
        self.kept.is_some()
    }

    /// Makes the prints of its entries.
    pub(crate) fn printer(&self) -> Printer {
        Printer::new(self.seed)
    }

    pub(crate) fn partitions(&self) -> usize {
        self.partitions
    }

    pub(crate) fn buckets(&self) -> usize {
        self.partitions * BUCKETS_PER_PARTITION
    }

    /// Returns how far the pass of a side is.
    pub(crate) fn pass(&self, side: Side) -> Pass {
        self.page(side).pass.clone()
    }

    /// Writes down what a worker read, and how far it has come with that. It may have to wait for a disk, so
    /// not on an async thread.
    ///
    /// # Errors
    /// When a file cannot be written. The entries may then be there in part, so the run ends.
    pub(crate) fn enter(&self, side: Side, batch: Batch) -> io::Result<()> {
        let mut page = self.page(side);
        let page = &mut *page;
        page.broken = true;
        for entry in &batch.entries {
            let bucket = page.sums.add(entry);
            page.spools[bucket / BUCKETS_PER_PARTITION].push(entry)?;
        }
        for name in batch.aside {
            page.spools[self.partitions].push(&Entry::aside(name))?;
        }
        page.pass.counted += batch.counted;
        let piece = &mut page.pass.pieces[batch.piece];
        match batch.after {
            Some(after) => piece.after = Some(after),
            None => piece.done = true,
        }
        page.broken = false;
        Ok(())
    }

    /// Reads back what a pass set aside.
    ///
    /// # Errors
    /// When a file cannot be read back.
    pub(crate) fn asides(&self, side: Side, mut each: impl FnMut(Vec<u8>)) -> io::Result<()> {
        self.page(side).spools[self.partitions].read(|entry| each(entry.name))
    }

    /// Compares a partition that both passes have read to the end.
    ///
    /// # Errors
    /// When a file cannot be read back.
    pub(crate) fn compare(&self, partition: usize) -> io::Result<Difference> {
        let first = partition * BUCKETS_PER_PARTITION;
        let (mut source, mut target) = (self.page(Side::Source), self.page(Side::Target));
        let mut difference = Difference::default();
        let mut is_differing = [false; BUCKETS_PER_PARTITION];
        for (number, is_differing) in is_differing.iter_mut().enumerate() {
            *is_differing = !source.sums.is_equal(&target.sums, first + number);
            match *is_differing {
                true => difference.buckets_differing += 1,
                false => difference.equal += source.sums.count(first + number),
            }
        }
        if difference.buckets_differing == 0 {
            return Ok(difference);
        }
        let buckets = self.buckets();
        let is_wanted = |entry: &Entry| is_differing[bucket_of(buckets, entry.print.place) - first];
        let mut join = Join::from(difference);
        target.spools[partition].read(|item| {
            if is_wanted(&item) {
                join.item(item);
            }
        })?;
        source.spools[partition].read(|row| {
            if is_wanted(&row) {
                join.row(row);
            }
        })?;
        Ok(join.end())
    }

    pub(super) fn page(&self, side: Side) -> MutexGuard<'_, Page> {
        let page = match side {
            Side::Source => &self.source,
            Side::Target => &self.target,
        };
        page.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
