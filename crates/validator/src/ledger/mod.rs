//! The ledger of a table: what both passes saw, in memory that does not grow with the table.
//!
//! Every print is added to the *bucket* of its place, one sum and one count a side. The order of additions does not matter,
//! so the two sides may be read in any order and by any number of workers. Two equal buckets hold equal rows. Of a bucket
//! that differs, the entries are read again, from the *spools*: temporary files, one a side and partition of the places,
//! which were written beside. So a run with k differences reads k buckets again and neither store a second time.

mod digest;
mod spool;

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::sync::{Mutex, PoisonError};

use crate::print::{Print, Printer};
use spool::Spool;

/// Rows that one partition should have: what is joined in memory at once, at worst.
const PARTITION_ROWS: i64 = 250_000;
const PARTITIONS_MIN: usize = 16;
const PARTITIONS_MAX: usize = 1_024;
/// Few enough that all sums of a table take less than 50 MB in the largest layout, 800 kB in the smallest.
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
    spools: Vec<Spool>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Ledger {
    /// Of its prints, so that those of one ledger are comparable and nobody can prepare two that collide.
    seed: u64,
    partitions: usize,
    source: Mutex<Page>,
    target: Mutex<Page>,
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
    /// Buckets whose entries were read again.
    pub(crate) buckets_differing: u64,
}

impl Ledger {
    /// An empty one for a table of about `rows` rows.
    pub(crate) fn new(rows: i64) -> Self {
        let partitions =
            usize::try_from(rows / PARTITION_ROWS).unwrap_or(0).clamp(PARTITIONS_MIN, PARTITIONS_MAX).next_power_of_two();
        let page = || {
            Mutex::new(Page {
                buckets: vec![Bucket::default(); partitions * BUCKETS_PER_PARTITION],
                spools: (0..partitions).map(|_| Spool::new(2 * partitions)).collect(),
            })
        };
        let seed = std::collections::hash_map::RandomState::new().build_hasher().finish();
        Self { seed, partitions, source: page(), target: page() }
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

    /// Writes down what a pass saw. It may have to wait for a disk, so not on an async thread.
    ///
    /// # Errors
    /// When a temporary file cannot be written.
    pub(crate) fn enter(&self, side: Side, entries: &[Entry]) -> io::Result<()> {
        let mut page = self.page(side);
        for entry in entries {
            let bucket = self.bucket_of(entry.print.place);
            if entry.standing != Standing::Tombstone {
                let bucket = &mut page.buckets[bucket];
                bucket.count += 1;
                bucket.sum = bucket.sum.wrapping_add(entry.print.state);
            }
            page.spools[bucket / BUCKETS_PER_PARTITION].push(entry)?;
        }
        Ok(())
    }

    /// Compares a partition that both passes have read to the end. Once: its entries are gone afterwards.
    ///
    /// # Errors
    /// When a temporary file cannot be read back.
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
        let (rows, items) = (source.spools[partition].take(), target.spools[partition].take());
        drop((source, target));
        if difference.buckets_differing == 0 {
            return Ok(difference);
        }
        let is_wanted = |entry: &Entry| is_differing[self.bucket_of(entry.print.place) - first];
        let mut at_place: HashMap<u128, (Entry, bool)> = HashMap::new();
        items.read(|item| {
            if is_wanted(&item) {
                at_place.insert(item.print.place, (item, false));
            }
        })?;
        rows.read(|row| {
            if !is_wanted(&row) {
                return;
            }
            match at_place.get_mut(&row.print.place) {
                Some((item, has_row)) => {
                    *has_row = true;
                    match item.standing != Standing::Tombstone && item.print.state == row.print.state {
                        true => difference.equal += 1,
                        false => difference.rows.push(row.name),
                    }
                }
                None if row.standing == Standing::Expired => difference.expired += 1,
                None => difference.rows.push(row.name),
            }
        })?;
        let without_row = at_place.into_values().filter(|(item, has_row)| !has_row && item.standing != Standing::Tombstone);
        difference.items = without_row.map(|(item, _)| item.name).collect();
        Ok(difference)
    }

    fn page(&self, side: Side) -> std::sync::MutexGuard<'_, Page> {
        let page = match side {
            Side::Source => &self.source,
            Side::Target => &self.target,
        };
        page.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// By the highest bits, so that the buckets of a partition are neighbours.
    fn bucket_of(&self, place: u128) -> usize {
        (place >> (u128::BITS - self.buckets().trailing_zeros())) as usize
    }
}
