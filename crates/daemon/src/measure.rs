//! Agreement of both stores, in the percentages that the reference system watches.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;

/// Percentages of a comparison.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Measured {
    pub(crate) at: DateTime<Utc>,
    /// Rows that were compared to the end.
    pub(crate) compared: u64,
    /// Share of those whose item says the same, in percent.
    pub(crate) consistency_percent: f64,
    /// Share of rows that have an item whose fields are all equal, in percent.
    pub(crate) accuracy_percent: f64,
    /// Items without a row, and their share in percent.
    pub(crate) orphans: u64,
    pub(crate) orphans_percent: f64,
    /// Each table.
    pub(crate) tables: Vec<MeasuredTable>,
}

/// The same of one table.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct MeasuredTable {
    pub(crate) name: String,
    pub(crate) compared: u64,
    /// Rows and items that say something else, or lack the other.
    pub(crate) differ: u64,
    /// Items without a row, and their share in percent.
    pub(crate) orphans: u64,
    pub(crate) orphans_percent: f64,
    /// Rows past their expiry: DynamoDB may have removed their items, and PostgreSQL has them until it is
    /// cleaned.
    pub(crate) expired: u64,
}

/// Intervals of sampling after which a sample says nothing of now: no other one was made since.
const OLD_AFTER: u32 = 3;

impl Measured {
    /// Tells whether other samples should have been made since, where one is made `every` so often.
    pub(crate) fn is_old(&self, now: DateTime<Utc>, every: Option<Duration>) -> bool {
        let age = (now - self.at).to_std().unwrap_or_default();
        every.is_none_or(|every| age > every * OLD_AFTER)
    }
}

/// Measures a report; `None` where nothing was compared.
pub(crate) fn measure(report: &Value, at: DateTime<Utc>) -> Option<Measured> {
    let tables = report.get("tables").and_then(Value::as_array)?;
    let sum = |name: &str| tables.iter().filter_map(|table| table.get(name)?.as_u64()).sum::<u64>();
    let (compared, equal, different, extra) = (sum("compared"), sum("equal"), sum("different"), sum("extra"));
    // A row past its expiry is retention, and was compared all the same.
    let agreed = equal + sum("expired");
    let items = sum("items_sampled").max(sum("target_count"));
    if compared == 0 && items == 0 {
        return None;
    }
    Some(Measured {
        at,
        compared,
        consistency_percent: percent(agreed, compared, 100.0),
        accuracy_percent: percent(equal, equal + different, 100.0),
        orphans: extra,
        orphans_percent: percent(extra, items, 0.0),
        tables: tables.iter().filter_map(of_table).collect(),
    })
}

fn of_table(table: &Value) -> Option<MeasuredTable> {
    let number = |name: &str| table.get(name).and_then(Value::as_u64).unwrap_or(0);
    let differ = ["different", "missing", "extra", "undecodable"].into_iter().map(number).sum();
    Some(MeasuredTable {
        name: table.get("name")?.as_str()?.to_owned(),
        compared: number("compared"),
        differ,
        orphans: number("extra"),
        orphans_percent: percent(number("extra"), number("items_sampled").max(number("target_count")), 0.0),
        expired: number("expired"),
    })
}

fn percent(part: u64, whole: u64, of_nothing: f64) -> f64 {
    if whole == 0 { of_nothing } else { part as f64 / whole as f64 * 100.0 }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tables_are_weighed_by_their_rows_and_nothing_compared_is_no_measure() {
        let at = DateTime::UNIX_EPOCH;
        let report = json!({ "tables": [
            { "compared": 900, "equal": 899, "different": 1, "extra": 0, "items_sampled": 500 },
            { "compared": 100, "equal": 98, "different": 1, "missing": 1, "extra": 1, "items_sampled": 500 },
        ] });
        let measured = measure(&report, at).expect("a measure");
        assert_eq!(measured.compared, 1_000);
        assert!((measured.consistency_percent - 99.7).abs() < 1e-9);
        assert!((measured.orphans_percent - 0.1).abs() < 1e-9);
        assert!((measured.accuracy_percent - 997.0 / 999.0 * 100.0).abs() < 1e-9);
        assert_eq!(measure(&json!({ "tables": [] }), at), None);
    }

    #[test]
    fn a_measure_is_old_where_three_others_should_have_been_made_since() {
        let at = DateTime::from_timestamp(1_000, 0).expect("a moment");
        let report =
            json!({ "tables": [{ "name": "logs", "compared": 10, "equal": 10, "target_count": 10 }] });
        let measured = measure(&report, at).expect("a measure");
        let is_old = |s: i64, every| measured.is_old(at + chrono::TimeDelta::seconds(s), every);
        let minute = Some(Duration::from_secs(60));
        assert_eq!(
            [is_old(180, minute), is_old(181, minute), is_old(1, None), is_old(-9, minute)],
            [false, true, true, false]
        );
    }
}
