//! Transactions, begun so that a caller who goes away leaves none behind.

use std::ops::{Deref, DerefMut};
use std::time::Instant;

use lockstep_core::{Doing, Result};
use sqlx::AssertSqlSafe;
use sqlx::postgres::{PgConnection, PgTransactionManager};
use sqlx_core::transaction::TransactionManager;

use super::Source;
use super::session_settings::is_as_made;
use super::sessions::{Session, Sessions};
use super::timed::{self, COMMIT, TRANSACTION};
use crate::sql;

/// A transaction of the source, rolled back when it is dropped.
#[derive(Debug)]
pub struct SourceTransaction {
    /// Gone only while it ends.
    session: Option<Session>,
    begun: bool,
    is_lent: bool,
}

impl SourceTransaction {
    /// Commits it.
    ///
    /// # Errors
    /// The driver's. Unless PostgreSQL itself refused, it is not known yet whether it was committed (I8).
    #[crate::boxed]
    pub async fn commit(mut self) -> std::result::Result<(), sqlx::Error> {
        let began = Instant::now();
        let committed = PgTransactionManager::commit(&mut self).await;
        timed::note(COMMIT, began.elapsed());
        committed?;
        self.keep().await;
        Ok(())
    }

    /// Rolls it back.
    ///
    /// # Errors
    /// The driver's. It is rolled back all the same, when the server notices.
    #[crate::boxed]
    pub async fn rollback(mut self) -> std::result::Result<(), sqlx::Error> {
        PgTransactionManager::rollback(&mut self).await?;
        self.keep().await;
        Ok(())
    }

    /// Returns the connection for statements that are not ours. Its session is given to the next write only
    /// where they have left its settings as they were.
    ///
    /// 1. An application's own statement is `SET synchronous_commit = off`, or `SET ROLE`. 2. It commits, and
    /// the session goes to another write. 3. That one is answered before it is on disk, or is another role's.
    pub fn lend(&mut self) -> &mut PgConnection {
        self.is_lent = true;
        self
    }

    async fn keep(&mut self) {
        if self.is_lent && !is_as_made(self).await.unwrap_or(false) {
            // What is dropped closes it.
            return;
        }
        if let Some(session) = self.session.take() {
            session.keep();
        }
    }
}

impl Drop for SourceTransaction {
    /// Leaves a transaction that was begun to the pool, which rolls it back. One that may or may not have
    /// been begun goes with its connection.
    ///
    /// Or else: 1. A caller is dropped while its BEGIN is under way, or the statements with it fail. 2. The
    /// driver has counted no transaction yet, so it rolls none back, and the connection goes back to the pool
    /// inside one, with whatever locks it has. 3. The next to use it writes an intent or an acknowledgement
    /// there, hears that it is done, and it never commits.
    fn drop(&mut self) {
        match &mut self.session {
            // What was set in it may have been committed by a statement that is not ours.
            Some(session) if self.is_lent => session.close_on_drop(),
            Some(session) if self.begun => PgTransactionManager::start_rollback(session),
            Some(session) => session.close_on_drop(),
            None => {}
        }
    }
}

impl Source {
    /// Begins a transaction.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Cancel safety
    /// No transaction is left open.
    #[crate::boxed]
    pub async fn begin(&self, doing: &str) -> Result<SourceTransaction> {
        begin_with(&self.sessions, "BEGIN".to_owned(), doing).await
    }
}

/// Begins a transaction by the statements in `sql`.
pub(super) async fn begin_with(sessions: &Sessions, sql: String, doing: &str) -> Result<SourceTransaction> {
    let mut transaction = SourceTransaction {
        session: Some(sessions.take(TRANSACTION).await.doing(doing)?),
        begun: false,
        is_lent: false,
    };
    PgTransactionManager::begin(&mut transaction, Some(sql::text(AssertSqlSafe(sql)))).await.doing(doing)?;
    transaction.begun = true;
    Ok(transaction)
}

const ENDED: &str = "a transaction has its session until it ends";

impl Deref for SourceTransaction {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        self.session.as_ref().expect(ENDED)
    }
}

impl DerefMut for SourceTransaction {
    fn deref_mut(&mut self) -> &mut PgConnection {
        self.session.as_mut().expect(ENDED)
    }
}
