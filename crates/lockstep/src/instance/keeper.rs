//! Keeps a lease: registers, renews, acknowledges, and registers again after having been given up.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use lockstep_core::{Doing, Epoch, Error, Kind, Phase, Registration, Result, TargetRecord, Truth, truth};
use lockstep_dynamo::TargetControl;
use lockstep_postgres::instances::{deregister, register, renew};
use lockstep_postgres::{connect_own, read_control, read_migration_id, read_settings, report};
use sqlx::Connection;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use tokio::sync::Notify;
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
/// Renewals of one turn: the phase, its acknowledgement, and a registration between them; a phase that
/// changes faster than this is caught up with by the next turn.
const RENEWALS_MAX: u32 = 4;

/// The task that keeps a lease, on a connection of its own: the application's may all be waiting for the
/// barrier. Not shown, as the driver shows the password of its options.
pub(super) struct Keeper {
    pub(super) connect: PgConnectOptions,
    pub(super) who: Registration,
    pub(super) known: Arc<Known>,
    central: Arc<Central>,
    pub(super) wake: Arc<Notify>,
    pub(super) closing: CancellationToken,
    /// `None` where only the source is known; then the truth is followed no further than to where it left.
    target: Option<TargetControl>,
    home: Home,
    connection: Option<PgConnection>,
    registered: bool,
    registered_in_target: bool,
    /// What the lease in the target says that we have acknowledged.
    acknowledged_in_target: Option<Epoch>,
    fenced: bool,
    /// Whether it was said that the control table is not to be gone by.
    warned: bool,
}

/// The store whose control record this instance goes by, and in which it keeps its lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Home {
    Source,
    Target,
}

impl Keeper {
    pub(super) fn new(
        (connect, target): (PgConnectOptions, Option<TargetControl>),
        who: Registration,
        (known, central): (Arc<Known>, Arc<Central>),
        wake: Arc<Notify>,
        closing: CancellationToken,
    ) -> Self {
        let (connection, home) = (None, Home::Source);
        let (registered, registered_in_target, fenced, warned) = (false, false, false, false);
        Self {
            connect,
            who,
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
            fenced,
            warned,
        }
    }

    /// Keeps the lease until told to close, then gives it back.
    pub(super) async fn run(mut self) {
        loop {
            let turned = self.turn(self.who.lease / 3).await;
            let paused = self.known.last().is_some_and(|last| last.writes_paused);
            let poll = match (self.home, paused) {
                (Home::Source, true) => POLL_PAUSED,
                (Home::Source, false) => POLL,
                (Home::Target, true) => at_random(POLL_TARGET_PAUSED),
                (Home::Target, false) => at_random(POLL_TARGET),
            };
            let renew_every = (self.who.lease / 3).min(poll);
            let pause = match turned {
                Ok(()) => renew_every,
                Err(error) => self.trouble(&error).min(renew_every.max(RETRY)),
            };
            tokio::select! {
                () = self.closing.cancelled() => return self.give_back().await,
                () = self.wake.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// One renewal, within `bound`: a connection that says nothing is given up while there is lease left for
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
            let settled = match self.home {
                // A source that says nothing must leave time to ask the target.
                Home::Source => match tokio::time::timeout(self.share(bound), self.at_source()).await {
                    Ok(Ok(settled)) => settled,
                    Ok(Err(error)) => self.look_past_the_source(error).await?,
                    Err(_) => self.look_past_the_source(no_answer()).await?,
                },
                Home::Target => self.at_target().await?,
            };
            if settled {
                break;
            }
        }
        Ok(())
    }

    fn share(&self, bound: Duration) -> Duration {
        if self.target.is_some() { bound / 2 } else { bound }
    }

    /// Renews in the source; says whether there is nothing more to do in this turn.
    async fn at_source(&mut self) -> Result<bool> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            empty => empty.insert(connect_own(&self.connect).await.doing("connecting for the lease")?),
        };
        if !self.registered {
            // Half of what this has in a turn, so that a target that says nothing leaves time for the source.
            match where_truth_is(connection, self.target.as_ref(), self.who.lease / 12).await? {
                Home::Source => register(connection, &self.who).await?,
                Home::Target => {
                    self.connection = None;
                    self.home = Home::Target;
                    return Ok(false);
                }
            }
            self.registered = true;
        }
        // What is acknowledged was adopted before: operations under an older phase give no answer any more.
        let acknowledged = self.known.acknowledgeable();
        let asked = Moment::now();
        let Some(control) = renew(connection, self.who.id, acknowledged).await? else {
            // A step has waited our lease out, and no step waits for us any more (I6).
            self.known.forget();
            self.registered = false;
            tracing::warn!(instance = self.who.name, "a step gave this instance up; it registers again");
            return Ok(false);
        };
        if self.known.last().is_some_and(|last| last.epoch > control.epoch && last.phase == Phase::DynamoOnly)
        {
            // The truth is on its way back, and the source has not been told yet: by what it says nothing may
            // be served.
            return Ok(true);
        }
        self.known.learn(control, asked, Some(self.who.lease));
        beside(connection, self.who.id, &self.central).await;
        if self.known.acknowledgeable() != acknowledged {
            return Ok(false);
        }
        match &self.target {
            Some(_) if control.phase == Phase::DynamoOnly => {
                self.home = Home::Target;
                Ok(false)
            }
            Some(target) if self.registered_in_target => {
                // Registered here and the phase adopted, so nothing older is served: no step has to look for
                // us there.
                target.deregister(self.who.id).await?;
                self.registered_in_target = false;
                Ok(true)
            }
            _ => Ok(true),
        }
    }

    /// The source does not answer. If the target says that the truth is there, then that is so, whatever the
    /// source would say: the way back is decided in the target first.
    async fn look_past_the_source(&mut self, error: Error) -> Result<bool> {
        let Some(target) = self.target.as_ref().filter(|_| error.kind != Kind::Refused) else {
            return Err(error);
        };
        // It may be in the middle of an answer.
        self.connection = None;
        let last = self.known.last().map(|last| last.epoch);
        match target.record().await {
            Ok(Some(record)) if record.holds_truth() && last.is_none_or(|last| last <= record.epoch) => {
                self.home = Home::Target;
                Ok(false)
            }
            _ => Err(error),
        }
    }

    /// The same in the target.
    async fn at_target(&mut self) -> Result<bool> {
        let Some(target) = self.target.clone() else {
            self.home = Home::Source;
            return Ok(false);
        };
        if !self.registered_in_target {
            // Before the record is there, so is no table to register in.
            match target.record().await {
                Ok(Some(_)) => {}
                Err(error) if error.kind != Kind::Misconfigured => return Err(error),
                // That of another migration says nothing of ours, as if there were none.
                other => {
                    if let Some(error) = other.err().filter(|_| !std::mem::replace(&mut self.warned, true)) {
                        tracing::warn!(
                            instance = self.who.name,
                            "the control table in DynamoDB is not gone by: {error}"
                        );
                    }
                    self.home = Home::Source;
                    return Ok(true);
                }
            }
            target.register(&self.who).await?;
            (self.registered_in_target, self.acknowledged_in_target) = (true, None);
        }
        let acknowledged = self.known.acknowledgeable();
        if !self.has_to_renew(acknowledged) && self.is_as_known(target.record().await?) {
            return Ok(true);
        }
        let asked = Moment::now();
        let renewed = target.renew(self.who.id, acknowledged).await?;
        self.acknowledged_in_target = renewed.as_ref().and(acknowledged);
        let Some(record) = renewed else {
            self.known.forget();
            self.registered_in_target = false;
            tracing::warn!(instance = self.who.name, "a step gave this instance up; it registers again");
            return Ok(false);
        };
        let last = self.known.last().map(|last| last.epoch);
        match record {
            Some(record) if record.holds_truth() && last.is_none_or(|last| last <= record.epoch) => {
                self.known.learn(record.control(), asked, Some(self.who.lease));
                self.leave_source().await;
                Ok(self.known.acknowledgeable() == acknowledged)
            }
            // On its way here: the source has said so, the target has not been told. The lease is kept in the
            // source.
            Some(record) if last.is_some_and(|last| record.epoch < last) => {
                self.home = Home::Source;
                Ok(true)
            }
            // The truth went back. What is known wears out until the source has told us more.
            _ => {
                self.home = Home::Source;
                Ok(false)
            }
        }
    }

    /// Whether something is to be acknowledged, or the lease would be older than a second, or a third of it,
    /// by the next look.
    fn has_to_renew(&self, acknowledged: Option<Epoch>) -> bool {
        let every = POLL.min(self.who.lease / 3);
        let next = Duration::from_millis(*POLL_TARGET.end());
        let left = self.known.left(Moment::now());
        acknowledged.is_none()
            || acknowledged != self.acknowledged_in_target
            || left.is_none_or(|left| left + every < self.who.lease + next)
    }

    /// Whether the record says nothing new. It was read without a renewal, so nothing is learned from it: an
    /// instance that no step waits for must not serve by what it reads.
    fn is_as_known(&self, record: Option<TargetRecord>) -> bool {
        let known = self.known.last().map(|last| (last.phase, last.epoch, last.writes_paused));
        let found = record.filter(TargetRecord::holds_truth).map(|record| record.control());
        found.is_some() && found.map(|found| (found.phase, found.epoch, found.writes_paused)) == known
    }

    /// Nothing older than what the target said is served any more, so no step has to wait for us in the
    /// source. If it does not answer, a step waits our lease out once.
    async fn leave_source(&mut self) {
        if !std::mem::take(&mut self.registered) {
            return;
        }
        let Some(mut connection) = self.connection.take() else { return };
        let leaving = async {
            deregister(&mut connection, self.who.id).await?;
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
            deregister(&mut connection, self.who.id).await?;
            connection.close().await.doing("closing the lease's connection")
        };
        match tokio::time::timeout(self.who.lease / 3, giving_back).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!("deregistering: {error}"),
            Err(_) => tracing::debug!("deregistering: no answer"),
        }
    }
}

fn at_random(ms: RangeInclusive<u64>) -> Duration {
    Duration::from_millis(rand::random_range(ms))
}

/// The record that an instance goes by when it begins.
///
/// A source that was set back to before DynamoOnly says the phase of then: an instance that went by it would
/// write to it beside those who write to the target. So the target is asked too. One that does not answer
/// keeps no instance from the source. It is asked first, as epochs grow: what a source says after it is of no
/// earlier epoch, unless it has lost history. The record of another migration is none: whose the source is,
/// it says itself. Where it has not answered since this process began, that is not known, and a record is
/// believed, as an application must be able to begin in DynamoOnly while PostgreSQL is down.
///
/// # Errors
/// [`Kind::Refused`] where the records contradict each other, and it is unknown where the truth is.
async fn where_truth_is(
    source: &mut PgConnection,
    target: Option<&TargetControl>,
    at_most: Duration,
) -> Result<Home> {
    let Some(target) = target else { return Ok(Home::Source) };
    if let Some(id) = read_migration_id(source).await? {
        target.target().belongs_to(&id)?;
    }
    let record = match tokio::time::timeout(at_most, target.record()).await {
        Ok(Ok(Some(record))) => record,
        Ok(Err(error)) if error.kind == Kind::Misconfigured => {
            tracing::warn!("the control table in DynamoDB is not gone by; PostgreSQL is: {error}");
            return Ok(Home::Source);
        }
        _ => return Ok(Home::Source),
    };
    let control = read_control(source).await?;
    match truth(&control, Some(&record)) {
        Truth::Lost if record.holds_truth() && record.epoch > control.epoch => Ok(Home::Target),
        Truth::Lost => {
            let message = format!(
                "PostgreSQL says {} in epoch {}, DynamoDB's control record {} in epoch {}: one of them has lost history, and nothing is \
                 served before `doctor` was asked which",
                control.phase, control.epoch, record.phase, record.epoch
            );
            Err(Error::source(Kind::Refused, "registering this instance", message))
        }
        _ => Ok(Home::Source),
    }
}

/// Hears what operators have turned, and tells what was counted. That neither works out keeps no lease from
/// being renewed: what was heard stays, and what was not told is told next time.
async fn beside(connection: &mut PgConnection, id: i64, central: &Central) {
    match read_settings(connection).await {
        Ok(settings) => central.hear(&settings),
        Err(error) => return tracing::debug!("the settings were not read: {error}"),
    }
    let untold = central.untold();
    if untold.is_empty() {
        return;
    }
    match report(connection, id, &untold).await {
        Ok(true) => central.told(&untold),
        Ok(false) => {}
        Err(error) => tracing::debug!("what was counted was not told: {error}"),
    }
}

fn no_answer() -> Error {
    Error::source(Kind::Unavailable, "renewing this instance's lease", "no answer")
}
