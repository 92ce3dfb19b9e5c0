//! Write units that this process may spend of what all workers may spend together (R53).

use lockstep_postgres::Source;
use tokio::sync::{Mutex, watch};

use crate::error::Result;

/// Blocks that a second's budget is cut into: so often, at most, the source is asked, by all workers
/// together.
const BLOCKS_PER_S: f64 = 10.0;

/// The part of the budget that this process has taken.
#[derive(Debug)]
pub(super) struct Budget {
    source: Source,
    /// Units a second, as the tuning says it; zero without a bound: then the source is not asked.
    per_s: watch::Sender<u64>,
    left: Mutex<Left>,
}

/// Number of units left of the blocks that were taken.
#[derive(Debug, Default)]
struct Left {
    units: f64,
    /// At which rate they were taken.
    per_s: u64,
}

impl Budget {
    pub(super) fn new(source: &Source, per_s: Option<u64>) -> Self {
        let per_s = watch::Sender::new(per_s.unwrap_or(0));
        Self { source: source.clone(), per_s, left: Mutex::default() }
    }

    /// Changes the rate. A caller that waits at another one does so no longer.
    pub(super) fn set(&self, per_s: Option<u64>) {
        let per_s = per_s.unwrap_or(0);
        self.per_s.send_if_modified(|known| std::mem::replace(known, per_s) != per_s);
    }

    /// Waits until `units` may be spent.
    ///
    /// 1. An operator allows one unit a second, and this waits for a minute until its block may be spent.
    /// 2. The operator allows 40,000, and it goes on waiting.
    ///
    /// So the wait ends with the rate that it was reckoned at, and what was taken at that rate counts no
    /// more, here and in the source.
    ///
    /// # Errors
    /// The source's.
    ///
    /// # Cancel safety
    /// Dropped while it waits, a block may have been taken and is not spent. Repeat it.
    pub(super) async fn acquire(&self, units: f64) -> Result<()> {
        if *self.per_s.borrow() == 0 {
            return Ok(());
        }
        // The others of this process wait behind it, as they would for the source. A new rate ends the wait
        // at once, and the first of them to come next goes by it.
        let mut left = self.left.lock().await;
        let mut rate = self.per_s.subscribe();
        loop {
            let per_s = *rate.borrow_and_update();
            if per_s == 0 {
                return Ok(());
            }
            if left.per_s != per_s {
                *left = Left { units: 0.0, per_s };
            }
            if left.units >= units {
                left.units -= units;
                return Ok(());
            }
            let block = (per_s as f64 / BLOCKS_PER_S).max(units - left.units);
            let wait = self.source.take_units(block, per_s as f64).await?;
            if tokio::time::timeout(wait, rate.changed()).await.is_err() {
                left.units += block;
            }
        }
    }
}
