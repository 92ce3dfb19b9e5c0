//! Names of the coordinator's entries in the journal, and the record that one of a step keeps.

use lockstep_core::{Epoch, Phase};
use serde::{Deserialize, Serialize};

/// A step from one phase to another.
pub(crate) const CHANGE_PHASE: &str = "change phase";
/// A repair of rows.
pub(crate) const REPAIR_KEYS: &str = "repair keys";
/// A repair of the state.
pub(crate) const REPAIR_STATE: &str = "repair state";
/// The end of the migration.
pub(crate) const COMPLETE: &str = "complete";

/// Record of an intended step in the journal: enough to finish or undo it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Intent {
    pub(crate) from: Phase,
    pub(crate) to: Phase,
    pub(crate) epoch_before: Epoch,
    /// Whether the verdict that let it through must still stand at the flip: where gates were passed over by
    /// force, there may be none.
    #[serde(skip)]
    pub(crate) asks_verdict: bool,
}

impl Intent {
    /// Tells whether the truth goes from one store to the other.
    pub(crate) fn moves_truth(&self) -> bool {
        self.from == Phase::DynamoOnly || self.to == Phase::DynamoOnly
    }
}
