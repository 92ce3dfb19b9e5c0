//! One comparison of a table by many processes (R53).
//!
//! Words: the *leader* is the process that gives the verdict; *workers* read pieces of both sides, and the
//! leader's process is one of them. A worker has a ledger of its own, of everything that it has read, and
//! hands over what the leader *asks* for: its sums first, then the entries of the buckets whose sums differ.
//! The leader joins, reads again what does not match, and decides, as it does alone.
//!
//! Why a verdict that was put together is as good as one that was not.
//!
//! - Each claim of a piece has a number, the *token*, that none has had. The source keeps one token a piece:
//!   that of its newest claim.
//! - A worker's answer names the tokens of all pieces that are in it, and each was read whole: an answer is
//!   made only while the worker reads nothing, and a worker that could not finish a piece, or does not know
//!   whether it has, forgets its ledger and registers again under another id.
//! - The leader takes a set of answers only if their tokens are exactly the newest tokens of all pieces,
//!   each once (`coverage`). So each piece is in it once, whichever worker was killed, stopped or woke up
//!   meanwhile. A lease decides when a piece may be read by another worker, and never what counts.
//! - A piece is claimed after the comparison began, so each print was made after the `as_of` of the report.
//!   Answers of different moments go together for the same reason as cursors of a run that is resumed (see
//!   `keep`): an entry says what a row or an item was at some moment since then, and of two that differ both
//!   stores are read again. So buckets that were equal in one set of answers stay decided when a piece of
//!   them is read again for the entries of the others.
//! - Before it reads, and before a piece counts, a worker holds its view of the table against the leader's
//!   *terms*: version, relation, target, id of the target table, columns, layout, window, phase, epoch, order
//!   of rows (`terms`).
//!
//! The leader has a lease too. Once it is over another leader may begin, which takes everything of the first
//! one out of the source, so that one cannot come to its end.

mod coverage;
mod gathering;
mod helping;
mod leading;
mod lease;
mod portion;
mod terms;
#[cfg(test)]
mod tests;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use helping::{Helped, HelpedTable, help};
pub(crate) use leading::lead;

use crate::ledger::Counted;

/// Interval at which a process looks whether there is something to do for it. Fifty of them ask two hundred
/// small questions a second.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Wish of a leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    /// The sums of both sides.
    Sums,
    /// The entries of wanted buckets.
    Entries,
    /// Entries that have no place in a bucket.
    Asides,
}

impl Wish {
    fn label(self) -> &'static str {
        match self {
            Self::Sums => "sums",
            Self::Entries => "entries",
            Self::Asides => "asides",
        }
    }

    fn of(label: &str) -> Option<Self> {
        [Self::Sums, Self::Entries, Self::Asides].into_iter().find(|wish| wish.label() == label)
    }
}

/// Counts that a worker tells of a piece that it has read.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct PieceCounted {
    #[serde(flatten)]
    counted: Counted,
    #[serde(default)]
    read_units: f64,
}
