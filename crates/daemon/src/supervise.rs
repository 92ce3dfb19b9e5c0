//! Keeping a part running: while it is needed it runs, and when it ends it begins again by itself.

use std::collections::HashSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use rand::RngExt;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::part::PartState;
use crate::shared::Shared;

const PAUSE_FIRST: Duration = Duration::from_millis(250);
/// So that, after any outage, everything runs again within ten seconds of the stores: this, the pause of the
/// part itself and a look of the daemon may come one after the other.
const PAUSE_LONGEST: Duration = Duration::from_secs(2);
/// After so long without an end a part is taken to be well, and its next end for the first one.
const WELL_AFTER: Duration = Duration::from_secs(60);

/// Longest wait for a part that is told to stop. 1. A server fails over, and its packets are dropped without
/// a word. 2. The part waits for an answer to a statement that will never come. 3. Another daemon leads, or
/// this one leads again, and the part that is shown as running does nothing.
const STOP_WITHIN: Duration = Duration::from_secs(15);

/// Whether a part is to run now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// The part is to run.
    Run,
    /// The part is not to run: what it does instead, and why.
    Not(PartState, Option<String>),
}

/// Keeps `run` going while `need` says so, until the daemon ends. A part is told to stop by its token, waited
/// for, and dropped where it does not end: each may be dropped at any moment. It is a task of its own, so
/// that one that panics ends nothing else.
pub(crate) async fn keep<F, R, E>(shared: Arc<Shared>, name: &'static str, need: F, run: R)
where
    F: Fn(&Shared) -> Need,
    R: Fn(Arc<Shared>, CancellationToken) -> E,
    E: Future<Output = Result<(), String>> + Send + 'static,
{
    let (mut pause, mut told) = (PAUSE_FIRST, HashSet::new());
    loop {
        let Some(()) = needed(&shared, name, &need).await else { return };
        shared.note(name, PartState::Running, None);
        let (stop, began) = (shared.stop.child_token(), Instant::now());
        // Dropped, it ends what it has.
        let mut running = JoinSet::new();
        running.spawn(run(shared.clone(), stop.clone()));
        let ended = tokio::select! {
            ended = ended(&mut running) => ended,
            () = until_not_needed(&shared, &need) => {
                stop.cancel();
                if stopped(&mut running, STOP_WITHIN).await.is_none() {
                    tracing::warn!("{name} did not end within {STOP_WITHIN:?}, and was dropped");
                }
                Ok(())
            }
        };
        if shared.stop.is_cancelled() {
            return;
        }
        if stop.is_cancelled() {
            continue;
        }
        if began.elapsed() >= WELL_AFTER {
            pause = PAUSE_FIRST;
            told.clear();
        }
        let why = ended.err().unwrap_or_else(|| "it ended by itself".to_owned());
        if told.insert(why.clone()) {
            tracing::warn!("{name} ended and begins again by itself: {why}");
        }
        shared.note(name, PartState::Restarting, Some(why));
        let pausing = tokio::time::sleep(pause.mul_f64(rand::rng().random_range(0.5..=1.0)));
        pause = (pause * 2).min(PAUSE_LONGEST);
        if shared.stop.run_until_cancelled(pausing).await.is_none() {
            return;
        }
    }
}

/// Begins a task of the daemon, which returns its name when it ends: none does before the daemon is told to.
pub(crate) fn begin(
    tasks: &mut JoinSet<&'static str>,
    name: &'static str,
    task: impl Future<Output = ()> + Send + 'static,
) {
    tasks.spawn(async move {
        task.await;
        name
    });
}

/// Waits until the first of the tasks ends, and says which.
pub(crate) async fn first_end(tasks: &mut JoinSet<&'static str>) -> String {
    match tasks.join_next().await {
        Some(Ok(name)) => format!("{name} has ended, which it never does while the daemon runs"),
        Some(Err(_)) => format!("a task panicked: {}", lockstep_core::PANICKED),
        None => "nothing runs".to_owned(),
    }
}

/// Awaits `work`, of which a panic is told and ends nothing else.
pub(crate) async fn caught<T>(work: impl Future<Output = T>) -> Result<T, String> {
    AssertUnwindSafe(work)
        .catch_unwind()
        .await
        .map_err(|_| format!("it panicked: {}", lockstep_core::PANICKED))
}

/// Waits until the part has ended.
async fn ended(running: &mut JoinSet<Result<(), String>>) -> Result<(), String> {
    match running.join_next().await {
        Some(Ok(ended)) => ended,
        Some(Err(error)) if error.is_panic() => Err(format!("a task panicked: {}", lockstep_core::PANICKED)),
        _ => Ok(()),
    }
}

/// Waits until a part that was told to stop has ended, and drops it where it does not in time: `None` then.
async fn stopped(running: &mut JoinSet<Result<(), String>>, at_most: Duration) -> Option<()> {
    let in_time = tokio::time::timeout(at_most, ended(running)).await.ok().map(drop);
    running.abort_all();
    in_time
}

/// Waits until the part is needed; `None` when the daemon ends before that.
async fn needed(shared: &Shared, name: &'static str, need: &impl Fn(&Shared) -> Need) -> Option<()> {
    let (mut role, mut snapshot, mut pauses) =
        (shared.role.subscribe(), shared.snapshot.subscribe(), shared.pauses.subscribe());
    let mut settings = shared.settings.subscribe();
    loop {
        match need(shared) {
            Need::Run => return Some(()),
            Need::Not(state, why) => shared.note(name, state, why),
        }
        tokio::select! {
            () = shared.stop.cancelled() => return None,
            // The senders live in `shared`.
            _ = role.changed() => {}
            _ = snapshot.changed() => {}
            _ = pauses.changed() => {}
            _ = settings.changed() => {}
        }
    }
}

async fn until_not_needed(shared: &Shared, need: &impl Fn(&Shared) -> Need) {
    let (mut role, mut snapshot, mut pauses) =
        (shared.role.subscribe(), shared.snapshot.subscribe(), shared.pauses.subscribe());
    let mut settings = shared.settings.subscribe();
    while need(shared) == Need::Run {
        tokio::select! {
            _ = role.changed() => {}
            _ = snapshot.changed() => {}
            _ = pauses.changed() => {}
            _ = settings.changed() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    /// 1. A part waits for an answer that never comes. 2. It is told to stop.
    #[tokio::test(start_paused = true)]
    async fn a_part_that_does_not_end_is_dropped_and_one_that_panics_says_so() {
        let mut running = JoinSet::new();
        let (held, dropped) = oneshot::channel::<()>();
        running.spawn(async move {
            let _held = held;
            std::future::pending().await
        });
        assert_eq!(stopped(&mut running, STOP_WITHIN).await, None);
        assert!(dropped.await.is_err(), "what it held is given back");

        let mut running = JoinSet::new();
        running.spawn(async { Err("a reason".to_owned()) });
        assert_eq!(stopped(&mut running, STOP_WITHIN).await, Some(()), "it ended by itself");

        let mut tasks = JoinSet::new();
        begin(&mut tasks, "goes on", std::future::pending());
        begin(&mut tasks, "reading", async {});
        assert!(first_end(&mut tasks).await.starts_with("reading has ended"));
        begin(&mut tasks, "reading", async { panic!("a bug") });
        assert!(first_end(&mut tasks).await.contains("panicked"));

        let mut running = JoinSet::new();
        running.spawn(async { panic!("a bug") });
        assert!(ended(&mut running).await.is_err_and(|why| why.contains("panicked")));
    }

    #[tokio::test]
    async fn a_panic_that_is_caught_is_told_and_ends_nothing_else() {
        let yields_and_panics = async {
            tokio::task::yield_now().await;
            panic!("a bug")
        };
        assert!(caught(yields_and_panics).await.is_err_and(|why: String| why.contains("panicked")));
        assert_eq!(caught(async { 7 }).await, Ok(7));
    }
}
