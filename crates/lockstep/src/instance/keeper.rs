//! Keeps a lease: registers, renews, acknowledges, and registers again after having been given up.
//!
//! In reading order: this file (when), `at_source` and `at_target` (one renewal in each store).

mod at_source;
mod at_target;

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use lockstep_core::{Doing, Epoch, Error, Kind, Registration, Result};
use lockstep_dynamo::TargetControl;
use lockstep_postgres::instances::deregister;
use lockstep_postgres::{OwnMigration, connect_own};
use sqlx::Connection;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::central::Central;
use crate::phase::{Known, Moment};

/// Longest pause between renewals. Each also polls the phase, so this bounds how late a phase is seen when
/// notifications are lost (R19: within a second).
const POLL: Duration = Duration::from_secs(1);
/// The same while the truth is in the target, which sends no notification; between two renewals the record is
/// only looked at. Milliseconds, between which each pause is chosen at random: all instances read one item,
/// and hear of a pause in the same moment.
const POLL_TARGET: RangeInclusive<u64> = 200..=300;
/// The same while writes wait: for as long as the poll takes, longer.
const POLL_TARGET_PAUSED: RangeInclusive<u64> = 100..=200;
/// The same in the source, which sends a notification: this is for one that was lost.
const POLL_PAUSED: Duration = Duration::from_millis(25);
/// Pause after a failure.
const RETRY: Duration = Duration::from_millis(200);
/// Least time from the beginning of a turn to that of the next one, however often this is woken: each turn is
/// a commit. 1. A role notifies a thousand times a second. 2. Each application renews as often.
const WOKEN_AGAIN_AFTER: Duration = Duration::from_millis(50);
/// The same after a failure.
const WOKEN_AGAIN_AFTER_FAILURE: Duration = Duration::from_millis(100);
/// Renewals of one turn: the phase, its acknowledgement, and a registration between them; a phase that
/// changes faster than this is caught up with by the next turn.
const RENEWALS_MAX: u32 = 4;

/// The task that keeps a lease, on a connection of its own: the application's may all be waiting for the
/// barrier. Not shown, as the driver shows the password of its options.
pub(super) struct Keeper {
    pub(super) connect: PgConnectOptions,
    /// Migration that the stores' handle on the source is told to be of.
    own: OwnMigration,
    pub(super) who: Registration,
    /// Number of the lease in PostgreSQL: that of the lease in DynamoDB, unless another role has taken it.
    source_id: i64,
    pub(super) known: Arc<Known>,
    central: Arc<Central>,
    pub(super) wake: Arc<Wake>,
    pub(super) closing: CancellationToken,
    /// `None` where only the source is known; then the truth is followed no further than to where it left.
    target: Option<TargetControl>,
    home: Home,
    connection: Option<PgConnection>,
    registered: bool,
    registered_in_target: bool,
    /// Epoch that the lease in the target says we have acknowledged.
    acknowledged_in_target: Option<Epoch>,
    /// Time at which the marks of the tables that are answered from were all found as they were.
    same_tables_at: Option<Instant>,
    fenced: bool,
    /// Whether it was said that the control table is not to be gone by.
    warned: bool,
}

/// Reasons to take a turn before its time.
#[derive(Debug, Default)]
pub(super) struct Wake {
    /// A reader wants to know the phase.
    pub(super) asked: Arc<Notify>,
    /// PostgreSQL says that something changed.
    pub(super) told: Notify,
}

/// The store whose control record this instance goes by, and in which it keeps its lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Home {
    Source,
    Target,
}

impl Keeper {
    pub(super) fn new(
        (connect, own, target): (PgConnectOptions, OwnMigration, Option<TargetControl>),
        who: Registration,
        (known, central): (Arc<Known>, Arc<Central>),
        wake: Arc<Wake>,
        closing: CancellationToken,
    ) -> Self {
        let (connection, home, source_id) = (None, Home::Source, who.id);
        let (registered, registered_in_target, fenced, warned) = (false, false, false, false);
        Self {
            connect,
            own,
            who,
            source_id,
            known,
            central,
            wake,
            closing,
            target,
            home,
            connection,
            registered,
            registered_in_target,
            acknowledged_in_target: None,
            same_tables_at: None,
            fenced,
            warned,
        }
    }

    /// Keeps the lease until told to close, then gives it back.
    pub(super) async fn run(mut self) {
        loop {
            let began = Instant::now();
            let turned = self.turn(self.who.lease / 3).await;
            let paused = self.known.last().is_some_and(|last| last.writes_paused);
            let poll = match (self.home, paused) {
                (Home::Source, true) => POLL_PAUSED,
                (Home::Source, false) => POLL,
                (Home::Target, true) => at_random(POLL_TARGET_PAUSED),
                (Home::Target, false) => at_random(POLL_TARGET),
            };
            let renew_every = (self.who.lease / 3).min(poll);
            let (pause, least) = match turned {
                Ok(()) => (renew_every, WOKEN_AGAIN_AFTER),
                Err(error) => (self.trouble(&error).min(renew_every.max(RETRY)), WOKEN_AGAIN_AFTER_FAILURE),
            };
            let woken = async {
                tokio::select! {
                    () = self.wake.asked.notified() => {}
                    // What PostgreSQL says changes nothing while the truth is elsewhere.
                    () = self.wake.told.notified(), if self.home == Home::Source => {}
                }
                tokio::time::sleep_until(began + least).await;
            };
            tokio::select! {
                () = self.closing.cancelled() => {}
                () = woken => continue,
                () = tokio::time::sleep(pause) => continue,
            }
            return self.give_back().await;
        }
    }

    /// Renews once, within `bound`: a connection that says nothing is given up while there is lease left for
    /// another.
    pub(super) async fn turn(&mut self, bound: Duration) -> Result<()> {
        let done = tokio::time::timeout(bound, self.try_turn(bound)).await;
        let done = done.unwrap_or_else(|_| Err(no_answer()));
        if done.is_err() {
            // It may be in the middle of an answer.
            self.connection = None;
        } else if std::mem::take(&mut self.fenced) {
            tracing::info!(
                instance = self.who.name,
                "the truth answers again; this instance knows the phase and serves"
            );
        }
        done
    }

    async fn try_turn(&mut self, bound: Duration) -> Result<()> {
        for _ in 0..RENEWALS_MAX {
            let agreed = match self.home {
                // A source that says nothing must leave time to ask the target.
                Home::Source => match tokio::time::timeout(self.share(bound), self.at_source()).await {
                    Ok(Ok(agreed)) => agreed,
                    Ok(Err(error)) => self.look_past_the_source(error).await?,
                    Err(_) => self.look_past_the_source(no_answer()).await?,
                },
                Home::Target => self.at_target().await?,
            };
            if agreed {
                break;
            }
        }
        Ok(())
    }

    fn share(&self, bound: Duration) -> Duration {
        if self.target.is_some() { bound / 2 } else { bound }
    }

    /// Nothing older than what the target said is served any more, so no step has to wait for us in the
    /// source. If it does not answer, a step waits our lease out once.
    async fn leave_source(&mut self) {
        if !std::mem::take(&mut self.registered) {
            return;
        }
        let Some(mut connection) = self.connection.take() else { return };
        let leaving = async {
            deregister(&mut connection, self.source_id).await?;
            connection.close().await.doing("closing the lease's connection")
        };
        if let Ok(Err(error)) = tokio::time::timeout(RETRY, leaving).await {
            tracing::debug!("deregistering: {error}");
        }
    }

    fn trouble(&mut self, error: &Error) -> Duration {
        let over = self.known.at(Moment::now()).is_none();
        if over && !std::mem::replace(&mut self.fenced, true) {
            tracing::warn!(
                instance = self.who.name,
                "the lease is over, and nothing is served by the phase: {error}"
            );
        } else {
            tracing::debug!(instance = self.who.name, "the lease was not renewed: {error}");
        }
        RETRY
    }

    /// Serves nothing more, and says so, that no step has to wait for this lease. If that does not work out,
    /// it waits.
    async fn give_back(mut self) {
        self.known.forget();
        let giving_back = async {
            if let Some(target) = self.target.as_ref().filter(|_| self.registered_in_target) {
                target.deregister(self.who.id).await?;
            }
            if !self.registered {
                return Ok(());
            }
            let mut connection = match self.connection.take() {
                Some(connection) => connection,
                None => connect_own(&self.connect).await.doing("connecting to deregister")?,
            };
            deregister(&mut connection, self.source_id).await?;
            connection.close().await.doing("closing the lease's connection")
        };
        match tokio::time::timeout(self.who.lease / 3, giving_back).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!("deregistering: {error}"),
            Err(_) => tracing::debug!("deregistering: no answer"),
        }
    }
}

/// Returns a number that no other instance has. No sign: people read it.
pub(super) fn new_id() -> i64 {
    rand::random_range(1..=i64::MAX)
}

fn at_random(ms: RangeInclusive<u64>) -> Duration {
    Duration::from_millis(rand::random_range(ms))
}

fn no_answer() -> Error {
    Error::source(Kind::Unavailable, "renewing this instance's lease", "no answer")
}
