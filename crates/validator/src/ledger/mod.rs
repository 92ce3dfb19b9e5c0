//! The ledger of a table: what both passes saw, in memory that does not grow with the table.
//!
//! Every print is added to the *bucket* of its place, one sum and one count a side. The order of additions
//! does not matter, so the two sides may be read in any order and by any number of workers. Two equal buckets
//! hold equal rows. Of a bucket that differs, the entries are read again, from the *spools*: temporary files,
//! one a side and partition of the places, which were written beside. So a run with k differences reads k
//! buckets again and neither store a second time.
//!
//! Two sets of rows whose bucket has the same count and the same sum are taken for the same set: the ledger
//! sees no more of them than that. It holds only because states are hashes of the whole item, its key
//! included, under a seed that is not known before the run: rows that swap their values get other states, and
//! no writer can choose rows whose sums meet.
//!
//! A ledger that is *kept* has its spools in a [`Folder`], and goes on from there after its process was
//! killed.

mod digest;
mod entry;
mod folder;
mod join;
mod kept;
mod pass;
mod portion;
mod spool;
mod sums;

use std::collections::HashMap;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::print::Printer;
pub(crate) use entry::{Entry, Standing};
pub(crate) use folder::{Begun, Folder, Manifest};
pub(crate) use join::Join;
pub(crate) use pass::{Counted, Cursor, Pass, Piece};
pub(crate) use portion::Layout;
use spool::Spool;
pub(crate) use sums::{BUCKETS_PER_PARTITION, Sums, bucket_of};

/// Bytes that an entry takes while a partition is joined, roughly.
const JOINED_BYTES: usize = 300;
const PARTITIONS_MIN: usize = 16;
/// Each is two open files, and a process may often have no more than 1,024.
const PARTITIONS_MAX: usize = 256;

/// Store that an entry is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Source,
    Target,
}

#[derive(Debug)]
struct Page {
    sums: Sums,
    /// One a partition, and one of what was set aside.
    spools: Vec<Spool>,
    pass: Pass,
    /// Whether an entry could not be written, so that spools and cursors are not of one moment any more.
    broken: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Ledger {
    /// Seed of its prints, so that those of one ledger are comparable and no writer can prepare two that
    /// collide.
    seed: u64,
    partitions: usize,
    source: Mutex<Page>,
    target: Mutex<Page>,
    kept: Option<(Folder, Manifest)>,
    /// Whether what is kept was forgotten. Held by the task that writes to the folder: of two checkpoints at
    /// once one would put half of the other's manifest in place, and one after the end would bring a finished
    /// run back.
    is_over: Mutex<bool>,
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

/// Difference of the two sides of a partition.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Difference {
    /// Rows that have an equal item.
    pub(crate) equal: u64,
    /// Rows past their expiry whose item is gone.
    pub(crate) expired: u64,
    /// Names of rows that have no equal item.
    pub(crate) rows: Vec<Vec<u8>>,
    /// Names of items at whose place there is no row.
    pub(crate) items: Vec<Vec<u8>>,
    /// Names of rows that were met at one place, each with that of another. Rows of one key have one name.
    pub(crate) twins: HashMap<Vec<u8>, Vec<u8>>,
    /// Buckets whose entries were read again.
    pub(crate) buckets_differing: u64,
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

    fn of_layout(
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

    fn page(&self, side: Side) -> MutexGuard<'_, Page> {
        let page = match side {
            Side::Source => &self.source,
            Side::Target => &self.target,
        };
        page.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Side {
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Target => "target",
        }
    }
}
