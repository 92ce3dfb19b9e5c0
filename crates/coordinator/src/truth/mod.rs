//! Moving the truth from one store to the other: the two flips, and the ids that go with them.
//!
//! Which record wins, and what a crash leaves, is said in [`lockstep_core::truth`](mod@lockstep_core::truth).
//! Only this crate moves the truth: an application can name nothing here.

mod flip;
mod identities;

pub use flip::{copy_to_source, copy_to_target, flip_to_source, flip_to_target, settle};
pub use identities::{raise_source_sequences, seed_identities, seed_identities_again, set_back};
