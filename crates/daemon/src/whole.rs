//! Comparing everything now and then: each row and item, and with them business rules and sums (R48).
//!
//! DynamoDB adds nothing up: a sum of its side costs a reading of the whole table, whatever it is of. So
//! it is made where each item is read anyway, in a comparison of everything, as rarely as operators ask
//! for one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::monitor::compare;
use crate::operator::Compare;
use crate::shared::Shared;

/// Name of the part.
pub(crate) const PART: &str = "whole-comparison";
/// Time between two looks at whether it is time.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Compares whenever the newest comparison of everything that found nothing is too old, or there is none. It
/// does not begin while one is under way that an operator asked for.
pub(crate) async fn run(shared: Arc<Shared>, stop: CancellationToken) -> Result<(), String> {
    let Some(every) = shared.monitor.serve.full_every() else { return Ok(()) };
    let mut tried_at: Option<Instant> = None;
    loop {
        // One that found something, or was refused, is not made again at once.
        let is_due = tried_at.is_none_or(|at| at.elapsed() >= every) && shared.operations.running().is_none();
        if is_due && is_old(&shared, every).await? {
            tried_at = Some(Instant::now());
            compare(&shared, &Compare::Full, &stop).await?;
        }
        let rested = tokio::time::sleep(LOOK_EVERY.min(every));
        if stop.run_until_cancelled(rested).await.is_none() {
            return Ok(());
        }
    }
}

/// Tells whether a table was not compared as a whole for so long, by whichever daemon or command.
async fn is_old(shared: &Shared, every: Duration) -> Result<bool, String> {
    let source = &shared.migration.source;
    let now = source.clock().await.map_err(|error| error.to_string())?;
    for binding in &shared.migration.tables {
        let pass = source.full_pass(binding.name()).await.map_err(|error| error.to_string())?;
        let age = pass.map(|pass| (now - pass.as_of).to_std().unwrap_or_default());
        if age.is_none_or(|age| age >= every) {
            return Ok(true);
        }
    }
    Ok(false)
}
