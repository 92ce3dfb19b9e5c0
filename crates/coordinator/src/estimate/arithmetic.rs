//! Arithmetic from what is known of the tables to hours, units and dollars. Pure.

use lockstep_core::Phase;
use serde::Serialize;

use super::{Mean, PlanOptions, TableFacts};

/// Write units a second that a new on-demand table takes at once (Developer Guide, "On-demand capacity
/// mode").
pub(super) const NEW_TABLE_UNITS_PER_S: f64 = 4_000.0;
/// Write units a second that an account's default quota grants one table.
pub(super) const TABLE_QUOTA_UNITS_PER_S: f64 = 40_000.0;
/// Write units a second that one partition takes, whatever the table has.
pub(super) const PARTITION_UNITS_PER_S: f64 = 1_000.0;
/// Bytes of a read unit; half of one for a read that need not be consistent.
const READ_UNIT_BYTES: f64 = 4_096.0;
const SECONDS_PER_MONTH: f64 = 30.44 * 86_400.0;
const GB: f64 = 1e9;
/// Shards of a stream are read once a second at most by the feed.
const STREAM_READS_PER_S: f64 = 1.0;

/// One way to bring the initial load over.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LoadPathEstimate {
    /// `guarded`, or `import`.
    pub path: &'static str,
    /// Whether this version has it.
    pub available: bool,
    /// Write units in all, those of indexes included.
    pub write_units: Mean,
    /// Write units of indexes among these.
    pub index_units: f64,
    /// Dollars.
    pub usd: Mean,
    /// Hours at the rate of a new on-demand table, 4,000 units a second for each table.
    pub hours_new_table: f64,
    /// Hours at the default quota, 40,000 units a second for each table.
    pub hours_at_quota: f64,
    /// Hours at the rate that is configured for all tables together, if one is.
    pub hours_at_limit: Option<f64>,
}

/// Cost of a phase while it lasts.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PhaseEstimate {
    /// The phase; `None`: after the completion.
    pub phase: Option<Phase>,
    /// Write units a second.
    pub write_units_per_s: f64,
    /// Read units a second.
    pub read_units_per_s: f64,
    /// Dollars a month for DynamoDB, storage included.
    pub usd_per_month: f64,
}

/// The bill of PostgreSQL beside that of DynamoDB afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Saving {
    /// PostgreSQL's bill a month, as configured.
    pub source_month_usd: f64,
    /// DynamoDB's after completion.
    pub target_month_usd: f64,
    /// Percent by which the bill falls; below 0 it rises.
    pub percent: f64,
    /// Percent that was aimed at.
    pub goal_percent: f64,
}

fn sum(tables: &[TableFacts], of: impl Fn(&TableFacts) -> f64) -> f64 {
    tables.iter().map(of).sum()
}

/// Returns the independent bands of several sums, as one: squares add up.
fn band(tables: &[TableFacts], of: impl Fn(&TableFacts) -> f64) -> f64 {
    tables.iter().map(|table| of(table).powi(2)).sum::<f64>().sqrt()
}

/// Returns every load path, with `limit` the configured write units a second of all tables, if any.
pub(super) fn load_paths(
    tables: &[TableFacts],
    prices: &PlanOptions,
    limit: Option<u64>,
) -> Vec<LoadPathEstimate> {
    let units = Mean {
        value: sum(tables, |t| t.rows * t.sample.units.value),
        plus_minus: band(tables, |t| t.rows * t.sample.units.plus_minus),
    };
    let bytes = Mean {
        value: sum(tables, |t| t.rows * t.sample.item_bytes.value),
        plus_minus: band(tables, |t| t.rows * t.sample.item_bytes.plus_minus),
    };
    // Tables are copied beside each other, so the slowest decides; an index takes what its table takes,
    // beside it.
    let slowest = |rate: f64| {
        tables.iter().map(|t| t.rows * t.sample.table_units.value / rate / 3_600.0).fold(0.0, f64::max)
    };
    let scaled = |mean: Mean, by: f64| Mean { value: mean.value * by, plus_minus: mean.plus_minus * by };
    vec![
        LoadPathEstimate {
            path: "guarded",
            available: true,
            write_units: units,
            index_units: units.value - sum(tables, |t| t.rows * t.sample.table_units.value),
            usd: scaled(units, prices.write_units_million_usd / 1e6),
            hours_new_table: slowest(NEW_TABLE_UNITS_PER_S),
            hours_at_quota: slowest(TABLE_QUOTA_UNITS_PER_S),
            hours_at_limit: limit.map(|limit| units.value / limit as f64 / 3_600.0),
        },
        LoadPathEstimate {
            path: "import",
            available: true,
            write_units: Mean::default(),
            index_units: 0.0,
            usd: scaled(bytes, prices.import_gb_usd / GB),
            hours_new_table: 0.0,
            hours_at_quota: 0.0,
            hours_at_limit: None,
        },
    ]
}

/// Computes what each phase costs a month at the rate at which the tables are used now.
pub(super) fn phases(tables: &[TableFacts], prices: &PlanOptions, canary_percent: f64) -> Vec<PhaseEstimate> {
    let factor = 1.0 + prices.coordinated_percent / 100.0;
    let delivered = sum(tables, |t| {
        let of_indexes = t.sample.units.value - t.sample.table_units.value;
        t.writes_per_s * (factor * t.sample.table_units.value + of_indexes)
    });
    let alone = sum(tables, |t| t.writes_per_s * t.sample.units.value);
    let reads = sum(tables, |t| t.reads_per_s * (t.sample.item_bytes.value / READ_UNIT_BYTES).ceil() / 2.0);
    let stored_gb = sum(tables, |t| t.rows * t.sample.item_bytes.value) / GB;
    let month = |writes: f64, reads: f64, stream_reads: f64| {
        let units = writes * prices.write_units_million_usd + reads * prices.read_units_million_usd;
        let streams = stream_reads * prices.stream_reads_million_usd;
        (units + streams) / 1e6 * SECONDS_PER_MONTH + stored_gb * prices.storage_gb_month_usd
    };
    let of = |phase, writes: f64, reads: f64, stream_reads: f64| PhaseEstimate {
        phase,
        write_units_per_s: writes,
        read_units_per_s: reads,
        usd_per_month: month(writes, reads, stream_reads),
    };
    let streams = STREAM_READS_PER_S * tables.len() as f64;
    vec![
        of(Some(Phase::DualWrite), delivered, 0.0, 0.0),
        of(Some(Phase::HybridRead), delivered, reads * canary_percent / 100.0, 0.0),
        // Conditions on unique values and the mark of the write make a write of the truth a transaction.
        of(
            Some(Phase::DynamoOnly),
            alone + sum(tables, |t| t.writes_per_s * t.sample.table_units.value),
            reads,
            streams,
        ),
        of(None, alone, reads, 0.0),
    ]
}

/// Computes what is saved, if it is known what PostgreSQL costs.
pub(super) fn saving(phases: &[PhaseEstimate], prices: &PlanOptions) -> Option<Saving> {
    let target_month_usd = phases.last()?.usd_per_month;
    (prices.source_month_usd > 0.0).then(|| Saving {
        source_month_usd: prices.source_month_usd,
        target_month_usd,
        percent: 100.0 * (1.0 - target_month_usd / prices.source_month_usd),
        goal_percent: prices.saving_goal_percent,
    })
}

#[cfg(test)]
#[path = "arithmetic_tests.rs"]
mod tests;
