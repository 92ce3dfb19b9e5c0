//! A reverse feed for as long as a step needs one.

use std::sync::Arc;
use std::time::Duration;

use lockstep_core::Advice::Status;
use lockstep_core::{Error as StoreError, Kind};
use lockstep_dynamo::streams::TableStream;
use lockstep_postgres::IntentId;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::note;
use crate::error::{CoordinatorError, Result};
use crate::options::MigrationContext;
use crate::reverse_feed::{FeedProgress, all_drained, keep_feeding, streams};

/// A feed that runs: another process's, or ours as soon as there is none.
pub(crate) struct Feed {
    /// Streams of the tables, in order. Asked for here, so that it costs no time in a pause.
    streams: Vec<TableStream>,
    standby: JoinHandle<Result<()>>,
    stop: DropGuard,
}

impl Feed {
    /// Begins a feed before anything that it must not miss, and runs it here where no other process does.
    pub(crate) async fn begin(migration: &MigrationContext, id: IntentId) -> Result<Self> {
        note(migration, id, "begin the reverse feed").await?;
        let streams = streams(migration).await?;
        for (binding, stream) in migration.tables.iter().zip(&streams) {
            let table = migration.source.fed_table(binding).await?;
            migration.source.open_reverse(&table, stream.arn()).await?;
        }
        let stop = CancellationToken::new();
        let (of_task, until) = (migration.clone(), stop.clone());
        let standby = tokio::spawn(async move {
            let progress = Arc::new(FeedProgress::new(&of_task.tables));
            keep_feeding(&of_task, &of_task.options.reverse_feed, &progress, &until).await
        });
        Ok(Self { streams, standby, stop: stop.drop_guard() })
    }

    /// Waits until everything that was written before this call has come through, for at most `within`. It
    /// also proves that the way from the target to the source is open from end to end.
    pub(crate) async fn see_through(&self, migration: &MigrationContext, within: Duration) -> Result<()> {
        match self.missing(migration, within).await? {
            None => Ok(()),
            Some(why) => Err(CoordinatorError::Store(StoreError::target(
                Kind::Refused,
                "seeing the reverse feed through",
                format!(
                    "{why}; everything is as it was. {Status} shows how far behind the \
                    feed is"
                ),
            ))),
        }
    }

    /// Returns what of that has not come through `within`, if anything.
    pub(crate) async fn missing(
        &self,
        migration: &MigrationContext,
        within: Duration,
    ) -> Result<Option<String>> {
        let drained = all_drained(migration, &self.streams, within).await?;
        if self.standby.is_finished() {
            return Ok(Some("the reverse feed has ended".to_owned()));
        }
        let missing = drained.into_iter().find(|table| !table.through);
        Ok(missing.map(|table| {
            format!(
                "the reverse feed is not through after {} ms: {}",
                table.took_ms,
                table.waits_for.join("; ")
            )
        }))
    }

    /// Stops ours.
    pub(crate) async fn end(self) {
        drop(self.stop);
        // The feed has done its part.
        let _ = self.standby.await;
    }
}
