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
mod folder;
mod pass;
mod spool;

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::print::{Print, Printer};
pub(crate) use folder::{Begun, Folder, Manifest};
pub(crate) use pass::{Counted, Cursor, Pass, Piece};
use spool::Spool;

/// What an entry takes while a partition is joined, roughly.
const JOINED_BYTES: usize = 300;
const PARTITIONS_MIN: usize = 16;
/// Each is two open files, and a process may often have no more than 1,024.
const PARTITIONS_MAX: usize = 256;
/// All sums of a table take 4 MB in the largest layout, 260 kB in the smallest.
const BUCKETS_PER_PARTITION: usize = 256;

/// What a pass saw at one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) print: Print,
    pub(crate) standing: Standing,
    /// How to find it again; the ledger does not look inside.
    pub(crate) name: Vec<u8>,
}

/// What an entry is, beside its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// A row or an item.
    Live,
    /// A row past its expiry: its item may be gone.
    Expired,
    /// An item that says "deleted". It is no row, so it is in no bucket.
    Tombstone,
}

/// Which store an entry is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Source,
    Target,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Bucket {
    count: u64,
    sum: u128,
}

#[derive(Debug)]
struct Page {
    buckets: Vec<Bucket>,
    /// One a partition, and one of what was set aside.
    spools: Vec<Spool>,
    pass: Pass,
    /// Whether an entry could not be written, so that spools and cursors are not of one moment any more.
    broken: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Ledger {
    /// Of its prints, so that those of one ledger are comparable and no writer can prepare two that collide.
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

/// What a worker read of its piece in one go.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// What is to be compared.
    pub(crate) entries: Vec<Entry>,
    /// What has no place in a bucket; the ledger does not look inside.
    pub(crate) aside: Vec<Vec<u8>>,
    pub(crate) counted: Counted,
    /// The number of the piece.
    pub(crate) piece: usize,
    /// Where to go on; `None` when the piece is done.
    pub(crate) after: Option<Cursor>,
}

/// What the two sides of a partition are to each other.
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
    /// Of rows that were met at one place, the name of each with that of another. Rows of one key have one
    /// name.
    pub(crate) twins: HashMap<Vec<u8>, Vec<u8>>,
    /// Buckets whose entries were read again.
    pub(crate) buckets_differing: u64,
}

impl Ledger {
    /// An empty one for a table of about `rows` rows, whose passes have these pieces before them, and which
    /// may take about `memory_bytes`. In a folder it is kept. Its prints are made under `seed`, or under one
    /// that cannot be known before.
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
        let partition_rows = (memory_bytes / 8 / JOINED_BYTES).max(1_000);
        let partitions = usize::try_from(rows).unwrap_or(0) / partition_rows;
        let partitions = partitions.clamp(PARTITIONS_MIN, PARTITIONS_MAX).next_power_of_two();
        let in_memory_bytes = memory_bytes / 16 / (2 * partitions + 2);
        let seed =
            seed.unwrap_or_else(|| std::collections::hash_map::RandomState::new().build_hasher().finish());
        let kept = match kept {
            None => None,
            Some((folder, identity, begun)) => {
                folder.clear()?;
                Some((folder, Manifest::new(identity, begun, seed, partitions)))
            }
        };
        let page = |side: Side, pieces| {
            let spool = |number| match &kept {
                None => Ok(Spool::temporary(in_memory_bytes)),
                Some((folder, _)) => Spool::kept(&folder.spool(side.label(), number), 0),
            };
            let spools = (0..=partitions).map(spool).collect::<io::Result<_>>()?;
            let buckets = vec![Bucket::default(); partitions * BUCKETS_PER_PARTITION];
            Ok::<_, io::Error>(Mutex::new(Page { buckets, spools, pass: Pass::of(pieces), broken: false }))
        };
        let (source, target) = (page(Side::Source, pieces.0)?, page(Side::Target, pieces.1)?);
        let ledger = Self { seed, partitions, source, target, kept, is_over: Mutex::new(false) };
        ledger.checkpoint()?;
        Ok(ledger)
    }

    /// The one that a folder keeps, as of its last checkpoint. The sums are made again from what was spooled.
    ///
    /// # Errors
    /// When it does not read back; then begin again.
    pub(crate) fn resume(folder: Folder, manifest: Manifest) -> io::Result<Self> {
        let (seed, partitions) = (manifest.seed, manifest.partitions);
        if !partitions.is_power_of_two() || partitions > PARTITIONS_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a manifest does not read back"));
        }
        let page = |side: Side, kept: &folder::KeptPage| {
            let bytes = |number| kept.bytes.get(number).copied().unwrap_or(0);
            let spool = |number| Spool::kept(&folder.spool(side.label(), number), bytes(number));
            let mut spools: Vec<Spool> = (0..=partitions).map(spool).collect::<io::Result<_>>()?;
            let mut buckets = vec![Bucket::default(); partitions * BUCKETS_PER_PARTITION];
            for spool in &mut spools[..partitions] {
                spool.read(|entry| _ = add(&mut buckets, &entry))?;
            }
            Ok::<_, io::Error>(Mutex::new(Page { buckets, spools, pass: kept.pass.clone(), broken: false }))
        };
        let (source, target) = (page(Side::Source, &manifest.source)?, page(Side::Target, &manifest.target)?);
        Ok(Self {
            seed,
            partitions,
            source,
            target,
            kept: Some((folder, manifest)),
            is_over: Mutex::new(false),
        })
    }

    /// Makes what was entered so far durable, if it is kept. It waits for the disk, so not on an async
    /// thread.
    ///
    /// # Errors
    /// When a file cannot be written; what was durable stays so.
    pub(crate) fn checkpoint(&self) -> io::Result<()> {
        let Some((folder, manifest)) = &self.kept else { return Ok(()) };
        let is_over = self.is_over.lock().unwrap_or_else(PoisonError::into_inner);
        if *is_over {
            return Ok(());
        }
        let mut files = Vec::new();
        let mut keep = |side| {
            // Under the lock, so that cursors and lengths are of one moment; the disk is waited for without
            // it.
            let mut page = self.page(side);
            if page.broken {
                return Err(io::Error::other("what was read could not be written down"));
            }
            let mut bytes = Vec::with_capacity(page.spools.len());
            for spool in &mut page.spools {
                let (length, file) = spool.flush()?;
                bytes.push(length);
                files.extend(file);
            }
            Ok::<_, io::Error>(folder::KeptPage { bytes, pass: page.pass.clone() })
        };
        let (source, target) = (keep(Side::Source)?, keep(Side::Target)?);
        files.iter().try_for_each(std::fs::File::sync_data)?;
        folder.write(&Manifest { source, target, ..manifest.clone() })
    }

    /// Forgets what is kept: the run came to its end.
    ///
    /// # Errors
    /// When a file cannot be removed.
    pub(crate) fn forget(&self) -> io::Result<()> {
        let Some((folder, _)) = &self.kept else { return Ok(()) };
        let mut is_over = self.is_over.lock().unwrap_or_else(PoisonError::into_inner);
        *is_over = true;
        folder.clear()
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

    /// Where a pass is.
    pub(crate) fn pass(&self, side: Side) -> Pass {
        self.page(side).pass.clone()
    }

    /// Writes down what a worker read, and how far it has come with that. It may have to wait for a disk, so
    /// not on an async thread.
    ///
    /// # Errors
    /// When a file cannot be written. What was read may then be there in part, so the run ends.
    pub(crate) fn enter(&self, side: Side, batch: Batch) -> io::Result<()> {
        let mut page = self.page(side);
        let page = &mut *page;
        page.broken = true;
        for entry in &batch.entries {
            let bucket = add(&mut page.buckets, entry);
            page.spools[bucket / BUCKETS_PER_PARTITION].push(entry)?;
        }
        for name in batch.aside {
            page.spools[self.partitions].push(&Entry {
                print: Print { place: 0, state: 0 },
                standing: Standing::Live,
                name,
            })?;
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
            let (ours, theirs) = (source.buckets[first + number], target.buckets[first + number]);
            *is_differing = ours != theirs;
            match *is_differing {
                true => difference.buckets_differing += 1,
                false => difference.equal += ours.count,
            }
        }
        if difference.buckets_differing == 0 {
            return Ok(difference);
        }
        let buckets = self.buckets();
        let is_wanted = |entry: &Entry| is_differing[bucket_of(buckets, entry.print.place) - first];
        // Of an item with the name of the first row that was met at its place.
        let mut at_place: HashMap<u128, (Entry, Option<Vec<u8>>)> = HashMap::new();
        target.spools[partition].read(|item| {
            if is_wanted(&item) {
                at_place.insert(item.print.place, (item, None));
            }
        })?;
        source.spools[partition].read(|row| {
            if !is_wanted(&row) {
                return;
            }
            match at_place.get_mut(&row.print.place) {
                // 1. A key loses its unique index, and two rows have it, equal in every column. 2. Both are
                // equal to their item, and one of them is nowhere. So one item is the answer to one row, and
                // the other is read again.
                Some((_, Some(first))) => {
                    difference.twins.insert(first.clone(), row.name.clone());
                    difference.twins.insert(row.name.clone(), first.clone());
                    difference.rows.push(row.name);
                }
                Some((item, first)) => {
                    *first = Some(row.name.clone());
                    match item.standing != Standing::Tombstone && item.print.state == row.print.state {
                        true => difference.equal += 1,
                        false => difference.rows.push(row.name),
                    }
                }
                None if row.standing == Standing::Expired => difference.expired += 1,
                None => difference.rows.push(row.name),
            }
        })?;
        let is_alone =
            |(item, row): &(Entry, Option<Vec<u8>>)| row.is_none() && item.standing != Standing::Tombstone;
        let without_row = at_place.into_values().filter(is_alone);
        difference.items = without_row.map(|(item, _)| item.name).collect();
        Ok(difference)
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
    fn label(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Target => "target",
        }
    }
}

/// Adds an entry to its bucket, and says which that is.
fn add(buckets: &mut [Bucket], entry: &Entry) -> usize {
    let number = bucket_of(buckets.len(), entry.print.place);
    if entry.standing != Standing::Tombstone {
        let bucket = &mut buckets[number];
        bucket.count += 1;
        bucket.sum = bucket.sum.wrapping_add(entry.print.state);
    }
    number
}

/// By the highest bits, so that the buckets of a partition are neighbours.
fn bucket_of(buckets: usize, place: u128) -> usize {
    (place >> (u128::BITS - buckets.trailing_zeros())) as usize
}
