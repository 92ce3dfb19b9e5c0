//! Schema and history into PostgreSQL, through `COPY … FROM STDIN`.

mod feed;
mod line;
mod standing;

use std::num::NonZeroUsize;

use futures::future::try_join_all;
use lockstep_core::{Doing, Result};
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, PgConnection};

use super::generate::History;
use feed::{Feed, LOGS, PAYMENTS};

/// Tables, which may exist already.
pub const SCHEMA_SQL: &str = include_str!("../schema.sql");
/// Indexes, which may exist already.
pub const INDEXES_SQL: &str = include_str!("../indexes.sql");

/// Rows of the two tables that move.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    /// Rows of `integration_logs`.
    pub logs: u64,
    /// Rows of `payments`.
    pub payments: u64,
}

/// Result of [`load`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loaded {
    /// The tables were empty and now hold this history.
    Fresh(Rows),
    /// The tables held rows already; nothing was added.
    Present(Rows),
}

impl Loaded {
    /// Returns what the tables hold now, either way.
    pub fn rows(self) -> Rows {
        let (Self::Fresh(rows) | Self::Present(rows)) = self;
        rows
    }
}

/// Creates the tables where they are missing and, if the two that move are empty, loads `history` into them.
///
/// Rows arrive over `connections` connections that are used for nothing else (a pool would be kept from its
/// other users), each with a few chunks in memory. Nothing is visible until all of them have everything; then
/// indexes are built, identities set above the loaded ids, and statistics gathered. `progress` hears how many
/// rows have gone since it last heard.
///
/// # Errors
/// PostgreSQL's. Dropped or failed before its last step, it leaves the tables empty, and may be called again.
pub async fn load(
    source: &PgConnectOptions,
    history: &History,
    connections: NonZeroUsize,
    progress: impl Fn(u64) + Sync,
) -> Result<Loaded> {
    let mut connection = connect(source).await?;
    create_tables(&mut connection).await?;
    let present = rows(&mut connection).await?;
    if present != Rows::default() {
        create_indexes(&mut connection).await?;
        return Ok(Loaded::Present(present));
    }
    let (logs, payments) = (Feed::new(*history, &LOGS), Feed::new(*history, &PAYMENTS));
    let workers = (0..connections.get()).map(|_| async {
        let mut connection = connect(source).await?;
        sqlx::raw_sql("BEGIN").execute(&mut connection).await.doing("beginning to load")?;
        logs.copy(&mut connection, &progress).await?;
        payments.copy(&mut connection, &progress).await?;
        Ok(connection)
    });
    for mut worker in try_join_all(workers).await? {
        sqlx::raw_sql("COMMIT").execute(&mut worker).await.doing("committing the loaded rows")?;
        worker.close().await.doing("closing a connection that loaded")?;
    }
    create_indexes(&mut connection).await?;
    standing::set_identities(&mut connection).await?;
    sqlx::raw_sql("ANALYZE").execute(&mut connection).await.doing("gathering statistics")?;
    let loaded = Rows { logs: history.logs, payments: history.payments };
    connection.close().await.doing("closing the connection that loaded")?;
    Ok(Loaded::Fresh(loaded))
}

/// Creates what is missing of tables and standing rows, without history.
///
/// # Errors
/// PostgreSQL's.
pub async fn create_tables(connection: &mut PgConnection) -> Result<()> {
    // "Already exists, skipping" is what we want, not what an operator should read.
    sqlx::raw_sql("SET client_min_messages = warning")
        .execute(&mut *connection)
        .await
        .doing("silencing notices")?;
    sqlx::raw_sql(SCHEMA_SQL).execute(&mut *connection).await.doing("creating the sample's tables")?;
    standing::insert(connection).await?;
    standing::set_identities(connection).await
}

/// Creates the indexes that are missing.
///
/// # Errors
/// PostgreSQL's.
pub async fn create_indexes(connection: &mut PgConnection) -> Result<()> {
    sqlx::raw_sql(INDEXES_SQL).execute(connection).await.doing("creating the sample's indexes")?;
    Ok(())
}

async fn connect(source: &PgConnectOptions) -> Result<PgConnection> {
    PgConnection::connect_with(source).await.doing("connecting to load the sample")
}

async fn rows(connection: &mut PgConnection) -> Result<Rows> {
    let (logs, payments): (i64, i64) =
        sqlx::query_as("SELECT (SELECT count(*) FROM integration_logs), (SELECT count(*) FROM payments)")
            .fetch_one(connection)
            .await
            .doing("counting what the tables hold")?;
    Ok(Rows { logs: logs.unsigned_abs(), payments: payments.unsigned_abs() })
}
