//! Writing where the truth is in the target: the same calls, without PostgreSQL.
//!
//! In reading order: `permit` (who may write, and until when), `begin` (which store a call writes), `find`
//! (the present row of a primary key), `change` (pure: from what was read to what is put), `send` (sent,
//! looked up, told right), `ids`, `write` (the calls), `transaction` (several tables together), `retire`
//! (when a tombstone goes).
//!
//! A new state replaces exactly the one that was read, under a version that is one higher: `max(epoch << 40,
//! present) + 1`. A lost race is read again and tried again, a bounded number of times. What PostgreSQL did
//! besides holding rows is not done: no defaults, triggers, or foreign keys. A row is kept as PostgreSQL
//! would have kept it, and refused where it would have been (`fit`).

mod begin;
mod change;
mod find;
mod fit;
mod ids;
mod permit;
mod retire;
mod send;
mod transaction;
mod write;

pub(crate) use begin::Begun;
pub(super) use fit::Fit;
pub(super) use ids::IdBlocks;
pub(super) use permit::Permit;
pub(super) use retire::Retiring;
pub(crate) use transaction::TargetTransaction;
