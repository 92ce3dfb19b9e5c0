//! What is watched besides the status.

use std::time::Duration;

use crate::webhook::Webhook;

/// What is watched besides the status, and who is told.
#[derive(Clone, Debug, Default)]
pub struct MonitorOptions {
    /// How often a sample is compared; never, where it is `None`.
    pub sample_every: Option<Duration>,
    /// Rows and items of each table in one sample.
    pub sample_rows: usize,
    /// Who is told of alerts, besides the log and the metrics.
    pub webhook: Option<Webhook>,
}
