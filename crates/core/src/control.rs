//! Values of the two control records: PostgreSQL's up to HybridRead, DynamoDB's in DynamoOnly.

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::phase::Phase;
use crate::version::Epoch;

/// The one row that says in which phase all tables are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Control {
    /// The phase.
    pub phase: Phase,
    /// The epoch.
    pub epoch: Epoch,
    /// Time of the last change of phase or epoch.
    pub changed_at: DateTime<Utc>,
    /// Whether writes wait: only in DynamoOnly, around a flip. PostgreSQL's answer about DynamoOnly is always
    /// "wait": there, the target's record decides; see [`truth`](crate::truth()).
    pub writes_paused: bool,
}

/// Whether applications may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Writes {
    /// Applications may write.
    Open,
    /// Writes wait: a transition is under way.
    Paused,
}

/// The control record of the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct TargetRecord {
    /// The phase. Any other than DynamoOnly says: the truth went back to PostgreSQL, ask there.
    pub phase: Phase,
    /// The epoch.
    pub epoch: Epoch,
    /// Whether writes wait.
    pub writes: Writes,
    /// The epoch with which the truth last came to the target: what has a lower version came from the source.
    pub since: Epoch,
    /// Time of the last change, by the clock of the process that made it; for people only.
    pub changed_at: DateTime<Utc>,
    /// Time since which the migration is complete: the truth is here for good. For applications nothing else
    /// changes.
    pub completed_at: Option<DateTime<Utc>>,
}

impl TargetRecord {
    /// Returns the control values as instances and stores go by them.
    pub fn control(&self) -> Control {
        let writes_paused = self.writes == Writes::Paused;
        Control { phase: self.phase, epoch: self.epoch, changed_at: self.changed_at, writes_paused }
    }

    /// Tells whether it says that the truth is in the target.
    pub fn holds_truth(&self) -> bool {
        self.phase == Phase::DynamoOnly
    }
}
