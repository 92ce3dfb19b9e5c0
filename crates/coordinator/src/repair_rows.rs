//! Repair: what a comparison found is brought to what the source says (R27).
//!
//! There is no write path of its own. A key is marked as pending under a fresh version, and the relay
//! delivers it like any other change: the present row, or a tombstone where there is none. So a repair that
//! races with writers loses nothing, and one that is killed after its marks is finished by any relay. The
//! source is never changed.
//!
//! What was repaired is not believed until it was read again. The journal has the keys of each batch before
//! the first of them is marked, and the batch stays open in it until they were; a repair that is run again
//! begins with those.
mod batch;
mod repair;
mod search;

pub(crate) use batch::{forget_batches, mark};
pub use repair::{Repaired, repair};
pub use search::{Repairable, Repairs, Unrepairable, find_repairs, repairs_of};
pub(crate) use search::{failures, search};
