//! The demonstration: a loan platform of which two tables move. The prebuilt `lockstep` and this checkout's
//! `cargo xtask` know its tables; a program with tables of its own does without.

mod fill;
mod live;

use std::sync::Arc;

use async_trait::async_trait;
use lockstep_integration_logs::{IntegrationLogs, IntegrationLogsOptions};
use lockstep_payments::{Payments, PaymentsOptions};
use lockstep_postgres::Source;

use crate::config::Registry;
use crate::demo::{Demo, Filled, Rows, Writers};
use crate::stores::Stores;
use crate::{Context, Program};

/// Returns the sample's tables. Where a file declares tables, those move and these do not.
pub fn registry() -> Registry {
    crate::tables![IntegrationLogs: IntegrationLogsOptions, Payments: PaymentsOptions].giving_way()
}

/// Returns the program that knows the sample's tables and can make and write their rows.
pub fn program() -> Program {
    Program { registry: registry(), demo: Some(Arc::new(LoanPlatform)) }
}

#[derive(Debug)]
struct LoanPlatform;

#[async_trait]
impl Demo for LoanPlatform {
    async fn fill(&self, context: &Context, source: &Source, rows: Rows) -> anyhow::Result<Filled> {
        fill::fill(context, source, rows).await
    }

    fn write(
        &self,
        context: &Context,
        stores: &Stores,
        per_second: u32,
        seed: u64,
    ) -> anyhow::Result<Box<dyn Writers>> {
        Ok(Box::new(live::Live::start(context, stores, per_second, seed)?))
    }
}
