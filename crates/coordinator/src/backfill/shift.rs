//! A shift: ranges are taken and moved under one lease, until none is left.

use std::sync::Arc;
use std::time::Duration;

use lockstep_postgres::Source;
use rand::RngExt;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::cut::for_another_window;
use super::lease::WorkerLease;
use super::range::RangeEnd;
use super::table::TableRun;
use crate::error::{CoordinatorError, Result};

/// Pause before a worker that found nothing looks again, about: a range may have been split, or a worker
/// gone. It doubles for as long as nothing is found. Fifty idle workers ask a dozen times a second with the
/// longest.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
const LOOK_AGAIN_MAX: Duration = Duration::from_secs(4);

/// Moves ranges of these tables, `lanes` at once, until each of them is done, by this worker or by others.
///
/// # Errors
/// The first of a range: the others are let go of, and what they had under way is finished or read again,
/// either is right. [`Kind::Misconfigured`](lockstep_core::Kind::Misconfigured) where the plan is for another
/// window. [`Kind::Fenced`](lockstep_core::Kind::Fenced) once the lease is over.
pub(super) async fn shift(
    source: &Source,
    runs: &[Arc<TableRun>],
    lease: &WorkerLease,
    lanes: usize,
    cancel: &CancellationToken,
) -> Result<()> {
    // Each table of a run has the window of that run.
    let Some(window) = runs.first().map(|run| &run.window) else { return Ok(()) };
    let lanes = lanes.max(1);
    let names: Vec<&str> = runs.iter().map(|run| run.binding.name()).collect();
    // A task a range: encoding, serialising and signing use every processor.
    let mut moving: JoinSet<Result<RangeEnd>> = JoinSet::new();
    let mut look_again = LOOK_AGAIN;
    loop {
        // A worker without a range asks one small statement, and does not try to take one while others hold
        // them all.
        let (mut may_take, mut other_window) = (true, None);
        if moving.is_empty() {
            let look = source.look_at_plan(&names, window).await?;
            if !look.open {
                return Ok(());
            }
            (may_take, other_window) = (look.free, look.other_window);
        }
        while may_take && moving.len() < lanes {
            lease.require()?;
            let Some(held) = source.claim_range(lease.id, &names, window).await? else { break };
            let Some(run) = runs.iter().find(|run| run.binding.name() == held.table_name) else { break };
            moving.spawn(run.clone().range(held));
            look_again = LOOK_AGAIN;
        }
        if let (true, Some(table)) = (moving.is_empty(), other_window) {
            // A plan that was made meanwhile may be for other days: then there is nothing here for this
            // worker.
            return Err(for_another_window(&table));
        }
        lease.set_idle(moving.is_empty());
        let pause = look_again.mul_f64(rand::rng().random_range(0.75..=1.25));
        tokio::select! {
            () = cancel.cancelled() => return Err(CoordinatorError::Interrupted),
            () = lease.over() => return Err(WorkerLease::ended()),
            Some(ended) = moving.join_next() => {
                if let RangeEnd::Lost { table, number } = ended?? {
                    let why = "a range is another worker's by now, or its plan was forgotten";
                    tracing::info!(table, number, "{why}");
                }
            }
            () = tokio::time::sleep(pause), if moving.len() < lanes => {
                look_again = (look_again * 2).min(LOOK_AGAIN_MAX);
            }
        }
    }
}
