//! What is watched besides the status.

use std::time::Duration;

use lockstep_coordinator::PlanOptions;

use crate::webhook::Webhook;

/// What is watched besides the status, and who is told.
#[derive(Clone, Debug, Default)]
pub struct MonitorOptions {
    /// How often a sample is compared; never, where it is `None`.
    pub sample_every: Option<Duration>,
    /// Rows and items of each table in one sample.
    pub sample_rows: usize,
    /// Differences in ten minutes of HybridRead after which reads go back to PostgreSQL.
    pub mismatches_max: u64,
    /// What DynamoDB asks for.
    pub prices: PlanOptions,
    /// Dollars after which what can be stopped is stopped, where no setting says otherwise.
    pub spend_cap_usd: Option<f64>,
    /// Who is told of alerts, besides the log and the metrics.
    pub webhook: Option<Webhook>,
}
