//! Phase that an operation goes by, and for how long it may.
//!
//! Writes ask inside their transaction, behind the barrier, and need no clock. Reads go by what is known, for
//! at most one lease. A step waits until every registered instance has acknowledged it or its lease is over,
//! and two leases of those who are not registered, so that a reader is never two phases behind (I6). In
//! DynamoOnly there is no barrier, and writes go by the lease as well; see `store/target_truth/permit.rs`.
//!
//! In reading order: `moment` (two clocks), `known` (what operations read), [`PhaseView`] (what stores go
//! by).

mod known;
mod moment;

pub(crate) use known::Known;
pub(crate) use moment::Moment;

use std::sync::Arc;
use std::time::{Duration, Instant};

use lockstep_core::{Control, Epoch, Error, Kind, Phase, Result};
use lockstep_dynamo::{Target, TargetControl};
use lockstep_postgres::Source;
use tokio::sync::Notify;

use crate::central::Central;

/// Time for which a store without an [`Instance`](crate::instance::Instance) may go on with the phase it
/// knows before it asks again.
#[doc(hidden)]
pub const PHASE_LEASE: Duration = Duration::from_millis(500);

/// Number of times that an operation is begun again because the phase changed under it. A step takes longer
/// than a read, so twice in a row is rare, and thrice means that this process is hardly running.
pub(crate) const PHASES_MAX: u32 = 3;

/// The phase as this process knows it; cheap to clone, and clones know the same.
#[doc(hidden)]
#[derive(Clone, Debug)]
pub struct PhaseView {
    pub(crate) known: Arc<Known>,
    pub(crate) renewal: Renewal,
    /// Settings that operators have turned; of an instance only.
    pub(crate) central: Arc<Central>,
}

/// The handle that renews the lease.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one for each store handle")]
pub(crate) enum Renewal {
    /// A task that finds it over asks the source, and the target where the truth may be there.
    Asking { source: Source, target: Option<TargetControl> },
    /// An instance does; it may be woken.
    Kept(Arc<Notify>),
}

impl PhaseView {
    /// Makes a view of its own, without an instance: asks `source` when [`PHASE_LEASE`] is over.
    #[doc(hidden)]
    pub fn new(source: Source) -> Self {
        Self {
            known: Arc::default(),
            renewal: Renewal::Asking { source, target: None },
            central: Arc::default(),
        }
    }

    /// Makes a view as [`PhaseView::new`] does, and follows the truth into `target` and back.
    #[doc(hidden)]
    pub fn following(source: Source, target: &Target) -> Self {
        let renewal = Renewal::Asking { source, target: Some(target.control()) };
        Self { known: Arc::default(), renewal, central: Arc::default() }
    }

    /// Returns the view of an instance.
    pub(crate) fn kept(known: Arc<Known>, wake: Arc<Notify>, central: Arc<Central>) -> Self {
        Self { known, renewal: Renewal::Kept(wake), central }
    }

    /// Returns the phase. An instance's is in memory; without an instance it is asked for again when the
    /// lease is over.
    ///
    /// # Errors
    /// [`Kind::Fenced`] when the instance's lease is over; the source's, without an instance. Then the phase
    /// is not known, and nothing may be served by it.
    ///
    /// # Cancel safety
    /// Asking has no effect.
    #[crate::boxed]
    pub async fn current(&self) -> Result<Control> {
        // The lease begins when the question is sent: the answer may be on its way for a while.
        let now = Moment::now();
        if let Some(control) = self.known.at(now) {
            return Ok(control);
        }
        match &self.renewal {
            Renewal::Asking { .. } => self.ask().await,
            Renewal::Kept(_) => {
                Err(fenced("this instance was shut down, or its lease is over and not renewed yet"))
            }
        }
    }

    /// Tells whether the truth is in the target, as far as is known. No request is made.
    pub(crate) fn is_in_target(&self) -> bool {
        self.known.last().is_some_and(|last| last.phase == Phase::DynamoOnly)
    }

    /// Asks where the truth is; an instance's is told, and is not asked for.
    pub(crate) async fn ask(&self) -> Result<Control> {
        let asked = Moment::now();
        let Renewal::Asking { source, target } = &self.renewal else {
            return self
                .known
                .at(asked)
                .ok_or_else(|| fenced("the lease of this instance is over, or it was shut down"));
        };
        let control = match target {
            Some(target) => where_it_is(source, target, self.known.last()).await?,
            None => source.control().await?,
        };
        self.known.learn(control, asked, Some(PHASE_LEASE));
        Ok(control)
    }

    /// Tells whether `control` is still what may be gone by, now. To be asked when an answer has come, before
    /// it is given away. 1. A reader sees HybridRead and sends its question. 2. Its process is stopped; steps
    /// go back to PostgresOnly. 3. It wakes with an answer of a target that no store writes any more.
    pub fn holds(&self, control: &Control) -> bool {
        self.known.at(Moment::now()).is_some_and(|now| now.epoch == control.epoch)
    }

    /// Runs `work` under the phase, and gives its result if it could still be gone by that phase when it
    /// came; else runs it again under the next one. `work` must have no effects.
    ///
    /// # Errors
    /// Those of `work`, and of [`PhaseView::current`].
    ///
    /// # Cancel safety
    /// That of `work`.
    pub async fn serve<T, F>(&self, work: impl Fn(Control) -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        for _ in 0..PHASES_MAX {
            let control = self.current().await?;
            let result = work(control).await;
            if self.holds(&control) {
                return result;
            }
            // Without an instance a lease that ran out meanwhile is no change of phase; ask, and let the
            // answer go if so.
            if let Renewal::Asking { .. } = self.renewal
                && self.current().await?.epoch == control.epoch
            {
                return result;
            }
        }
        Err(phase_kept_changing())
    }

    /// Takes over what a write transaction has seen. It renews the lease of a store without an instance, and
    /// of no other. 1. An instance was given up by a step. 2. A write of it succeeds, and it goes by what
    /// that saw. 3. It is not registered again yet, so the next step does not wait for it.
    pub(crate) fn learn(&self, control: Control, asked_at: Instant) {
        match &self.renewal {
            Renewal::Asking { .. } => {
                self.known.learn(control, Moment::of(asked_at), Some(PHASE_LEASE));
            }
            Renewal::Kept(wake) => {
                if self.known.learn(control, Moment::of(asked_at), None) {
                    wake.notify_one();
                }
            }
        }
    }
}

/// Asks the store in which the truth was last, then the other one. The target is believed without the source
/// when it says that the truth is there; see [`truth`](mod@lockstep_core::truth).
async fn where_it_is(source: &Source, target: &TargetControl, last: Option<Control>) -> Result<Control> {
    let in_target = async |least: Option<Epoch>| {
        let record = target.record().await?;
        Ok::<_, Error>(record.filter(|r| r.holds_truth() && least.is_none_or(|least| least <= r.epoch)))
    };
    if let Some(last) = last.filter(|last| last.phase == Phase::DynamoOnly)
        && let Ok(Some(record)) = in_target(Some(last.epoch)).await
    {
        return Ok(record.control());
    }
    match source.control().await {
        Ok(control) if control.phase == Phase::DynamoOnly => {
            // It answers now, so it can say whose record is to be believed.
            if let (false, Ok(Some(id))) = (target.target().has_owner(), source.migration_id().await) {
                target.target().belongs_to(&id)?;
            }
            Ok(in_target(Some(control.epoch)).await?.map_or(control, |record| record.control()))
        }
        Ok(control) => Ok(control),
        Err(error) => match in_target(None).await {
            Ok(Some(record)) if target.names_us().await? => Ok(record.control()),
            _ => Err(error),
        },
    }
}

pub(crate) fn phase_kept_changing() -> Error {
    fenced("the phase changed at every try to read; give this process more processor time, and try again")
}

pub(crate) fn fenced(why: &str) -> Error {
    let message = format!(
        "{why}; the phase may have changed, so nothing is served by it until the store that keeps it answers \
         again. A process that runs registers again by itself: repeat the call"
    );
    Error::source(Kind::Fenced, "serving by the phase", message)
}
