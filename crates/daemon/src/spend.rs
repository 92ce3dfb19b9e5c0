//! Cost of the migration so far, and what it will be when the initial load is copied (R50). Pure.

use std::collections::BTreeMap;

use lockstep_coordinator::{PlanOptions, Status};
use lockstep_postgres::{CountRow, READ_UNITS, Spending, THROTTLED, WRITE_UNITS};
use serde::Serialize;

/// Units and dollars.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Spend {
    /// Write units that Lockstep has consumed: backfill and relay, over all runs, where the endpoint tells.
    pub write_units: i64,
    /// Read units that comparisons have consumed, likewise.
    pub read_units: i64,
    /// Cost of both, in dollars.
    pub usd: f64,
    /// Cost in dollars when the initial load is copied, if the rest costs as much a range as what is done.
    pub forecast_usd: Option<f64>,
    /// Dollars after which what can be stopped is stopped.
    pub cap_usd: Option<f64>,
    /// Each table.
    pub tables: Vec<TableSpend>,
    /// Requests or items that DynamoDB asked to slow down for, by what sent them, over all processes.
    pub throttled: BTreeMap<String, i64>,
    /// The day on which the prices held.
    pub prices_as_of: String,
}

/// One table's part.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TableSpend {
    /// Name of the table.
    pub name: String,
    /// Write units of the table.
    pub write_units: i64,
    /// Read units of its comparisons.
    pub read_units: i64,
    /// Cost of both, in dollars.
    pub usd: f64,
}

impl Spend {
    /// Computes what was spent, by what was counted.
    pub fn of(
        rows: &[CountRow],
        status: Option<&Status>,
        prices: &PlanOptions,
        cap_usd: Option<f64>,
    ) -> Self {
        let spending = Spending {
            cap_usd,
            write_units_million_usd: prices.write_units_million_usd,
            read_units_million_usd: prices.read_units_million_usd,
        };
        let tables = of_tables(rows, &spending);
        let sum = |of: fn(&TableSpend) -> i64| tables.iter().map(of).sum();
        let (write_units, read_units) = (sum(|table| table.write_units), sum(|table| table.read_units));
        let usd = tables.iter().map(|table| table.usd).sum();
        // What was copied costs as much again for the rest; what was compared is not compared again by it.
        let forecast_usd = status.and_then(|status| {
            let mut total = 0.0;
            for table in tables.iter().filter(|table| table.write_units > 0) {
                let known = status.tables.iter().find(|known| known.name == table.name)?;
                let more = match (known.ranges_done, known.ranges) {
                    (_, 0) | (0, _) => return None,
                    (done, all) => all as f64 / done as f64 - 1.0,
                };
                total += table.write_units as f64 / 1e6 * prices.write_units_million_usd * more;
            }
            (write_units > 0).then_some(usd + total)
        });
        let mut throttled = BTreeMap::new();
        for row in rows {
            if let Some(by) = row.name.strip_prefix(THROTTLED) {
                *throttled.entry(by.to_owned()).or_default() += row.count;
            }
        }
        let prices_as_of = prices.as_of.clone();
        Self { write_units, read_units, usd, forecast_usd, cap_usd, tables, throttled, prices_as_of }
    }

    /// Tells whether the cap is reached.
    pub fn is_over(&self) -> bool {
        self.cap_usd.is_some_and(|cap| self.usd >= cap)
    }
}

/// Adds the units of each table up, and what they cost.
fn of_tables(rows: &[CountRow], spending: &Spending) -> Vec<TableSpend> {
    let mut tables = BTreeMap::<&str, TableSpend>::new();
    for row in rows.iter().filter(|row| [WRITE_UNITS, READ_UNITS].contains(&row.name.as_str())) {
        let name = row.table_name.clone();
        let empty = TableSpend { name, write_units: 0, read_units: 0, usd: 0.0 };
        let table = tables.entry(&row.table_name).or_insert(empty);
        match row.name == WRITE_UNITS {
            true => table.write_units += row.count,
            false => table.read_units += row.count,
        }
        table.usd += spending.usd(row);
    }
    tables.into_values().collect()
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;

    #[test]
    fn units_cost_what_the_price_list_says_reads_too_and_the_cap_is_met_there() {
        let row = |table: &str, name: &str, count| CountRow {
            table_name: table.to_owned(),
            name: name.to_owned(),
            count,
            older: 0,
            newest_at: DateTime::UNIX_EPOCH,
        };
        let rows = [
            row("payments", WRITE_UNITS, 600_000),
            row("logs", WRITE_UNITS, 400_000),
            row("logs", READ_UNITS, 2_000_000),
            row("logs", "shadow.agree", 7),
            row("logs", "spent.throttled.backfill", 3),
            row("payments", "spent.throttled.backfill", 4),
            row("payments", "spent.throttled.relay", 1),
            row("logs", "spent.throttled.comparison", 2),
        ];
        let spend = Spend::of(&rows, None, &PlanOptions::default(), Some(0.875));
        assert_eq!((spend.write_units, spend.read_units, spend.forecast_usd), (1_000_000, 2_000_000, None));
        assert_eq!(spend.usd, 0.875);
        let of_table: Vec<_> = spend.tables.iter().map(|table| (table.name.as_str(), table.usd)).collect();
        assert_eq!(of_table, [("logs", 0.5), ("payments", 0.375)]);
        let throttled = [("backfill", 7), ("comparison", 2), ("relay", 1)];
        let throttled = BTreeMap::from(throttled.map(|(by, count)| (by.to_owned(), count)));
        assert_eq!(spend.throttled, throttled, "of all tables, by who was told");
        assert!(spend.is_over());
        assert!(!Spend { cap_usd: Some(0.88), ..spend.clone() }.is_over());
        assert!(!Spend { cap_usd: None, ..spend }.is_over());
    }
}
