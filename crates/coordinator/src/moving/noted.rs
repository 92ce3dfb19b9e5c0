//! Parts of a step as the journal names them, and what a step that is over tells.

use lockstep_postgres::IntentId;

use super::pause::PauseSummary;
use crate::error::Result;
use crate::instances::InstanceWait;
use crate::journal::CHANGE_PHASE;
use crate::options::MigrationContext;

/// A step that is over.
pub(crate) struct Moved {
    pub(crate) tries: u32,
    pub(crate) pause: PauseSummary,
    pub(crate) instances: Vec<InstanceWait>,
}

/// Journal entry of the part of a step back that pauses writes.
pub(super) const STOP: &str = "stop writes";

/// Journal entry of the part of a step to DynamoOnly from which on applications write DynamoDB as the truth.
pub(super) const OPEN: &str = "let writes go on";

/// Name of a part of a step in the journal.
pub(super) fn part(what: &str) -> String {
    format!("{CHANGE_PHASE}: {what}")
}

/// Journals a part of a step before it begins; refused where another coordinator has settled the step: this
/// one has lost its lock then, and takes no part more.
pub(super) async fn note(migration: &MigrationContext, id: IntentId, what: &str) -> Result<()> {
    Ok(migration.source.journal_part(&migration.actor, &part(what), id).await?)
}
