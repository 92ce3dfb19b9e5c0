//! Write units that this process may spend of what all workers may spend together (R53).

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use lockstep_postgres::Source;
use tokio::sync::Mutex;

use crate::error::Result;

/// Blocks that a second's budget is cut into: so often, at most, the source is asked, by all workers
/// together.
const BLOCKS_PER_S: f64 = 10.0;

/// The part of the budget that this process has taken.
#[derive(Debug)]
pub(super) struct Budget {
    source: Source,
    /// Zero without a bound: then the source is not asked.
    per_s: AtomicU64,
    left: Mutex<f64>,
}

impl Budget {
    pub(super) fn new(source: &Source, per_s: Option<u64>) -> Self {
        Self { source: source.clone(), per_s: AtomicU64::new(per_s.unwrap_or(0)), left: Mutex::new(0.0) }
    }

    pub(super) fn set(&self, per_s: Option<u64>) {
        self.per_s.store(per_s.unwrap_or(0), Relaxed);
    }

    /// Waits until `units` may be spent.
    ///
    /// # Errors
    /// The source's.
    pub(super) async fn acquire(&self, units: f64) -> Result<()> {
        let per_s = self.per_s.load(Relaxed) as f64;
        if per_s == 0.0 {
            return Ok(());
        }
        // The others of this process wait behind it, as they would for the source.
        let mut left = self.left.lock().await;
        if *left < units {
            let block = (per_s / BLOCKS_PER_S).max(units - *left);
            let wait = self.source.take_units(block, per_s).await?;
            tokio::time::sleep(wait).await;
            *left += block;
        }
        *left -= units;
        Ok(())
    }
}
