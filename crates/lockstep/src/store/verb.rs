//! One call on one row, as a value. Every way takes it (`in_source`, `at_once`, `target_truth`), so that a
//! verb is written once for each store and not once for each way.

use lockstep_core::{Control, Error, Kind, Result};
use lockstep_postgres::Call;

use super::outcome::Written;
use super::primary_key::NoKey;
use super::route::Calling;
use super::{Delivery, PrimaryKey, WriteOutcome};

/// Answer to a function that gives its row another primary key.
pub(super) const KEY_STAYS: &str = "the primary key of a row does not change; delete it and put another";

/// The effect that a call is to have on a row.
pub(crate) enum Verb<'a, R, K, F> {
    /// Inserts the row, or replaces the one with its primary key.
    Put(&'a R),
    /// Inserts the row under a primary key that the store gives.
    Insert(&'a R),
    /// Shows the present row to the function, which changes it, or leaves it alone and answers `false`.
    Update(&'a K, F),
    /// Deletes the row of the key.
    Delete(&'a K),
}

/// The form of a verb that one statement can say.
pub(super) struct Statement<'a, R, K> {
    pub(super) call: Call,
    pub(super) operand: Operand<'a, R, K>,
}

/// The values that a statement takes.
pub(super) enum Operand<'a, R, K> {
    Row(&'a R),
    Key(&'a K),
}

impl<'a, R> Verb<'a, R, NoKey, fn(&mut R) -> bool> {
    pub(crate) fn put(row: &'a R) -> Self {
        Self::Put(row)
    }

    pub(crate) fn insert(row: &'a R) -> Self {
        Self::Insert(row)
    }
}

impl<'a, R, K: PrimaryKey> Verb<'a, R, K, fn(&mut R) -> bool> {
    pub(crate) fn delete(key: &'a K) -> Self {
        Self::Delete(key)
    }
}

impl<'a, R, K, F> Verb<'a, R, K, F> {
    /// The call that `route` is asked about.
    pub(super) fn calling(&self) -> Calling {
        match self {
            Self::Put(_) | Self::Insert(_) | Self::Delete(_) => Calling::Row,
            Self::Update(..) => Calling::Update,
        }
    }

    /// The verb as one statement; `None` where the caller has to see the row first.
    pub(super) fn statement(&self) -> Option<Statement<'a, R, K>> {
        let (call, operand) = match self {
            Self::Put(row) => (Call::Upsert, Operand::Row(*row)),
            Self::Insert(row) => (Call::Insert, Operand::Row(*row)),
            Self::Delete(key) => (Call::Delete, Operand::Key(*key)),
            Self::Update(..) => return None,
        };
        Some(Statement { call, operand })
    }
}

/// A closure that changes the row in every case, as [`Verb::Update`] takes it.
pub(crate) fn always<R>(mut change: impl FnMut(&mut R)) -> impl FnMut(&mut R) -> bool {
    move |row| {
        change(row);
        true
    }
}

/// The same of a closure that can be called once only, for a way that calls it once.
pub(crate) fn once<R>(change: impl FnOnce(&mut R)) -> impl FnMut(&mut R) -> bool {
    let mut change = Some(change);
    move |row| change.take().map(|change| change(row)).is_some()
}

/// The row that a verb met.
pub(crate) enum Met<R> {
    /// A row that it put, changed or took away. A trigger of PostgreSQL can have kept it from that.
    Changed(Touched<R>),
    /// No row.
    Nothing,
    /// A row that the function of an update left alone.
    Other(R),
}

impl<R> Met<R> {
    /// The effect: none where no row was changed.
    pub(crate) fn touched(self) -> Touched<R> {
        match self {
            Self::Changed(touched) => touched,
            Self::Nothing | Self::Other(_) => Touched::NOTHING,
        }
    }

    /// The row that a put or an insert left in `table`.
    ///
    /// # Errors
    /// [`Kind::Invalid`] where a trigger or a rule of PostgreSQL kept it out.
    pub(crate) fn held(self, table: &str) -> Result<R> {
        let message = "a trigger or rule of the table swallowed the row";
        let swallowed = || Error::source(Kind::Invalid, format!("writing {table}"), message);
        self.touched().row.ok_or_else(swallowed)
    }
}

/// The effect of a verb that was not refused.
pub(crate) struct Touched<R> {
    /// The row as the store holds it now; `None` where it has none.
    pub(crate) row: Option<R>,
    /// Presence of a row to write to.
    pub(crate) found: bool,
    /// Indices of the row's keys among the deliveries of its source transaction; none in the target.
    indices: Vec<usize>,
}

impl<R> Touched<R> {
    pub(crate) const NOTHING: Self = Self { row: None, found: false, indices: Vec::new() };

    /// The effect in a source transaction.
    pub(super) fn in_source(row: Option<R>, indices: Vec<usize>) -> Self {
        Self { row, found: !indices.is_empty(), indices }
    }

    /// The effect in the target.
    pub(super) fn in_target(row: Option<R>) -> Self {
        Self { row, found: true, indices: Vec::new() }
    }

    /// The outcome of this call, once its transaction has committed.
    pub(super) fn outcome(self, written: &Written) -> WriteOutcome<R> {
        // A row that moves has two keys. Of those the one that is not there yet is the one to tell.
        let deliveries = || self.indices.iter().map(|index| &written.deliveries[*index]);
        let late = deliveries().rfind(|delivery| matches!(delivery, Delivery::Deferred(_)));
        let due = || deliveries().find(|delivery| !matches!(delivery, Delivery::NotDue));
        let target = late.or_else(due).cloned().unwrap_or(Delivery::NotDue);
        WriteOutcome { row: self.row, found: self.found, control: written.control, target }
    }

    /// The outcome of this call, once the target has it.
    pub(super) fn outcome_in_target(self, control: Control) -> WriteOutcome<R> {
        let target = if self.found { Delivery::Applied } else { Delivery::NotDue };
        WriteOutcome { row: self.row, found: self.found, control, target }
    }
}
