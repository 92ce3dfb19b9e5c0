//! Gates: checks that run before a step, for every table, reported one by one (R7).

mod capacity;
mod compared;
mod dependents;
mod ids;
mod preflight;
mod readiness;
mod riders;
mod rights;
mod source_tables;
mod target_table;

pub(crate) use dependents::nothing_else_depends;
pub(crate) use preflight::preflight;
pub use readiness::ready;
pub(crate) use readiness::{readiness, state_is_whole};
