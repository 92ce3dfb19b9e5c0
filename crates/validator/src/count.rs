//! Counts of both sides, exact, without comparing anything (R20): quick to ask for, and a first sign that
//! something is wrong.
//!
//! While writers go on the two counts are of different moments; what is pending says by how much they may
//! differ at least. So a difference is no proof of anything by itself, and equal counts are no proof that
//! rows are equal.

use std::collections::BTreeMap;

use futures::future::try_join_all;
use lockstep_core::Result;
use lockstep_dynamo::Target;
use lockstep_postgres::{Source, TableBinding};
use serde::{Deserialize, Serialize};

use crate::count_pass::count_target;
use crate::options::ValidateOptions;
use crate::reader::Reader;

/// Result of a count.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CountReport {
    /// Whether every table agrees within the tolerance.
    pub agrees: bool,
    /// Difference that the counts of a table, and of a day, may have.
    pub tolerance: u64,
    /// The same as a share of the rows; the greater of both counts.
    pub tolerance_percent: f64,
    /// One entry a table.
    pub tables: Vec<TableCount>,
}

/// The counts of one table.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TableCount {
    /// The table.
    pub name: String,
    /// Rows of the source.
    pub source_count: u64,
    /// Live items of the target; tombstones are none.
    pub target_count: u64,
    /// Keys waiting for delivery when counting began: the counts may differ by this number with nothing
    /// wrong; it is no excuse.
    pub pending: u64,
    /// Rows that the target cannot hold as they are: it may have fewer items by this number.
    pub dead_letters: u64,
    /// Whether the counts agree within the tolerance, each day's as well.
    pub agrees: bool,
    /// Read units that counting took, where the endpoint tells.
    pub read_units: f64,
    /// Each day's counts, where they were asked for and the table has days.
    #[serde(default)]
    pub days: Vec<DayCounts>,
}

/// The counts of one day, in UTC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DayCounts {
    /// `yyyy-mm-dd`; empty for rows and items without a day.
    pub day: String,
    /// Rows of the source.
    pub source_count: u64,
    /// Live items of the target.
    pub target_count: u64,
}

/// Counts rows and live items of every table, those of the window, with the options' bounds on requests and
/// read units. `by_day` counts each day by itself where a table has a day column; it moves the days of all
/// items, and costs the same.
///
/// # Errors
/// A store's, after it has failed for longer than a failover takes.
///
/// # Cancel safety
/// It writes nothing but what it has read.
#[crate::boxed]
pub async fn count(
    source: &Source,
    target: &Target,
    tables: &[TableBinding],
    options: &ValidateOptions,
    by_day: bool,
) -> Result<CountReport> {
    let reader = Reader::new(source, target, options);
    reader.ask(|| source.require_contract(tables)).await?;
    let tables =
        try_join_all(tables.iter().map(|binding| one_table(&reader, binding, options, by_day))).await;
    reader.settle().await;
    let tables = tables?;
    Ok(CountReport {
        agrees: tables.iter().all(|table| table.agrees),
        tolerance: options.settings.count_tolerance,
        tolerance_percent: options.settings.count_tolerance_percent,
        tables,
    })
}

async fn one_table(
    reader: &Reader,
    binding: &TableBinding,
    options: &ValidateOptions,
    by_day: bool,
) -> Result<TableCount> {
    let (source, name) = (&reader.source, binding.name());
    let pending = reader.ask(|| source.lag(name)).await?.keys.unsigned_abs();
    let (dead_letters, _) = reader.ask(|| source.count_dead_letters(name)).await?;
    let by_day = by_day && binding.table.day_column().is_some();
    let days = async {
        if by_day {
            return reader.ask(|| source.count_by_day(binding, &options.window)).await;
        }
        let all = reader.ask(|| source.count(binding, &options.window)).await?;
        Ok(vec![(String::new(), all)])
    };
    let (days, target) = tokio::try_join!(days, count_target(reader, binding, options, by_day))?;
    let days: BTreeMap<String, u64> =
        days.into_iter().map(|(day, rows)| (day, rows.unsigned_abs())).collect();
    let mut counted = TableCount {
        name: name.to_owned(),
        source_count: days.values().sum(),
        target_count: target.items,
        pending,
        dead_letters: dead_letters.unsigned_abs(),
        read_units: target.read_units,
        days: if by_day { side_by_side(&days, &target.days) } else { Vec::new() },
        agrees: false,
    };
    counted.agrees = agrees(&counted, |rows| options.settings.tolerance_of(rows));
    Ok(counted)
}

fn side_by_side(source: &BTreeMap<String, u64>, target: &BTreeMap<String, u64>) -> Vec<DayCounts> {
    let mut days: Vec<&String> = source.keys().chain(target.keys()).collect();
    days.sort_unstable();
    days.dedup();
    let of = |side: &BTreeMap<String, u64>, day: &String| side.get(day).copied().unwrap_or(0);
    days.into_iter()
        .map(|day| DayCounts {
            day: day.clone(),
            source_count: of(source, day),
            target_count: of(target, day),
        })
        .collect()
}

/// Tells whether all counts of a table agree. Each day for itself: a row too few on one and an item too many
/// on another cancel out in the sum. Pure.
fn agrees(table: &TableCount, tolerance_of: impl Fn(u64) -> u64) -> bool {
    let pairs = table.days.iter().map(|day| (day.source_count, day.target_count));
    pairs.chain([(table.source_count, table.target_count)]).all(|(source, target)| {
        let tolerance = tolerance_of(source);
        let least = source.saturating_sub(tolerance + table.dead_letters);
        (least..=source + tolerance).contains(&target)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_day_must_agree_and_only_dead_letters_excuse_a_gap() {
        let day = |source_count, target_count| DayCounts {
            day: "2099-03-04".to_owned(),
            source_count,
            target_count,
        };
        let of = |source_count, target_count, dead_letters, days| TableCount {
            source_count,
            target_count,
            dead_letters,
            days,
            pending: 5,
            ..TableCount::default()
        };
        assert!(agrees(&of(10, 10, 0, vec![]), |_| 0));
        assert!(!agrees(&of(10, 9, 0, vec![]), |_| 0), "what is pending excuses nothing");
        assert!(!agrees(&of(10, 11, 3, vec![]), |_| 0), "a dead letter makes no item");
        assert!(agrees(&of(10, 9, 1, vec![]), |_| 0));
        assert!(agrees(&of(10, 9, 0, vec![]), |_| 1) && agrees(&of(10, 11, 0, vec![]), |_| 1));
        assert!(!agrees(&of(10, 12, 0, vec![]), |_| 1));
        assert!(!agrees(&of(10, 10, 0, vec![day(4, 5), day(6, 5)]), |_| 0), "they cancel out in the sum");
        assert!(agrees(&of(10, 10, 0, vec![day(4, 4), day(6, 6)]), |_| 0));
    }
}
