//! Which phase an instance believes in, and for how long it may.
//!
//! Writes ask inside their transaction, behind the barrier, and need no clock. Reads go by what was asked last, for at
//! most one lease; a phase step waits longer than that before the next one may begin, so that a reader is never two
//! phases behind (I6).

use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::error::Result;
use crate::source::{Control, Source};

/// How long an instance may go on with the phase it knows before it asks again.
pub const PHASE_LEASE: Duration = Duration::from_millis(500);

/// An instance's view of the phase.
#[derive(Debug)]
pub struct PhaseView {
    source: Source,
    known: Mutex<Option<(Control, Instant)>>,
}

impl PhaseView {
    /// A view that knows nothing yet.
    pub fn new(source: Source) -> Self {
        Self { source, known: Mutex::new(None) }
    }

    /// The phase, asked for again when the lease is over.
    ///
    /// # Errors
    /// When the lease is over and the source does not answer: then the phase is not known, and nothing may be served by it.
    pub async fn current(&self) -> Result<Control> {
        let known = *self.known.lock().expect("no panic while holding it");
        if let Some((control, asked_at)) = known
            && asked_at.elapsed() < PHASE_LEASE
        {
            return Ok(control);
        }
        // The lease begins when the question was sent: the answer may have been on its way for a while.
        let asked_at = Instant::now();
        let control = self.source.control().await?;
        self.learn(control, asked_at);
        Ok(control)
    }

    /// Takes over what a write transaction has seen.
    pub(super) fn learn(&self, control: Control, asked_at: Instant) {
        let mut known = self.known.lock().expect("no panic while holding it");
        if known.is_none_or(|(_, at)| asked_at > at) {
            *known = Some((control, asked_at));
        }
    }
}
