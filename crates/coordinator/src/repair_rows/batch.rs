//! Batches of keys: each is named in the journal before the first of its keys is marked, and stays open there
//! until its keys were read again.

use lockstep_postgres::{EntryKind, IntentId, TableBinding};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::error::Result;
use crate::journal::REPAIR_KEYS;
use crate::options::MigrationContext;

/// Keys of one batch: one statement marks them, one entry of the journal names them.
pub(super) const BATCH: usize = 500;

/// Record of a batch in the journal: enough to do it again.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Batch {
    pub(super) table: String,
    pub(super) keys: Vec<Vec<String>>,
}

/// Marks keys and leaves delivery to the relay that runs elsewhere; returns how many were marked. Journalled
/// before.
pub(crate) async fn mark(
    migration: &MigrationContext,
    binding: &TableBinding,
    keys: Vec<Vec<String>>,
) -> Result<u64> {
    let mut marked = 0;
    crate::continuity::require_kept(migration).await?;
    for keys in keys.chunks(BATCH) {
        let intent =
            journal(migration, &Batch { table: binding.name().to_owned(), keys: keys.to_vec() }).await?;
        let of_batch = migration.source.mark_for_repair(binding, keys).await?;
        let detail = json!({ "marked": of_batch, "verified": 0 });
        migration
            .source
            .journal_outcome(&migration.actor, intent, EntryKind::Done, REPAIR_KEYS, &detail)
            .await?;
        marked += of_batch;
    }
    Ok(marked)
}

pub(super) async fn journal(migration: &MigrationContext, batch: &Batch) -> Result<IntentId> {
    Ok(migration.source.journal_intent(&migration.actor, REPAIR_KEYS, &json!(batch)).await?)
}

/// Batches that were broken off before their keys were read again.
pub(super) async fn open_batches(migration: &MigrationContext) -> Result<Vec<(IntentId, Batch)>> {
    let open = migration.source.open_intents().await?.into_iter().filter(|entry| entry.step == REPAIR_KEYS);
    Ok(open
        .filter_map(|entry| Some((IntentId(entry.id), serde_json::from_value(entry.detail).ok()?)))
        .collect())
}

/// Calls batches of before a loss undone: their keys were found wrong in a history that is no more, and what
/// the target has under them may be the only copy of what the source forgot. The comparison that follows a
/// loss lists what differs now.
pub(crate) async fn forget_batches(migration: &MigrationContext) -> Result<()> {
    for (intent, _) in open_batches(migration).await? {
        let detail = json!({ "why": "a store has lost history since" });
        let source = &migration.source;
        source.journal_outcome(&migration.actor, intent, EntryKind::Undone, REPAIR_KEYS, &detail).await?;
    }
    Ok(())
}
