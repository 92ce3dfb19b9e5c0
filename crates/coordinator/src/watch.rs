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

/// Time at which it was asked, by any task that works on the same migration in this process. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Watch(Arc<Mutex<Asked>>);

#[derive(Debug, Default)]
struct Asked {
    anything: Option<Instant>,
    everything: Option<Instant>,
}

impl Watch {
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
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
