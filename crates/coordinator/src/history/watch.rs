//! Asking again and again, for what runs long.

use std::time::{Duration, Instant};

use super::{mark, require_kept};
use crate::error::Result;
use crate::options::Migration;

/// How often it is asked. A source that failed over takes longer than this to be back.
const EVERY: Duration = Duration::from_secs(5);

/// Asks at the first turn, and then every so often.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    asked_at: Option<Instant>,
}

impl Watch {
    /// Does nothing until it is time to ask; then asks, and makes marks.
    ///
    /// # Errors
    /// [`Error::HistoryLost`](crate::Error::HistoryLost); the source's.
    pub(crate) async fn turn(&mut self, migration: &Migration) -> Result<()> {
        if self.asked_at.is_some_and(|at| at.elapsed() < EVERY) {
            return Ok(());
        }
        self.asked_at = Some(Instant::now());
        require_kept(migration).await?;
        mark(migration).await
    }
}
