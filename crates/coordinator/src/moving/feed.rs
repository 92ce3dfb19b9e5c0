//! A reverse feed for as long as a step needs one.

use std::sync::Arc;
use std::time::Duration;

use futures::future::try_join_all;
use lockstep_core::source::IntentId;
use lockstep_core::{Error as StoreError, Kind};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::note;
use crate::error::{Error, Result};
use crate::options::Migration;
use crate::reverse_feed::{Drained, FeedProgress, drained, keep_feeding};

/// A feed that runs: another process's, or ours as soon as there is none.
pub(crate) struct Feed {
    standby: JoinHandle<Result<()>>,
    stop: DropGuard,
}

impl Feed {
    /// Begins a feed before anything that it must not miss, and runs it here where nobody else does.
    pub(crate) async fn begin(migration: &Migration, id: IntentId) -> Result<Self> {
        note(migration, id, "begin the reverse feed").await?;
        for binding in &migration.tables {
            let table = migration.source.fed_table(binding).await?;
            let stream = migration.target.enable_stream(&binding.target_name).await?;
            migration.source.open_reverse(&table, stream.arn()).await?;
        }
        let stop = CancellationToken::new();
        let (of_task, until) = (migration.clone(), stop.clone());
        let standby = tokio::spawn(async move {
            let progress = Arc::new(FeedProgress::new(&of_task.tables));
            keep_feeding(&of_task, &of_task.options.reverse_feed, &progress, &until).await
        });
        Ok(Self { standby, stop: stop.drop_guard() })
    }

    /// Waits until everything that was written before this call has come through, for at most `within`. It also proves
    /// that the way from the target to the source is open from end to end.
    pub(crate) async fn see_through(&self, migration: &Migration, within: Duration) -> Result<()> {
        let waits = migration.tables.iter().map(|binding| drained(migration, binding, within));
        match self.first_missing(try_join_all(waits).await?) {
            None => Ok(()),
            Some(why) => Err(Error::Store(StoreError::target(
                Kind::Refused,
                "seeing the reverse feed through",
                format!("{why}; everything is as it was. `status` shows how far behind the feed is"),
            ))),
        }
    }

    /// What has not come through, if anything.
    pub(crate) fn first_missing(&self, tables: Vec<Drained>) -> Option<String> {
        if self.standby.is_finished() {
            return Some("the reverse feed has ended".to_owned());
        }
        let missing = tables.into_iter().find(|table| !table.through)?;
        Some(format!("the reverse feed is not through after {} ms: {}", missing.took_ms, missing.waits_for.join("; ")))
    }

    /// Stops ours.
    pub(crate) async fn end(self) {
        drop(self.stop);
        // What it had to do, it has done.
        let _ = self.standby.await;
    }
}
