//! The doctor: says in plain words what state a migration is in, what is safe to do, and what to run next.
//!
//! In reading order: `observation` (what can be seen), `observe` (seeing it), `finding` (what a finding
//! is), `plan` (what to do about findings; pure), `examine` (from observations to findings; pure), `table`
//! (of one table), `target` (what its target table does by itself), `foreign` (versions of other
//! programs), `compared` (what comparisons found), `control_table` (what of it cannot be read),
//! `continuity` (its part about lost history), `replicated` (logical replication), `truth` (what the two
//! control records say together), `words` (state, safety, what comes next).

mod compared;
mod continuity;
mod control_table;
mod examine;
mod finding;
mod foreign;
mod observation;
mod observe;
#[cfg(test)]
mod pairs;
mod plan;

mod replicated;
mod table;
mod target;
#[cfg(test)]
mod tests;
mod truth;
mod words;

#[cfg(test)]
use crate::remedy::Remedy;

pub use examine::examine;
pub use finding::{Diagnosis, Finding, Severity};
pub use observation::{
    AtWork, CaptureSeen, ColumnsSeen, ExpirySeen, Observation, TableSeen, TargetSeen, Unread, VerdictSeen,
};
pub use observe::{left_out, observe};
pub use plan::plan;
pub(crate) use replicated::{KEEP_IT_HERE, next_of_a_copy};
