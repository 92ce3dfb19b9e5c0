//! Reading one shard: iterators come and go, the position stays.

use std::time::Duration;

use lockstep_core::{Error, Kind, Retry};
use tokio::time::Instant;

use super::super::Backoff;
use super::api::{StreamApi, StreamError, StreamRecord};
use super::options::FollowOptions;

/// About half a minute; then the follower tells of it, and begins again from what was saved.
const TRIES_MAX: u32 = 30;
/// Longest pause for a stream that is away, so that what waits goes on within seconds of its coming back.
const PAUSE_LONGEST: Duration = Duration::from_secs(2);

/// Answer to one read of a shard.
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
    on_throttle: &'a (dyn Fn() + Sync),
    shard: String,
    position: Option<String>,
    iterator: Option<String>,
    limit: usize,
    /// The shortest time between two requests, and when the last one was sent.
    every: Duration,
    asked_at: Option<Instant>,
}

impl<'a> ShardReader<'a> {
    pub(super) fn new(
        (stream, on_throttle): (&'a dyn StreamApi, &'a (dyn Fn() + Sync)),
        shard: String,
        position: Option<String>,
        options: &FollowOptions,
    ) -> Self {
        let (limit, every) = (options.page_records, options.page_every);
        Self { stream, on_throttle, shard, position, iterator: None, limit, every, asked_at: None }
    }

    /// Begins again with the oldest record there is: what was between is lost.
    pub(super) fn begin_with_oldest(&mut self) {
        (self.position, self.iterator) = (None, None);
    }

    /// Waits until the next request may be sent. [`ShardReader::next`] does so too, but its
    /// caller holds a place meanwhile that others could use.
    pub(super) async fn until_due(&self) {
        if let Some(asked_at) = self.asked_at {
            tokio::time::sleep_until(asked_at + self.every).await;
        }
    }

    /// The next page. What was throttled or lost is asked for again; a position moves only with the records
    /// before it.
    pub(super) async fn next(&mut self) -> Result<ShardPage, StreamError> {
        let mut backoff = Backoff::new(Duration::from_millis(50), PAUSE_LONGEST, TRIES_MAX);
        // One that throttles is there, and takes some.
        let mut throttled = Backoff::new(Duration::from_millis(200), Duration::from_secs(5), u32::MAX);
        loop {
            match self.read().await {
                // Iterators live for 15 minutes, so a slow sink, or a process that was stopped, meets this.
                Err(StreamError::Expired) => {
                    let error = Error::target(
                        Kind::Unavailable,
                        "reading a stream",
                        StreamError::Expired.to_string(),
                    );
                    self.iterator = None;
                    backoff.pause(error).await?;
                }
                Err(StreamError::Store(error)) if error.kind == Kind::Throttled => {
                    (self.on_throttle)();
                    throttled.pause(error).await?
                }
                Err(StreamError::Store(error)) if error.kind.retry() != Retry::Never => {
                    backoff.pause(error).await?
                }
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
        self.until_due().await;
        self.asked_at = Some(Instant::now());
        let page = self.stream.records(&iterator, self.limit).await?;
        let from = self.position.clone();
        if let Some(last) = page.records.last() {
            self.position = Some(last.sequence.clone());
        }
        let finished = page.next.is_none();
        self.iterator = page.next;
        Ok(ShardPage {
            shard: self.shard.clone(),
            from,
            to: self.position.clone(),
            records: page.records,
            finished,
        })
    }
}
