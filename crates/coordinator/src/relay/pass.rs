//! One pass over the pending keys of a table, in which reading, sending and acknowledging overlap.
//!
//! Within a pass no key is met twice, as the set is gone through in the order of its digests; so of two reads
//! that are under way at once neither knows a key of the other. Two keys may still have one place in the
//! target, and whichever of them comes second yields or overwrites by its version (I2).

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use futures::future::{BoxFuture, FutureExt, OptionFuture};
use futures::stream::{FuturesUnordered, StreamExt};
use lockstep_dynamo::ReadAt;
use lockstep_postgres::{KeyDigest, PendingBatch};

use super::batch::Sent;
use super::{RelayUntil, Table};
use crate::error::{CoordinatorError, Result, read_of_the_shape, require_shape_now};

/// Time between two measurements of the lag: it counts the pending set, which is not free.
const LAG_EVERY: Duration = Duration::from_secs(1);

/// Reads that are sent or acknowledged at once: one of each, while the next is read.
const UNDER_WAY: usize = 2;

/// State that the reads of one pass share.
pub(super) struct Shared {
    /// Once set, nothing more is read.
    over: AtomicBool,
    lag_at: std::sync::Mutex<Option<Instant>>,
}

/// Outcome of a pass.
#[derive(Debug, Default)]
pub(super) struct Passed {
    /// Keys that it met, and at least one where it did not begin with the first.
    pub(super) seen: u64,
    /// Changes delivered.
    pub(super) delivered: u64,
    /// Rows set aside.
    pub(super) dead_letters: u64,
    /// Reason why it ended before its time, or a key stayed pending in it.
    pub(super) error: Option<CoordinatorError>,
}

impl<'a> Table<'a> {
    /// Goes once through the pending keys of a table, or until it has to give way. A row that the target does
    /// not take now, for a reason other than the row itself, stays pending, and the pass ends with that
    /// error. Other rows continue to be delivered. If a request fails, those under way are ended and
    /// acknowledged.
    pub(super) async fn pass(self) -> Passed {
        let mut passed = Passed::default();
        let captured = match self.run.migration.source.record_shape(self.binding).await {
            Ok(captured) => captured.unwrap_or_default(),
            Err(error) => return Passed { error: Some(error.into()), ..passed },
        };
        let shared = Shared { over: AtomicBool::new(false), lag_at: std::sync::Mutex::new(None) };
        let place = self.kept.take_place();
        // What waits before that place is for the next pass, so nothing is called empty by this one.
        passed.seen = u64::from(place.is_some());
        let mut reading: OptionFuture<BoxFuture<'_, Result<(ReadAt, PendingBatch)>>> =
            Some(self.read(&shared, &captured, place).boxed()).into();
        let mut is_reading = true;
        let mut under_way: FuturesUnordered<BoxFuture<'_, Result<Sent>>> = FuturesUnordered::new();
        while is_reading || !under_way.is_empty() {
            let (read, sent) = tokio::select! {
                Some(read) = &mut reading, if is_reading && under_way.len() < UNDER_WAY => (Some(read), None),
                Some(sent) = under_way.next(), if !under_way.is_empty() => (None, Some(sent)),
            };
            if let Some(read) = read {
                (reading, is_reading) = (None.into(), false);
                match read {
                    Ok((_, batch)) if batch.rows.is_empty() => {}
                    Ok((read_at, mut batch)) => {
                        passed.seen += batch.rows.len() as u64;
                        match batch.next.take() {
                            Some(next) if self.gives_way() => self.kept.begin_next_after(next),
                            Some(next) if !self.is_over(&shared) => {
                                (reading, is_reading) =
                                    (Some(self.read(&shared, &captured, Some(next)).boxed()).into(), true);
                            }
                            _ => {}
                        }
                        under_way.push(Table { read_at, ..self }.send(batch).boxed());
                    }
                    Err(error) => passed.error = self.end(&shared, passed.error.take(), error),
                }
            }
            match sent {
                Some(Ok(sent)) => {
                    passed.delivered += sent.delivered;
                    passed.dead_letters += sent.set_aside;
                    if let Some(error) = sent.error {
                        // None was taken: there is no use in going on.
                        if sent.delivered == 0 || self.run.until == RelayUntil::Empty {
                            shared.over.store(true, Relaxed);
                        }
                        passed.error = passed.error.or(Some(error));
                    }
                }
                Some(Err(error)) => passed.error = self.end(&shared, passed.error.take(), error),
                None => {}
            }
            if self.is_over(&shared) {
                (reading, is_reading) = (None.into(), false);
            }
        }
        passed
    }

    /// Tells whether another table waits that has waited for long enough. What a step waits for is over only
    /// once every table is, and gives no way.
    pub(super) fn gives_way(&self) -> bool {
        self.run.until == RelayUntil::Cancelled && self.run.queue.is_owed(self.began)
    }

    /// Puts the error that ends the pass before what stayed pending in it.
    fn end(
        &self,
        shared: &Shared,
        before: Option<CoordinatorError>,
        error: CoordinatorError,
    ) -> Option<CoordinatorError> {
        let first = !shared.over.swap(true, Relaxed);
        if first { Some(error) } else { before.or(Some(error)) }
    }

    fn is_over(&self, shared: &Shared) -> bool {
        shared.over.load(Relaxed) || self.run.cancel.is_cancelled()
    }

    async fn read(
        self,
        shared: &Shared,
        captured: &str,
        after: Option<KeyDigest>,
    ) -> Result<(ReadAt, PendingBatch)> {
        let source = &self.run.migration.source;
        let most = self.run.migration.options.relay.batch_keys as i64;
        self.run.follow_settings().await;
        let read_at = self.run.migration.target.reading();
        if self.run.pace.is_paused() || !self.run.shares.is_current(self.share.as_ref()) {
            // The next pass reads the relay's share again.
            return Ok((read_at, PendingBatch::nothing()));
        }
        let (share, order) = (self.share.as_ref(), self.run.order);
        let reading = source.read_pending(share, self.binding, order, after.as_ref(), most);
        let batch = read_of_the_shape(source, self.binding, captured, reading).await?;
        self.measure_lag(shared).await?;
        if !batch.rows.is_empty() {
            // After the read, before anything is acknowledged: see `Source::fingerprint`.
            require_shape_now(source, self.binding, captured).await?;
        }
        Ok((read_at, batch))
    }

    async fn measure_lag(self, shared: &Shared) -> Result<()> {
        {
            let mut at = shared.lag_at.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if at.is_some_and(|at| at.elapsed() < LAG_EVERY) {
                return Ok(());
            }
            *at = Some(Instant::now());
        }
        let lag = self.run.migration.source.lag(self.binding.name()).await?;
        self.progress.waits(lag.keys as u64, Duration::try_from_secs_f64(lag.oldest_s).unwrap_or_default());
        Ok(())
    }
}
