//! Which phase an operation goes by, and for how long it may.
//!
//! Writes ask inside their transaction, behind the barrier, and need no clock. Reads go by what is known, for at most one
//! lease. A step waits until every registered instance has acknowledged it or its lease is over, and two leases of those who
//! are not registered, so that a reader is never two phases behind (I6).

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::error::{Error, Kind, Result};
use crate::instance::{Known, Moment};
use crate::source::{Control, Source};

/// How long a store without an [`Instance`](crate::instance::Instance) may go on with the phase it knows before it asks again.
pub const PHASE_LEASE: Duration = Duration::from_millis(500);

/// How often an operation is begun again because the phase changed under it. A step takes longer than a read, so twice in a
/// row is rare, and thrice means that this process is hardly running.
pub(super) const PHASES_MAX: u32 = 3;

/// The phase as this process knows it; cheap to clone, and clones know the same.
#[derive(Clone, Debug)]
pub struct PhaseView {
    known: Arc<Known>,
    renewal: Renewal,
}

/// What renews the lease.
#[derive(Clone, Debug)]
enum Renewal {
    /// Whoever finds it over asks the source.
    Asking(Source),
    /// An instance does; it may be woken.
    Kept(Arc<Notify>),
}

impl PhaseView {
    /// A view of its own, without an instance: asks `source` when [`PHASE_LEASE`] is over.
    pub fn new(source: Source) -> Self {
        Self { known: Arc::default(), renewal: Renewal::Asking(source) }
    }

    /// The view of an instance.
    pub(crate) fn kept(known: Arc<Known>, wake: Arc<Notify>) -> Self {
        Self { known, renewal: Renewal::Kept(wake) }
    }

    /// The phase. An instance's is in memory; without an instance it is asked for again when the lease is over.
    ///
    /// # Errors
    /// [`Kind::Fenced`] when the instance's lease is over; the source's, without an instance. Then the phase is not known, and
    /// nothing may be served by it.
    ///
    /// # Cancel safety
    /// Asking has no effect.
    pub async fn current(&self) -> Result<Control> {
        // The lease begins when the question is sent: the answer may be on its way for a while.
        let now = Moment::now();
        if let Some(control) = self.known.at(now) {
            return Ok(control);
        }
        match &self.renewal {
            Renewal::Asking(source) => {
                let control = source.control().await?;
                self.known.learn(control, now, Some(PHASE_LEASE));
                Ok(control)
            }
            Renewal::Kept(_) => Err(fenced("the lease of this instance is over, or it was shut down")),
        }
    }

    /// Whether `control` is still what may be gone by, now. To be asked when an answer has come, before it is given away. 1. A
    /// reader sees HybridRead and sends its question. 2. Its process is stopped; steps go back to PostgresOnly. 3. It wakes
    /// with an answer of a target that nobody writes any more.
    pub fn holds(&self, control: &Control) -> bool {
        self.known.at(Moment::now()).is_some_and(|now| now.epoch == control.epoch)
    }

    /// Runs `work` under the phase, and gives its result if it could still be gone by that phase when it came; else runs it
    /// again under the next one. `work` must have no effects.
    ///
    /// # Errors
    /// Those of `work`, and of [`PhaseView::current`].
    ///
    /// # Cancel safety
    /// That of `work`.
    pub async fn serve<T, F>(&self, work: impl Fn(Control) -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        for _ in 0..PHASES_MAX {
            let control = self.current().await?;
            let result = work(control).await;
            if self.holds(&control) {
                return result;
            }
            // Without an instance a lease that ran out meanwhile is no change of phase; ask, and let the answer go if so.
            if let Renewal::Asking(_) = self.renewal
                && self.current().await?.epoch == control.epoch
            {
                return result;
            }
        }
        Err(phase_kept_changing())
    }

    /// Takes over what a write transaction has seen. It renews the lease of a store without an instance, and of nobody else. 1.
    /// An instance was given up by a step. 2. A write of it succeeds, and it goes by what that saw. 3. It is not registered
    /// again yet, so the next step does not wait for it.
    pub(super) fn learn(&self, control: Control, asked_at: Instant) {
        match &self.renewal {
            Renewal::Asking(_) => {
                self.known.learn(control, Moment::of(asked_at), Some(PHASE_LEASE));
            }
            Renewal::Kept(wake) => {
                if self.known.learn(control, Moment::of(asked_at), None) {
                    wake.notify_one();
                }
            }
        }
    }
}

pub(super) fn phase_kept_changing() -> Error {
    fenced("the phase changed again and again while this was read; this process is hardly running")
}

fn fenced(why: &str) -> Error {
    let message = format!("{why}; the phase may have changed, so nothing is served by it until PostgreSQL answers again");
    Error::source(Kind::Fenced, "serving by the phase", message)
}
