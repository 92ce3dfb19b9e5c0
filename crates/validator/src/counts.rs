//! Counts of both sides, held against each other (R20).
//!
//! They mean something only at rest. 1. The source is counted. 2. A row is written to both stores. 3. The
//! target is counted: one more, and nothing is wrong. So the caller says whether writers are stopped. And a
//! pass that was stopped has not counted to the end.

use crate::options::ValidateOptions;
use crate::table_report::TableReport;

/// Returns what the counts of a table at rest say against it, where they differ beyond what is accounted for.
pub(crate) fn disagreement(table: &TableReport, options: &ValidateOptions) -> Option<String> {
    if !options.quiescent || !table.complete {
        return None;
    }
    // A dead letter may or may not have an older state in the target; an expired row has none. An item that
    // is accepted to stay in the target alone may or may not have an older row.
    let accounted = table.dead_letters + table.expired;
    let tolerance = options.settings.tolerance_of(table.source_count);
    let most = table.source_count + table.accepted + tolerance;
    let least = table.source_count.saturating_sub(accounted + tolerance);
    (!(least..=most).contains(&table.target_count)).then(|| {
        format!(
            "the source has {} rows and the target {} items, with {accounted} accounted for and a tolerance of {tolerance}",
            table.source_count, table.target_count
        )
    })
}

/// Rows of a table at rest that were counted but of which no pass can say what became of them (I11).
pub(crate) fn unaccounted(table: &TableReport, options: &ValidateOptions) -> u64 {
    // An incremental pass does not want to read what has not changed.
    if !options.quiescent || !table.complete || options.incremental {
        return 0;
    }
    let known = table.compared + table.dead_letters + table.pending + table.unsettled + table.undecodable;
    table.source_count.saturating_sub(known)
}
