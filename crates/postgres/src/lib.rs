//! PostgreSQL: everything Lockstep asks of the source, and all the SQL there is.
//!
//! In reading order: [`Relation`] and [`TableBinding`] (one table's names and SQL), `inspect` (what the source looks
//! like), `shape` (whether it is still that, and hides nothing), `sessions`, `node`, `password` and `begin` (connections and transactions), `schema` (Lockstep's own tables), `capture` (triggers),
//! `barrier` and `control` (phase and epoch), `pending`, `statements` and `calls` (writing single rows), `intents` and
//! `sweep` (strict writes under way, and what they left), `instances` (leases), `copy` and `some_rows` (reading rows), `progress`
//! (ranges), `sequences` (ids), `dead_letters`, `probe` (capture is seen to work), `repair` (marks from outside), [`reverse`] (rows that come back from the target),
//! `unreadable` (marks that are no keys), `strangers` (other roles), `references`, `journal`, `verdicts`, `unverified` and `lately` (what was delivered since a pass, and since a moment), `history`
//! (a step back is noticed), `archive` (the end).

mod activity;
mod archive;
mod barrier;
mod begin;
mod binding;
mod calls;
mod capture;
mod control;
mod copy;
mod dead_letters;
mod history;
mod inspect;
pub mod instances;
mod intents;
mod journal;
mod lately;
mod lookup;
mod node;
mod password;
mod pending;
mod probe;
mod progress;
mod references;
mod repair;
pub mod reverse;
mod schema;
pub mod sequences;
mod sessions;
mod shape;
mod some_rows;
mod standing;
mod statements;
mod strangers;
mod sweep;
mod tuning;
mod unreadable;
mod unverified;
mod verdicts;

pub use activity::Activity;
pub use archive::Completed;
pub use barrier::{BARRIER, CoordinatorLock, FeedLock, take_exclusive, take_shared};
pub use begin::SourceTransaction;
pub use binding::{Relation, TableBinding};
pub use binding::{list, quote_identifier};
pub use calls::{Call, CallEnd, Called, Marked, Marks, call, call_sql};
pub use capture::{CAPTURE_VERSION, CaptureState};
pub(crate) use control::control_of_row;
pub use control::{TableState, flip_phase, flip_phase_at_least, read_control, read_migration_id};
pub use copy::{CopyChunk, KeyBound, RangeRead};
pub use dead_letters::DeadLetter;
pub use history::{KnownMarks, NewMark, SourceHistory};
pub use intents::{Left, Mark, MarkedKey, begin_write, left_under, settle_in_transaction};

pub use inspect::{Dependent, SourceTable};
pub use intents::TransactionId;
pub use journal::{Entry, EntryKind, IntentId};
pub use lookup::KeyState;
pub use password::Password;
pub use pending::{Delivered, KeyOrder, Lag, PendingBatch, PendingRow};
pub use probe::CaptureProbe;
pub use progress::{RangeProgress, RangeRow};
pub(crate) use progress::{window_conditions_sql, window_sql};
pub use references::Dangling;
pub use sessions::Session;
pub use shape::{RowSecurity, Shape, column_types, columns_of, hides};
pub use standing::{Oldest, Standing};
pub use statements::{Computed, RowStatements};
pub use strangers::ForeignHolder;
pub use sweep::{Swept, TransactionFate};
pub use tuning::Tuning;
pub use unverified::{ChangedKey, FullPass};
pub use verdicts::VerdictRow;

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use lockstep_core::{Doing, Error, Kind, Result};
use sqlx::Connection;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};

use self::node::{Told, is_there, require_writer};
use self::sessions::Sessions;

/// Longest that a transaction of ours may do nothing. 1. A process is stopped, or cut off from the network, inside a write
/// transaction. 2. It holds the barrier, and no process will end it. 3. No step gets the barrier again. So
/// PostgreSQL ends it. A strict write waits for the target inside its transaction, within this bound.
const IDLE_IN_TRANSACTION: &str = "30s";

/// How to reach the source.
#[derive(Clone, Debug)]
pub struct SourceOptions {
    /// `postgres://user:password@host:port/database?sslmode=…`. TLS is used as `sslmode` says.
    pub url: String,
    /// Where the password comes from, if not from the URL.
    pub password: Password,
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
    /// Of the pool: see [`sessions`].
    sessions: Sessions,
    /// For intents and their fate only. A strict write holds a connection of `pool` and wants a second one: were it from the
    /// same pool, as many writes as it has connections would wait for each other for ever. A task that holds
    /// one of these wants no other.
    intents: Sessions,
    /// Held for as long as there is a handle.
    _alive: Arc<()>,
}

/// Most connections for intents: each is held for one small commit.
const INTENT_CONNECTIONS_MAX: u32 = 4;

impl Source {
    /// Connects, and checks that the server answers.
    ///
    /// # Errors
    /// [`Kind::Misconfigured`] for a URL that does not parse, [`Kind::Unavailable`] or [`Kind::Denied`] for a server that
    /// does not answer or accepts no connection.
    pub async fn connect(options: &SourceOptions) -> Result<Self> {
        let connect = connect_options(options)?;
        let place = format!("connecting to PostgreSQL at {}:{}", connect.get_host(), connect.get_port());
        let advise = |e: sqlx::Error| {
            let mut error = Error::of_sqlx(&place, e);
            error.message += "; check source.url (LOCKSTEP_SOURCE__URL) and that the server accepts connections";
            error
        };
        // One connection first: a pool tries again until its time-out and then says no more than that it timed out.
        let connect = options.password.apply(connect).await?;
        let first = tokio::time::timeout(options.connect_timeout, PgConnection::connect_with(&connect)).await;
        let mut first = first.map_err(|_| advise(sqlx::Error::PoolTimedOut))?.map_err(advise)?;
        require_writer(&mut first, &Told::default()).await.map_err(advise)?;
        // It only had to be possible.
        let _ = first.close().await;
        Ok(Self::lazily(options, &connect))
    }

    /// A handle on a server that may be down: it connects when it is first needed. Must be called inside a Tokio runtime.
    ///
    /// # Errors
    /// [`Kind::Misconfigured`] for a URL that does not parse.
    pub fn connect_lazily(options: &SourceOptions) -> Result<Self> {
        Ok(Self::lazily(options, &connect_options(options)?))
    }

    fn lazily(options: &SourceOptions, connect: &PgConnectOptions) -> Self {
        let told = Told::default();
        let pool = |connections_max| {
            let told = told.clone();
            PgPoolOptions::new()
                .max_connections(connections_max)
                .acquire_timeout(options.connect_timeout)
                .after_connect(move |connection, _| {
                    let told = told.clone();
                    Box::pin(async move {
                        require_writer(connection, &told).await?;
                        make_a_session(connection).await
                    })
                })
                // A connection in use a moment ago is not asked first whether it is still there: that question would be
                // half of what a small write costs.
                .test_before_acquire(false)
                .before_acquire(|connection, known| Box::pin(is_there(connection, known)))
                .connect_lazy_with(connect.clone())
        };
        let sessions = |connections_max| Sessions::new(pool(connections_max));
        let (sessions, intents) = (sessions(options.connections_max), sessions(INTENT_CONNECTIONS_MAX));
        let alive = Arc::new(());
        options.password.clone().keep_fresh(&alive, vec![sessions.pool().clone(), intents.pool().clone()]);
        Self { sessions, intents, _alive: alive }
    }

    /// The pool, for statements of this module's callers inside this crate and for tests.
    pub fn pool(&self) -> &PgPool {
        self.sessions.pool()
    }

    /// Name of the database.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn database(&self) -> Result<String> {
        sqlx::query_scalar("SELECT current_database()::text").fetch_one(self.pool()).await.doing("asking for the database's name")
    }

    /// The server's version, as `server_version_num`.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn server_version(&self) -> Result<i32> {
        let text: String = sqlx::query_scalar("SELECT current_setting('server_version_num')")
            .fetch_one(self.pool())
            .await
            .doing("asking for the server version")?;
        text.parse().map_err(|_| Error::source(Kind::Misconfigured, "asking for the server version", text))
    }

    /// Closes the pool: no connection is left when this returns.
    pub async fn close(&self) {
        self.sessions.close().await;
        self.intents.close().await;
    }
}

fn connect_options(options: &SourceOptions) -> Result<PgConnectOptions> {
    Ok(PgConnectOptions::from_str(&options.url)
        .map_err(|e| Error::source(Kind::Misconfigured, "reading source.url", e.to_string()))?
        .application_name(&options.application_name)
        // Keys and literals must read the same in every session, whatever the role's defaults are.
        .options([("TimeZone", "UTC"), ("standard_conforming_strings", "on"), ("client_min_messages", "warning")])
        // Or else a policy hides rows, and a row that is hidden looks like one that was deleted: with it off PostgreSQL refuses.
        .options([("row_security", "off")])
        // Text of ours is compared as text: keys, fingerprints, rows.
        .options([("IntervalStyle", "postgres"), ("bytea_output", "hex"), ("quote_all_identifiers", "off")])
        .options([("transform_null_equals", "off"), ("array_nulls", "on")])
        // Not `default_transaction_read_only`: a server that was made read-only is no source, and `node` says so.
        // A role's bound for its own queries would end a comparison of hours, and a wait that has a bound of its own.
        .options([("statement_timeout", "0"), ("lock_timeout", "0")])
        // A role may have it off; then a crash of the server would forget a flip, or an intent whose effect is in the target (I9).
        .options([("synchronous_commit", "on"), ("idle_in_transaction_session_timeout", IDLE_IN_TRANSACTION)]))
}

/// Makes a session's commits durable, and its isolation the one that our transactions are written for, where the role's
/// defaults say otherwise.
///
/// With `synchronous_commit` off: 1. A commit is answered before it is on disk. 2. Its version goes to the target. 3. The
/// server loses power, forgets the commit, and hands the same version out again. 4. The target has it already and refuses
/// the newer state. A stricter default (`remote_apply`) stays as it is.
///
/// A database of encoding SQL_ASCII holds any bytes. Asked for UTF-8, PostgreSQL refuses a whole statement over one of them; bytes as
/// they are show which row it is.
///
/// In REPEATABLE READ a statement that waited for the barrier would read the phase from before its wait.
async fn make_a_session(connection: &mut PgConnection) -> std::result::Result<(), sqlx::Error> {
    let sql = "SELECT set_config('default_transaction_isolation', 'read committed', false),
                      CASE WHEN current_setting('server_encoding') = 'SQL_ASCII'
                           THEN set_config('client_encoding', 'SQL_ASCII', false) END,
                      CASE WHEN current_setting('synchronous_commit') = 'off' THEN set_config('synchronous_commit', 'on', false) END";
    sqlx::query(sql).execute(&mut *connection).await?;
    // Not every version of PostgreSQL has these, and a setting that it does not know ends a connection.
    let sql = "SELECT pg_catalog.set_config(s.name, '0', false) FROM pg_catalog.pg_settings s
               WHERE s.name IN ('idle_session_timeout', 'transaction_timeout') AND s.setting <> '0'";
    sqlx::query(sql).execute(connection).await.map(drop)
}
