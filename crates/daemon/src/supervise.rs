//! Keeping a part running: while it is needed it runs, and when it ends it begins again by itself.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::RngExt;
use tokio_util::sync::CancellationToken;

use crate::part::PartState;
use crate::shared::Shared;

const PAUSE_FIRST: Duration = Duration::from_millis(250);
/// So that, after any outage, everything runs again within ten seconds of the stores.
const PAUSE_LONGEST: Duration = Duration::from_secs(5);
/// After so long without an end a part is taken to be well, and its next end for the first one.
const WELL_AFTER: Duration = Duration::from_secs(60);

/// Whether a part is to run now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// It is.
    Run,
    /// It is not: what it does instead, and why.
    Not(PartState, Option<String>),
}

/// Keeps `run` going while `need` says so, until the daemon ends. A part is told to stop by its token, and
/// waited for.
pub(crate) async fn keep<F, R, E>(shared: Arc<Shared>, name: &'static str, need: F, run: R)
where
    F: Fn(&Shared) -> Need,
    R: Fn(Arc<Shared>, CancellationToken) -> E,
    E: Future<Output = Result<(), String>>,
{
    let (mut pause, mut told) = (PAUSE_FIRST, HashSet::new());
    loop {
        let Some(()) = needed(&shared, name, &need).await else { return };
        shared.note(name, PartState::Running, None);
        let (stop, began) = (shared.stop.child_token(), Instant::now());
        let running = run(shared.clone(), stop.clone());
        tokio::pin!(running);
        let ended = tokio::select! {
            ended = &mut running => ended,
            () = until_not_needed(&shared, &need) => {
                stop.cancel();
                running.await
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
