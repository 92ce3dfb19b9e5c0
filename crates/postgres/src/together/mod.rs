//! Questions that a step, a relay or a gate asks of every table, in one statement for all of them.
//!
//! 1. A migration has 68 tables. 2. The way back pauses writes, and asks each table some ten things, one
//! after the other, on the connections that the feed uses too. 3. The pause is over before the answers are.
//! So what is asked inside a pause costs one statement however many tables there are; only what is out of the
//! ordinary (a partition to be taken in, a key that is pending) is asked by itself.
//!
//! In reading order: `drains` (how far the feeds are through), `shapes` (what the relations are), `waiting`
//! (what is pending), `numbers` (how far each table is).

mod drains;
mod numbers;
mod shapes;
mod waiting;

pub use drains::FeedDrain;
pub use numbers::TableNumbers;
pub use shapes::hold_shapes;
pub use waiting::{Due, Unsettled};
