//! Connections whose prepared statements are of a table as it was.
//!
//! 1. A session has planned a look-up of rows. 2. The collation of a column becomes another one, and with
//! it the type of what the look-up returns. 3. From then on every execution fails with "cached plan must
//! not change result type", for as long as the session lives. So sessions from before a change that was
//! seen are closed when they would be used next.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Columns of the tables as they were last seen, by the tables' names, and the time when one was another than
/// before.
#[derive(Debug, Default)]
pub(super) struct Plans {
    seen: Mutex<(HashMap<&'static str, String>, Option<Instant>)>,
}

impl Plans {
    /// Notes what a table is like now.
    pub(super) fn see(&self, table: &'static str, columns: String) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let before = seen.0.insert(table, columns.clone());
        if before.is_some_and(|before| before != columns) {
            seen.1 = Some(Instant::now());
        }
    }

    /// Tells whether a session of this age may have plans of before the newest change.
    pub(super) fn are_old(&self, age: Duration) -> bool {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.1.is_some_and(|changed| age >= changed.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sessions_of_before_a_change_are_closed() {
        let plans = Plans::default();
        let age = Duration::from_secs(60);
        plans.see("a", "one".to_owned());
        plans.see("a", "one".to_owned());
        plans.see("b", "other".to_owned());
        assert!(!plans.are_old(age));
        plans.see("a", "two".to_owned());
        assert!(plans.are_old(age) && !plans.are_old(Duration::ZERO));
    }
}
