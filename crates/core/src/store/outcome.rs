//! How a write ended, for each store.

use crate::error::Error;
use crate::source::Control;

/// What became of a write in the target.
#[derive(Debug)]
#[non_exhaustive]
pub enum Delivery {
    /// This phase does not write the target.
    NotDue,
    /// The target holds this state, or a newer one.
    Applied,
    /// It will be delivered by a relay; the reason is why it could not be delivered at once. An answer that was lost is
    /// deferred as well: repeating the write is harmless (I2), and the key stays pending until one was answered (I8).
    Deferred(Error),
}

/// How a write ended. That there is an outcome at all means that PostgreSQL has committed.
#[derive(Debug)]
#[non_exhaustive]
pub struct WriteOutcome<R> {
    /// The row as PostgreSQL holds it, defaults and other triggers included; `None` after a delete, or where no row was.
    pub row: Option<R>,
    /// Whether there was a row to write to.
    pub found: bool,
    /// The phase that the write happened in.
    pub control: Control,
    /// What became of it in the target.
    pub target: Delivery,
}

impl<R> WriteOutcome<R> {
    /// Whether the target has it too, or need not.
    pub fn is_settled(&self) -> bool {
        !matches!(self.target, Delivery::Deferred(_))
    }
}
