//! The span of days that a migration moves.

use chrono::{DateTime, Utc};

/// A span of days of the table's day column: from `start` (included) to `end` (excluded).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// First instant inside.
    pub start: Option<DateTime<Utc>>,
    /// First instant after.
    pub end: Option<DateTime<Utc>>,
}

impl Window {
    /// Tells whether nothing is left out.
    pub fn is_whole(&self) -> bool {
        self.start.is_none() && self.end.is_none()
    }
}
