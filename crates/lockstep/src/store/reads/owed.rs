//! Debts of a write that is being committed: what it owes the target.

use std::sync::Arc;

use lockstep_core::SourceKey;

use super::standing::Watch;

/// The debt of a write to the target from its commit on. Dropped unpaid, its keys are deferred: also when the
/// write was cancelled, or its commit was not answered and so may have happened (I8).
#[must_use = "dropped, it says that the write did not reach the target"]
pub(in crate::store) struct Owed {
    keys: Vec<Option<(Arc<Watch>, SourceKey)>>,
}

impl Owed {
    pub(super) fn new(keys: Vec<Option<(Arc<Watch>, SourceKey)>>) -> Self {
        Self { keys }
    }

    /// The target has each of them, or a newer state, or need not have it, but for those at the places that
    /// are `deferred`.
    pub(in crate::store) fn paid_but(mut self, deferred: impl Fn(usize) -> bool) {
        for (place, key) in self.keys.iter_mut().enumerate() {
            if !deferred(place)
                && let Some((watch, _)) = key.take()
            {
                watch.wrote();
            }
        }
    }
}

/// A write whose end is not known, and neither are its keys. Dropped unheard, it sends each read of its table
/// to the source until all marks are younger.
///
/// 1. The one statement of a write commits, and its answer is lost, or the caller no longer waits. 2. The
/// caller looks the row up, as it should. 3. Answered from the target, which has no relay's put yet, it takes
/// the write for undone, and makes it again.
#[must_use = "dropped, it says that the end of the write is not known"]
pub(in crate::store) struct Unheard {
    watch: Option<Arc<Watch>>,
}

impl Unheard {
    pub(super) fn new(watch: Option<Arc<Watch>>) -> Self {
        Self { watch }
    }

    /// The end of the write is known.
    pub(in crate::store) fn heard(mut self) {
        self.watch = None;
    }
}

impl Drop for Unheard {
    fn drop(&mut self) {
        if let Some(watch) = &self.watch {
            watch.deferred.leave_out();
        }
    }
}

impl Drop for Owed {
    fn drop(&mut self) {
        for (watch, key) in self.keys.drain(..).flatten() {
            watch.deferred.add(vec![key]);
            watch.wrote();
        }
    }
}
