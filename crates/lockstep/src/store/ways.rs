//! The beginning and the end of a write: every way but the one round trip (`at_once`) is entered here, by the
//! answer of `route`.

use std::time::{Duration, Instant};

use lockstep_core::{Control, Error, Kind, Result, Side};
use lockstep_dynamo::Backoff;

use super::acknowledge::Beside;
use super::counters::label_of;
use super::outcome::Written;
use super::route::{Calling, Ending, Route};
use super::target_truth::TargetWrite;
use super::transaction::WriteTransaction;
use super::writer::{Writer, is_of_a_store};

/// A write that has begun, in the store that decides.
#[expect(clippy::large_enum_variant, reason = "one at a time, on its way from one function to the next")]
pub(crate) enum Begun {
    /// A write in the source, behind the barrier.
    Source(WriteTransaction),
    /// A write in the target, under the lease.
    Target(TargetWrite),
}

impl Begun {
    /// The transaction of a call that `route` refuses where the target decides.
    ///
    /// # Errors
    /// [`Kind::Refused`] where the target decides.
    pub(crate) fn in_source(self) -> Result<WriteTransaction> {
        match self {
            Self::Source(write) => Ok(write),
            Self::Target(_) => Err(refused()),
        }
    }
}

impl Writer {
    /// Begins a write where the truth is: by what this process knows, and where that says the source, by what
    /// the source says behind the barrier. While the truth is on its way, it waits.
    ///
    /// # Errors
    /// [`Kind::Refused`] where the phase has no way for the call; [`Kind::Busy`] when writes were paused for
    /// longer than the options say; [`Kind::Unavailable`] when PostgreSQL was, for as long; [`Kind::Fenced`]
    /// when the lease is over; the stores'.
    ///
    /// # Cancel safety
    /// Nothing has been written.
    #[crate::boxed]
    pub(crate) async fn begin(&self, calling: Calling) -> Result<Begun> {
        let deadline = Instant::now() + Duration::from_millis(self.options().pause_wait_ms_max);
        let mut away = Backoff::new(Duration::from_millis(10), Duration::from_millis(400), u32::MAX);
        loop {
            match self.phase().permit(deadline, |control| self.route(control, calling)).await? {
                Some((permit, Route::Target(sends))) => {
                    return Ok(Begun::Target(TargetWrite::new(permit, sends)));
                }
                Some(_) => return Err(refused()),
                None => {}
            }
            let asked_at = Instant::now();
            match self.begin_in_source(calling).await {
                Ok(write) if self.is_in_source(write.control, calling) => return Ok(Begun::Source(write)),
                // It has moved, and the keeper of our lease is told to look where.
                Ok(write) => self.phase().learn(write.control, asked_at),
                // Nothing was written. The truth may be in the target by now, or PostgreSQL may answer a
                // moment later; but a lease outlives a source that has no connection left, and a caller
                // waits.
                Err(error) if error.side == Side::Source && error.kind == Kind::Unavailable => {
                    match self.phase().current().await {
                        Ok(control) if !self.is_in_source(control, calling) => {}
                        Ok(_) if Instant::now() < deadline => away.pause(error).await?,
                        _ => return Err(self.failed(error)),
                    }
                }
                Err(error) => return Err(self.failed(error)),
            }
        }
    }

    /// Counts a write that did not begin, once for its caller, however often it was tried.
    fn failed(&self, error: Error) -> Error {
        if is_of_a_store(error.kind) {
            self.central().count("", "write.failed");
        }
        error
    }

    fn is_in_source(&self, control: Control, calling: Calling) -> bool {
        self.route(control, calling).ending().is_some()
    }

    /// Commits, and brings the changes to the target as `route` says. `beside` is where the log of an
    /// operation leaves what it delivers.
    ///
    /// # Errors
    /// Nothing was committed, or, with [`Kind::Unknown`], it is unknown whether it was (I8).
    ///
    /// # Cancel safety
    /// Dropped before the commit was sent, nothing is committed; what may be in the target by then has an
    /// intent. Dropped later, the keys are pending.
    #[crate::boxed]
    pub(crate) async fn finish(&self, write: WriteTransaction, beside: Option<&Beside>) -> Result<Written> {
        let table = label_of(&write.changes);
        let ended = match self.route(write.control, write.calling).ending() {
            Some(Ending::PutFirst) => self.strict(write).await,
            Some(Ending::ThenPut) => self.best_effort(write, true, beside).await,
            // Behind the barrier the source decides, so each call has an ending.
            Some(Ending::Alone) | None => self.best_effort(write, false, beside).await,
        };
        self.counted(table, ended)
    }
}

fn refused() -> Error {
    let message = "DynamoDB is the truth, and a transaction of PostgreSQL cannot write there; use \
                   `Operation::run`, which works in every phase, and write to tables that stay in a \
                   transaction apart";
    Error::target(Kind::Refused, "beginning a transaction", message)
}
