//! The repair itself: marks the keys of a batch, lets a relay deliver them, and reads them again.

use std::collections::BTreeMap;

use lockstep_core::Advice::{AdvanceToDualWrite, ReverseBackfill};
use lockstep_core::{Error as StoreError, Kind, Phase};
use lockstep_postgres::{EntryKind, IntentId};
use lockstep_validator::{ValidateOptions, ValidateSettings, validate_keys};
use serde::Serialize;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::batch::{BATCH, Batch, journal, open_batches};
use super::search::Repairable;
use crate::error::{CoordinatorError, Result};
use crate::journal::REPAIR_KEYS;
use crate::options::MigrationContext;
use crate::progress::Progress;
use crate::relay::{RelayUntil, relay};

/// Counts of what a repair did.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Repaired {
    /// Keys of earlier repairs that were broken off before they were read again; they are among the others.
    pub resumed: u64,
    /// Keys marked for the relay.
    pub marked: u64,
    /// Number of those that were read again, and of which both stores say the same.
    pub verified: u64,
    /// The others, and why they are not believed.
    pub unverified: Vec<String>,
}

impl Repaired {
    /// Adds what another repair did.
    pub(crate) fn add(&mut self, other: Self) {
        self.resumed += other.resumed;
        self.marked += other.marked;
        self.verified += other.verified;
        self.unverified.extend(other.unverified);
    }
}

/// Marks keys, delivers them and everything else that is pending, and reads them again. Begins with what
/// earlier repairs left unverified. All that are given: a caller leaves out those whose rows were deleted,
/// unless a person wants them back ([`Repairable::deletion`]).
///
/// # Errors
/// [`Kind::Refused`] in a phase that does not write both stores; the stores'. Any relay delivers the keys
/// marked by then, and they stay open in the journal as unverified.
///
/// # Cancel safety
/// As for an error.
#[crate::boxed]
pub async fn repair(
    migration: &MigrationContext,
    repairs: &[Repairable],
    options: &ValidateOptions,
    cancel: &CancellationToken,
) -> Result<Repaired> {
    migration.source.require_contract(&migration.tables).await?;
    let phase = migration.source.control().await?.phase;
    if !phase.writes_both() {
        let next = match phase {
            Phase::PostgresOnly => format!("take `{AdvanceToDualWrite:#}` first"),
            _ => format!("`{ReverseBackfill:#}` brings PostgreSQL to what DynamoDB says"),
        };
        let message =
            format!("in {phase} the relay has nothing to bring to the target; nothing was marked: {next}");
        return Err(StoreError::source(Kind::Refused, "repairing", message).into());
    }
    crate::continuity::require_kept(migration).await?;
    // By now what is pending is delivered here, so it is worth waiting for.
    let settings = ValidateSettings { findings_max: BATCH, ..options.settings.clone() };
    let options = ValidateOptions { settings, wait_for_pending: true, ..options.clone() };
    let progress = Progress::new(&migration.tables);
    let batches = async {
        let mut repaired = Repaired::default();
        for (intent, batch) in open_batches(migration).await? {
            repaired.resumed += batch.keys.len() as u64;
            one_batch(migration, intent, &batch, &options, cancel, &mut repaired).await?;
        }
        for batch in batches_of(repairs) {
            let intent = journal(migration, &batch).await?;
            one_batch(migration, intent, &batch, &options, cancel, &mut repaired).await?;
        }
        Ok::<_, CoordinatorError>(repaired)
    };
    tokio::select! {
        biased;
        // Then the relay is dropped and not told to stop: it tries for minutes to reach a target that is
        // down.
        repaired = batches => repaired,
        relayed = relay(migration, RelayUntil::Cancelled, &progress, cancel) => {
            relayed?;
            // It ends by itself only when it is told to.
            Err(CoordinatorError::Interrupted)
        }
    }
}

/// Table by table, so that a batch is one statement.
fn batches_of(repairs: &[Repairable]) -> Vec<Batch> {
    let mut of_tables: BTreeMap<&str, Vec<Vec<String>>> = BTreeMap::new();
    for repair in repairs {
        of_tables.entry(&repair.table).or_default().push(repair.key.clone());
    }
    let batches = of_tables.into_iter().flat_map(|(table, keys)| {
        let batch = |keys: &[Vec<String>]| Batch { table: table.to_owned(), keys: keys.to_vec() };
        keys.chunks(BATCH).map(batch).collect::<Vec<_>>()
    });
    batches.collect()
}

async fn one_batch(
    migration: &MigrationContext,
    intent: IntentId,
    batch: &Batch,
    options: &ValidateOptions,
    cancel: &CancellationToken,
    repaired: &mut Repaired,
) -> Result<()> {
    let source = &migration.source;
    let Some(binding) = migration.tables.iter().find(|binding| binding.name() == batch.table) else {
        let detail = json!({ "why": "the table is not part of this migration any more" });
        return Ok(source
            .journal_outcome(&migration.actor, intent, EntryKind::Undone, REPAIR_KEYS, &detail)
            .await?);
    };
    // It is unknown whether a batch that was broken off was marked; marked twice is delivered twice, and
    // harmless (I2).
    let marked = source.mark_for_repair(binding, &batch.keys).await?;
    repaired.marked += marked;
    let report = validate_keys(source, &migration.target, binding, &batch.keys, options, cancel).await;
    if cancel.is_cancelled() {
        return Err(CoordinatorError::Interrupted);
    }
    let name = binding.name();
    let mut unverified: Vec<String> = Vec::new();
    match &report.failure {
        Some(failure) => {
            unverified.push(format!("{name}: {} keys were not read again: {failure}", batch.keys.len()))
        }
        None => unverified.extend(
            report.findings.iter().map(|finding| format!("{name} {}: still {}", finding.key, finding.class)),
        ),
    }
    let verified = if report.complete { marked.saturating_sub(report.findings_total()) } else { 0 };
    repaired.verified += verified;
    let detail = json!({ "marked": marked, "verified": verified, "unverified": unverified });
    repaired.unverified.extend(unverified);
    Ok(source.journal_outcome(&migration.actor, intent, EntryKind::Done, REPAIR_KEYS, &detail).await?)
}
