//! A worker's lease: registered, renewed, and over, judged by the worker's own clock (R53).
//!
//! PostgreSQL judges it by its clock as well, in each statement that acknowledges. This side is what keeps a
//! worker from sending: 1. A worker is stopped for a minute. 2. Its ranges are another's. 3. It wakes in the
//! middle of a chunk, and looks at its clock before the next request.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use lockstep_core::Advice::BackfillLease;
use lockstep_core::{Error as StoreError, Kind};
use lockstep_postgres::{Pulse, Registering, Source};
use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::error::Result;
use crate::progress::Progress;

/// Renewals of one lease, if each succeeds at once.
const RENEWALS: u32 = 4;

/// The worker that registers.
#[derive(Clone, Debug)]
pub(crate) struct Who {
    /// Name by which people know it.
    pub(crate) name: String,
    /// Whether it has the coordinator's lock.
    pub(crate) coordinator: bool,
    /// Time for which it is believed without a word.
    pub(crate) lease: Duration,
}

/// One registration, as everything that works under it sees it.
#[derive(Debug)]
pub(super) struct WorkerLease {
    pub(super) id: i64,
    until: Mutex<Instant>,
    over: CancellationToken,
    idle: AtomicBool,
    told: Notify,
}

/// The same, kept by a task; dropped, it is renewed no more.
#[derive(Debug)]
pub(super) struct KeptLease {
    pub(super) lease: Arc<WorkerLease>,
    source: Source,
    closing: DropGuard,
}

impl KeptLease {
    /// Registers under an id that none has had.
    ///
    /// # Errors
    /// The source's.
    pub(super) async fn register(source: &Source, who: &Who, progress: &Arc<Progress>) -> Result<Self> {
        let asked = Instant::now();
        let id = rand::random_range(1..=i64::MAX);
        let registering = Registering { id, name: &who.name, coordinator: who.coordinator, lease: who.lease };
        source.register_worker(&registering).await?;
        let lease = Arc::new(WorkerLease {
            id,
            until: Mutex::new(asked + who.lease),
            over: CancellationToken::new(),
            idle: AtomicBool::new(false),
            told: Notify::new(),
        });
        let closing = CancellationToken::new();
        let keeper = Keeper {
            source: source.clone(),
            lease: lease.clone(),
            length: who.lease,
            progress: progress.clone(),
        };
        tokio::spawn(closing.clone().run_until_cancelled_owned(keeper.run()));
        Ok(Self { lease, source: source.clone(), closing: closing.drop_guard() })
    }

    /// Gives back what is held, so that others need not wait for the lease to end. They wait where the source
    /// does not hear of it.
    pub(super) async fn end(self) {
        drop(self.closing);
        if let Err(error) = self.source.end_worker(self.lease.id).await {
            tracing::debug!("a worker's lease is left to end by itself: {error}");
        }
    }
}

impl WorkerLease {
    /// Tells whether nothing may be done under it any more.
    pub(super) fn is_over(&self) -> bool {
        self.over.is_cancelled() || self.left().is_zero()
    }

    /// Fails once it is over; asked just before anything is sent.
    ///
    /// # Errors
    /// [`Kind::Fenced`].
    pub(super) fn require(&self) -> Result<()> {
        if self.is_over() { Err(Self::ended()) } else { Ok(()) }
    }

    /// Makes the error for work under a lease that is over.
    pub(super) fn ended() -> crate::error::CoordinatorError {
        let message = format!(
            "it is over: this process was stopped, or did not reach the source, for \
            longer than {BackfillLease}; its ranges are free, and it takes new ones"
        );
        StoreError::source(Kind::Fenced, "holding a worker's lease", message).into()
    }

    /// Waits until it is over.
    pub(super) async fn over(&self) {
        self.over.cancelled().await;
    }

    /// Notes whether there is a range for it; others that hold long ones split them for a worker without.
    pub(super) fn set_idle(&self, idle: bool) {
        if self.idle.swap(idle, Relaxed) != idle {
            self.told.notify_one();
        }
    }

    fn left(&self) -> Duration {
        self.until.lock().unwrap_or_else(PoisonError::into_inner).saturating_duration_since(Instant::now())
    }
}

struct Keeper {
    source: Source,
    lease: Arc<WorkerLease>,
    length: Duration,
    progress: Arc<Progress>,
}

impl Keeper {
    async fn run(self) {
        let (mut rows_before, mut before) = (self.progress.rows_settled(), Instant::now());
        loop {
            let left = self.lease.left();
            tokio::select! {
                () = tokio::time::sleep((self.length / RENEWALS).min(left)) => {}
                () = self.lease.told.notified() => {}
            }
            let left = self.lease.left();
            if left.is_zero() {
                return self.lease.over.cancel();
            }
            let (asked, rows) = (Instant::now(), self.progress.rows_settled());
            let seconds = (asked - before).as_secs_f64().max(0.001);
            let pulse = Pulse {
                idle: self.lease.idle.load(Relaxed),
                rows: i64::try_from(rows).unwrap_or(i64::MAX),
                rows_per_s: rows.saturating_sub(rows_before) as f64 / seconds,
                slowed_by: self.progress.held_back_by(),
            };
            let renewal = self.source.renew_worker(self.lease.id, self.length, pulse);
            match tokio::time::timeout(left, renewal).await {
                Ok(Ok(true)) => {
                    (rows_before, before) = (rows, asked);
                    *self.lease.until.lock().unwrap_or_else(PoisonError::into_inner) = asked + self.length;
                }
                Ok(Ok(false)) => return self.lease.over.cancel(),
                // There may be time for another try; the loop looks.
                Ok(Err(error)) => tracing::debug!("a worker's lease was not renewed: {error}"),
                Err(_) => {}
            }
        }
    }
}
