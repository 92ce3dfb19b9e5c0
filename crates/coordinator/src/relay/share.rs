//! Share of the pending keys that this relay delivers, while others deliver the rest (R53).
//!
//! A relay joins when it begins, and leaves when a turn fails: 1. Two relays run, and one is cut off from the
//! target. 2. Its share would wait for as long as it says that it lives. So until a turn of it has succeeded
//! it goes through everything, as it would alone, and the others have everything as well. A key that two
//! deliver costs a unit, and nothing else (I2).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lockstep_postgres::{Glance, JoiningRelay, RelayShare, Source};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::options::MigrationContext;

/// Time for which a relay is believed without a word. Until then the share of one that was killed waits.
const LEASE: Duration = Duration::from_secs(5);
/// Renewals of one lease, if each succeeds at once.
const RENEWALS: u32 = 4;
/// The same of a relay that is the only one.
const RENEWALS_ALONE: u32 = 2;

/// See the module.
#[derive(Debug)]
pub(super) struct Shares {
    source: Source,
    name: String,
    state: Arc<Mutex<State>>,
    /// The task that renews. It leaves once its guard is dropped.
    keeping: Mutex<Option<(DropGuard, JoinHandle<()>)>>,
}

/// Keys that a relay goes through.
#[derive(Clone, Copy, Debug)]
enum State {
    /// Everything, always: it is to empty the set, or the schema knows no shares.
    Alone,
    /// Everything, and it does not join, as its last turn failed.
    Apart,
    /// Everything, until it joins; not before this.
    Joining(Instant),
    /// A share, until the lease is over by this process's clock.
    Member(RelayShare, Instant),
    /// Nothing, until it joins again: it was taken out.
    Out,
}

impl Shares {
    /// Makes a share that `joins`, or one that goes through everything.
    pub(super) fn new(joins: bool, migration: &MigrationContext) -> Self {
        let state = if joins { State::Joining(Instant::now()) } else { State::Alone };
        Self {
            source: migration.source.clone(),
            name: migration.actor.clone(),
            state: Arc::new(Mutex::new(state)),
            keeping: Mutex::default(),
        }
    }

    /// Returns the share to go through now, `None` for everything. Joins where it is time to.
    pub(super) async fn part(&self) -> Option<RelayShare> {
        let state = *locked(&self.state);
        match state {
            State::Member(share, until) if Instant::now() < until => return Some(share),
            State::Alone | State::Apart => return None,
            State::Joining(from) if Instant::now() < from => return None,
            State::Member(..) | State::Joining(_) | State::Out => {}
        }
        self.stop_keeping();
        let asked = Instant::now();
        let id = rand::random_range(1..=i64::MAX);
        let joining = JoiningRelay { id, name: &self.name, lease: LEASE };
        // Bounded: 1. Another process is stopped while it deals the shares out. 2. Its lock is held for as
        // long as it is. And where the source answers slowly, a lease is over before anything is
        // acknowledged.
        match tokio::time::timeout(LEASE / 2, self.source.join_relays(&joining)).await {
            Ok(Ok(Some(share))) => {
                *locked(&self.state) = State::Member(share, asked + LEASE);
                let (closing, state) = (CancellationToken::new(), Arc::clone(&self.state));
                let keeping = tokio::spawn(keep(self.source.clone(), id, state, closing.clone()));
                *locked(&self.keeping) = Some((closing.drop_guard(), keeping));
                Some(share)
            }
            // A schema that is older than shares, or a role that may have none.
            Ok(Ok(None)) => {
                *locked(&self.state) = State::Alone;
                None
            }
            Ok(Err(error)) => {
                tracing::debug!("this relay delivers everything, and joins later: {error}");
                *locked(&self.state) = State::Joining(asked + LEASE);
                None
            }
            Err(_) => {
                tracing::debug!("this relay delivers everything, and joins later: the source answers slowly");
                *locked(&self.state) = State::Joining(Instant::now() + LEASE);
                None
            }
        }
    }

    /// Looks whether anything has happened, for a relay that rests. Where it is alone, its lease is renewed
    /// by the same statement: an idle source was asked for that as often as for the rest.
    pub(super) async fn glance(&self) -> lockstep_core::Result<Option<Glance>> {
        let state = *locked(&self.state);
        let alone = match state {
            // Not by each look: in the first seconds of a calm they are many, and a renewal is a commit.
            State::Member(share, until) if share.is_whole() && is_old(until, Instant::now()) => share.relay,
            _ => return self.source.glance_at_changes().await,
        };
        let asked = Instant::now();
        match self.source.glance_renewing(alone, LEASE).await {
            Ok((seen, renewed)) => {
                let mut state = locked(&self.state);
                if let (State::Member(share, _), Some(renewed)) = (*state, renewed)
                    && share.relay == alone
                {
                    *state = State::Member(renewed, asked + LEASE);
                }
                Ok(Some(seen))
            }
            // What may not be written can perhaps be read; the task that renews says what is wrong.
            Err(_) => self.source.glance_at_changes().await,
        }
    }

    /// Tells whether what was begun under this share is still to be gone on with.
    pub(super) fn is_current(&self, share: Option<&RelayShare>) -> bool {
        let Some(share) = share else { return true };
        matches!(*locked(&self.state), State::Member(now, until) if now == *share && Instant::now() < until)
    }

    /// Tells whether something may be sent. 1. A relay is stopped for a minute, in the middle of a batch. 2.
    /// Its keys are another's. 3. It wakes, and looks here before its next request.
    pub(super) fn may_send(&self) -> bool {
        match *locked(&self.state) {
            State::Member(_, until) => Instant::now() < until,
            State::Alone | State::Apart | State::Joining(_) => true,
            State::Out => false,
        }
    }

    /// The target does not answer: others that have a share get this one as well.
    pub(super) fn doubt(&self) {
        if matches!(*locked(&self.state), State::Member(share, _) if !share.is_whole()) {
            self.leave();
        }
    }

    /// A turn failed: the share goes back, until one succeeds.
    pub(super) fn failed(&self) {
        if matches!(*locked(&self.state), State::Member(..) | State::Out | State::Joining(_)) {
            self.leave();
        }
    }

    /// A turn succeeded.
    pub(super) fn succeeded(&self) {
        let mut state = locked(&self.state);
        if matches!(*state, State::Apart) {
            *state = State::Joining(Instant::now());
        }
    }

    /// Gives the share back, so that others need not wait for its lease to end. They wait where the source
    /// does not hear of it.
    pub(super) async fn end(&self) {
        let keeping = locked(&self.keeping).take();
        if let Some((guard, keeping)) = keeping {
            drop(guard);
            let _ = tokio::time::timeout(LEASE, keeping).await;
        }
    }

    fn leave(&self) {
        *locked(&self.state) = State::Apart;
        self.stop_keeping();
    }

    fn stop_keeping(&self) {
        drop(locked(&self.keeping).take());
    }
}

/// Renews a share until the relay leaves, and gives it back then.
async fn keep(source: Source, id: i64, state: Arc<Mutex<State>>, closing: CancellationToken) {
    let mut pause = LEASE / RENEWALS;
    loop {
        let pausing = tokio::time::sleep(std::mem::replace(&mut pause, LEASE / RENEWALS));
        if closing.run_until_cancelled(pausing).await.is_none() {
            break;
        }
        if let Some(left) = until_due(&locked(&state), id) {
            pause = left;
            continue;
        }
        let asked = Instant::now();
        let renewing = tokio::time::timeout(LEASE, source.renew_relay(id, LEASE));
        let Some(renewed) = closing.run_until_cancelled(renewing).await else { break };
        let mut state = locked(&state);
        if !matches!(*state, State::Member(share, _) if share.relay == id) {
            break;
        }
        match renewed {
            Ok(Ok(Some(share))) => {
                *state = State::Member(share, asked + LEASE);
                // One that is alone has no share that another could wait for; its renewals were what an idle
                // source was asked most often. There is time for two more tries.
                if share.is_whole() {
                    pause = LEASE / RENEWALS_ALONE;
                }
            }
            Ok(Ok(None)) => {
                *state = State::Out;
                return;
            }
            // There may be time for another try; what sends looks at the clock.
            Ok(Err(error)) => tracing::debug!("the share of a relay was not renewed: {error}"),
            Err(_) => {}
        }
    }
    if let Err(error) = source.leave_relays(id).await {
        tracing::debug!("the share of a relay is left to end by itself: {error}");
    }
}

/// Tells whether a lease that ends at `until` was renewed a quarter of it ago, and is not over.
fn is_old(until: Instant, now: Instant) -> bool {
    now < until && until - now <= LEASE - LEASE / RENEWALS
}

/// Returns how long the share need not be renewed yet: a glance has done it.
fn until_due(state: &State, id: i64) -> Option<Duration> {
    let State::Member(share, until) = state else { return None };
    let renewals = if share.is_whole() { RENEWALS_ALONE } else { RENEWALS };
    // Half a lease, or three quarters of it, are left when it is due.
    let due = until.checked_sub(LEASE - LEASE / renewals)?;
    (share.relay == id).then(|| due.saturating_duration_since(Instant::now())).filter(|left| !left.is_zero())
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
