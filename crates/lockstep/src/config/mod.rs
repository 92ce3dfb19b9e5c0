//! `lockstep.toml`, for applications and for the command line alike: one loader.
//!
//! Five layers, later ones win: defaults; `lockstep.toml` (or a file that is named); the table
//! `[profile.NAME]` of that file, if a profile is chosen; environment variables `LOCKSTEP_SECTION__KEY`;
//! flags. The names of a dual-writing application's environment (`legacy`) lie under all of them but the
//! defaults. Unknown keys are refused in every layer, because a misspelt bound is no bound. Every message names
//! the key and where its value came from, and none shows a value.
//!
//! An application reads `source`, `target`, `tables`, `writes` and `reads`, and leaves the other sections to
//! the command line, which checks them.
//!
//! In reading order: [`Registry`] (which tables there are), `sections` and `tables` (what can be set),
//! `writers` (who else may write it), `layers` (where it comes from; `legacy`), `check` (what no type can say),
//! `explain` (errors as sentences), `application`.

mod application;
mod check;
mod explain;
mod layers;
mod legacy;
mod registry;
mod secret;
mod sections;
mod tables;
mod writers;

#[cfg(test)]
mod tests;

pub use explain::ConfigError;
pub use layers::{Inputs, Setting};
pub use registry::Registry;

// The command line loads its own sections with these.
#[doc(hidden)]
pub use check::Check;
#[doc(hidden)]
pub use explain::{explain, origin};
#[doc(hidden)]
pub use layers::{Gathered, Sorting, gather, over};
#[doc(hidden)]
pub use secret::{SecretUrl, mask_passwords};
#[doc(hidden)]
pub use sections::{SourceSection, TargetSection};
#[doc(hidden)]
pub use tables::{Names, TableSections};

/// The file that is read when none is named, in the working directory.
#[doc(hidden)]
pub const FILE: &str = "lockstep.toml";
/// Prefix of the environment variables.
#[doc(hidden)]
pub const ENV_PREFIX: &str = "LOCKSTEP_";
/// Longest wait for the barrier in one try where nothing is said, and so the longest stall that a step causes
/// an application.
#[doc(hidden)]
pub const LOCK_TIMEOUT: std::time::Duration = std::time::Duration::from_millis(300);
/// The environment's name in messages.
const ENVIRONMENT: &str = "the environment";
/// Section in which declared tables are kept apart from registered ones, which may have settings of their own
/// under the same name.
const DECLARED: &str = "declared";
