//! Prices of DynamoDB, in US dollars. Prices differ by region and change: the configuration sets them.

use serde::{Deserialize, Serialize};

/// Prices of on-demand capacity, with the day and the page they were read on, and what else a plan rests on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PlanOptions {
    /// A million write request units.
    pub write_units_million_usd: f64,
    /// A million read request units.
    pub read_units_million_usd: f64,
    /// A gigabyte kept for a month.
    pub storage_gb_month_usd: f64,
    /// A million reads of a stream.
    pub stream_reads_million_usd: f64,
    /// A gigabyte of an import from S3.
    pub import_gb_usd: f64,
    /// The day on which these prices held, `yyyy-mm-dd`.
    pub as_of: String,
    /// Address at which the prices were read.
    pub read_at: String,
    /// Cost of PostgreSQL a month today: instance, storage, input and output. 0: not known, and nothing is
    /// compared.
    pub source_month_usd: f64,
    /// Percent of that by which the bill is to fall.
    pub saving_goal_percent: f64,
    /// Share of writes that are made in coordinated operations, in percent: DynamoDB counts a transaction
    /// twice.
    pub coordinated_percent: f64,
    /// Rows looked at in each of three parts of a table.
    pub sample_rows: usize,
}

impl Default for PlanOptions {
    fn default() -> Self {
        Self {
            write_units_million_usd: 0.625,
            read_units_million_usd: 0.125,
            storage_gb_month_usd: 0.25,
            stream_reads_million_usd: 0.20,
            import_gb_usd: 0.15,
            as_of: "2025-01-01".to_owned(),
            read_at: "https://aws.amazon.com/dynamodb/pricing/on-demand/ (US East, N. Virginia)".to_owned(),
            source_month_usd: 0.0,
            saving_goal_percent: 80.0,
            coordinated_percent: 0.0,
            sample_rows: 500,
        }
    }
}
