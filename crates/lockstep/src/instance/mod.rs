//! An instance: a process that serves by the phase, and for how long it may (R19, I6).
//!
//! Words: an instance *registers*, *renews* its *lease*, and *acknowledges* an epoch once it serves nothing
//! by an older one. It is *fenced* when its lease is over by its own clock: it may be two phases behind by
//! then, so reads are refused with [`Kind::Fenced`] until the source answers again. Writes need no lease:
//! they ask behind the barrier. In DynamoOnly there is no barrier: the lease is kept in DynamoDB, covers
//! writes as well, and an epoch is acknowledged once none of an older one is under way; see
//! [`truth`](mod@lockstep_core::truth).
//!
//! What is known of the phase is in `phase`. In reading order: `earlier` (whether PostgreSQL is another
//! migration's by now), `keeper` (renews), `listener` (hears of changes).

mod earlier;
mod keeper;
mod listener;

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use lockstep_core::Advice::MigrateSchema;
use lockstep_core::{Control, Error, Kind, Registration, Result};
use lockstep_dynamo::{Target, TargetControl};
use lockstep_postgres::{Source, control_schema};
use sqlx::postgres::PgConnectOptions;
use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::central::Central;
use crate::phase::{Known, Moment, PhaseView};
use keeper::{Keeper, Wake};

#[doc(hidden)]
pub use earlier::completion_of;

/// Shortest lease: three renewals must fit in it on a busy machine.
const LEASE_MIN: Duration = Duration::from_secs(1);
#[doc(hidden)]
pub use lockstep_core::LEASE_MAX;

/// Options with which an instance presents itself.
#[derive(Clone, Debug)]
pub struct InstanceOptions {
    /// Name of the instance in the status and in notes; names need not differ.
    pub name: String,
    /// Time for which it may go by the phase without an answer of the source. It is also what a step waits
    /// for a process that was killed, and how long reads go on while PostgreSQL is away.
    pub lease: Duration,
}

impl Default for InstanceOptions {
    fn default() -> Self {
        Self { name: "application".to_owned(), lease: Duration::from_secs(10) }
    }
}

/// A registered instance. Shut it down when done; dropped, it deregisters in the background.
///
/// ```no_run
/// # async fn example(source: lockstep_postgres::Source) -> lockstep_core::Result<()> {
/// use lockstep::instance::{Instance, InstanceOptions};
///
/// let options = InstanceOptions { name: "payments-api".into(), ..Default::default() };
/// let instance = Instance::start(&source, options).await?;
/// let phase = instance.phase(); // hand it to each store: they all see one phase
/// # drop(phase);
/// instance.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[doc(hidden)]
#[derive(Debug)]
pub struct Instance {
    id: i64,
    known: Arc<Known>,
    phase: PhaseView,
    keeper: JoinHandle<()>,
    listener: JoinHandle<()>,
    closing: DropGuard,
}

impl Instance {
    /// Registers with `source` and keeps the lease from then on, on two connections of its own. When this
    /// returns, the phase is known.
    ///
    /// # Errors
    /// [`Kind::Misconfigured`] for a lease that is too short, or where Lockstep was never installed; the
    /// source's.
    ///
    /// # Cancel safety
    /// Dropped half-way, it may leave a row that a step waits for once, for one lease.
    #[doc(hidden)]
    #[crate::boxed]
    pub async fn start(source: &Source, options: InstanceOptions) -> Result<Self> {
        Self::start_in(source, None, options).await
    }

    /// Starts as [`Instance::start`] does, and follows the truth into `target` and back: in DynamoOnly the
    /// lease is kept there, and PostgreSQL may be down, also when this is called.
    ///
    /// # Errors
    /// As [`Instance::start`].
    ///
    /// # Cancel safety
    /// As [`Instance::start`].
    #[doc(hidden)]
    #[crate::boxed]
    pub async fn start_with(source: &Source, target: &Target, options: InstanceOptions) -> Result<Self> {
        Self::start_in(source, Some(target.control()), options).await
    }

    async fn start_in(
        source: &Source,
        target: Option<TargetControl>,
        options: InstanceOptions,
    ) -> Result<Self> {
        if !(LEASE_MIN..=LEASE_MAX).contains(&options.lease) {
            let message = format!(
                "a lease must be at least {} ms and at most {} ms",
                LEASE_MIN.as_millis(),
                LEASE_MAX.as_millis()
            );
            return Err(Error::source(Kind::Misconfigured, "starting an instance", message));
        }
        lockstep_core::describe_metrics(lockstep_core::KeptBy::Application);
        let (known, wake, closing) =
            (Arc::new(Known::default()), Arc::new(Wake::default()), CancellationToken::new());
        let id = keeper::new_id();
        let who = Registration { id, name: options.name, started_at: Utc::now(), lease: options.lease };
        let connect = |what: &str| -> PgConnectOptions {
            let connect = source.pool().connect_options().as_ref().clone();
            connect.application_name(&format!("lockstep {what} of {}", who.name))
        };
        let (for_lease, for_listening) = (connect("lease"), connect("phase"));
        let central = Arc::new(Central::default());
        let told = (known.clone(), central.clone());
        let mut keeper =
            Keeper::new((for_lease, source.own().clone(), target), who, told, wake.clone(), closing.clone());
        keeper.turn(source.pool().options().get_acquire_timeout()).await.map_err(advise)?;
        let phase = PhaseView::kept(known.clone(), wake.asked.clone(), central);
        let listener = tokio::spawn(listener::listen(for_listening, wake, closing.clone()));
        Ok(Self {
            id,
            known,
            phase,
            keeper: tokio::spawn(keeper.run()),
            listener,
            closing: closing.drop_guard(),
        })
    }

    /// Returns its number; in `lockstep.instances` it has another one where another role took this one.
    pub fn id(&self) -> i64 {
        self.id
    }

    /// Returns the view of the phase that stores go by. All that were given it see one phase.
    pub fn phase(&self) -> PhaseView {
        self.phase.clone()
    }

    /// Phase and epoch, as they are known; `None` while it is fenced. No request is made.
    pub fn control(&self) -> Option<Control> {
        self.known.at(Moment::now())
    }

    /// Deregisters: when this returns, nothing more is served by the phase, and no step waits for this
    /// instance. In DynamoOnly a write that is answered meanwhile is told as unknown: end writes first. If
    /// the source does not answer, the lease runs out.
    ///
    /// # Panics
    /// When a task of it has panicked, which is a bug.
    ///
    /// # Cancel safety
    /// Dropped half-way, the rest is done in the background.
    #[crate::boxed]
    pub async fn shutdown(self) {
        self.known.forget();
        drop(self.closing);
        for ended in [self.listener.await, self.keeper.await] {
            if let Some(panic) = ended.err().filter(JoinError::is_panic) {
                std::panic::resume_unwind(panic.into_panic());
            }
        }
    }
}

/// An application may well be started before the migration is.
fn advise(mut error: Error) -> Error {
    match error.kind {
        Kind::Misconfigured => {
            error.message += &format!(
                "; run {MigrateSchema} of this version first: it makes schema {}, \
                or brings it up to date, and changes no phase",
                control_schema()
            );
        }
        Kind::Denied => {
            error.message += &format!(
                "; this role needs SELECT, INSERT, UPDATE and DELETE on {}.instances",
                control_schema()
            )
        }
        _ => {}
    }
    error
}
