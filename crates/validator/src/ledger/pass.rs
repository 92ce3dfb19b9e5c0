//! Progress of a pass: what is left of each piece, and what was counted so far.

use serde::{Deserialize, Serialize};

/// A place within a table that a pass can go on from; the ledger does not look inside.
pub(crate) type Cursor = Vec<String>;

/// A part of a table that one worker reads from its beginning to its end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Piece {
    /// Position up to which it was read; `None` begins at the beginning.
    pub(crate) after: Option<Cursor>,
    /// Position at which it ends; `None` at the end of what is read.
    pub(crate) until: Option<Cursor>,
    /// Whether there is nothing left of it.
    pub(crate) done: bool,
}

/// Counts of a pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counted {
    /// Everything that was read.
    pub(crate) read: u64,
    /// Number of them that are rows or items.
    pub(crate) live: u64,
    /// Number of them that are tombstones.
    pub(crate) tombstones: u64,
    /// Number of them that have no place in a bucket.
    #[serde(default)]
    pub(crate) aside: u64,
}

impl std::ops::AddAssign for Counted {
    fn add_assign(&mut self, other: Self) {
        self.read += other.read;
        self.live += other.live;
        self.tombstones += other.tombstones;
        self.aside += other.aside;
    }
}

/// Position of a pass. Entries and this move together, so that whatever is kept of one is kept of the other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pass {
    pub(crate) pieces: Vec<Piece>,
    pub(crate) counted: Counted,
}

impl Pass {
    /// Makes a pass that has read nothing yet.
    pub(crate) fn of(pieces: Vec<Piece>) -> Self {
        Self { pieces, counted: Counted::default() }
    }

    /// Numbers of the pieces that are not done.
    pub(crate) fn left(&self) -> Vec<(usize, Piece)> {
        self.pieces.iter().cloned().enumerate().filter(|(_, piece)| !piece.done).collect()
    }
}
