//! Committing, where a lost answer is looked up before anything is said about it (I8).

use std::time::Duration;

use lockstep_core::Error;
use lockstep_dynamo::Backoff;
use lockstep_postgres::{SourceTransaction, TransactionFate, TransactionId, of_sqlx};
use sqlx::postgres::{PgDatabaseError, PgSeverity};
use tokio::time::{Instant, timeout_at};

use super::Writer;
use super::counters::count;

/// Longest that a caller waits to hear how its commit ended. 1. PostgreSQL goes away in the middle of a
/// commit. 2. Each question waits for a connection until the pool gives up. 3. Seven of them are more than
/// half a minute.
const LOOK_UP_MAX: Duration = Duration::from_secs(4);

/// The end of a commit.
pub(super) enum Commit {
    Committed,
    RolledBack(Error),
    Unknown(Error),
}

impl Writer {
    /// Commits `transaction` of `table`, a label; `None` is the number of one that has changed nothing.
    pub(super) async fn commit(
        &self,
        transaction: SourceTransaction,
        id: Option<TransactionId>,
        table: &'static str,
    ) -> Commit {
        let Err(error) = transaction.commit().await else { return Commit::Committed };
        // A plain error in answer to COMMIT (a deferred constraint, say) is a rollback. A fatal one may come
        // after the commit record was written, while the server waited for a replica.
        let refused = match &error {
            sqlx::Error::Database(e) => {
                e.try_downcast_ref::<PgDatabaseError>().is_some_and(|e| e.severity() == PgSeverity::Error)
            }
            _ => false,
        };
        let error = of_sqlx("committing a write", error);
        match id {
            _ if refused => Commit::RolledBack(error),
            // Whichever way it ended, nothing is other than before.
            None => Commit::RolledBack(error),
            Some(id) => self.look_commit_up(id, error, table).await,
        }
    }

    /// Asks on another connection how it ended, for as long as a caller may be kept waiting.
    async fn look_commit_up(&self, id: TransactionId, error: Error, table: &'static str) -> Commit {
        count(&self.counters().commits_looked_up, table, 1);
        let mut backoff = Backoff::brief();
        let deadline = Instant::now() + LOOK_UP_MAX;
        loop {
            let open = match timeout_at(deadline, self.source().fate_of(id)).await {
                Ok(Ok(TransactionFate::Committed)) => return Commit::Committed,
                Ok(Ok(TransactionFate::Aborted)) => return Commit::RolledBack(error),
                // The server may not have noticed yet that the client is gone.
                Ok(Ok(TransactionFate::InProgress)) => "the transaction is still under way",
                Ok(Ok(TransactionFate::Forgotten)) | Err(_) => return Commit::Unknown(error),
                Ok(Err(_)) => "PostgreSQL does not answer",
            };
            let error_now = Error::source(lockstep_core::Kind::Unknown, "looking a commit up", open);
            if backoff.pause(error_now).await.is_err() {
                return Commit::Unknown(error);
            }
        }
    }
}
