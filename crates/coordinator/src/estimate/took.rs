//! The planned cost of the initial load, beside its actual cost (R50).

use lockstep_core::Result;
use lockstep_postgres::{PlannedLoad, Source};
use serde::Serialize;

use super::PlanOptions;

/// One side of the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct LoadCost {
    /// Rows.
    pub rows: f64,
    /// Write units, those of indexes included. Zero may mean that the endpoint does not report units.
    pub write_units: f64,
    /// Price of the write units.
    pub usd: f64,
    /// Seconds from the beginning to the end, or until now, pauses included.
    pub seconds: f64,
    /// Rows a second over that time.
    pub rows_per_s: f64,
}

/// The initial load of one table.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LoadTook {
    /// The table.
    pub table: String,
    /// The plan, made when the copying began.
    pub planned: LoadCost,
    /// Distance of the true write units from the planned ones, not exceeded nineteen times of twenty.
    pub write_units_plus_minus: f64,
    /// The actual cost, as it was counted.
    pub took: LoadCost,
    /// Whether it is all copied.
    pub ended: bool,
}

impl LoadTook {
    fn of(row: &PlannedLoad, prices: &PlanOptions) -> Self {
        let share = |rows: f64, write_units: f64, seconds: f64| LoadCost {
            rows,
            write_units,
            usd: write_units / 1e6 * prices.write_units_million_usd,
            seconds,
            rows_per_s: if seconds > 0.0 { rows / seconds } else { 0.0 },
        };
        Self {
            table: row.table_name.clone(),
            planned: share(row.rows, row.write_units, row.seconds),
            write_units_plus_minus: row.units_band,
            took: share(row.rows_took as f64, row.units_took as f64, row.seconds_took),
            ended: row.ended_at.is_some(),
        }
    }
}

/// Compares planned and actual cost for each table with a plan.
///
/// # Errors
/// The source's.
///
/// # Cancel safety
/// It only reads.
#[crate::boxed]
pub async fn load_took(source: &Source, prices: &PlanOptions) -> Result<Vec<LoadTook>> {
    Ok(source.planned().await?.iter().map(|row| LoadTook::of(row, prices)).collect())
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;

    #[test]
    fn both_sides_are_reckoned_alike() {
        let row = PlannedLoad {
            table_name: "payments".to_owned(),
            planned_at: DateTime::UNIX_EPOCH,
            rows: 1_000.0,
            write_units: 2_000_000.0,
            units_band: 10.0,
            seconds: 10.0,
            rows_took: 900,
            units_took: 1_600_000,
            seconds_took: 0.0,
            ended_at: None,
        };
        let took = LoadTook::of(&row, &PlanOptions::default());
        assert_eq!((took.planned.usd, took.planned.rows_per_s), (1.25, 100.0));
        assert_eq!((took.took.usd, took.took.rows_per_s, took.ended), (1.0, 0.0, false));
    }
}
