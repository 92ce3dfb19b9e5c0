//! What is watched besides the status.

use lockstep_coordinator::PlanOptions;

use crate::serve_options::ServeOptions;
use crate::webhook::Webhook;

/// What is watched besides the status, and who is told.
#[derive(Clone, Debug, Default)]
pub struct MonitorOptions {
    /// What is set of the daemon. Settings that operators turn go before it.
    pub serve: ServeOptions,
    /// What DynamoDB asks for.
    pub prices: PlanOptions,
    /// Who is told of alerts, besides the log and the metrics.
    pub webhook: Option<Webhook>,
}
