//! Layout of a ledger: under which seed its prints are made, and into how many partitions they go.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io;

/// Bytes that an entry takes while a partition is joined, roughly.
const JOINED_BYTES: usize = 300;
const PARTITIONS_MIN: usize = 16;
/// Each is two open files, and a process may often have no more than 1,024.
const PARTITIONS_MAX: usize = 256;

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

/// Into how many partitions the places of a table of about `rows` rows are cut, so that one of them can be
/// joined in an eighth of the memory.
fn partitions_of(rows: i64, memory_bytes: usize) -> usize {
    let partition_rows = (memory_bytes / 8 / JOINED_BYTES).max(1_000);
    let partitions = usize::try_from(rows).unwrap_or(0) / partition_rows;
    partitions.clamp(PARTITIONS_MIN, PARTITIONS_MAX).next_power_of_two()
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
