//! Acts that the daemon has done for it: the program that it is part of knows the tables by their types, the
//! daemon does not.

use std::sync::Arc;

use async_trait::async_trait;
use lockstep_coordinator::{GateReport, Observer};
use lockstep_core::{Epoch, Phase, Window};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

/// Name of the actor, the observer that hears of progress, and the token that ends the act early.
#[derive(Clone)]
pub struct Act {
    /// Name of who acts, for the journal.
    pub actor: String,
    /// Receiver of gates and notes.
    pub observer: Arc<dyn Observer>,
    /// Token that is cancelled when the daemon ends.
    pub cancel: CancellationToken,
}

impl std::fmt::Debug for Act {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Act").field("actor", &self.actor).finish_non_exhaustive()
    }
}

/// Steps to take.
#[derive(Clone, Debug)]
pub struct Walk {
    /// Direction: forward, or back.
    pub forward: bool,
    /// Phase to go to; the neighbour by default.
    pub to: Option<Phase>,
    /// The reason for which gates are overruled.
    pub force: Option<String>,
    /// Phase and epoch in which it was decided, of what a daemon does by itself: 1. Reads are wrong in
    /// HybridRead. 2. A person takes the step to DynamoOnly from another machine. 3. The daemon, which has
    /// not seen it yet, would walk back over that step as well.
    pub decided_in: Option<(Phase, Epoch)>,
}

/// Part to compare.
#[derive(Clone, Debug)]
pub enum Compare {
    /// Every row and item.
    Full,
    /// Rows and items of these days alone: what it finds is a finding, and it is no verdict of the migration.
    Days(Window),
    /// Changes since everything was compared.
    Incremental,
    /// Sample of that number of rows and items of each table, by chance.
    Sample(usize),
    /// One row, by its primary key, as a person types it; no verdict is recorded, but that it differs is.
    Key {
        /// Name of the table.
        table: String,
        /// The values of its primary key, with commas between them.
        key: String,
    },
}

/// End of something that did not do what was asked.
#[derive(Clone, Debug)]
pub struct Unsuccessful {
    /// Whether a gate said no; then everything is as it was.
    pub refused: bool,
    /// Whether it was told to stop.
    pub cancelled: bool,
    /// Sentence that says what happened, where, and what to do next.
    pub message: String,
    /// The gates, where they refused.
    pub gates: Option<GateReport>,
}

/// Program that acts for the daemon. Results are JSON without values of rows.
#[async_trait]
pub trait Operator: Send + Sync + 'static {
    /// Takes one step after the other, in one direction.
    async fn walk(&self, ask: &Walk, act: &Act) -> Result<Value, Unsuccessful>;
    /// Compares both sides, and records the verdict.
    async fn validate(&self, what: &Compare, act: &Act) -> Result<Value, Unsuccessful>;
    /// Brings at most `max` findings to what PostgreSQL says; those of the newest verdict, or of a new
    /// comparison.
    async fn repair(&self, max: usize, last: bool, act: &Act) -> Result<Value, Unsuccessful>;
    /// Tries the way of a write in both stores.
    async fn test_operation(&self, act: &Act) -> Result<Value, Unsuccessful>;
}
