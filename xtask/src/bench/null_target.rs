//! A target that accepts every write and keeps none.
//!
//! On a machine of two cores whatever plays the target takes its CPU from what is measured. An emulator takes
//! several times what we do, so a backfill into it measures the emulator. This one speaks just enough of
//! DynamoDB to accept writes, and does next to nothing with them: no HTTP library, no JSON parser, one buffer
//! per connection, answers written in advance. What is left is our own speed, SDK included.
//!
//! It never refuses, throttles or forgets a reply, and reads find nothing but prepared scan pages and the marks
//! of history that were set: do not test correctness against it.
//!
//! ```no_run
//! # use xtask::bench::null_target::NullTarget;
//! # async fn example() -> std::io::Result<()> {
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! let target = NullTarget::new().capture(200);
//! let (counters, captured) = (target.counters(), target.captured());
//! let server = tokio::spawn(target.serve(listener, async { /* until the bench is over */ }));
//! // … run the backfill, reading `counters.totals()` now and then …
//! let totals = server.await?;
//! # Ok(())
//! # }
//! ```

pub(super) mod answers;
pub(super) mod http;
mod marks;
mod serve;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::validate::pages::Pages;
use answers::{Answers, Operation};

/// Serves with the default description of a table, capturing nothing, until `shutdown`; see [`NullTarget`].
pub async fn serve(listener: TcpListener, shutdown: impl Future) -> NullTotals {
    NullTarget::new().serve(listener, shutdown).await
}

/// A null target that is not serving yet.
#[derive(Debug, Default)]
pub struct NullTarget {
    answers: Answers,
    counters: Arc<NullCounters>,
    captured: Arc<Captured>,
    latency: Duration,
}

impl NullTarget {
    /// A target with any table you ask it for: keys `PK` and `SK`, active, empty.
    pub fn new() -> Self {
        Self::default()
    }

    /// Describes tables otherwise: the function is given a table's name, and returns the JSON of a
    /// `TableDescription`.
    #[must_use]
    pub fn describe_with(mut self, describe: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        self.answers.describe = Box::new(describe);
        self
    }

    /// Answers scans with these pages; without, they find nothing.
    #[must_use]
    pub fn replaying(mut self, pages: Arc<Pages>) -> Self {
        self.answers.pages = Some(pages);
        self
    }

    /// Thinks for so long before each answer, as a network does; the connections do not wait for each other.
    #[must_use]
    pub fn answering_after(mut self, latency: Duration) -> Self {
        self.latency = latency;
        self
    }

    /// Keeps writes as they came over the wire, for [`replay`](super::replay::replay): the first `count` that
    /// are alone, and as many in batches. The relay sends what is new in batches first, which would leave no
    /// room for the single puts of what changes later.
    #[must_use]
    pub fn capture(mut self, count: usize) -> Self {
        let rooms = [AtomicUsize::new(count), AtomicUsize::new(count)];
        self.captured = Arc::new(Captured { rooms, requests: Mutex::default() });
        self
    }

    /// The counters, to be read while it serves.
    pub fn counters(&self) -> Arc<NullCounters> {
        Arc::clone(&self.counters)
    }

    /// Returns what is captured, to be taken while it serves or after.
    pub fn captured(&self) -> Arc<Captured> {
        Arc::clone(&self.captured)
    }

    /// Serves until `shutdown` is ready, then cuts all connections, and returns the totals when all of that
    /// is done.
    ///
    /// A request it cannot read (chunked, without a length, too long a header) costs its sender the
    /// connection.
    pub async fn serve(self, listener: TcpListener, shutdown: impl Future) -> NullTotals {
        let target = Arc::new(self);
        let mut connections = JoinSet::new();
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            tokio::select! {
                _ = &mut shutdown => break,
                // Our own panic would be a wrong measurement; pass it on.
                Some(ended) = connections.join_next() => if let Err(error) = ended {
                    std::panic::resume_unwind(error.into_panic());
                },
                accepted = listener.accept() => if let Ok((stream, _)) = accepted {
                    connections.spawn(serve::converse(stream, Arc::clone(&target)));
                },
            }
        }
        connections.shutdown().await;
        target.counters.totals()
    }
}

/// Counts of what was accepted so far. A request counts once its body was read, just before it is answered.
#[derive(Debug, Default)]
pub struct NullCounters {
    requests: AtomicU64,
    items: AtomicU64,
    body_bytes: AtomicU64,
}

/// [`NullCounters`] at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NullTotals {
    /// Requests of any kind.
    pub requests: u64,
    /// Items written: one for each single write, statement, or request in a batch. A transaction counts as
    /// one.
    pub items: u64,
    /// Bytes of request bodies.
    pub body_bytes: u64,
}

impl NullCounters {
    /// The counts now. Each only grows; they are read one after the other, so while requests arrive they may
    /// be a request apart.
    pub fn totals(&self) -> NullTotals {
        NullTotals {
            requests: self.requests.load(Relaxed),
            items: self.items.load(Relaxed),
            body_bytes: self.body_bytes.load(Relaxed),
        }
    }

    fn add(&self, items: u64, body_bytes: u64) {
        self.requests.fetch_add(1, Relaxed);
        self.items.fetch_add(items, Relaxed);
        self.body_bytes.fetch_add(body_bytes, Relaxed);
    }
}

/// The first writes that came in: whole requests, head and body, as they were on the wire.
#[derive(Debug, Default)]
pub struct Captured {
    // Of single writes, and of batches.
    rooms: [AtomicUsize; 2],
    requests: Mutex<Vec<Bytes>>,
}

impl Captured {
    /// Takes what has been captured so far. The room that was used stays used.
    pub fn take(&self) -> Vec<Bytes> {
        std::mem::take(&mut *self.requests.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reserves room for one request; without capturing, one load. A request that then breaks off leaves its
    /// room unused.
    fn reserve(&self, operation: Operation) -> bool {
        let room = &self.rooms[usize::from(operation.is_batch())];
        room.load(Relaxed) > 0 && room.fetch_update(Relaxed, Relaxed, |room| room.checked_sub(1)).is_ok()
    }

    fn keep(&self, request: Vec<u8>) {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).push(request.into());
    }
}

#[cfg(test)]
mod tests;
