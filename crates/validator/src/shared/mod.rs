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

mod asked;
mod coverage;
mod gathering;
mod helping;
mod leading;
mod lease;
mod portion;
mod terms;
#[cfg(test)]
mod tests;

use asked::{LOOK_EVERY, PieceCounted, Wish};
pub use helping::{Helped, HelpedTable, help};
pub(crate) use leading::lead;
