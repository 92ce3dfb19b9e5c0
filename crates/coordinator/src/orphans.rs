//! Orphans: rows without an item and items without a row, neither of them pending (R17). Found by a whole
//! comparison, repaired by marking them: the relay then brings the target to what the source says.

use chrono::{DateTime, Utc};
use lockstep_core::{Error as StoreError, Kind};
use lockstep_validator::{FindingClass, ValidateOptions};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::error::Result;
use crate::options::MigrationContext;
use crate::repair_rows::{failures, mark, search};

/// Store in which alone it is.
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
    /// Store that has it.
    pub only_in: OnlyIn,
}

/// Result of a search.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Orphans {
    /// The first of each table.
    pub found: Vec<Orphan>,
    /// Rows without an item, all of them.
    pub only_in_source: u64,
    /// Items without a row, all of them.
    pub only_in_target: u64,
    /// Parts that were not compared to their end, and why; a search with one of these proves nothing (I11).
    pub failures: Vec<String>,
    /// Start of the days that were searched, as the backfill copies them; `None` where it has none.
    pub window_start: Option<DateTime<Utc>>,
    /// End of them.
    pub window_end: Option<DateTime<Utc>>,
}

/// Looks for orphans in all tables. Writers may go on: what is on its way is no orphan.
///
/// In a phase that does not write both stores a row without an item is only one that has not been copied yet,
/// so nothing is looked for, and the search says so.
///
/// # Errors
/// When the phase cannot be read.
///
/// # Cancel safety
/// Searching has no effect but that what was found is recorded.
#[crate::boxed]
pub async fn find_orphans(
    migration: &MigrationContext,
    options: &ValidateOptions,
    cancel: &CancellationToken,
) -> Result<Orphans> {
    let mut orphans = Orphans::default();
    let report = match search(migration, options, cancel).await? {
        Ok(report) => report,
        Err(failure) => {
            orphans.failures.push(failure);
            return Ok(orphans);
        }
    };
    orphans.failures = failures(&report);
    (orphans.window_start, orphans.window_end) = (report.window_start, report.window_end);
    for table in &report.tables {
        orphans.only_in_source += table.missing;
        orphans.only_in_target += table.extra;
        for finding in &table.findings {
            let only_in = match finding.class {
                FindingClass::Missing => OnlyIn::Source,
                FindingClass::Extra => OnlyIn::Target,
                _ => continue,
            };
            // An item that has no source key was not made from a row: no relay could repair it.
            if let Some(key) = finding.source_key() {
                orphans.found.push(Orphan { table: table.name.clone(), key, only_in });
            }
        }
    }
    Ok(orphans)
}

/// Marks orphans as pending; returns how many. A relay then puts what is missing, and a tombstone over what
/// is extra.
///
/// # Errors
/// [`Kind::Refused`] where PostgreSQL lost history, or came back to be the truth without what it refuses, and
/// what differs since was not decided about: an extra item may be the only copy of a row; the source's.
///
/// # Cancel safety
/// What was marked stays marked; marking again is harmless.
#[crate::boxed]
pub async fn repair_orphans(migration: &MigrationContext, orphans: &[Orphan]) -> Result<u64> {
    if migration.source.is_loss_undecided().await? {
        let message = "PostgreSQL lost history, or refused what an operator accepted to leave in DynamoDB, \
                       and no comparison of everything has agreed since: what only DynamoDB has may be what \
                       PostgreSQL forgot or refused, and what only PostgreSQL has may have been deleted. \
                       Decide about each finding of a repair first";
        return Err(StoreError::source(Kind::Refused, "repairing orphans", message).into());
    }
    let mut marked = 0;
    for binding in &migration.tables {
        let of_table = orphans.iter().filter(|orphan| orphan.table == binding.name());
        marked += mark(migration, binding, of_table.map(|orphan| orphan.key.clone()).collect()).await?;
    }
    Ok(marked)
}
