//! PostgreSQL: everything Lockstep asks of the source, and all the SQL there is.
//!
//! In reading order: [`Relation`] and [`TableBinding`] (one table's names and SQL), `inspect` (what the source looks
//! like), `schema` (Lockstep's own tables), `capture` (triggers), `barrier` and `control` (phase and epoch), `pending`,
//! `copy` (reading rows), `progress` (ranges), `dead_letters`, `journal`, `verdicts`.

mod barrier;
mod binding;
mod capture;
mod control;
mod copy;
mod dead_letters;
mod inspect;
mod journal;
mod lookup;
mod pending;
mod progress;
mod schema;
mod standing;
mod tuning;
mod verdicts;

pub use barrier::{BARRIER, CoordinatorLock, take_exclusive, take_shared};
pub use binding::{Relation, TableBinding};
pub(crate) use binding::{list, quote_identifier};
pub use capture::CaptureState;
pub use control::{Control, TableState};
pub use copy::{CopyChunk, KeyBound, RangeRead};
pub use dead_letters::DeadLetter;
pub(crate) use pending::versions_of;

pub use inspect::{Dependent, SourceTable};
pub use journal::{Entry, EntryKind, IntentId};
pub use lookup::KeyState;
pub use pending::{Delivered, Lag, PendingBatch, PendingRow};
pub use progress::{RangeProgress, RangeRow, Window};
pub use standing::{Oldest, Standing};
pub use tuning::Tuning;
pub use verdicts::VerdictRow;

use std::str::FromStr;
use std::time::Duration;

use sqlx::Connection;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};

use crate::error::{Doing, Error, Kind, Result};

/// How to reach the source.
#[derive(Clone, Debug)]
pub struct SourceOptions {
    /// `postgres://user:password@host:port/database?sslmode=…`. TLS is used as `sslmode` says.
    pub url: String,
    /// Most connections held at once.
    pub connections_max: u32,
    /// How long to wait for a connection.
    pub connect_timeout: Duration,
    /// `application_name`, so that a DBA sees who it is.
    pub application_name: String,
}

/// A handle on the source; cheap to clone.
#[derive(Clone, Debug)]
pub struct Source {
    pool: PgPool,
}

impl Source {
    /// Connects and checks that the server answers.
    ///
    /// # Errors
    /// [`Kind::Misconfigured`] for a URL that does not parse, [`Kind::Unavailable`] or [`Kind::Denied`] for a server that
    /// does not answer or lets nobody in.
    pub async fn connect(options: &SourceOptions) -> Result<Self> {
        let connect = PgConnectOptions::from_str(&options.url)
            .map_err(|e| Error::source(Kind::Misconfigured, "reading source.url", e.to_string()))?
            .application_name(&options.application_name)
            // Keys and literals must read the same in every session, whatever the role's defaults are.
            .options([("TimeZone", "UTC"), ("standard_conforming_strings", "on"), ("client_min_messages", "warning")]);
        let place = format!("connecting to PostgreSQL at {}:{}", connect.get_host(), connect.get_port());
        let advise = |e: sqlx::Error| {
            let mut error = Error::of_sqlx(&place, e);
            error.message += "; check source.url (LOCKSTEP_SOURCE__URL) and that the server accepts connections";
            error
        };
        // One connection first: a pool tries again until its time-out and then says no more than that it timed out.
        let first = tokio::time::timeout(options.connect_timeout, PgConnection::connect_with(&connect)).await;
        let first = first.map_err(|_| advise(sqlx::Error::PoolTimedOut))?.map_err(advise)?;
        // It only had to be possible.
        let _ = first.close().await;
        let pool = PgPoolOptions::new()
            .max_connections(options.connections_max)
            .acquire_timeout(options.connect_timeout)
            .connect_lazy_with(connect);
        Ok(Self { pool })
    }

    /// The pool, for statements of this module's callers inside this crate and for tests.
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// The server's version, as `server_version_num`.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn server_version(&self) -> Result<i32> {
        let text: String = sqlx::query_scalar("SELECT current_setting('server_version_num')")
            .fetch_one(&self.pool)
            .await
            .doing("asking for the server version")?;
        text.parse().map_err(|_| Error::source(Kind::Misconfigured, "asking for the server version", text))
    }

    /// Closes the pool: no connection is left when this returns.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}
