//! Options of what is watched besides the status.

use lockstep_coordinator::PlanOptions;

use crate::serve_options::ServeOptions;
use crate::webhook::Webhook;

/// Options of what is watched besides the status, and where alerts go.
#[derive(Clone, Debug, Default)]
pub struct MonitorOptions {
    /// Options of the daemon that the configuration sets. Settings that operators turn go before it.
    pub serve: ServeOptions,
    /// Prices of DynamoDB.
    pub prices: PlanOptions,
    /// Percent of reads that DynamoDB answers in HybridRead, as configured: a plan rests on it.
    pub canary_percent: f64,
    /// Webhook that receives alerts, besides the log and the metrics.
    pub webhook: Option<Webhook>,
}
