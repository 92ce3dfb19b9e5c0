//! Repair: what a comparison found is brought to what the source says (R27).
//!
//! There is no write path of its own. A key is marked as pending under a fresh version, and the relay
//! delivers it like any other change: the present row, or a tombstone where there is none. So a repair that
//! races with writers loses nothing, and one that is killed after its marks is finished by any relay. The
//! source is never changed.
//!
//! What was repaired is not believed until it was read again. The journal has the keys of each batch before
//! the first of them is marked, and the batch stays open in it until they were; a repair that is run again
//! begins with those.

use std::collections::BTreeMap;

use lockstep_core::{AttributeValue, Error as StoreError, KeyType, Kind, Phase, TargetKey};
use lockstep_postgres::{EntryKind, IntentId, TableBinding};
use lockstep_validator::{
    FindingClass, Progress as Compared, Report, ValidateOptions, ValidateSettings, validate, validate_keys,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::deletions::{self, Deletion};
use crate::error::{Error, Result};
use crate::found::record_found;
use crate::journal::REPAIR_KEYS;
use crate::options::Migration;
use crate::progress::Progress;
use crate::relay::{RelayUntil, relay};

/// Keys of one batch: one statement marks them, one entry of the journal names them.
const BATCH: usize = 500;
/// Most findings of a table that a search lists; repaired, the next one finds the next ones.
const LISTED_MAX: usize = 10_000;

/// A key that the relay can bring to what the source says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Repairable {
    /// The table.
    pub table: String,
    /// What is wrong.
    pub class: FindingClass,
    /// The source key, one SQL literal a column.
    pub key: Vec<String>,
    /// Columns and attributes that differ.
    pub columns: Vec<String>,
    /// The deletion that DynamoDB has of the row: repaired, a row that was deleted is there again.
    pub deletion: Option<Deletion>,
}

impl Repairable {
    /// Whether DynamoDB says that the row was deleted, perhaps in a time that PostgreSQL has lost: only a
    /// person knows which of both is right.
    pub fn may_be_deleted(&self) -> bool {
        self.deletion.is_some_and(|deletion| deletion.may_be_lost)
    }
}

/// A finding that no mark can mend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unrepairable {
    /// The table.
    pub table: String,
    /// What is wrong.
    pub class: FindingClass,
    /// The key as the report shows it.
    pub key: String,
    /// Why, and what to do.
    pub next: String,
}

/// What there is to repair.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Repairs {
    /// What a relay can mend.
    pub repairable: Vec<Repairable>,
    /// What it cannot.
    pub unrepairable: Vec<Unrepairable>,
    /// Findings that were counted and not listed; the next search lists them.
    pub unlisted: u64,
    /// What was not compared to its end, and why; a search with one of these proves nothing (I11).
    pub failures: Vec<String>,
}

/// What a repair did.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Repaired {
    /// Keys of earlier repairs that were broken off before they were read again; they are among the others.
    pub resumed: u64,
    /// Keys marked for the relay.
    pub marked: u64,
    /// Of those: read again, and both stores say the same.
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

/// What the journal keeps of a batch: enough to do it again.
#[derive(Debug, Serialize, Deserialize)]
struct Batch {
    table: String,
    keys: Vec<Vec<String>>,
}

/// Compares both stores and says what of it can be repaired. Writers may go on: what is on its way is no
/// finding.
///
/// # Errors
/// When the phase cannot be read.
///
/// # Cancel safety
/// Searching has no effect but that what was found is recorded.
#[crate::boxed]
pub async fn find_repairs(
    migration: &Migration,
    options: &ValidateOptions,
    cancel: &CancellationToken,
) -> Result<Repairs> {
    match search(migration, options, cancel).await? {
        Ok(report) => repairs_of(migration, &report).await,
        Err(failure) => Ok(Repairs { failures: vec![failure], ..Repairs::default() }),
    }
}

/// A whole comparison with long lists; or why there is none.
///
/// In a phase that does not write both stores a row without an item is only one that has not been copied yet,
/// so nothing is looked for.
pub(crate) async fn search(
    migration: &Migration,
    options: &ValidateOptions,
    cancel: &CancellationToken,
) -> Result<std::result::Result<Report, String>> {
    migration.source.require_contract(&migration.tables).await?;
    let phase = migration.source.control().await?.phase;
    if !phase.writes_both() {
        return Ok(Err(format!(
            "in {phase} the stores need not hold the same; go to {} first",
            Phase::DualWrite
        )));
    }
    let settings = ValidateSettings { findings_max: LISTED_MAX, ..options.settings.clone() };
    let options = ValidateOptions { settings, quality: false, ..options.clone() };
    let progress = Compared::new(&migration.tables);
    let report =
        validate(&migration.source, &migration.target, &migration.tables, &options, &progress, cancel).await;
    record_found(migration, &report).await?;
    Ok(Ok(report))
}

/// What of a report can be repaired. The report may be an old one: what has been put right since is marked
/// for nothing.
///
/// # Errors
/// The stores'.
#[crate::boxed]
pub async fn repairs_of(migration: &Migration, report: &Report) -> Result<Repairs> {
    let mut repairs = Repairs { failures: failures(report), ..Repairs::default() };
    for table in &report.tables {
        repairs.unlisted += table.findings_total().saturating_sub(table.findings.len() as u64);
        let binding = migration.tables.iter().find(|binding| binding.name() == table.name);
        for finding in &table.findings {
            let class = finding.class;
            let mut key = finding.source_key();
            if let (None, Some(binding), Ok(parts)) =
                (&key, binding, serde_json::from_str::<Vec<String>>(&finding.key))
            {
                key = name_item(migration, binding, &parts).await?;
            }
            match (key, class) {
                (Some(key), class) if class != FindingClass::Unsettled => {
                    repairs.repairable.push(Repairable {
                        table: table.name.clone(),
                        class,
                        key,
                        columns: finding.columns.clone(),
                        deletion: None,
                    });
                }
                (_, class) => repairs.unrepairable.push(Unrepairable {
                    table: table.name.clone(),
                    class,
                    key: finding.key.clone(),
                    next: next(class).to_owned(),
                }),
            }
        }
    }
    note_deletions(migration, &mut repairs.repairable).await?;
    Ok(repairs)
}

/// Notes in findings of missing items the deletions that DynamoDB has of them.
async fn note_deletions(migration: &Migration, repairable: &mut [Repairable]) -> Result<()> {
    for binding in &migration.tables {
        let is_missing =
            |finding: &Repairable| finding.class == FindingClass::Missing && finding.table == binding.name();
        let missing = repairable.iter().filter(|finding| is_missing(finding));
        let keys: Vec<_> = missing.map(|finding| finding.key.clone()).collect();
        let found = deletions::of(migration, binding, &keys).await?;
        let missing = repairable.iter_mut().filter(|finding| is_missing(finding));
        missing.zip(found).for_each(|(finding, deletion)| finding.deletion = deletion);
    }
    Ok(())
}

/// What was not compared to its end.
pub(crate) fn failures(report: &Report) -> Vec<String> {
    let incomplete = report.tables.iter().filter(|table| !table.complete);
    let mut failures: Vec<String> = incomplete
        .map(|table| {
            format!("{}: {}", table.name, table.failure.as_deref().unwrap_or("not compared to its end"))
        })
        .collect();
    if report.tables.is_empty() {
        failures.extend(report.verdict.reasons().iter().cloned());
    }
    failures
}

fn next(class: FindingClass) -> &'static str {
    match class {
        FindingClass::Unsettled => "it is being changed all the time; look again when it has come to rest",
        FindingClass::Undecodable => {
            "no row can be named for it: a row that DynamoDB cannot hold is a dead letter (`dead-letters`), an item that is no \
             row was put by another program, and its owner should remove it"
        }
        _ => "no row belongs where it is: another program put it there, and its owner should remove it",
    }
}

/// The source key of the item at a place, if that is where the row of its key belongs: then the row is
/// written over it.
async fn name_item(
    migration: &Migration,
    binding: &TableBinding,
    parts: &[String],
) -> Result<Option<Vec<String>>> {
    let schema = binding.table.target();
    let typed = |text: &String, key_type| match key_type {
        KeyType::S => AttributeValue::S(text.clone()),
        KeyType::N => AttributeValue::N(text.clone()),
    };
    let place = match (parts, schema.sort) {
        ([partition, sort], Some(of_sort)) => {
            TargetKey { partition: typed(partition, schema.partition), sort: Some(typed(sort, of_sort)) }
        }
        ([partition], None) => TargetKey { partition: typed(partition, schema.partition), sort: None },
        _ => return Ok(None),
    };
    let item = match migration.target.get(&binding.target_name, &place).await {
        Ok(item) => item,
        // What stands for the key of an unholdable row is no key of the target.
        Err(error) if error.kind == Kind::Invalid => None,
        Err(error) => return Err(error.into()),
    };
    let belongs = item.filter(|item| binding.table.place_of_item(item).is_ok_and(|own| own == place));
    Ok(belongs.and_then(|item| binding.table.key_of_item(&item).ok()))
}

/// Marks keys, delivers them and everything else that is pending, and reads them again. Begins with what
/// earlier repairs left unverified. All that are given: a caller leaves out those whose rows were deleted,
/// unless a person wants them back ([`Repairable::deletion`]).
///
/// # Errors
/// [`Kind::Refused`] in a phase that does not write both stores; the stores'. What was marked by then is
/// delivered by any relay, and stays open in the journal as unverified.
///
/// # Cancel safety
/// As for an error.
#[crate::boxed]
pub async fn repair(
    migration: &Migration,
    repairs: &[Repairable],
    options: &ValidateOptions,
    cancel: &CancellationToken,
) -> Result<Repaired> {
    migration.source.require_contract(&migration.tables).await?;
    let phase = migration.source.control().await?.phase;
    if !phase.writes_both() {
        let next = match phase {
            Phase::PostgresOnly => "take `cargo xtask advance --to DualWrite` first",
            _ => "`cargo xtask reverse-feed --backfill` brings PostgreSQL to what DynamoDB says",
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
        Ok::<_, Error>(repaired)
    };
    tokio::select! {
        biased;
        // Then the relay is dropped and not told to stop: it tries for minutes to reach a target that is
        // down.
        repaired = batches => repaired,
        relayed = relay(migration, RelayUntil::Cancelled, &progress, cancel) => {
            relayed?;
            // It ends by itself only when it is told to.
            Err(Error::Interrupted)
        }
    }
}

/// Marks keys and leaves delivery to the relay that runs elsewhere; returns how many were marked. Journalled
/// before.
pub(crate) async fn mark(
    migration: &Migration,
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

async fn journal(migration: &Migration, batch: &Batch) -> Result<IntentId> {
    Ok(migration.source.journal_intent(&migration.actor, REPAIR_KEYS, &json!(batch)).await?)
}

/// Batches that were broken off before their keys were read again.
async fn open_batches(migration: &Migration) -> Result<Vec<(IntentId, Batch)>> {
    let open = migration.source.open_intents().await?.into_iter().filter(|entry| entry.step == REPAIR_KEYS);
    Ok(open
        .filter_map(|entry| Some((IntentId(entry.id), serde_json::from_value(entry.detail).ok()?)))
        .collect())
}

/// Calls batches of before a loss undone: their keys were found wrong in a history that is no more, and what
/// the target has under them may be the only copy of what the source forgot. The comparison that follows a
/// loss lists what differs now.
pub(crate) async fn forget_batches(migration: &Migration) -> Result<()> {
    for (intent, _) in open_batches(migration).await? {
        let detail = json!({ "why": "a store has lost history since" });
        let source = &migration.source;
        source.journal_outcome(&migration.actor, intent, EntryKind::Undone, REPAIR_KEYS, &detail).await?;
    }
    Ok(())
}

async fn one_batch(
    migration: &Migration,
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
        return Err(Error::Interrupted);
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
