//! The ledger of a process that reads some pieces of a table and hands over what it saw, for another one to
//! hold against what others saw.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io;

use super::{Entry, JOINED_BYTES, Ledger, PARTITIONS_MAX, PARTITIONS_MIN, Piece, Side, Sums, bucket_of};

/// Layout that a process must know so that its prints and buckets are comparable with those of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Seed of prints.
    pub(crate) seed: u64,
    /// Number of partitions of the places; a power of two.
    pub(crate) partitions: usize,
}

impl Layout {
    /// Makes the layout for a table of about `rows` rows. Its prints are made under `seed`, or under one that
    /// cannot be known before.
    pub(crate) fn new(rows: i64, memory_bytes: usize, seed: Option<u64>) -> Self {
        let seed = seed.unwrap_or_else(|| RandomState::new().build_hasher().finish());
        Self { seed, partitions: partitions_of(rows, memory_bytes) }
    }
}

impl Ledger {
    /// Makes an empty one of this layout, with a number of pieces on each side, that keeps nothing.
    ///
    /// # Errors
    /// When the layout is none.
    pub(crate) fn portion(layout: Layout, memory_bytes: usize, pieces: (usize, usize)) -> io::Result<Self> {
        let Layout { partitions, .. } = layout;
        require_layout(partitions)?;
        let blank = |pieces| vec![Piece::default(); pieces];
        Self::of_layout(layout, memory_bytes, (blank(pieces.0), blank(pieces.1)), None)
    }

    /// Returns the sums of a side, as entered by now.
    pub(crate) fn sums(&self, side: Side) -> Sums {
        self.page(side).sums.clone()
    }

    /// Reads back the entries of a partition that are in a wanted bucket; of the partition after the last
    /// one, what was set aside.
    ///
    /// # Errors
    /// When a file cannot be read back.
    pub(crate) fn entries(
        &self,
        side: Side,
        partition: usize,
        is_wanted: impl Fn(usize) -> bool,
        mut each: impl FnMut(Entry),
    ) -> io::Result<()> {
        let buckets = self.buckets();
        let is_aside = partition == self.partitions;
        self.page(side).spools[partition].read(|entry| {
            if is_aside || is_wanted(bucket_of(buckets, entry.print.place)) {
                each(entry);
            }
        })
    }
}

/// Refuses a number of partitions that no layout has: a file or another process named it.
///
/// # Errors
/// That it is none.
pub(super) fn require_layout(partitions: usize) -> io::Result<()> {
    if partitions.is_power_of_two() && partitions <= PARTITIONS_MAX {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "a layout that this version does not know"))
}

/// Into how many partitions the places of a table of about `rows` rows are cut, so that one of them can be
/// joined in an eighth of the memory.
fn partitions_of(rows: i64, memory_bytes: usize) -> usize {
    let partition_rows = (memory_bytes / 8 / JOINED_BYTES).max(1_000);
    let partitions = usize::try_from(rows).unwrap_or(0) / partition_rows;
    partitions.clamp(PARTITIONS_MIN, PARTITIONS_MAX).next_power_of_two()
}
