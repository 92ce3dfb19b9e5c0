//! Refusals that one read does not explain, kept until the next one.
//!
//! Two keys that one row may have can share a place in the target. 1. A row moves from key A to B of the same
//! place. 2. A relay reads that no row is under A; its tombstone is on its way. 3. The row is made again under
//! B, delivered and acknowledged. 4. The tombstone is refused by that, A's mark stands, and nothing is pending
//! that says why. The next read sees what has become of it. Refused once more by the very same, it is not that.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use lockstep_core::Version;
use lockstep_postgres::RefusedPut;

/// Most keys to remember. One that is forgotten is judged a read later.
const KEYS_MAX: usize = 1_000;

/// What one relay was refused without knowing why: the version of the mark, and the one that was there.
#[derive(Debug, Default)]
pub(super) struct Doubts(Mutex<BTreeMap<(&'static str, String), (Version, Version)>>);

impl Doubts {
    /// Whether this is the second refusal in a row of the same mark by the same state.
    pub(super) fn is_confirmed(&self, table: &'static str, put: &RefusedPut) -> bool {
        let mut doubts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if doubts.len() >= KEYS_MAX {
            doubts.clear();
        }
        let now = (put.version, put.seen);
        doubts.insert((table, put.key.to_json()), now) == Some(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_core::SourceKey;

    fn put(version: i64, seen: i64) -> RefusedPut {
        let key = SourceKey::parse("[1]").expect("a key");
        RefusedPut { key, version: Version(version), seen: Version(seen), is_same: false }
    }

    #[test]
    fn only_the_same_mark_refused_twice_by_the_same_state_is_confirmed() {
        let doubts = Doubts::default();
        assert!(!doubts.is_confirmed("a", &put(10, 11)));
        assert!(!doubts.is_confirmed("b", &put(10, 11)), "another table");
        assert!(!doubts.is_confirmed("a", &put(10, 12)), "something newer");
        assert!(!doubts.is_confirmed("a", &put(11, 12)), "marked again");
        assert!(doubts.is_confirmed("a", &put(11, 12)));
    }
}
