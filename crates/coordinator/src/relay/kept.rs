//! State that a relay keeps of each table from one pass to the next, and whether one waits for its turn.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use lockstep_dynamo::Inserts;
use lockstep_postgres::KeyDigest;

use crate::lanes::Lanes;

/// Time after which a pass gives way where another table waits for its turn.
const SLICE: Duration = Duration::from_secs(5);

/// State that a relay keeps of a table from one pass to the next.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) inserts: Inserts,
    /// Requests in flight: those of a table that throttles wait, and take none of another table's.
    pub(super) lanes: Lanes,
    /// Key after which the next pass begins, where the last one gave way.
    place: Mutex<Option<KeyDigest>>,
    /// Time since which the target has answered nothing.
    failing: Mutex<Option<Instant>>,
}

impl Kept {
    pub(super) fn new(requests_in_flight: usize) -> Self {
        let lanes = Lanes::new(requests_in_flight);
        Self { inserts: Inserts::default(), lanes, place: Mutex::default(), failing: Mutex::default() }
    }

    pub(super) fn take_place(&self) -> Option<KeyDigest> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(super) fn begin_next_after(&self, place: KeyDigest) {
        *self.place.lock().unwrap_or_else(PoisonError::into_inner) = Some(place);
    }

    pub(super) fn answered(&self) {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    pub(super) fn failed(&self) {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(Instant::now);
    }

    pub(super) fn failing_for(&self) -> Duration {
        let since = *self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        since.map_or(Duration::ZERO, |since| since.elapsed())
    }
}

/// Whether a table waits until another one's pass is over.
#[derive(Debug, Default)]
pub(super) struct Queue(AtomicBool);

impl Queue {
    /// Tells whether a pass that began then is to give way.
    pub(super) fn is_owed(&self, began: Instant) -> bool {
        self.0.load(Relaxed) && began.elapsed() >= SLICE
    }

    /// Notes whether a table waits.
    pub(super) fn owe(&self, waits: bool) {
        self.0.store(waits, Relaxed);
    }
}
