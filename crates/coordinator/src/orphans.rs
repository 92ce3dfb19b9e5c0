//! Orphans: rows without an item and items without a row, neither of them pending (R17). Found by a whole comparison,
//! repaired by marking them: the relay then brings the target to what the source says.

use lockstep_core::Phase;
use lockstep_validator::{FindingClass, Progress, ValidateOptions, validate};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::error::Result;
use crate::options::Migration;

/// Most orphans that are listed for one table; repaired, the next run finds the next ones.
const ORPHANS_MAX: usize = 10_000;

/// In which store alone it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OnlyIn {
    /// A row without an item.
    Source,
    /// An item without a row.
    Target,
}

/// One orphan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Orphan {
    /// The table.
    pub table: String,
    /// The source key, one SQL literal a column.
    pub key: Vec<String>,
    /// Where it is.
    pub only_in: OnlyIn,
}

/// What a search found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Orphans {
    /// The first of each table.
    pub found: Vec<Orphan>,
    /// Rows without an item, all of them.
    pub only_in_source: u64,
    /// Items without a row, all of them.
    pub only_in_target: u64,
    /// What was not compared to its end, and why; a search with one of these proves nothing (I11).
    pub failures: Vec<String>,
}

/// Looks for orphans in all tables. Writers may go on: what is on its way is no orphan.
///
/// In a phase that does not write both stores a row without an item is only one that has not been copied yet, so nothing is
/// looked for, and the search says so.
///
/// # Errors
/// When the phase cannot be read.
///
/// # Cancel safety
/// Searching has no effect.
pub async fn find_orphans(migration: &Migration, options: &ValidateOptions, cancel: &CancellationToken) -> Result<Orphans> {
    let mut orphans = Orphans::default();
    let phase = migration.source.control().await?.phase;
    if !phase.writes_both() {
        orphans.failures.push(format!("in {phase} the stores need not hold the same; go to {} first", Phase::DualWrite));
        return Ok(orphans);
    }
    let options = ValidateOptions { findings_max: ORPHANS_MAX, ..options.clone() };
    let progress = Progress::new(&migration.tables);
    let report = validate(&migration.source, &migration.target, &migration.tables, &options, &progress, cancel).await;
    for table in &report.tables {
        orphans.only_in_source += table.missing;
        orphans.only_in_target += table.extra;
        if !table.complete {
            let why = table.failure.as_deref().unwrap_or("not compared to its end");
            orphans.failures.push(format!("{}: {why}", table.name));
        }
        for finding in &table.findings {
            let only_in = match finding.class {
                FindingClass::Missing => OnlyIn::Source,
                FindingClass::Extra => OnlyIn::Target,
                _ => continue,
            };
            // An item that has no source key was not made from a row, and is nothing that a relay could mend.
            if let Ok(key) = serde_json::from_str(&finding.key) {
                orphans.found.push(Orphan { table: table.name.clone(), key, only_in });
            }
        }
    }
    Ok(orphans)
}

/// Marks orphans as pending; returns how many. A relay then puts what is missing, and a tombstone over what is extra.
///
/// # Errors
/// The source's.
///
/// # Cancel safety
/// What was marked stays marked; marking again is harmless.
pub async fn repair_orphans(migration: &Migration, orphans: &[Orphan]) -> Result<u64> {
    let mut marked = 0;
    for binding in &migration.tables {
        let of_table = orphans.iter().filter(|orphan| orphan.table == binding.name());
        let width = binding.table.key_columns().len();
        let keys: Vec<Vec<String>> = of_table.map(|orphan| orphan.key.clone()).filter(|key| key.len() == width).collect();
        marked += migration.source.mark_for_repair(binding, &keys).await?;
    }
    Ok(marked)
}
