//! Keys of DynamoOnly that never rest: a row is held against the state that its item had a moment ago.
//!
//! 1. An application writes one item every few milliseconds. 2. The reverse feed brings what it finds in a
//! page, so the row is always some states behind. 3. Whenever row and item are read together they differ, and
//! the comparison ends incomplete although nothing is lost.
//!
//! What proves agreement here. A version of the item was read in this comparison, with all of its attributes.
//! Later the feed says, before and after the row was read, that this version is what it has taken. The feed
//! notes a version in the transaction that changes the row, and versions only grow (I2), so that row is what
//! the feed made of the version that was read. If they say the same, the source has what the target had at a
//! moment of this comparison, as it would if both had been read at that moment.
//!
//! The version alone proves nothing: the feed may have noted it and made another row of it. The same contents
//! alone prove nothing either: the row may have them from an earlier version, and the feed may have lost the
//! ones since.

use std::collections::VecDeque;
use std::time::Duration;

use lockstep_core::{Attributes, Version, attributes_bytes, is_tombstone, version_of};

/// Longest pause between two readings of them: the more versions are read, the sooner the feed stands at one.
pub(crate) const PAUSE_RESTLESS: Duration = Duration::from_millis(100);
/// Most states that are kept of one item. The feed is seldom more than a second behind.
const STATES_MAX: usize = 24;
/// Most bytes of them, roughly: what an item of the largest size takes twice.
const BYTES_MAX: usize = 1 << 20;

/// States of one item, oldest first, as they were read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Earlier {
    states: VecDeque<(Version, Attributes)>,
    bytes: usize,
}

impl Earlier {
    /// Keeps a state, unless there is none or it is known; the oldest ones go where it becomes too many.
    pub(crate) fn keep(&mut self, item: Option<&Attributes>) {
        let Some((item, version)) = item.and_then(|item| Some((item, version_of(item)?))) else { return };
        if is_tombstone(item) || self.states.iter().any(|(known, _)| *known == version) {
            return;
        }
        self.bytes += attributes_bytes(item);
        self.states.push_back((version, item.clone()));
        while self.states.len() > STATES_MAX || (self.bytes > BYTES_MAX && self.states.len() > 1) {
            if let Some((_, gone)) = self.states.pop_front() {
                self.bytes -= attributes_bytes(&gone);
            }
        }
    }

    /// Returns the state of this version, if it was read.
    pub(crate) fn at(&self, version: Version) -> Option<&Attributes> {
        self.states.iter().find(|(known, _)| *known == version).map(|(_, item)| item)
    }
}

/// Returns the version at which a row stood while it was read: that of both answers, where they are the same.
pub(crate) fn stood_at(before: Option<&Version>, after: Option<&Version>) -> Option<Version> {
    before.filter(|before| Some(*before) == after).copied()
}
