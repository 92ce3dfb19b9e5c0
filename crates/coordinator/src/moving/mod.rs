//! Moving the truth: the steps to DynamoOnly and back from it, and finishing or undoing what a crash left of
//! them.
//!
//! Words: writes are *paused* from the moment the store that is the truth takes none until the one that will
//! be does. A pause is bounded; when the bound is missed everything is as it was. Each part of a step is
//! noted in the journal before it begins, and every part can be repeated (I9). `lockstep_core::truth` has
//! what the two records of the truth may say, and what each combination means.
//!
//! In reading order: `pause` (the bound), `feed` (a reverse feed while a step needs one), `level` (source and
//! target hold the same), `indexed` (the target's indexes show what was delivered last), `to_dynamo`
//! (HybridRead → DynamoOnly), `to_postgres` (the other way), `settle` (after a crash, or a reply that was
//! lost).

mod feed;
mod indexed;
mod level;
mod noted;
mod pause;
mod settle;
mod to_dynamo;
mod to_postgres;

pub(crate) use feed::Feed;
pub(crate) use noted::Moved;
use noted::{OPEN, STOP, note, part};
pub(crate) use pause::Pause;
pub use pause::{PausePart, PauseSummary};
pub(crate) use settle::{has_written_target, settle};
pub(crate) use to_dynamo::to_dynamo;
pub(crate) use to_postgres::to_postgres;
