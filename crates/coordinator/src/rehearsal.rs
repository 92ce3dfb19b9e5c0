//! What is tried out before reads move to the target: reads of every kind, and one write a table through the real path.

use crate::canary::{CanaryRead, canary_gates};
use crate::error::Result;
use crate::gate::GateResult;
use crate::options::Migration;
use crate::test_operation::{MarkedRow, test_operation};

/// Made by whoever knows the concrete tables. The default tries nothing.
#[derive(Default)]
pub struct Rehearsal {
    /// The marked row of each table.
    pub rows: Vec<Box<dyn MarkedRow>>,
    /// Which tables have none, and why.
    pub left_out: Vec<String>,
    /// Queries, with arguments for which there are rows.
    pub reads: Vec<CanaryRead>,
}

impl Rehearsal {
    /// Tries everything, reads first: they change nothing.
    pub(crate) async fn gates(&self, migration: &Migration) -> Result<Vec<GateResult>> {
        let mut gates = canary_gates(&self.reads).await;
        if !self.rows.is_empty() {
            gates.extend(test_operation(migration, &self.rows, &self.left_out).await?.gates());
        }
        Ok(gates)
    }
}
