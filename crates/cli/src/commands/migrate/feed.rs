//! The reverse feed that runs beside the story from the step to DynamoOnly on.

use std::sync::Arc;
use std::time::Duration;

use futures::future::try_join_all;
use lockstep_coordinator::{CoordinatorError, FeedProgress, MigrationContext, drained, keep_feeding};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// The feed, and what tells it to stop.
#[derive(Debug)]
pub(super) struct BackgroundFeed {
    task: JoinHandle<Result<(), CoordinatorError>>,
    stop: CancellationToken,
}

impl BackgroundFeed {
    /// Starts it. It cancels `cancel` when it fails, because without a feed there is no way back.
    pub(super) fn start(migration: MigrationContext, cancel: CancellationToken) -> Self {
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let progress = Arc::new(FeedProgress::new(&migration.tables));
            let result = keep_feeding(&migration, &migration.options.reverse_feed, &progress, &stopped).await;
            if result.is_err() {
                cancel.cancel();
            }
            result
        });
        Self { task, stop }
    }

    /// Stops it; returns why it ended if that was before.
    pub(super) async fn stop(self) -> Result<(), CoordinatorError> {
        self.stop.cancel();
        self.task.await?
    }
}

/// Waits until everything that was written to DynamoDB is in PostgreSQL, or for `at_most`.
pub(super) async fn see_through(
    migration: &MigrationContext,
    at_most: Duration,
) -> Result<bool, CoordinatorError> {
    let tables =
        try_join_all(migration.tables.iter().map(|binding| drained(migration, binding, at_most))).await?;
    Ok(tables.iter().all(|table| table.through))
}
