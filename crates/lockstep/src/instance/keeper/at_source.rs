//! One renewal in PostgreSQL, and the way past it while it does not answer.

use std::time::Duration;

use lockstep_core::Advice::Doctor;
use lockstep_core::{Doing, Error, Kind, Phase, Registration, Result, Truth, truth};
use lockstep_dynamo::TargetControl;
use lockstep_postgres::instances::{is_another_roles, register, renew};
use lockstep_postgres::{OwnMigration, connect_own, read_control, read_settings, read_whose, report};

use super::{Home, Keeper, PgConnection, new_id};
use crate::central::Central;
use crate::instance::earlier::completion_of;
use crate::phase::Moment;

impl Keeper {
    /// Renews in the source; says whether there is nothing more to do in this turn.
    pub(super) async fn at_source(&mut self) -> Result<bool> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            empty => empty.insert(connect_own(&self.connect).await.doing("connecting for the lease")?),
        };
        if !self.registered {
            // Half of what this has in a turn, so that a target that says nothing leaves time for the source.
            match where_truth_is(connection, &self.own, self.target.as_ref(), self.who.lease / 12).await? {
                Home::Source => {
                    let who = Registration { id: self.source_id, ..self.who.clone() };
                    if let Err(error) = register(connection, &who).await {
                        return self.under_another_number(error);
                    }
                }
                Home::Target => {
                    self.connection = None;
                    self.home = Home::Target;
                    return Ok(false);
                }
            }
            self.registered = true;
        }
        // An epoch is acknowledged after it was adopted: operations under an older phase give no answer any
        // more.
        let acknowledged = self.known.acknowledgeable();
        let asked = Moment::now();
        let renewed = match renew(connection, self.source_id, acknowledged).await {
            Err(error) => return self.under_another_number(error),
            Ok(renewed) => renewed,
        };
        let Some(control) = renewed else {
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
        beside(connection, self.source_id, &self.central).await;
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

    /// Takes another number where `error` says that ours is another role's by now; the error itself where
    /// it is another one. 1. The truth is in DynamoDB, and our row in PostgreSQL is gone. 2. A role that
    /// has read our number there registers it. 3. The truth comes back, and each try to register under
    /// that number is refused: nothing would be served before this process starts again.
    fn under_another_number(&mut self, error: Error) -> Result<bool> {
        if !is_another_roles(&error) {
            return Err(error);
        }
        if std::mem::take(&mut self.registered) {
            // No step waits for us any more (I6).
            self.known.forget();
        }
        self.source_id = new_id();
        tracing::warn!(
            instance = self.who.name,
            "another role has registered the number of this instance in PostgreSQL; it takes another one"
        );
        Ok(false)
    }

    /// The source does not answer. If the target says that the truth is there, then that is so, whatever the
    /// source would say: the way back is decided in the target first.
    pub(super) async fn look_past_the_source(&mut self, error: Error) -> Result<bool> {
        let Some(target) = self.target.as_ref().filter(|_| error.kind != Kind::Refused) else {
            return Err(error);
        };
        // It may be in the middle of an answer.
        self.connection = None;
        let last = self.known.last().map(|last| last.epoch);
        match target.record().await {
            Ok(Some(record)) if record.holds_truth() && last.is_none_or(|last| last <= record.epoch) => {
                if !target.names_us().await? {
                    return Err(error);
                }
                self.home = Home::Target;
                Ok(false)
            }
            _ => Err(error),
        }
    }
}

/// Returns the record that an instance goes by when it begins.
///
/// A source that was set back to before DynamoOnly says the phase of then: an instance that went by it would
/// write to it beside those who write to the target. So the target is asked too. One that does not answer
/// keeps no instance from the source. It is asked first, as epochs grow: what a source says after it is of no
/// earlier epoch, unless it has lost history. The record of another migration is none: whose the source is,
/// it says itself. Where it has not answered since this process began, that is not known, and a record is
/// believed, as an application must be able to begin in DynamoOnly while PostgreSQL is down. A record that
/// names no migration is not believed against the source: see [`TargetControl::names_us`].
///
/// # Errors
/// [`Kind::Refused`] where the records contradict each other, and it is unknown where the truth is.
async fn where_truth_is(
    source: &mut PgConnection,
    own: &OwnMigration,
    target: Option<&TargetControl>,
    at_most: Duration,
) -> Result<Home> {
    let Some(target) = target else { return Ok(Home::Source) };
    let whose = read_whose(source).await?;
    // 1. Our migration is complete. 2. A second one of other tables begins in this PostgreSQL. 3. This
    // process starts, and the phase that PostgreSQL says is that of the second.
    let done = completion_of(&whose, target).await?;
    own.set_aside(done.is_some());
    let id = done.as_ref().map_or(whose.id, |done| done.migration_id.clone());
    if let Some(id) = id {
        target.target().belongs_to(&id)?;
        own.set(&id);
    }
    if done.is_some() {
        return Ok(Home::Target);
    }
    let record = match tokio::time::timeout(at_most, target.record()).await {
        Ok(Ok(Some(record))) => record,
        Ok(Err(error)) if error.kind == Kind::Misconfigured => {
            tracing::warn!(
                "this instance goes by PostgreSQL, and not by the control table in DynamoDB: {error}"
            );
            return Ok(Home::Source);
        }
        _ => return Ok(Home::Source),
    };
    let control = read_control(source).await?;
    match truth(&control, Some(&record)) {
        Truth::Lost if record.holds_truth() && record.epoch > control.epoch && target.names_us().await? => {
            Ok(Home::Target)
        }
        Truth::Lost => {
            let message = format!(
                "PostgreSQL says {} in epoch {}, DynamoDB's control record {} in \
                    epoch {}: one of them has lost history. This instance serves \
                    nothing until that is repaired; run {Doctor}, which says which one it is",
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
        Err(error) => tracing::debug!("could not report the counts of this instance: {error}"),
    }
}
