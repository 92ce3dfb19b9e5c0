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
mod pause;
mod settle;
mod to_dynamo;
mod to_postgres;

pub(crate) use feed::Feed;
pub(crate) use pause::Pause;
pub use pause::{PausePart, PauseSummary};
pub(crate) use settle::{has_written_target, settle};
pub(crate) use to_dynamo::to_dynamo;
pub(crate) use to_postgres::to_postgres;

use lockstep_postgres::IntentId;

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
const STOP: &str = "stop writes";
/// Journal entry of the part of a step to DynamoOnly from which on applications write DynamoDB as the truth.
const OPEN: &str = "let writes go on";

/// Name of a part of a step in the journal.
fn part(what: &str) -> String {
    format!("{CHANGE_PHASE}: {what}")
}

/// Journals a part of a step before it begins; refused where another coordinator has settled the step: this
/// one has lost its lock then, and takes no part more.
async fn note(migration: &MigrationContext, id: IntentId, what: &str) -> Result<()> {
    Ok(migration.source.journal_part(&migration.actor, &part(what), id).await?)
}
