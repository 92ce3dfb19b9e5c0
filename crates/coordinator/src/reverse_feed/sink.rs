//! Pages of a stream become rows.

use std::collections::HashMap;
use std::sync::atomic::Ordering::Relaxed;

use async_trait::async_trait;
use lockstep_core::{Result, Saved};
use lockstep_dynamo::streams::{Shard, ShardPage, Sink, changes_of};
use lockstep_postgres::Source;
use lockstep_postgres::reverse::{FedTable, Page};

use super::progress::FeedTableProgress;
use super::rounds::{Rounds, briefly};

/// Where the pages of one table's stream go.
pub(super) struct TableSink<'a> {
    pub(super) source: &'a Source,
    pub(super) table: &'a FedTable,
    pub(super) stream: &'a str,
    pub(super) progress: &'a FeedTableProgress,
    pub(super) rounds: &'a Rounds,
}

impl TableSink<'_> {
    fn name(&self) -> &'static str {
        self.table.binding().name()
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
        let folded = changes_of(&page.records);
        let to_apply = Page {
            shard: &shard.id,
            from: page.from.as_deref(),
            to: page.to.as_deref(),
            finished: page.finished,
            newest_at: page.records.last().and_then(|record| record.at),
            folded: &folded,
        };
        let applied = briefly().retry(|| self.source.apply_reverse(self.table, to_apply)).await?;
        self.progress.records.fetch_add(page.records.len() as u64, Relaxed);
        self.progress.applied.fetch_add(applied.applied, Relaxed);
        self.progress.skipped.fetch_add(applied.skipped, Relaxed);
        self.progress.put_off.fetch_add(applied.again, Relaxed);
        if applied.again > 0 {
            self.rounds.again(self.name()).notify_one();
        }
        Ok(())
    }

    async fn lost(&self, shard: &str, why: &str) -> Result<()> {
        self.rounds.forget(self.name(), shard);
        briefly().retry(|| self.source.lose_reverse(self.name(), shard, why)).await
    }
}
