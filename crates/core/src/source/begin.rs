//! Beginning transactions so that a caller who goes away leaves none behind.

use sqlx::AssertSqlSafe;
use sqlx::postgres::PgPool;

use super::Source;
use crate::error::{Doing, Result};

/// A transaction of the source, rolled back when it is dropped.
pub type SourceTransaction = sqlx::Transaction<'static, sqlx::Postgres>;

impl Source {
    /// Begins a transaction.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Cancel safety
    /// No transaction is left open; see `begin_with`.
    pub async fn begin(&self, doing: &str) -> Result<SourceTransaction> {
        begin_with(&self.pool, "BEGIN".to_owned(), doing).await
    }
}

/// Begins a transaction by the statements in `sql`, in a task of its own, which goes on when the caller is dropped.
///
/// Or else: 1. A caller is dropped while its BEGIN is under way. 2. sqlx has counted no transaction yet, so it rolls none back, and
/// the connection goes back to the pool inside one, holding whatever locks `sql` took. 3. The next to use it writes an
/// intent or an acknowledgement there, hears that it is done, and it never commits.
pub(super) async fn begin_with(pool: &PgPool, sql: String, doing: &str) -> Result<SourceTransaction> {
    let pool = pool.clone();
    let begun = tokio::spawn(async move { pool.begin_with(AssertSqlSafe(sql)).await });
    begun.await.unwrap_or(Err(sqlx::Error::WorkerCrashed)).doing(doing)
}
