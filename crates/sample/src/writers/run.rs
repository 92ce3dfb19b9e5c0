//! One raw writer, from its first connection to its last operation.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use chrono::Utc;
use lockstep_core::Retry;
use lockstep_postgres::of_sqlx;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, PgConnection};
use tokio_util::sync::CancellationToken;

use super::chooser::{Chooser, NewIds};
use super::counts::{Counts, Outcome};
use super::known::Effect;
use super::operation::Operation;
use super::pace::Pace;
use super::raw;

/// Attempts at one operation: with the pauses in between about three seconds, longer than a phase change
/// holds up a writer.
const ATTEMPTS_MAX: u32 = 7;
/// The first pause before another attempt; each further one is twice as long.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
/// Pause before the next try where the tables take no writes by SQL.
const FROZEN_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// Ids drawn at the start, of which those that exist are known.
const DRAWN: usize = 2_000;

/// SQLSTATE with which the capture trigger refuses a write by SQL in DynamoOnly.
const FROZEN: &str = "55000";

/// Options of a writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriterOptions {
    /// Seed of every choice. Two writers need two seeds, or they do the same.
    pub seed: u64,
    /// Operations a second.
    pub per_second: NonZeroU32,
}

/// Writes until `stop` is cancelled; then ends the operation under way and says what came of all of them.
///
/// It survives whatever passes: lock time-outs, deadlocks, restarts. An operation whose connection was lost
/// is not repeated, because it may have been done. While DynamoDB is the truth it waits, and then goes on.
pub async fn write_until(
    source: PgConnectOptions,
    options: WriterOptions,
    stop: CancellationToken,
) -> Counts {
    let mut writer = Writer {
        source,
        stop,
        connection: None,
        was_connected: false,
        frozen: false,
        counts: Counts::default(),
    };
    let Some(mut chooser) = writer.chooser(options.seed).await else { return writer.counts };
    let mut pace = Pace::new(options.per_second);
    let mut ticks = tokio::time::interval(pace.period());
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut asked = Instant::now();
    loop {
        tokio::select! {
            biased;
            () = writer.stop.cancelled() => break,
            _ = ticks.tick() => {}
        }
        let due = pace.due(asked.elapsed());
        asked = Instant::now();
        for _ in 0..due {
            if writer.stop.is_cancelled() {
                break;
            }
            let operation = chooser.choose(Utc::now());
            if let Some(effect) = writer.perform(&operation).await {
                chooser.learn(&effect);
            }
            if writer.frozen {
                break;
            }
        }
        if std::mem::take(&mut writer.frozen) {
            // A writer that uses SQL has to wait in DynamoOnly, or to go through a store. After the way back
            // it writes again.
            let _ = writer.stop.run_until_cancelled(tokio::time::sleep(FROZEN_PAUSE)).await;
            asked = Instant::now();
        }
    }
    if let Some(connection) = writer.connection {
        // Nothing is left to do over it; a source that is gone already is as good as a farewell.
        let _ = connection.close().await;
    }
    writer.counts
}

struct Writer {
    source: PgConnectOptions,
    stop: CancellationToken,
    connection: Option<PgConnection>,
    was_connected: bool,
    /// Whether the tables take no more writes by SQL.
    frozen: bool,
    counts: Counts,
}

/// Reason why an attempt did not succeed.
enum Failure {
    /// Nothing was done; another attempt may succeed.
    Passing,
    /// The connection was lost: perhaps it was done.
    Lost,
    /// Nothing was done, and nothing ever will be.
    Lasting(String),
    /// Nothing was done: the tables are frozen, as DynamoDB is the truth.
    Frozen,
}

impl Writer {
    /// Returns a chooser that knows some of the rows there are; nothing if the writer was stopped before it
    /// could ask for them.
    async fn chooser(&mut self, seed: u64) -> Option<Chooser> {
        let mut rng = StdRng::seed_from_u64(seed.wrapping_add(1));
        let mut draw = |first, last| (0..DRAWN).map(|_| rng.random_range(first..=last)).collect();
        let mut pause = PAUSE_FIRST;
        loop {
            self.connect().await?;
            if let Some(connection) = &mut self.connection
                && let Ok(known) = raw::known(connection, &mut draw).await
            {
                return Some(Chooser::new(seed, NewIds::BySequence, known));
            }
            self.connection = None;
            pause = self.pause(pause).await?;
        }
    }

    /// Does an operation, in several attempts if need be, and counts what came of it.
    async fn perform(&mut self, operation: &Operation) -> Option<Effect> {
        let started = Instant::now();
        let mut pause = PAUSE_FIRST;
        let mut attempt = 1;
        let (outcome, effect) = loop {
            match self.attempt(operation).await {
                Ok(effect) if effect.rows == 0 => break (Outcome::Missed, Some(effect)),
                Ok(effect) => break (Outcome::Done { rows: effect.rows }, Some(effect)),
                Err(Failure::Lost) => break (Outcome::Unknown, None),
                Err(Failure::Lasting(reason)) => break (Outcome::Refused(reason), None),
                Err(Failure::Frozen) => {
                    self.frozen = true;
                    return None;
                }
                Err(Failure::Passing) if attempt == ATTEMPTS_MAX => break (Outcome::GivenUp, None),
                Err(Failure::Passing) => match self.pause(pause).await {
                    Some(longer) => pause = longer,
                    None => break (Outcome::GivenUp, None),
                },
            }
            attempt += 1;
            self.counts.retries += 1;
        };
        self.counts.record(operation.kind(), outcome, started.elapsed());
        effect
    }

    async fn attempt(&mut self, operation: &Operation) -> Result<Effect, Failure> {
        self.connect().await.ok_or(Failure::Passing)?;
        let Some(connection) = &mut self.connection else { return Err(Failure::Passing) };
        let error = match raw::execute(connection, operation).await {
            Ok(effect) => return Ok(effect),
            Err(error) => error,
        };
        let from_server = matches!(error, sqlx::Error::Database(_));
        let error = of_sqlx(operation.kind().label(), error);
        // Classes 57 and 08 end the session as often as not; a new connection is cheap.
        let session_ended =
            error.sqlstate().is_none_or(|code| code.starts_with("57P") || code.starts_with("08"));
        if session_ended {
            self.connection = None;
        }
        match (from_server, error.kind.retry()) {
            (false, _) => Err(Failure::Lost),
            (true, Retry::Again | Retry::Slower) => Err(Failure::Passing),
            (true, Retry::Never) if error.sqlstate().as_deref() == Some(FROZEN) => Err(Failure::Frozen),
            (true, Retry::Never) => Err(Failure::Lasting(error.to_string())),
        }
    }

    /// Sees to it that there is a connection; nothing when stopped before there was one.
    async fn connect(&mut self) -> Option<()> {
        let mut pause = PAUSE_FIRST;
        while self.connection.is_none() {
            if let Ok(connection) = self.open().await {
                self.counts.reconnects += u64::from(self.was_connected);
                self.was_connected = true;
                self.connection = Some(connection);
            } else {
                pause = self.pause(pause).await?;
            }
        }
        Some(())
    }

    async fn open(&self) -> Result<PgConnection, sqlx::Error> {
        let mut connection =
            PgConnection::connect_with(&self.source.clone().application_name("sample writer")).await?;
        sqlx::raw_sql("SET lock_timeout = '2s'; SET statement_timeout = '30s'")
            .execute(&mut connection)
            .await?;
        Ok(connection)
    }

    /// Waits and says how long to wait the next time; nothing when stopped meanwhile.
    async fn pause(&self, pause: Duration) -> Option<Duration> {
        self.stop.run_until_cancelled(tokio::time::sleep(pause)).await?;
        Some((pause * 2).min(PAUSE_MAX))
    }
}
