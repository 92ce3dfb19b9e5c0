//! Asking again and again, for what runs long.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{Ask, mark, require};
use crate::error::Result;
use crate::options::Migration;

/// How often it is asked. A source that failed over takes longer than this to be back.
const EVERY: Duration = Duration::from_secs(5);
/// How often the target tables are described as well. Between, what is gone, set back or made anew shows by its mark.
const DESCRIBED_EVERY: Duration = Duration::from_secs(60);

/// When it was asked, by whoever works on the same migration in this process. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Watch(Arc<Mutex<Asked>>);

#[derive(Debug, Default)]
struct Asked {
    anything: Option<Instant>,
    everything: Option<Instant>,
}

impl Watch {
    /// Does nothing until it is time to ask; then asks, and makes marks.
    ///
    /// # Errors
    /// [`Error::HistoryLost`](crate::Error::HistoryLost); the source's.
    pub(crate) async fn turn(&self, migration: &Migration) -> Result<()> {
        let Some(ask) = self.due() else { return Ok(()) };
        // Before the answer: others need not ask the same meanwhile.
        self.asked(ask);
        if let Err(error) = require(ask, migration).await {
            // They have to hear of it as well.
            *self.lock() = Asked::default();
            return Err(error);
        }
        mark(migration).await
    }

    fn due(&self) -> Option<Ask> {
        let asked = self.lock();
        let is_due = |at: Option<Instant>, every| at.is_none_or(|at| at.elapsed() >= every);
        match (is_due(asked.everything, DESCRIBED_EVERY), is_due(asked.anything, EVERY)) {
            (true, _) => Some(Ask::Everything),
            (false, true) => Some(Ask::Mark),
            (false, false) => None,
        }
    }

    /// Notes that it has been asked now.
    pub(super) fn asked(&self, ask: Ask) {
        let mut asked = self.lock();
        asked.anything = Some(Instant::now());
        if ask == Ask::Everything {
            asked.everything = asked.anything;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Asked> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
