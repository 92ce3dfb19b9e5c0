//! Cost of the migration so far, and what it will be when the initial load is copied (R50). Pure.

use std::collections::BTreeMap;

use lockstep_coordinator::{PlanOptions, Status, THROTTLED, WRITE_UNITS};
use lockstep_postgres::CountRow;
use serde::Serialize;

/// Units and dollars.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Spend {
    /// Write units that Lockstep has consumed: backfill and relay, over all runs, where the endpoint tells.
    pub write_units: i64,
    /// Cost of them, in dollars.
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
    /// Cost of them, in dollars.
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
        let usd_of = |units: i64| units as f64 / 1e6 * prices.write_units_million_usd;
        let of_units = rows.iter().filter(|row| row.name == WRITE_UNITS);
        let tables: Vec<TableSpend> = of_units
            .map(|row| TableSpend {
                name: row.table_name.clone(),
                write_units: row.count,
                usd: usd_of(row.count),
            })
            .collect();
        let write_units = tables.iter().map(|table| table.write_units).sum();
        let forecast_usd = status.and_then(|status| {
            let mut total = 0.0;
            for table in &tables {
                let known = status.tables.iter().find(|known| known.name == table.name)?;
                let factor = match (known.ranges_done, known.ranges) {
                    (_, 0) | (0, _) => return None,
                    (done, all) => all as f64 / done as f64,
                };
                total += table.usd * factor;
            }
            (!tables.is_empty()).then_some(total)
        });
        let mut throttled = BTreeMap::new();
        for row in rows {
            if let Some(by) = row.name.strip_prefix(THROTTLED) {
                *throttled.entry(by.to_owned()).or_default() += row.count;
            }
        }
        let prices_as_of = prices.as_of.clone();
        Self { write_units, usd: usd_of(write_units), forecast_usd, cap_usd, tables, throttled, prices_as_of }
    }

    /// Tells whether the cap is reached.
    pub fn is_over(&self) -> bool {
        self.cap_usd.is_some_and(|cap| self.usd >= cap)
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;

    #[test]
    fn a_million_units_cost_what_the_price_list_says_and_the_cap_is_met_there() {
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
            row("logs", "shadow.agree", 7),
            row("logs", "spent.throttled.backfill", 3),
            row("payments", "spent.throttled.backfill", 4),
            row("payments", "spent.throttled.relay", 1),
        ];
        let spend = Spend::of(&rows, None, &PlanOptions::default(), Some(0.625));
        assert_eq!((spend.write_units, spend.usd, spend.forecast_usd), (1_000_000, 0.625, None));
        let throttled = BTreeMap::from([("backfill".to_owned(), 7), ("relay".to_owned(), 1)]);
        assert_eq!(spend.throttled, throttled, "of all tables, by who was told");
        assert!(spend.is_over());
        assert!(!Spend { cap_usd: Some(0.63), ..spend.clone() }.is_over());
        assert!(!Spend { cap_usd: None, ..spend }.is_over());
    }
}
