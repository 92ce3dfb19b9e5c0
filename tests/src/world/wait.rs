//! Bounded waiting: for a state, never for a time.

use std::panic::Location;
use std::time::Duration;

use tokio::time::Instant;

/// Longest wait for anything; a machine under load needs a fraction of it.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(5);
/// The longest pause between two looks: those that wait for seconds leave the processors to what they wait
/// for.
const LOOK_MAX: Duration = Duration::from_millis(40);

/// Awaits `future` for at most `limit`.
///
/// # Panics
/// When it takes longer, at the caller's place.
#[track_caller]
pub fn within<T>(limit: Duration, future: impl Future<Output = T>) -> impl Future<Output = T> {
    let caller = Location::caller();
    async move {
        tokio::time::timeout(limit, future)
            .await
            .unwrap_or_else(|_| panic!("took more than {limit:?} at {caller}"))
    }
}

/// Looks again and again until `holds` says yes.
///
/// # Panics
/// When it does not within `PATIENCE`, at the caller's place.
#[track_caller]
pub fn eventually<F: Future<Output = bool>>(
    what: &str,
    mut holds: impl FnMut() -> F,
) -> impl Future<Output = ()> {
    let caller = Location::caller();
    async move {
        let (deadline, mut look) = (Instant::now() + PATIENCE, LOOK);
        while !holds().await {
            assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what} (at {caller})");
            tokio::time::sleep(look).await;
            look = (look * 2).min(LOOK_MAX);
        }
    }
}
