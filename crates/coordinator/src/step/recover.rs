//! Steps that a crash left open: finished or undone by the next process that coordinates (I9).

use lockstep_core::Phase;
use lockstep_postgres::{Entry, EntryKind, IntentId, Source};
use serde_json::json;

use super::settle::{Recovery, Settled, Taken, recover, settle};
use crate::error::Result;
use crate::journal::{self, CHANGE_PHASE, Intent};
use crate::options::MigrationContext;

/// Steps that were left open, and are settled.
#[derive(Debug, Default)]
pub(crate) struct Recovered {
    /// One sentence each.
    pub(crate) told: Vec<String>,
    /// The steps that were finished, as from where to where: the phase has changed by them.
    pub(crate) finished: Vec<(Phase, Phase)>,
}

/// Settles every step that a crash left open. The coordinator's lock is held, so no other process works on
/// it.
pub(crate) async fn recover_all(migration: &MigrationContext) -> Result<Recovered> {
    let source: &Source = &migration.source;
    let mut settled = Recovered::default();
    for entry in source.open_intents().await? {
        let Entry { id, step, detail, .. } = entry;
        if [journal::REPAIR_KEYS, journal::REPAIR_STATE, journal::COMPLETE].contains(&step.as_str()) {
            // Its keys have not been read again, or the stores not compared. A repair does that, and until
            // then it stays open here.
            continue;
        }
        let id = IntentId(id);
        match serde_json::from_value::<Intent>(detail.clone()) {
            Ok(intent) if step == CHANGE_PHASE => {
                // It is settled for all tables, and in their places.
                let contract = source.contract().await?;
                match intent.moves_truth() {
                    true => contract.require_all(&migration.tables)?,
                    // That asks no table: 1. A step to HybridRead is killed once it has happened. 2. A
                    // table is dropped. 3. The step back settles this one first.
                    false => contract.require_known(&migration.tables, &migration.unread)?,
                }
                let Settled { now, .. } = settle(migration, id, &intent, &Taken::default(), &()).await?;
                if recover(&intent, &now) == Recovery::Finish {
                    settled.finished.push((intent.from, intent.to));
                }
                let Intent { from, to, .. } = intent;
                settled
                    .told
                    .push(format!("the step {from} → {to} was broken off; the phase is {}", now.phase));
            }
            // Every other step of ours is repeated as a whole when the command runs again, so there is
            // nothing to undo.
            _ => {
                source
                    .journal_outcome(
                        &migration.actor,
                        id,
                        EntryKind::Undone,
                        &step,
                        &json!({ "why": "broken off" }),
                    )
                    .await?;
                settled.told.push(format!("`{step}` was broken off and will be repeated"));
            }
        }
    }
    Ok(settled)
}
