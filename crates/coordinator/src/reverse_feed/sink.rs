//! Pages of a stream become rows.

use std::collections::HashMap;
use std::sync::atomic::Ordering::Relaxed;

use async_trait::async_trait;
use lockstep_core::{Error, Kind, Result, Saved};
use lockstep_dynamo::streams::{Shard, ShardPage, Sink, changes_of};
use lockstep_postgres::Source;
use lockstep_postgres::reverse::{Applied, FedPage, FedTable};
use tokio::sync::Notify;

use super::begun;
use super::progress::FeedTableProgress;
use super::rounds::{Rounds, briefly};
use crate::options::MigrationContext;

/// Sink of the pages of one table's stream.
pub(super) struct TableSink<'a> {
    pub(super) migration: &'a MigrationContext,
    pub(super) source: &'a Source,
    pub(super) table: &'a FedTable,
    pub(super) stream: &'a str,
    pub(super) progress: &'a FeedTableProgress,
    pub(super) rounds: &'a Rounds,
    /// Told when a shard was read to its end: its stream may be over.
    pub(super) ended: &'a Notify,
}

impl TableSink<'_> {
    fn name(&self) -> &'static str {
        self.table.binding().name()
    }
}

/// Words of the feed when it stands still for this.
const AHEAD: &str = "the stream has records of an epoch that PostgreSQL's control record has never begun";

impl TableSink<'_> {
    /// Applies a page with records of an epoch that PostgreSQL has never begun, if both stores show that they
    /// are another program's. Or else the feed stands still before it: 1. PostgreSQL is set back to before an
    /// epoch in which applications wrote. 2. Their writes are passed over. 3. The way back is taken.
    async fn apply_ahead(&self, page: FedPage<'_>) -> Result<Applied> {
        let begun = begun::newest(self.migration).await.map_err(|error| match error {
            crate::CoordinatorError::Store(error) => error,
            other => Error::source(Kind::Busy, "asking for epochs", other.to_string()),
        });
        let why = match begun? {
            Ok(begun) => {
                let page = FedPage { begun: Some(begun.epoch), ..page };
                let applied = briefly().retry(|| self.source.apply_reverse(self.table, page)).await?;
                if !applied.ahead {
                    return Ok(applied);
                }
                "they are of an epoch that DynamoDB's control record has counted".to_owned()
            }
            Err(why) => why,
        };
        briefly().retry(|| self.source.stop_reverse(self.name(), &why)).await?;
        Err(Error::source(Kind::Busy, format!("feeding {}", self.name()), format!("{AHEAD}: {why}")))
    }
}

#[async_trait]
impl Sink for TableSink<'_> {
    async fn saved(&self) -> Result<HashMap<String, Saved>> {
        briefly().retry(|| self.source.open_reverse(self.table, self.stream)).await
    }

    async fn take(&self, shard: &Shard, page: ShardPage) -> Result<()> {
        if page.records.is_empty() && !page.finished {
            if !self.rounds.saw_nothing(self.name(), &shard.id) {
                briefly().retry(|| self.source.touch_reverse(self.name(), &shard.id)).await?;
                self.rounds.known(self.name(), &shard.id);
            }
            return Ok(());
        }
        let (records, newest_at) =
            (page.records.len() as u64, page.records.last().and_then(|record| record.at));
        let folded = changes_of(page.records);
        let to_apply = FedPage {
            shard: &shard.id,
            from: page.from.as_deref(),
            to: page.to.as_deref(),
            finished: page.finished,
            newest_at,
            folded: &folded,
            begun: None,
        };
        let mut applied = briefly().retry(|| self.source.apply_reverse(self.table, to_apply)).await?;
        if applied.ahead {
            applied = self.apply_ahead(to_apply).await?;
        }
        self.progress.records.fetch_add(records, Relaxed);
        self.progress.applied.fetch_add(applied.applied, Relaxed);
        self.progress.skipped.fetch_add(applied.skipped, Relaxed);
        self.progress.put_off.fetch_add(applied.again, Relaxed);
        if applied.again > 0 {
            self.rounds.again(self.name()).notify_one();
        }
        if page.finished {
            self.rounds.forget(self.name(), &shard.id);
            self.ended.notify_one();
        }
        Ok(())
    }

    async fn lost(&self, shard: &str, why: &str) -> Result<()> {
        self.rounds.forget(self.name(), shard);
        briefly().retry(|| self.source.lose_reverse(self.name(), shard, why)).await
    }

    fn throttled(&self) {
        self.progress.throttles.fetch_add(1, Relaxed);
    }
}
