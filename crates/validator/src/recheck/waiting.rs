//! A suspect that is being decided, between two looks at it.

use std::time::{Duration, Instant};

use lockstep_core::{Phase, Version};

use super::earlier::Earlier;
use super::ruling::Seen;
use crate::suspect::Suspect;
use crate::table_run::TableRun;

/// Most suspects of a batch that are looked at this way. Rows that lag for another reason come to rest and
/// are fewer with each reading; keys that never rest are few.
const RESTLESS_MAX: usize = 16;

/// A suspect that is being decided.
pub(super) struct Waiting {
    pub(super) suspect: Suspect,
    /// The version of the item on which it disagreed while nothing was pending, and since when it does.
    pub(super) disagreeing: Option<(Option<Version>, Instant)>,
    /// State of its item before; of keys that never rest only.
    pub(super) earlier: Earlier,
}

impl Waiting {
    pub(super) fn new(suspect: Suspect) -> Self {
        Self { suspect, disagreeing: None, earlier: Earlier::default() }
    }

    /// For how long the same version has disagreed.
    pub(super) fn disagreeing_for(&mut self, seen: &Seen) -> Duration {
        if seen.moved || seen.pending {
            self.disagreeing = None;
            return Duration::ZERO;
        }
        let since = match self.disagreeing {
            Some((version, since)) if version == seen.version => since,
            _ => Instant::now(),
        };
        self.disagreeing = Some((seen.version, since));
        since.elapsed()
    }
}

/// Tells whether these may be keys that are written faster than the reverse feed follows.
pub(super) fn are_restless(run: &TableRun, waiting: &[Waiting]) -> bool {
    run.phase == Phase::DynamoOnly && waiting.len() <= RESTLESS_MAX
}
