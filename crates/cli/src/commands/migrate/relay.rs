//! The relay that runs beside the whole story, from the backfill to the end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lockstep_coordinator::{Coordinator, CoordinatorError, Progress, RelaySummary, RelayUntil};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Interval at which something that another task brings about is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The relay, and what tells it to start and to stop.
#[derive(Debug)]
pub(super) struct BackgroundRelay {
    task: JoinHandle<Result<RelaySummary, CoordinatorError>>,
    /// Cancelled when the initial load has been moved.
    backfilled: CancellationToken,
    stop: CancellationToken,
}

impl BackgroundRelay {
    /// Starts it. It begins to deliver as soon as that is safe, and cancels `cancel` when it fails, because a
    /// story without a relay has no good end.
    pub(super) fn start(coordinator: Arc<Coordinator>, cancel: CancellationToken) -> Self {
        let (backfilled, stop) = (CancellationToken::new(), CancellationToken::new());
        let (may_begin, stopped) = (backfilled.clone(), stop.clone());
        let runtime = tokio::runtime::Handle::current();
        // On a thread of its own, so that it gets its share of the processor beside a backfill that takes all
        // it can.
        let task = tokio::task::spawn_blocking(move || {
            runtime.block_on(async move {
                let progress = coordinator.progress();
                tokio::select! {
                    () = stopped.cancelled() => return Ok(RelaySummary::default()),
                    () = until_safe(&progress, &may_begin) => {}
                }
                let result = coordinator.relay(RelayUntil::Cancelled, &stopped).await;
                if result.is_err() {
                    cancel.cancel();
                }
                result
            })
        });
        Self { task, backfilled, stop }
    }

    /// Says that the initial load has been moved.
    pub(super) fn initial_load_is_moved(&self) {
        self.backfilled.cancel();
    }

    /// Stops it after the batch under way; returns why it ended if that was before.
    pub(super) async fn stop(self) -> Result<RelaySummary, CoordinatorError> {
        self.stop.cancel();
        self.task.await?
    }
}

/// Waits until every table has chosen its load path, which the report names.
async fn until_safe(progress: &Progress, backfilled: &CancellationToken) {
    while !backfilled.is_cancelled() && !progress.tables.iter().all(|table| table.load_path().is_some()) {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Waits until nothing is pending, or nothing for as long as `lag`, but for `at_most`: an application may be
/// writing all the time.
pub(super) async fn drain(
    coordinator: &Coordinator,
    lag: Duration,
    at_most: Duration,
    cancel: &CancellationToken,
) -> anyhow::Result<bool> {
    let begun = Instant::now();
    let migration = coordinator.migration();
    while begun.elapsed() < at_most && !cancel.is_cancelled() {
        let mut is_behind = false;
        for binding in &migration.tables {
            let pending = migration.source.lag(binding.name()).await?;
            is_behind |= pending.keys > 0 && pending.oldest_s >= lag.as_secs_f64();
        }
        if !is_behind {
            return Ok(true);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(false)
}
