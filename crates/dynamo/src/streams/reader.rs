//! Reading one shard: iterators come and go, the position stays.

use std::time::Duration;

use lockstep_core::{Error, Kind, Retry};

use super::super::Backoff;
use super::api::{StreamApi, StreamError, StreamRecord};

/// What one read of a shard gave.
#[derive(Clone, Debug)]
pub struct ShardPage {
    /// The shard.
    pub shard: String,
    /// The position that it was read from; the sink holds it against what it saved.
    pub from: Option<String>,
    /// The position after it.
    pub to: Option<String>,
    /// The records, oldest first.
    pub records: Vec<StreamRecord>,
    /// Whether the shard is closed and this was the rest of it.
    pub finished: bool,
}

/// One shard and where its reading stands.
pub(super) struct ShardReader<'a> {
    stream: &'a dyn StreamApi,
    shard: String,
    position: Option<String>,
    iterator: Option<String>,
    limit: usize,
}

impl<'a> ShardReader<'a> {
    pub(super) fn new(stream: &'a dyn StreamApi, shard: String, position: Option<String>, limit: usize) -> Self {
        Self { stream, shard, position, iterator: None, limit }
    }

    /// Begins again with the oldest record there is: what was between is lost.
    pub(super) fn begin_with_oldest(&mut self) {
        (self.position, self.iterator) = (None, None);
    }

    /// Whether a position was taken yet.
    pub(super) fn has_position(&self) -> bool {
        self.position.is_some()
    }

    /// The next page. What was throttled or lost is asked for again; a position moves only with the records before it.
    pub(super) async fn next(&mut self) -> Result<ShardPage, StreamError> {
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5), 60);
        loop {
            match self.read().await {
                // Iterators live for 15 minutes, so a slow sink, or a process that was stopped, meets this.
                Err(StreamError::Expired) => {
                    let error = Error::target(Kind::Unavailable, "reading a stream", StreamError::Expired.to_string());
                    self.iterator = None;
                    backoff.pause(error).await?;
                }
                Err(StreamError::Store(error)) if error.kind.retry() != Retry::Never => backoff.pause(error).await?,
                other => return other,
            }
        }
    }

    async fn read(&mut self) -> Result<ShardPage, StreamError> {
        let iterator = match &self.iterator {
            Some(iterator) => iterator.clone(),
            None => self.stream.iterator(&self.shard, self.position.as_deref()).await?,
        };
        self.iterator = Some(iterator.clone());
        let page = self.stream.records(&iterator, self.limit).await?;
        let from = self.position.clone();
        if let Some(last) = page.records.last() {
            self.position = Some(last.sequence.clone());
        }
        let finished = page.next.is_none();
        self.iterator = page.next;
        Ok(ShardPage { shard: self.shard.clone(), from, to: self.position.clone(), records: page.records, finished })
    }
}
