//! Time to ask both stores for their history again, while something runs long.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Time between two questions. A source that failed over takes longer than this to be back.
const EVERY: Duration = Duration::from_secs(5);
/// Time between two descriptions of the target tables. Between, a table that is gone, set back or created
/// again shows by its mark.
const DESCRIBED_EVERY: Duration = Duration::from_secs(60);

/// Question to a target table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    /// The table's id and its mark.
    Everything,
    /// The table's mark, if it has one. Creating a table again loses the mark with it, or brings back an
    /// older one.
    Mark,
}

/// Time for which a repair looks whether marks are made that are not this PostgreSQL's: while versions are
/// handed out, one is made every five seconds.
const FOR_OTHERS: Duration = Duration::from_secs(6);

/// Time at which it was asked, by any task that works on the same migration in this process. Clones share it.
#[derive(Clone, Debug)]
pub struct Watch {
    asked: Arc<Mutex<Asked>>,
    for_others: Duration,
}

impl Default for Watch {
    fn default() -> Self {
        Self { asked: Arc::default(), for_others: FOR_OTHERS }
    }
}

#[derive(Debug, Default)]
struct Asked {
    anything: Option<Instant>,
    everything: Option<Instant>,
}

impl Watch {
    /// The same with another time for which a repair looks for other databases, for tests that play one.
    #[doc(hidden)]
    #[must_use]
    pub fn looking_for_others(self, for_others: Duration) -> Self {
        Self { for_others, ..self }
    }

    /// Time for which a repair looks whether marks are made that are not this PostgreSQL's.
    pub(crate) fn for_others(&self) -> Duration {
        self.for_others
    }

    /// Returns what to ask for by now; `None` until it is time.
    pub(crate) fn due(&self) -> Option<Ask> {
        let asked = self.lock();
        let is_due = |at: Option<Instant>, every| at.is_none_or(|at| at.elapsed() >= every);
        match (is_due(asked.everything, DESCRIBED_EVERY), is_due(asked.anything, EVERY)) {
            (true, _) => Some(Ask::Everything),
            (false, true) => Some(Ask::Mark),
            (false, false) => None,
        }
    }

    /// Notes that it has been asked now.
    pub(crate) fn asked(&self, ask: Ask) {
        let mut asked = self.lock();
        asked.anything = Some(Instant::now());
        if ask == Ask::Everything {
            asked.everything = asked.anything;
        }
    }

    /// Has everything asked for at the next turn: others have to hear of a loss as well.
    pub(crate) fn forget(&self) {
        *self.lock() = Asked::default();
    }

    fn lock(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
