//! Writes that go on while rows are moved.
//!
//! Words: an [`Operation`] is one thing a writer does, data included; its [`Kind`] is its label. The
//! [`Chooser`] decides the next operation from a seed and from the ids it knows, and does nothing; an *executor*
//! carries it out and says in an [`Effect`] which ids came and went, from which the chooser learns.
//! [`write_until`] is the executor that knows nothing of Lockstep: plain SQL over its own connection, as any
//! script or service would. [`Counts`] is what came of it all.
//!
//! Another executor needs: a [`Chooser`] with [`NewIds::From`], [`touch_log`] and its siblings for its
//! updates, [`Pace`] and [`Counts`].

mod change;
mod chooser;
mod counts;
mod known;
mod operation;
mod pace;
mod raw;
mod run;

#[cfg(test)]
mod tests;

pub use change::{move_log, move_payment, reinsert_log, reinsert_payment, touch_log, touch_payment};
pub use chooser::{Chooser, NewIds};
pub use counts::{Counts, Outcome, Tally};
pub use known::{Effect, Ids, Known};
pub use operation::{Kind, Operation};
pub use pace::Pace;
pub use run::{WriterOptions, write_until};
