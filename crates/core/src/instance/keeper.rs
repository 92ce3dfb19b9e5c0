//! Keeps a lease: registers, renews, acknowledges, and registers again after having been given up.

use std::sync::Arc;
use std::time::Duration;

use sqlx::Connection;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::known::Known;
use super::moment::Moment;
use crate::error::{Doing, Error, Kind, Result};
use crate::source::instances::{Registration, deregister, register, renew};

/// Longest pause between renewals. Each also polls the phase, so this bounds how late a phase is seen when notifications are
/// lost (R19: within a second).
const POLL: Duration = Duration::from_secs(1);
/// Pause after a failure.
const RETRY: Duration = Duration::from_millis(200);
/// Renewals of one turn: the phase, its acknowledgement, and a registration between them; a phase that changes faster than
/// this is caught up with by the next turn.
const RENEWALS_MAX: u32 = 4;

/// The task that keeps a lease, on a connection of its own: the application's may all be waiting for the barrier.
#[derive(Debug)]
pub(super) struct Keeper {
    pub(super) connect: PgConnectOptions,
    pub(super) who: Registration,
    pub(super) known: Arc<Known>,
    pub(super) wake: Arc<Notify>,
    pub(super) closing: CancellationToken,
    connection: Option<PgConnection>,
    registered: bool,
    fenced: bool,
}

impl Keeper {
    pub(super) fn new(
        connect: PgConnectOptions,
        who: Registration,
        known: Arc<Known>,
        wake: Arc<Notify>,
        closing: CancellationToken,
    ) -> Self {
        Self { connect, who, known, wake, closing, connection: None, registered: false, fenced: false }
    }

    /// Keeps the lease until told to close, then gives it back.
    pub(super) async fn run(mut self) {
        let renew_every = (self.who.lease / 3).min(POLL);
        loop {
            let pause = match self.turn(self.who.lease / 3).await {
                Ok(()) => renew_every,
                Err(error) => self.trouble(&error).min(renew_every),
            };
            tokio::select! {
                () = self.closing.cancelled() => return self.give_back().await,
                () = self.wake.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// One renewal, within `bound`: a connection that says nothing is given up while there is lease left for another.
    pub(super) async fn turn(&mut self, bound: Duration) -> Result<()> {
        let done = tokio::time::timeout(bound, self.try_turn()).await;
        let done = done.unwrap_or_else(|_| Err(Error::source(Kind::Unavailable, "renewing this instance's lease", "no answer")));
        if done.is_err() {
            // It may be in the middle of an answer.
            self.connection = None;
        } else if std::mem::take(&mut self.fenced) {
            tracing::info!(instance = self.who.name, "the source answers again; this instance knows the phase and serves");
        }
        done
    }

    async fn try_turn(&mut self) -> Result<()> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            empty => empty.insert(PgConnection::connect_with(&self.connect).await.doing("connecting for the lease")?),
        };
        for _ in 0..RENEWALS_MAX {
            if !self.registered {
                register(connection, &self.who).await?;
                self.registered = true;
            }
            // What is acknowledged was adopted before: operations under an older phase give no answer any more.
            let adopted = self.known.epoch();
            let asked = Moment::now();
            match renew(connection, self.who.id, adopted).await? {
                Some(control) => {
                    self.known.learn(control, asked, Some(self.who.lease));
                    if self.known.epoch() == adopted {
                        break;
                    }
                }
                None => {
                    // A step has waited our lease out, and nobody waits for us any more (I6).
                    self.known.forget();
                    self.registered = false;
                    tracing::warn!(instance = self.who.name, "a step gave this instance up; it registers again");
                }
            }
        }
        Ok(())
    }

    fn trouble(&mut self, error: &Error) -> Duration {
        let over = self.known.at(Moment::now()).is_none();
        if over && !std::mem::replace(&mut self.fenced, true) {
            tracing::warn!(instance = self.who.name, "the lease is over, and nothing is served by the phase: {error}");
        } else {
            tracing::debug!(instance = self.who.name, "the lease was not renewed: {error}");
        }
        RETRY
    }

    /// Serves nothing more, and says so, that no step has to wait for this lease. If that does not work out, it waits.
    async fn give_back(mut self) {
        self.known.forget();
        let giving_back = async {
            let mut connection = match self.connection.take() {
                Some(connection) => connection,
                None => PgConnection::connect_with(&self.connect).await.doing("connecting to deregister")?,
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
