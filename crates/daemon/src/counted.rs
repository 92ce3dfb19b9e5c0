//! Counts of the applications within the last hour, in the percentages that the reference system watches.
//! Pure.

use chrono::{DateTime, Utc};
use lockstep_core::Epoch;
use lockstep_postgres::{CountRow, Entry};
use serde::Serialize;

/// Percentages of the counts.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Counted {
    /// Writes of applications that ended, and of those the ones that no store failed, in percent.
    pub(crate) writes: i64,
    pub(crate) write_success_percent: Option<f64>,
    /// Coordinated operations that began, and of those the ones that ended as they should.
    pub(crate) operations: i64,
    pub(crate) operations_completed_percent: Option<f64>,
    /// Number of those that began minutes ago, and have not ended. Their process died, or how they ended is
    /// unknown.
    pub(crate) operations_open: i64,
    /// Shadow reads that could be told, and those that differed.
    pub(crate) shadow_reads: i64,
    pub(crate) shadow_differ: i64,
}

/// A step back that no person has asked for.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct SteppedBack {
    /// Time at which it was decided, by the source's clock.
    pub(crate) at: DateTime<Utc>,
    /// The epoch whose reads go back.
    pub(crate) epoch: Epoch,
    pub(crate) why: String,
}

impl SteppedBack {
    /// Reads it from its entry of the journal.
    pub(crate) fn of(entry: &Entry) -> Option<Self> {
        let epoch = serde_json::from_value(entry.detail.get("epoch")?.clone()).ok()?;
        let why = entry.detail.get("reason")?.as_str()?.to_owned();
        Some(Self { at: entry.at, epoch, why })
    }
}

/// Ends of an operation: the first two are good.
const ENDED: [&str; 4] =
    ["operation.committed", "operation.given_up", "operation.failed", "operation.unknown"];

impl Counted {
    pub(crate) fn of(rows: &[CountRow]) -> Self {
        let sum = |name: &str| rows.iter().filter(|row| row.name == name).map(|row| row.count).sum::<i64>();
        let (committed, failed) = (sum("write.committed"), sum("write.failed") + sum("write.unknown"));
        let [committed_of, given_up, failed_of, unknown] = ENDED.map(sum);
        let (well, ill) = (committed_of + given_up, failed_of + unknown);
        let begun: i64 = sum("operation.begun");
        // Both within one window: what ended in the last minutes began in them, mostly, and would hide those
        // that died before.
        let older = |name: &str| rows.iter().filter(|row| row.name == name).map(|row| row.older).sum::<i64>();
        let ended: i64 = ENDED.into_iter().map(older).sum();
        let open = (older("operation.begun") - ended).max(0);
        let (agree, differ) = (sum("shadow.agree"), sum("shadow.differ"));
        Self {
            writes: committed + failed,
            write_success_percent: percent(committed, committed + failed),
            operations: begun,
            operations_completed_percent: percent(well, well + ill + open),
            operations_open: open,
            shadow_reads: agree + differ,
            shadow_differ: differ,
        }
    }
}

fn percent(part: i64, whole: i64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64 * 100.0)
}

/// Differences that were found where the target answers reads: by shadow reads of applications, and by
/// samples.
pub(crate) fn differences(rows: &[CountRow]) -> i64 {
    rows.iter()
        .filter(|row| ["shadow.differ", "sample.differ"].contains(&row.name.as_str()))
        .map(|row| row.count)
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, count: i64, older: i64) -> CountRow {
        let (table_name, name, newest_at) = (String::new(), name.to_owned(), DateTime::UNIX_EPOCH);
        CountRow { table_name, name, count, older, newest_at }
    }

    #[test]
    fn an_operation_that_began_and_did_not_end_is_open_once_it_could_have_ended() {
        let begun_now = [row("operation.begun", 10, 0), row("operation.committed", 8, 0)];
        let counted = Counted::of(&begun_now);
        assert_eq!((counted.operations_open, counted.operations_completed_percent), (0, Some(100.0)));
        let long_ago =
            [row("operation.begun", 10, 10), row("operation.committed", 8, 8), row("operation.failed", 1, 1)];
        let counted = Counted::of(&long_ago);
        assert_eq!((counted.operations_open, counted.operations_completed_percent), (1, Some(80.0)));
    }

    #[test]
    fn operations_that_ended_within_the_last_minutes_hide_none_that_died_before() {
        // An hour of steady traffic, 1000 a minute: 57 of its minutes are long enough ago.
        let steady = [row("operation.begun", 60_000, 57_000), row("operation.committed", 59_700, 56_700)];
        let counted = Counted::of(&steady);
        assert_eq!((counted.operations_open, counted.operations_completed_percent), (300, Some(99.5)));
    }

    #[test]
    fn what_was_not_counted_is_no_percentage() {
        assert_eq!(Counted::of(&[]), Counted::default());
        let counted = Counted::of(&[row("write.committed", 999, 0), row("write.failed", 1, 0)]);
        assert_eq!((counted.writes, counted.write_success_percent), (1_000, Some(99.9)));
    }
}
