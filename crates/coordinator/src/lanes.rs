//! Number of requests that may be in flight at once: as many as the target answers well (R11).
//!
//! A ceiling of write units alone leaves as many requests waiting at a slow target as were allowed at a fast
//! one: each is answered late, and the reads of applications wait behind them. So the number in flight is
//! halved by the same signs as the rate, and grows again in calm. That is a backfill's: a relay has as many
//! for each table as are configured, and none is halved, since each key waits by itself.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// Shortest time between two halvings, of requests at once and of the rate: requests that were in flight at
/// the first sign show it as well.
pub(crate) const HALVE_PAUSE: Duration = Duration::from_millis(500);
/// Time of calm before more requests at once, and a higher rate, are allowed.
pub(crate) const CALM: Duration = Duration::from_secs(1);

/// Shared by all that send.
#[derive(Debug)]
pub(crate) struct Lanes {
    most: usize,
    state: Mutex<State>,
    freed: Notify,
}

#[derive(Debug)]
struct State {
    allowed: usize,
    in_flight: usize,
    changed_at: Instant,
}

/// One request in flight; dropped, another one may be.
#[derive(Debug)]
pub(crate) struct Lane<'a>(&'a Lanes);

impl Lanes {
    pub(crate) fn new(most: usize) -> Self {
        let most = most.max(1);
        let state = State { allowed: most, in_flight: 0, changed_at: Instant::now() };
        Self { most, state: Mutex::new(state), freed: Notify::new() }
    }

    /// Waits until one more may be sent.
    pub(crate) async fn lane(&self) -> Lane<'_> {
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            // Before it is looked: what is freed between would be missed.
            freed.as_mut().enable();
            {
                let mut state = self.lock();
                if state.in_flight < state.allowed {
                    state.in_flight += 1;
                    return Lane(self);
                }
            }
            freed.await;
        }
    }

    /// Returns how many are allowed, of how many.
    pub(crate) fn allowed(&self) -> (usize, usize) {
        (self.lock().allowed, self.most)
    }

    /// A store shows strain: half as many from now on. The requests in flight are answered.
    pub(crate) fn halve(&self) {
        let now = Instant::now();
        let mut state = self.lock();
        if now - state.changed_at >= HALVE_PAUSE || state.allowed == self.most {
            state.allowed = (state.allowed / 2).max(1);
            state.changed_at = now;
        }
    }

    /// An answer came in time: after a while of that, a quarter more.
    pub(crate) fn calm(&self) {
        let now = Instant::now();
        let mut state = self.lock();
        if state.allowed == self.most || now - state.changed_at < CALM {
            return;
        }
        state.allowed = (state.allowed + (state.allowed / 4).max(1)).min(self.most);
        state.changed_at = now;
        drop(state);
        self.freed.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Lane<'_> {
    fn drop(&mut self) {
        self.0.lock().in_flight -= 1;
        self.0.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn strain_halves_what_is_in_flight_down_to_one_and_calm_brings_it_back() {
        let lanes = Lanes::new(16);
        lanes.halve();
        lanes.halve();
        assert_eq!(lanes.allowed(), (8, 16), "one burst of signs halves once");
        for _ in 0..10 {
            tokio::time::advance(HALVE_PAUSE).await;
            lanes.halve();
        }
        assert_eq!(lanes.allowed(), (1, 16), "one is always allowed");
        for _ in 0..20 {
            tokio::time::advance(CALM).await;
            lanes.calm();
        }
        assert_eq!(lanes.allowed(), (16, 16));
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_are_in_flight_than_are_allowed_and_each_that_ends_lets_one_go() {
        let lanes = Lanes::new(2);
        let (first, second) = (lanes.lane().await, lanes.lane().await);
        let waits = async |lanes: &Lanes| {
            tokio::time::timeout(Duration::from_millis(1), lanes.lane()).await.map(std::mem::forget).is_err()
        };
        assert!(waits(&lanes).await);
        lanes.halve();
        drop(first);
        assert!(waits(&lanes).await, "one is in flight, and one is allowed");
        drop(second);
        assert!(!waits(&lanes).await);
    }

    #[tokio::test(start_paused = true)]
    async fn all_that_wait_get_their_turn() {
        let lanes = std::sync::Arc::new(Lanes::new(3));
        let mut all = tokio::task::JoinSet::new();
        for _ in 0..200 {
            let lanes = lanes.clone();
            all.spawn(async move {
                let _lane = lanes.lane().await;
                tokio::time::sleep(Duration::from_millis(5)).await;
            });
        }
        let ended = tokio::time::timeout(Duration::from_secs(10), all.join_all()).await;
        assert!(ended.is_ok(), "a wake-up was lost");
    }
}
