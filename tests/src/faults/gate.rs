//! Gate at which a request waits until the test lets it go on.

use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};

/// Longest wait of a test for a request. A rule that matches nothing would hang the whole run otherwise; a
/// machine under load needs a fraction of it.
const PATIENCE: Duration = Duration::from_secs(120);

/// A gate, shared by the test that opens it and the requests that wait at it.
///
/// All counts only grow: "has the third request arrived" stays true once it was, so a test cannot miss it.
#[derive(Clone, Debug)]
pub struct Gate(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    permits: Semaphore,
    held: watch::Sender<u64>,
    done: watch::Sender<u64>,
}

impl Gate {
    /// A closed gate.
    pub fn new() -> Self {
        Gate(Arc::new(Inner {
            permits: Semaphore::new(0),
            held: watch::Sender::new(0),
            done: watch::Sender::new(0),
        }))
    }

    /// Lets `count` requests through: those waiting in the order they came, then the next to come.
    pub fn release(&self, count: usize) {
        self.0.permits.add_permits(count);
    }

    /// Lets everything through, now and later. An open gate cannot be closed again.
    pub fn open(&self) {
        self.0.permits.close();
    }

    /// Waits until `count` requests in all have come to the gate.
    ///
    /// # Panics
    /// When they have not after two minutes, at the caller's place: the rule of this gate matches nothing.
    #[track_caller]
    pub fn until_held(&self, count: u64) -> impl Future<Output = ()> {
        within(PATIENCE, "come to the gate", &self.0.held, count, Location::caller())
    }

    /// Waits until `count` requests in all went through the gate and came back from the emulator: they are
    /// applied, unless the emulator refused them or was gone.
    ///
    /// # Panics
    /// When they have not after two minutes, at the caller's place: the gate was not opened for them.
    #[track_caller]
    pub fn until_done(&self, count: u64) -> impl Future<Output = ()> {
        within(PATIENCE, "come back through the gate", &self.0.done, count, Location::caller())
    }

    /// Waits until `count` requests in all have come to the gate, without a bound: for who lets requests of a
    /// random schedule through, of which there may be none.
    pub async fn when_held(&self, count: u64) {
        reached(&self.0.held, count).await;
    }

    /// Waits for leave to go on.
    pub(super) async fn pass(&self) {
        self.0.held.send_modify(|held| *held += 1);
        // An error means that the gate is open for good.
        if let Ok(permit) = self.0.permits.acquire().await {
            permit.forget();
        }
    }

    /// Says that a request which passed has come back from the emulator.
    pub(super) fn done(&self) {
        self.0.done.send_modify(|done| *done += 1);
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

async fn reached(counter: &watch::Sender<u64>, count: u64) {
    // The sender lives in the gate we borrow from, so it cannot be gone.
    let _ = counter.subscribe().wait_for(|now| *now >= count).await;
}

async fn within(
    limit: Duration,
    what: &str,
    counter: &watch::Sender<u64>,
    count: u64,
    caller: &Location<'_>,
) {
    if tokio::time::timeout(limit, reached(counter, count)).await.is_err() {
        let came = *counter.borrow();
        panic!(
            "{came} of {count} requests had {what} after {limit:?}: look at the rule of this gate \
             (waited for at {caller})"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    #[should_panic(expected = "0 of 1 requests had come to the gate after 5ms")]
    async fn a_wait_for_a_request_that_never_comes_ends_with_what_is_missing() {
        let limit = Duration::from_millis(5);
        within(limit, "come to the gate", &Gate::new().0.held, 1, Location::caller()).await;
    }

    #[tokio::test]
    async fn release_lets_exactly_the_number_that_was_asked_for_through() {
        let gate = Gate::new();
        let waiting: Vec<_> = (0..3)
            .map(|_| {
                let gate = gate.clone();
                tokio::spawn(async move {
                    gate.pass().await;
                    gate.done();
                })
            })
            .collect();
        gate.until_held(3).await;
        assert_eq!(*gate.0.done.borrow(), 0);
        gate.release(2);
        gate.until_done(2).await;
        assert_eq!(gate.0.permits.available_permits(), 0);
        gate.open();
        for task in waiting {
            task.await.expect("no panic");
        }
        gate.pass().await;
    }
}
