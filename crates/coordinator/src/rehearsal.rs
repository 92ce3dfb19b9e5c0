//! Rehearsal before reads move to the target: reads of every kind, and a write a table that leaves nothing.

use futures::future::BoxFuture;

use crate::canary::{CanaryRead, canary_gates};
use crate::error::Result;
use crate::gate::GateResult;
use crate::latency_bound::{is_limited, latency_gates};
use crate::options::MigrationContext;
use crate::test_operation::test_operation;

type Choose = Box<dyn Fn() -> BoxFuture<'static, lockstep_core::Result<Vec<CanaryRead>>> + Send + Sync>;

/// Reads and writes that the step to HybridRead tries out; the one to DynamoOnly only times the reads, where
/// a limit is set. The default tries nothing.
#[derive(Default)]
pub struct Rehearsal {
    reads: Option<Choose>,
    writes: bool,
}

impl Rehearsal {
    /// Returns the same, with the reads that `choose` makes. It is called when a step needs them, and not
    /// before: a way back must not depend on rows that can be read.
    #[must_use]
    pub fn reading<F>(mut self, choose: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = lockstep_core::Result<Vec<CanaryRead>>> + Send + 'static,
    {
        self.reads = Some(Box::new(move || Box::pin(choose())));
        self
    }

    /// Returns the same, with the test operation.
    #[must_use]
    pub fn writing(mut self) -> Self {
        self.writes = true;
        self
    }

    /// Tries everything, reads first: they change nothing.
    pub(crate) async fn gates(&self, migration: &MigrationContext) -> Result<Vec<GateResult>> {
        let mut gates = Vec::new();
        if let Some(choose) = &self.reads {
            match choose().await {
                Ok(reads) => gates.extend(canary_gates(&reads).await),
                Err(error) => {
                    let next = "try again when PostgreSQL answers";
                    gates.push(GateResult::fail(
                        "canary reads",
                        format!("no rows to ask for: {error}"),
                        next,
                    ));
                }
            }
        }
        if self.writes {
            gates.extend(test_operation(migration).await?.gates());
        }
        Ok(gates)
    }

    /// Times the reads where a limit is set. Apart from the rest, because the step to DynamoOnly, which tries
    /// nothing else out, asks for it as well.
    pub(crate) async fn latency(&self, migration: &MigrationContext) -> Result<Vec<GateResult>> {
        let steps = &migration.options.steps;
        let Some(choose) = self.reads.as_ref().filter(|_| is_limited(steps)) else { return Ok(Vec::new()) };
        match choose().await {
            Ok(reads) => latency_gates(&reads, steps).await,
            Err(error) => {
                let (found, next) =
                    (format!("no rows to ask for: {error}"), "try again when PostgreSQL answers");
                Ok(vec![GateResult::fail("latency", found, next)])
            }
        }
    }
}
