//! Search for what there is to repair: a whole comparison, and the findings of it that a mark can repair.

use chrono::{DateTime, Utc};
use lockstep_core::Advice::DeadLetters;
use lockstep_core::{AttributeValue, KeyType, Kind, Phase, TargetKey};
use lockstep_postgres::TableBinding;
use lockstep_validator::{
    FindingClass, Report, ValidateOptions, ValidateSettings, ValidationProgress, validate,
};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::deletions::{self, Deletion};
use crate::error::Result;
use crate::found::record_found;
use crate::options::MigrationContext;

/// Most findings of a table that a search lists; repaired, the next one finds the next ones.
const LISTED_MAX: usize = 10_000;

/// A key that the relay can bring to what the source says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Repairable {
    /// The table.
    pub table: String,
    /// Class of the finding.
    pub class: FindingClass,
    /// The source key, one SQL literal a column.
    pub key: Vec<String>,
    /// Columns and attributes that differ.
    pub columns: Vec<String>,
    /// The deletion that DynamoDB has of the row: repaired, a row that was deleted is there again.
    pub deletion: Option<Deletion>,
}

impl Repairable {
    /// Tells whether DynamoDB says that the row was deleted, perhaps in a time that PostgreSQL has lost: only
    /// a person knows which of both is right.
    pub fn may_be_deleted(&self) -> bool {
        self.deletion.is_some_and(|deletion| deletion.may_be_lost)
    }
}

/// A finding that no mark can repair.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unrepairable {
    /// The table.
    pub table: String,
    /// Class of the finding.
    pub class: FindingClass,
    /// The key as the report shows it.
    pub key: String,
    /// Reason why, and what to do.
    pub next: String,
}

/// Repairs that a search has found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Repairs {
    /// Keys that a relay can repair.
    pub repairable: Vec<Repairable>,
    /// Keys that no relay can repair.
    pub unrepairable: Vec<Unrepairable>,
    /// Findings that were counted and not listed; the next search lists them.
    pub unlisted: u64,
    /// Passes that did not compare to their end, and why; a search with one of these proves nothing (I11).
    pub failures: Vec<String>,
    /// Start of the days that were searched, as the backfill copies them; `None` where it has none.
    pub window_start: Option<DateTime<Utc>>,
    /// End of them.
    pub window_end: Option<DateTime<Utc>>,
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
    migration: &MigrationContext,
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
    migration: &MigrationContext,
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
    let progress = ValidationProgress::new(&migration.tables);
    let report =
        validate(&migration.source, &migration.target, &migration.tables, &options, &progress, cancel).await;
    record_found(migration, &report).await?;
    Ok(Ok(report))
}

/// Returns what of a report can be repaired. The report may be an old one: what has been put right since is
/// marked for nothing.
///
/// # Errors
/// The stores'.
#[crate::boxed]
pub async fn repairs_of(migration: &MigrationContext, report: &Report) -> Result<Repairs> {
    let mut repairs = Repairs {
        failures: failures(report),
        window_start: report.window_start,
        window_end: report.window_end,
        ..Repairs::default()
    };
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
async fn note_deletions(migration: &MigrationContext, repairable: &mut [Repairable]) -> Result<()> {
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

/// Returns the passes that did not compare to their end.
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

fn next(class: FindingClass) -> String {
    match class {
        FindingClass::Unsettled => {
            "it is being changed all the time; look again when it has come to rest".to_owned()
        }
        FindingClass::Undecodable => {
            format!(
                "no row can be named for it: a row that DynamoDB cannot hold is a dead \
                letter ({DeadLetters}), an item that is no row was put by another \
                program, and its owner should remove it"
            )
        }
        _ => "no row belongs where it is: another program put it there, and its owner should remove it"
            .to_owned(),
    }
}

/// Returns the source key of the item at a place, if that is where the row of its key belongs: then the row
/// is written over it.
async fn name_item(
    migration: &MigrationContext,
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
        // The stand-in for the key of an unholdable row is no key of the target.
        Err(error) if error.kind == Kind::Invalid => None,
        Err(error) => return Err(error.into()),
    };
    let belongs = item.filter(|item| binding.table.place_of_item(item).is_ok_and(|own| own == place));
    Ok(belongs.and_then(|item| binding.table.key_of_item(&item).ok()))
}
