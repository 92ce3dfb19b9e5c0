//! Following a whole stream: all shards that may be read in parallel, new ones as they appear.

use std::collections::{HashMap, HashSet};
use std::pin::pin;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::{BoxFuture, FutureExt};
use futures::stream::{FuturesUnordered, StreamExt};
use lockstep_core::{Error, Kind, Result, Saved};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::super::Backoff;
use super::api::{Shard, StreamApi, StreamError};
use super::lineage::readable;
use super::options::FollowOptions;
use super::reader::{ShardPage, ShardReader};

/// A shard that is gone, and listed all the same, is asked for again after this.
const GONE_PAUSE: Duration = Duration::from_millis(500);
/// Most shards that are asked at once of those that had nothing when they were asked last, or were not
/// asked yet.
///
/// 1. A table has forty open shards, and the network takes 300 ms. 2. With one request for each page that
/// may be held, four, a round takes three seconds. 3. A step that waits for a marker of each shard misses
/// its pause, each time. Most such answers are empty; one that is not waits for its turn like every page,
/// and until then nothing else is asked in its stead, so no more pages than this are held besides.
const POLLS_AT_ONCE: usize = 32;

/// Receiver of the records.
#[async_trait]
pub trait Sink: Send + Sync {
    /// Returns what was saved, by shard. Called once, before anything else.
    async fn saved(&self) -> Result<HashMap<String, Saved>>;

    /// Takes a page and saves its position, both or neither. Called for one page of a shard at a time, for
    /// shards in parallel; never for a child before its parent was taken to the end. After a crash pages come
    /// again.
    async fn take(&self, shard: &Shard, page: ShardPage) -> Result<()>;

    /// Told that records of a shard are gone which were not taken. What is still there follows.
    async fn lost(&self, shard: &str, why: &str) -> Result<()>;

    /// Told that the stream asked to slow down; the page is asked for again.
    fn throttled(&self) {}
}

/// Follows a stream until cancelled.
///
/// # Errors
/// The stream's when no retry can mend it, and the sink's.
///
/// # Cancel safety
/// It may be dropped at any point: what the sink has not saved comes again.
#[crate::boxed]
pub async fn follow(
    stream: &dyn StreamApi,
    sink: &dyn Sink,
    options: FollowOptions,
    cancel: &CancellationToken,
) -> Result<()> {
    let mut saved = sink.saved().await?;
    let mut finished: HashSet<String> =
        saved.iter().filter(|(_, s)| s.finished).map(|(id, _)| id.clone()).collect();
    let turns =
        Turns { pages: Semaphore::new(options.pages_at_once.max(1)), polls: Semaphore::new(POLLS_AT_ONCE) };
    let on_throttle = || sink.throttled();
    let mut running: FuturesUnordered<BoxFuture<'_, Result<Option<String>>>> = FuturesUnordered::new();
    let mut started: HashSet<String> = HashSet::new();
    // A shard that was cut off from us for longer than the retention is listed no more.
    let mut unseen: HashSet<String> =
        saved.iter().filter(|(_, s)| !s.finished).map(|(id, _)| id.clone()).collect();
    loop {
        // Shards are read meanwhile: 1. A stream that nothing has followed for a day has two hundred closed
        // shards, and the network takes 300 ms. 2. Each of them ends after one page, and all are listed once
        // more, which takes a second. 3. With nothing read in that second, they take longer than a step
        // waits.
        let mut listing = pin!(list(stream));
        let shards = loop {
            tokio::select! {
                biased;
                listed = &mut listing => break listed?,
                Some(end) = running.next() => finished.extend(end?),
            }
        };
        for gone in unseen.drain().filter(|id| !shards.iter().any(|shard| shard.id == *id)) {
            sink.lost(&gone, "the shard was trimmed before it was read to its end").await?;
        }
        for shard in readable(&shards, &finished) {
            if started.insert(shard.id.clone()) {
                let position = saved.remove(&shard.id).and_then(|saved| saved.position);
                let reader = ShardReader::new((stream, &on_throttle), shard.id.clone(), position, &options);
                running.push(
                    read_shard(stream, reader, shard.clone(), sink, &turns, options.idle_pause, cancel)
                        .boxed(),
                );
            }
        }
        tokio::select! {
            biased;
            Some(end) = running.next() => finished.extend(end?),
            () = tokio::time::sleep(options.list_every) => {}
            () = cancel.cancelled(), if running.is_empty() => {}
        }
        if cancel.is_cancelled() {
            // Each ends with the page it is at.
            while let Some(end) = running.next().await {
                end?;
            }
            return Ok(());
        }
    }
}

async fn list(stream: &dyn StreamApi) -> Result<Vec<Shard>> {
    let shards = || async { stream.shards().await.map_err(plain) };
    Backoff::patient().retry(shards).await
}

/// Whose turn it is.
struct Turns {
    pages: Semaphore,
    polls: Semaphore,
}

/// Reads one shard to its end; `None` when cancelled before.
async fn read_shard(
    stream: &dyn StreamApi,
    mut reader: ShardReader<'_>,
    shard: Shard,
    sink: &dyn Sink,
    turns: &Turns,
    idle_pause: Duration,
    cancel: &CancellationToken,
) -> Result<Option<String>> {
    let (mut idle, mut ahead) = (true, None);
    while !cancel.is_cancelled() {
        let (place, read) = match ahead.take() {
            Some((place, read)) => (place, read),
            None => {
                reader.until_due().await;
                let place = if idle { turns.polls.acquire().await } else { turns.pages.acquire().await };
                (place, reader.next().await)
            }
        };
        let page = match read {
            Ok(page) => page,
            // With a position or without one: what was there when the shard was listed is gone.
            Err(StreamError::Trimmed) => {
                sink.lost(&shard.id, "records were trimmed before they were read").await?;
                reader.begin_with_oldest();
                drop(place);
                tokio::time::sleep(idle_pause).await;
                continue;
            }
            Err(StreamError::Gone) => {
                drop(place);
                if list(stream).await?.iter().any(|listed| listed.id == shard.id) {
                    // The listing is of a moment ago.
                    tokio::time::sleep(idle_pause.max(GONE_PAUSE)).await;
                    continue;
                }
                sink.lost(&shard.id, "the shard was trimmed before it was read to its end").await?;
                return Ok(Some(shard.id));
            }
            Err(error) => return Err(plain(error)),
        };
        let (polled, empty, last) = (idle, page.records.is_empty(), page.finished);
        // The reader that takes a page holds its poll, and asks for no other while it has a turn.
        // The end of a shard is written down like a page: many at once would take every connection.
        let turn = if polled && (!empty || last) { Some(turns.pages.acquire().await) } else { None };
        // The next page is read while this one is taken, unless another shard waits for a turn. What the
        // sink does not take is read again: it has saved no position after it.
        if empty || last || turns.pages.available_permits() == 0 {
            sink.take(&shard, page).await?;
            drop((turn, place));
        } else {
            let next = cancel.run_until_cancelled(async {
                reader.until_due().await;
                reader.next().await
            });
            let (taken, next) = tokio::join!(sink.take(&shard, page), next);
            taken?;
            // An empty one says nothing of now: a marker may have come since.
            let is_empty = |page: &ShardPage| page.records.is_empty() && !page.finished;
            let says = |read: &Result<ShardPage, StreamError>| !matches!(read, Ok(page) if is_empty(page));
            ahead = next.filter(says).map(|read| (turn.unwrap_or(place), read));
        }
        idle = empty;
        if last {
            return Ok(Some(shard.id));
        }
        if idle {
            tokio::select! {
                () = cancel.cancelled() => {}
                () = tokio::time::sleep(idle_pause) => {}
            }
        }
    }
    Ok(None)
}

fn plain(error: StreamError) -> Error {
    match error {
        StreamError::Store(error) => error,
        other => Error::target(Kind::Unavailable, "reading a stream", other.to_string()),
    }
}
