//! The barrier: what makes a phase change atomic (I5).
//!
//! Every transaction that writes a captured table holds the barrier shared until it ends: the library takes
//! it first, and the capture trigger takes it for every other session. A phase change holds it exclusive, so
//! while the phase changes no write transaction is in flight, and none spans two phases. No clock is
//! involved.

use std::time::Duration;

use lockstep_core::{Doing, Error, Kind, Result};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection};

use super::Source;
use super::node::{Told, require_writer};
use crate::sql::{self, Run as _};

/// Second arguments of our advisory locks; the first is that of the control schema, so that two migrations
/// beside one another stop each their own writers.
const BARRIER: i32 = 1;
const COORDINATOR: i32 = 2;
const REVERSE_FEED: i32 = 3;

/// Returns the advisory lock that is the barrier, as the two arguments of PostgreSQL's advisory lock
/// functions.
pub fn barrier() -> (i32, i32) {
    (sql::locks(), BARRIER)
}

/// Takes the barrier shared until the transaction ends. Waits while a phase change holds it.
///
/// # Errors
/// The driver's; [`Kind::Busy`] after `lock_timeout`.
///
/// # Cancel safety
/// The transaction must be rolled back afterwards, as after any cancelled statement.
#[crate::boxed]
pub async fn take_shared(transaction: &mut PgConnection) -> Result<()> {
    sql::query("SELECT pg_catalog.pg_advisory_xact_lock_shared($1, $2)")
        .bind(sql::locks())
        .bind(BARRIER)
        .execute(transaction)
        .await
        .doing("entering the barrier")?;
    Ok(())
}

/// Takes the barrier exclusive until the transaction ends, waiting at most `lock_timeout`: while it waits,
/// every new write transaction queues behind it, so this bound is also the longest stall an application sees.
///
/// # Errors
/// [`Kind::Busy`] when a write transaction stayed open for longer.
#[crate::boxed]
pub async fn take_exclusive(transaction: &mut PgConnection, lock_timeout: Duration) -> Result<()> {
    limit_lock_waits(transaction, lock_timeout).await?;
    sql::query("SELECT pg_catalog.pg_advisory_xact_lock($1, $2)")
        .bind(sql::locks())
        .bind(BARRIER)
        .execute(&mut *transaction)
        .await
        .doing("closing the barrier")?;
    transaction.execute("SET LOCAL lock_timeout = 0").await.doing("resetting lock_timeout")?;
    Ok(())
}

/// Bounds every wait for a lock until the transaction ends; a wait that is over fails with [`Kind::Busy`].
pub(super) async fn limit_lock_waits(transaction: &mut PgConnection, longest: Duration) -> Result<()> {
    // Zero would be no bound at all.
    let timeout = format!("SET LOCAL lock_timeout = {}", longest.as_millis().max(1));
    transaction.execute(AssertSqlSafe(timeout)).await.doing("bounding the wait for locks")?;
    Ok(())
}

/// The right to run backfill and transitions: one process at a time. Held by a session, so it is free as soon
/// as the process is gone, however it went.
#[derive(Debug)]
pub struct CoordinatorLock {
    connection: PgConnection,
    what: &'static str,
}

/// The right to run the reverse feed: one process at a time. It is what [`CoordinatorLock`] is.
pub type FeedLock = CoordinatorLock;

impl Source {
    /// Takes the coordinator's lock, or says who has it.
    ///
    /// # Errors
    /// [`Kind::Busy`] when another coordinator is at work.
    #[crate::boxed]
    pub async fn lock_coordinator(&self) -> Result<CoordinatorLock> {
        self.lock_for("coordinator", COORDINATOR).await
    }

    /// Takes the reverse feed's lock, or says who has it.
    ///
    /// # Errors
    /// [`Kind::Busy`] when another feed is at work.
    #[crate::boxed]
    pub async fn lock_reverse_feed(&self) -> Result<FeedLock> {
        self.lock_for("reverse feed", REVERSE_FEED).await
    }

    /// Returns the PostgreSQL backends of the coordinator and of the reverse feed that are at work.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn at_work(&self) -> Result<(Option<i32>, Option<i32>)> {
        let mut connection = self.pool().acquire().await.doing("asking who is at work")?;
        Ok((holder(&mut connection, COORDINATOR).await?, holder(&mut connection, REVERSE_FEED).await?))
    }

    pub(super) async fn lock_for(&self, what: &'static str, number: i32) -> Result<CoordinatorLock> {
        let taking = format!("taking the {what}'s lock");
        let mut connection = PgConnection::connect_with(&self.pool().connect_options())
            .await
            .doing(&format!("connecting for the {what}'s lock"))?;
        // On a replica the lock of the same name is another one, and free.
        require_writer(&mut connection, &Told::default()).await.doing(&taking)?;
        // Or else a role's `idle_session_timeout` ends it, and the lock with it, between two looks.
        super::make_own_session(&mut connection).await.doing(&taking)?;
        let got: bool = sql::query_scalar("SELECT pg_catalog.pg_try_advisory_lock($1, $2)")
            .bind(sql::locks())
            .bind(number)
            .fetch_one(&mut connection)
            .await
            .doing(&taking)?;
        if got {
            return Ok(CoordinatorLock { connection, what });
        }
        let holder = holder(&mut connection, number).await?;
        let holder = holder.map_or("just ended; try again".to_owned(), |pid| {
            format!(
                "is PostgreSQL backend {pid} (see pg_stat_activity); wait for it to end, or stop the \
            process that it serves. Do not end the backend: its \
                 process would go on without the lock until it notices"
            )
        });
        Err(Error::source(Kind::Busy, taking, format!("another Lockstep {what} is at work: it {holder}")))
    }
}

/// Returns the backend that has a lock of this database.
pub(super) async fn holder(connection: &mut PgConnection, number: i32) -> Result<Option<i32>> {
    sql::query_scalar(
        "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND classid::int = $1 AND objid::int = $2
             AND database = (SELECT oid FROM pg_database WHERE datname = pg_catalog.current_database())
                 LIMIT 1",
    )
    .bind(sql::locks())
    .bind(number)
    .fetch_optional(connection)
    .await
    .doing("asking who has a lock of Lockstep")
}

/// Longest wait for the session of a lock to say that it is there.
const CHECKED_WITHIN: std::time::Duration = std::time::Duration::from_secs(10);

impl CoordinatorLock {
    /// Returns the session that holds it.
    pub(super) fn session(&mut self) -> &mut PgConnection {
        &mut self.connection
    }

    /// Fails when the session, and with it the lock, is gone, or does not say within `CHECKED_WITHIN` that
    /// it is there: a connection that leads nowhere any more says nothing for a quarter of an hour. The
    /// holder of the lock calls it about once a second and stops at the first error.
    ///
    /// # Errors
    /// The driver's; [`Kind::Unavailable`] without an answer in time.
    #[crate::boxed]
    pub async fn check(&mut self) -> Result<()> {
        let doing = format!("checking the {}'s lock", self.what);
        match tokio::time::timeout(CHECKED_WITHIN, self.connection.ping()).await {
            Ok(answered) => answered.doing(&doing),
            Err(_) => Err(Error::source(Kind::Unavailable, doing, "PostgreSQL did not answer in time")),
        }
    }

    /// Gives the lock back.
    #[crate::boxed]
    pub async fn release(mut self) {
        // A session that is closed holds its locks until the server has noticed. 1. One command ends on a
        // busy machine. 2. The next one begins at once, and is told that another one is at work.
        let unlock = self.connection.execute("SELECT pg_catalog.pg_advisory_unlock_all()");
        let _ = tokio::time::timeout(CHECKED_WITHIN, unlock).await;
        // A failure means that the session is gone, and the lock with it.
        let _ = self.connection.close().await;
    }
}
