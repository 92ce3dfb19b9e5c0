//! Sessions that writes take turns with, kept out of the pool for as long as they are in use again within a
//! moment.
//!
//! A pool asks each connection that comes back whether it still works. That round trip is not on the path of
//! the caller who gave it back, but it is on the processor of the next one: beside a write of a quarter of a
//! millisecond, half a write. A session whose last statement was answered needs no such question, and goes to
//! the next write as it is. Any other (an error, a caller who went away) goes back to the pool, which asks,
//! or is closed.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use lockstep_core::{Doing, Result};
use sqlx::Postgres;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnection, PgPool};

use super::Source;
use super::node::{TRUSTED_FOR, connections_are_doubted};
use super::timed::{self, STATEMENT, TimedPool};

/// The sessions of one pool. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Sessions {
    pool: PgPool,
    kept: Arc<Kept>,
}

#[derive(Debug)]
struct Kept {
    /// The newest last; `None` once the pool is closed.
    idle: Mutex<Option<Vec<Idle>>>,
    /// Few, so that others who want one of the pool do not wait for sessions that are not in use.
    most: usize,
}

#[derive(Debug)]
struct Idle {
    connection: PoolConnection<Postgres>,
    since: Instant,
}

impl Sessions {
    pub(super) fn new(pool: PgPool) -> Self {
        let most = pool.options().get_max_connections() as usize / 4;
        Self { pool, kept: Arc::new(Kept { idle: Mutex::new(Some(Vec::new())), most }) }
    }

    /// Returns the pool that they are of.
    pub(super) fn pool(&self) -> TimedPool<'_> {
        TimedPool(&self.pool)
    }

    /// A session that was in use a moment ago, or one of the pool's, for an operation that is timed.
    ///
    /// # Cancel safety
    /// Nothing is lost: what was taken goes back to the pool.
    pub(super) async fn take(&self, operation: &'static str) -> std::result::Result<Session, sqlx::Error> {
        let since = Instant::now();
        let known = self.kept.with(|idle| idle.pop()).flatten();
        let connection = match known {
            Some(idle) if idle.since.elapsed() < TRUSTED_FOR && !connections_are_doubted() => idle.connection,
            // As they are in order of age, none of the others is younger. The pool asks them.
            Some(_) => {
                drop(self.kept.with(std::mem::take));
                self.pool.acquire().await?
            }
            None => self.pool.acquire().await?,
        };
        Ok(Session { connection: Some(connection), kept: self.kept.clone(), operation, since })
    }

    /// Closes the pool; no connection of it is left when this returns.
    pub(super) async fn close(&self) {
        let idle = self.kept.idle.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(idle);
        self.pool.close().await;
    }
}

impl Source {
    /// Returns a session for one statement that is a transaction by itself.
    #[crate::boxed]
    pub async fn session(&self, doing: &str) -> Result<Session> {
        self.sessions.take(STATEMENT).await.doing(doing)
    }
}

impl Kept {
    fn with<R>(&self, act: impl FnOnce(&mut Vec<Idle>) -> R) -> Option<R> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).as_mut().map(act)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        // The pool's own way back is a task, and there may be no runtime any more.
        for idle in
            self.idle.get_mut().unwrap_or_else(PoisonError::into_inner).iter_mut().flat_map(std::mem::take)
        {
            drop(idle.connection.detach());
        }
    }
}

/// A connection of the source in use by one caller. Dropped, it goes back to the pool, which asks it first.
#[derive(Debug)]
pub struct Session {
    /// Gone only while it is given away.
    connection: Option<PoolConnection<Postgres>>,
    kept: Arc<Kept>,
    /// Use that it is put to, and since when: the time of it is noted once it ends.
    operation: &'static str,
    since: Instant,
}

impl Drop for Session {
    fn drop(&mut self) {
        timed::note(self.operation, self.since.elapsed());
    }
}

impl Session {
    /// Gives it to the next write as it is. Only for a session that is outside of any transaction and whose
    /// last statement was answered.
    pub fn keep(mut self) {
        let mut connection = self.connection.take();
        self.kept.with(|idle| {
            if idle.len() < self.kept.most
                && let Some(connection) = connection.take()
            {
                idle.push(Idle { connection, since: Instant::now() });
            }
        });
        // One too many goes back to the pool here, after the lock.
        drop(connection);
    }

    /// Closes it instead of giving it back, when dropped.
    pub(super) fn close_on_drop(&mut self) {
        if let Some(connection) = &mut self.connection {
            connection.close_on_drop();
        }
    }
}

const GIVEN_AWAY: &str = "a session is there until it is given away";

impl Deref for Session {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        self.connection.as_deref().expect(GIVEN_AWAY)
    }
}

impl DerefMut for Session {
    fn deref_mut(&mut self) -> &mut PgConnection {
        self.connection.as_deref_mut().expect(GIVEN_AWAY)
    }
}
