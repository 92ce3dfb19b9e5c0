//! Permits: the right to write the target as the truth, held from before the first read until the answer.

use std::time::{Duration, Instant};

use lockstep_core::{Control, Error, Kind, Result};
use lockstep_dynamo::Fence;

use crate::phase::{Moment, PHASE_LEASE, PhaseView, Renewal, fenced};
use crate::store::route::Route;

/// Pause between two looks at a record that says that writes wait.
const LOOK: Duration = Duration::from_millis(5);

/// The right to write by one epoch. While it is held, the epoch after it is not acknowledged, so that a pause
/// waits for what is under way.
#[derive(Debug)]
pub(in crate::store) struct Permit {
    pub(crate) control: Control,
    view: PhaseView,
    lease: u64,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.view.known.leave(self.control.epoch);
    }
}

impl PhaseView {
    /// A permit and the answer of `route` that it is for, once that is not to wait; `None` where the truth is
    /// in the source as far as is known.
    ///
    /// # Errors
    /// [`Kind::Fenced`] when the lease is over; [`Kind::Busy`] when writes still wait at `deadline`.
    pub(in crate::store) async fn permit(
        &self,
        deadline: Instant,
        route: impl Fn(Control) -> Route,
    ) -> Result<Option<(Permit, Route)>> {
        loop {
            // The lease first: what is forgotten meanwhile has no epoch to enter.
            let lease = self.known.lease();
            let Some(last) = self.known.last() else { return Ok(None) };
            let way = route(last);
            if way.ending().is_some() {
                return Ok(None);
            }
            let left = self.known.left(Moment::now());
            match &self.renewal {
                Renewal::Asking { .. } if left.is_none_or(|left| left < PHASE_LEASE / 2) => {
                    self.ask().await?;
                    continue;
                }
                Renewal::Kept(_) if left.is_none() => {
                    return Err(fenced("the lease of this instance is over"));
                }
                _ => {}
            }
            if way != Route::Wait && self.known.enter(last.epoch) {
                return Ok(Some((Permit { control: last, view: self.clone(), lease }, way)));
            }
            if Instant::now() >= deadline {
                let message =
                    "writes are paused by a step that moves the truth; nothing was written, try again";
                return Err(Error::target(Kind::Busy, "writing", message));
            }
            tokio::time::sleep(LOOK).await;
            if let Renewal::Asking { .. } = &self.renewal
                && way == Route::Wait
            {
                self.ask().await?;
            }
        }
    }
}

impl Permit {
    /// For how long a request that is sent now may be waited for.
    ///
    /// # Errors
    /// [`Kind::Fenced`] when the lease, or the epoch, is over: nothing may be sent.
    pub(super) async fn covers(&self) -> Result<Duration> {
        let left = self.view.known.left(Moment::now());
        match &self.view.renewal {
            Renewal::Kept(_) => left
                .filter(|_| self.is_same_lease())
                .ok_or_else(|| fenced("the lease of this instance is over")),
            Renewal::Asking { .. } => match left.filter(|left| *left >= PHASE_LEASE / 2) {
                Some(left) if self.view.holds(&self.control) => Ok(left),
                _ if self.view.ask().await?.epoch == self.control.epoch => Ok(PHASE_LEASE / 2),
                _ => Err(fenced("the epoch that this write began in is over")),
            },
        }
    }

    /// The question of a request under this permit after its signature, right before it leaves: does the
    /// lease still last, by both clocks? [`Permit::covers`] is asked before the signature, and a process can
    /// be stopped between the two.
    pub(super) fn fence(&self) -> Fence {
        let (view, control, lease) = (self.view.clone(), self.control, self.lease);
        Fence::new(move || match &view.renewal {
            Renewal::Kept(_) => view.known.lease() == lease && view.known.left(Moment::now()).is_some(),
            Renewal::Asking { .. } => view.holds(&control),
        })
    }

    /// Says whether an answer that is here now may be told. 1. A write is answered; its process is stopped.
    /// 2. A step waits its lease out, drains the feed, and goes back. 3. It wakes; was the write applied
    /// before the feed was drained? The lease says so only while it lasts, by the clocks of this process.
    pub(super) async fn is_answered_in_time(&self) -> bool {
        match &self.view.renewal {
            // The lease of a later epoch counts too: it is not acknowledged while this permit is held.
            Renewal::Kept(_) => self.is_same_lease() && self.view.known.left(Moment::now()).is_some(),
            Renewal::Asking { .. } if self.view.holds(&self.control) => true,
            Renewal::Asking { .. } => self.view.ask().await.is_ok_and(|now| now.epoch == self.control.epoch),
        }
    }

    fn is_same_lease(&self) -> bool {
        self.view.known.lease() == self.lease
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use chrono::DateTime;
    use lockstep_core::{Epoch, Phase};

    use super::*;
    use crate::phase::Known;
    use crate::store::route::{Calling, route};

    #[tokio::test]
    async fn an_answer_after_the_lease_is_not_told_and_a_request_after_it_does_not_leave() {
        let control = Control {
            phase: Phase::DynamoOnly,
            epoch: Epoch(4),
            changed_at: DateTime::default(),
            writes_paused: false,
        };
        let known = Arc::new(Known::default());
        let lease = Some(Duration::from_secs(3600));
        known.learn(control, Moment::now(), lease);
        let view = PhaseView::kept(known.clone(), Arc::default(), Arc::default());
        let by_row = |control| route(control, None, Calling::Row);
        let granted = view.permit(Instant::now(), by_row).await.expect("a lease");
        let (permit, _) = granted.expect("writes are open");
        assert!(
            permit.is_answered_in_time().await && permit.fence().is_open() && permit.covers().await.is_ok()
        );
        let fence = permit.fence();
        // The keeper found that it had been away: the lease was given up. A new one is not the same.
        known.forget();
        assert!(!permit.is_answered_in_time().await && !fence.is_open() && permit.covers().await.is_err());
        known.learn(control, Moment::now(), lease);
        assert!(!permit.is_answered_in_time().await && !fence.is_open() && permit.covers().await.is_err());
    }
}
