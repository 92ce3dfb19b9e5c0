//! Versions order the states of one row (I2), epochs count phase changes.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Number of low bits of a [`Version`] that count changes within one epoch.
pub const EPOCH_SHIFT: u32 = 40;

/// Counts phase changes. Every version of a later epoch outranks every version of an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub i64);

impl Epoch {
    /// The epoch that a migration starts in.
    pub const FIRST: Epoch = Epoch(1);

    /// Returns the value to which the version sequence is set when this epoch begins.
    ///
    /// The sequence carries the epoch, rather than each writer reading it from the control table, because a
    /// sequence has no snapshot. 1. A REPEATABLE READ transaction takes its snapshot. 2. The phase changes. 3.
    /// The transaction writes; from the control table it would read the old epoch, and its newest state would
    /// lose against older ones.
    pub fn floor(self) -> i64 {
        self.0 << EPOCH_SHIFT
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number that orders the states of one row: `epoch << 40 | counter`. The target keeps the higher one
/// (I2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Version(pub i64);

impl Version {
    /// The version of a row of the initial load: below everything that capture hands out.
    pub const INITIAL_LOAD: Version = Version(0);

    /// No version of ours is higher: its epoch would be the four millionth. 1. Another program puts an item
    /// with the highest number there is. 2. Taken for a version, every change of its row is refused, and
    /// there is no epoch above it to begin.
    pub const MAX: Version = Version(1 << (EPOCH_SHIFT + 22));

    /// Returns the epoch in which this version was handed out.
    pub fn epoch(self) -> Epoch {
        Epoch(self.0 >> EPOCH_SHIFT)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_epoch_outranks_every_version_of_an_earlier_one() {
        let last_of_first = Version(Epoch(2).floor() - 1);
        let first_of_second = Version(Epoch(2).floor());
        assert!(last_of_first < first_of_second);
        assert_eq!(last_of_first.epoch(), Epoch::FIRST);
        assert_eq!(first_of_second.epoch(), Epoch(2));
        assert!(Version::INITIAL_LOAD < Version(Epoch::FIRST.floor()));
    }
}
