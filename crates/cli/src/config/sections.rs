//! Sections that only the command line reads. Where a crate writes its options as a file has them, they are
//! the section.

use lockstep_core::Phase;
use serde::{Deserialize, Serialize};

pub use lockstep::config::{SourceSection, TargetSection};

/// `[cleanup]`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CleanupSection {
    /// A shell command that ends with 0 only if there is a backup of the source tables that can be restored.
    pub backup_check: Option<String>,
}

/// `[migrate]`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MigrateSection {
    /// The phase to stop in; unset: DynamoOnly on the embedded stores, DualWrite on configured ones.
    pub through: Option<Phase>,
    /// Writes a second made meanwhile; unset: 100 on the embedded stores, none on configured ones.
    pub live_writes_per_s: Option<u32>,
}
