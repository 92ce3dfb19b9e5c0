//! Questions of a leader to its workers, how often they look for them, and their counts of a piece.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ledger::Counted;

/// Interval at which a process looks whether there is something to do for it. Fifty of them ask two hundred
/// small questions a second.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Wish of a leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// The sums of both sides.
    Sums,
    /// The entries of wanted buckets.
    Entries,
    /// Entries that have no place in a bucket.
    Asides,
}

impl Wish {
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Sums => "sums",
            Self::Entries => "entries",
            Self::Asides => "asides",
        }
    }

    pub(super) fn of(label: &str) -> Option<Self> {
        [Self::Sums, Self::Entries, Self::Asides].into_iter().find(|wish| wish.label() == label)
    }
}

/// Counts that a worker tells of a piece that it has read.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct PieceCounted {
    #[serde(flatten)]
    pub(super) counted: Counted,
    #[serde(default)]
    pub(super) read_units: f64,
}
