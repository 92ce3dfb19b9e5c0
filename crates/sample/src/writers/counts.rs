//! Outcomes of a writer's operations.

use std::collections::BTreeMap;
use std::time::Duration;

use super::operation::Kind;

/// Outcome of one operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was done and changed this many rows.
    Done {
        /// Rows inserted, changed and deleted.
        rows: u64,
    },
    /// There was nothing to do: the row was gone.
    Missed,
    /// The connection was lost before the answer: it may have been done.
    Unknown,
    /// It failed again and again for reasons that pass, and was given up. Nothing was done, except perhaps
    /// the delete of a re-insertion in two steps.
    GivenUp,
    /// It was refused for a reason that does not pass, which is said. Nothing was done, with the same
    /// exception.
    Refused(String),
}

/// Words of the trigger that refuses SQL in DynamoOnly.
const OF_THE_PHASE: &str = "is in phase DynamoOnly";

/// Outcomes of one kind of operation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// See [`Outcome::Done`].
    pub done: u64,
    /// See [`Outcome::Missed`].
    pub missed: u64,
    /// See [`Outcome::Unknown`].
    pub unknown: u64,
    /// See [`Outcome::GivenUp`].
    pub given_up: u64,
    /// See [`Outcome::Refused`].
    pub refused: u64,
}

/// Outcomes of all operations of one writer, or of several.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Tallies by kind; kinds that never happened are not there.
    pub by_kind: BTreeMap<Kind, Tally>,
    /// Rows inserted, changed and deleted.
    pub rows: u64,
    /// Attempts after the first of an operation.
    pub retries: u64,
    /// Connections made after the first.
    pub reconnects: u64,
    /// The longest that an operation took, its retries included.
    pub slowest: Duration,
    /// Reason why an operation was last refused, without row values. That SQL is refused in DynamoOnly is as
    /// it should be, and is counted alone.
    pub last_refusal: Option<String>,
}

impl Counts {
    /// Counts one operation.
    pub fn record(&mut self, kind: Kind, outcome: Outcome, took: Duration) {
        let tally = self.by_kind.entry(kind).or_default();
        match outcome {
            Outcome::Done { rows } => {
                tally.done += 1;
                self.rows += rows;
            }
            Outcome::Missed => tally.missed += 1,
            Outcome::Unknown => tally.unknown += 1,
            Outcome::GivenUp => tally.given_up += 1,
            Outcome::Refused(reason) => {
                tally.refused += 1;
                if !reason.contains(OF_THE_PHASE) {
                    self.last_refusal = Some(reason);
                }
            }
        }
        self.slowest = self.slowest.max(took);
    }

    /// Returns the sum over all kinds.
    pub fn total(&self) -> Tally {
        self.by_kind.values().fold(Tally::default(), |sum, tally| sum.plus(*tally))
    }

    /// Adds another writer's.
    pub fn merge(&mut self, other: Self) {
        for (kind, tally) in other.by_kind {
            let mine = self.by_kind.entry(kind).or_default();
            *mine = mine.plus(tally);
        }
        self.rows += other.rows;
        self.retries += other.retries;
        self.reconnects += other.reconnects;
        self.slowest = self.slowest.max(other.slowest);
        self.last_refusal = other.last_refusal.or(self.last_refusal.take());
    }
}

impl Tally {
    fn plus(self, other: Self) -> Self {
        Self {
            done: self.done + other.done,
            missed: self.missed + other.missed,
            unknown: self.unknown + other.unknown,
            given_up: self.given_up + other.given_up,
            refused: self.refused + other.refused,
        }
    }
}
