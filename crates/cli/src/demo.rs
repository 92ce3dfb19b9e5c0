//! Parts that a program may bring along to show itself without an operator's data: rows, and the writers of
//! them.

use std::fmt;

use async_trait::async_trait;
use lockstep_postgres::Source;

use crate::Context;
use crate::report::LiveWrites;
use crate::stores::Stores;

/// Number of rows, and which.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Rows {
    /// Rows of integration_logs
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    pub logs: u64,
    /// Rows of payments
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    pub payments: u64,
    /// Seed of everything that is made up
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
}

/// Rows of a demonstration, and writers.
#[async_trait]
pub(crate) trait Demo: fmt::Debug + Send + Sync {
    /// Creates tables and rows in `source`, showing how far it is; rows that are there are kept.
    async fn fill(&self, context: &Context, source: &Source, rows: Rows) -> anyhow::Result<Filled>;

    /// Starts writers that together do `per_second` operations.
    fn write(
        &self,
        context: &Context,
        stores: &Stores,
        per_second: u32,
        seed: u64,
    ) -> anyhow::Result<Box<dyn Writers>>;
}

/// Rows that are there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Filled {
    /// Whether they were made now.
    pub(crate) fresh: bool,
    /// Rows of integration_logs.
    pub(crate) logs: u64,
    /// Rows of payments.
    pub(crate) payments: u64,
}

/// Writers at work; dropped, they end as soon as they can.
#[async_trait]
pub(crate) trait Writers: Send {
    /// Stops them, each after the operation under way, and says what they did.
    async fn stop(self: Box<Self>) -> anyhow::Result<LiveWrites>;
}
