//! Writing where the truth is in the target: the same calls, without PostgreSQL.
//!
//! In reading order: `permit` (who may write, and until when), `find` (the present row of a primary key),
//! `change` (pure: from what was read to what is put), `plan` (from a verb to a change), `send` (sent, looked
//! up, told right), `write` (the verbs, one row by itself or several together), `retire` (when a tombstone
//! goes).
//!
//! A new state replaces exactly the one that was read, under a version that is one higher: `max(epoch << 40,
//! present) + 1`. A lost race is read again and tried again, a bounded number of times. What PostgreSQL did
//! besides holding rows is not done: no defaults, triggers, or foreign keys. A row is kept as PostgreSQL
//! would have kept it, and refused where it would have been (`fit`).

mod change;
mod find;
mod fit;
mod permit;
mod plan;
mod retire;
mod send;
mod write;

pub(super) use fit::Fit;
use permit::Permit;
pub(crate) use write::TargetWrite;
