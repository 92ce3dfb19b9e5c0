//! PostgreSQL: everything Lockstep asks of the source, and all the SQL there is.
//!
//! In reading order: [`Relation`] and [`TableBinding`] (one table's names and SQL), `inspect` (what the
//! source looks like), `shape` (whether it is still that, and hides nothing), `recorded` (what it is taken
//! for), `partitions` and `take_in` (of a table that has some), `sessions`, `node`, `password`, `path`,
//! `begin` and `lock_tries` (connections and transactions), `schema` (Lockstep's own tables), `capture`,
//! `recognise` and `trigger_names` (triggers), `barrier`, `control`, `settings` and `counts` (phase and
//! epoch, what is turned while everything runs, and what was counted), `lead` (which daemon leads),
//! `pending`, `statements` and `calls` (writing single rows), `left` (what a transaction left under its keys),
//! `intents` and `sweep` (strict writes under way,
//! and what they left), `instances` (leases), `copy` and `some_rows` (reading rows), `progress` (ranges),
//! `workers`, `acknowledge` and `budget` (who holds which range, how far it is, and what all may spend),
//! `comparisons`, `comparison_answers` and `comparison_progress` (the same of a comparison that is shared),
//! `sequences` (ids), `dead_letters`, `probe` (capture is seen to work), `repair` (marks from outside),
//! [`reverse`] (rows that come back from the target), `unreadable` (marks that are no keys), `strangers`
//! (other roles), `references`, `journal`, `verdicts`, `unverified` and `lately` (what was delivered since a
//! pass, and since a moment), `clock` (whether a stored time is young), `late_requests`,
//! `glance` (whether anything has happened at all), `load` (how busy it is),
//! `continuity` and `contradicted` (a step back is noticed), `archive` (the end).

mod acknowledge;
mod activity;
mod archive;
mod away;
mod barrier;
mod begin;
mod binding;
mod budget;
mod calls;
mod capture;
mod catalog;
mod clock;
mod comparison_answers;
mod comparison_progress;
mod comparisons;
mod continuity;
mod contract;
mod contradicted;
mod control;
mod copy;
mod count;
mod counts;
mod dead_letters;
mod full_pass;
mod glance;
mod grants;
mod held_back;
mod imports;
mod inspect;
pub mod instances;
mod intents;
mod journal;
mod late_requests;
mod lately;
mod lead;
mod left;
mod load;
mod lock_tries;
mod lookup;
mod marked;
mod node;
mod partitions;
mod parts;
mod password;
mod path;
mod pending;
mod planned;
mod plans;
mod pooler;
mod probe;
mod progress;
mod read_order;
mod recognise;
mod recorded;
mod references;
mod relays;
mod repair;
pub mod reverse;
mod schema;
pub mod sequences;
mod sessions;
mod settings;
mod shape;
mod some_rows;
mod standing;
mod statements;
mod strangers;
mod sweep;
mod take_in;
mod trigger_names;
mod tuning;
mod undecided;
mod uninstall;
mod unreadable;
mod unverified;
mod url;
mod verdicts;
mod workers;

// A future is compiled where it is polled; in a box, it is compiled here and not once more in each crate above.
pub(crate) use async_recursion::async_recursion as boxed;

pub use acknowledge::Acknowledged;
pub use activity::Activity;
pub use archive::Completed;
pub use barrier::{BARRIER, CoordinatorLock, FeedLock, take_exclusive, take_shared};
pub use begin::SourceTransaction;
pub use binding::{Relation, TableBinding};
pub use binding::{list, quote_identifier};
pub use calls::{Call, CallEnd, Called, Marked, Marks, call, call_sql};
pub use capture::CAPTURE_VERSION;
pub use catalog::{CatalogColumn, CatalogIndex, CatalogTable};
pub use comparison_answers::{AnswerPart, AnswerPlace, Answered};
pub use comparison_progress::ComparisonProgress;
pub use comparisons::{ComparisonPiece, PieceBounds, SharedComparison};
pub use continuity::{KnownMarks, NewMark, SourceContinuity};
pub use contract::{Adopted, Contract};
pub use contradicted::{Contradicted, LostBefore, RefusedPut};
pub(crate) use control::control_of_row;
pub use control::{TableState, flip_phase, flip_phase_at_least, read_control, read_migration_id};
pub use copy::{CopyChunk, KeyBound, RangeRead};
pub use counts::{CountRow, SPENT, read_settings, report};
pub use dead_letters::DeadLetter;
pub use glance::Glance;
pub use grants::{GrantedRole, grants};
pub use held_back::HeldBack;
pub use imports::{ImportPlace, ImportRow, PartRow};
pub use intents::{
    Mark, MarkedKey, WITH_ID, begin_write, begin_write_in, id_assigned, id_of, id_under_way, is_under_way,
    settle_in_transaction,
};
pub use recognise::CaptureState;

pub use full_pass::FullPass;
pub use inspect::{Dependent, SourceTable};
pub use intents::TransactionId;
pub use journal::{Entry, EntryKind, IntentId, require_open};
pub use late_requests::begin_late_requests;
pub use left::{KeysOfTable, Left, left_under};
pub use load::Load;
pub use lookup::KeyState;
pub use password::Password;
pub use path::{connect_own, make_own_session};
pub use pending::{Delivered, KeyOrder, Lag, PendingBatch, PendingRow};
pub use planned::{HISTORY_ROWS, HISTORY_UNITS, LoadPlan, PlannedLoad};
pub use probe::CaptureProbe;
pub use progress::{PlanLook, RangeProgress, RangeRow};
pub(crate) use progress::{window_conditions_sql, window_sql};
pub use references::Dangling;
pub use relays::{JoiningRelay, RelayRow, RelayShare};
pub use sessions::Session;
pub use settings::{SettingRow, Turn};
pub use shape::{RowSecurity, Shape, column_types, columns_of, hides, read_order};
pub use standing::{Oldest, Standing};
pub use statements::{Computed, RowStatements};
pub use strangers::{ForeignHolder, Prepared};
pub use sweep::{Swept, TransactionFate};
pub use tuning::Tuning;
pub use undecided::WaitingMark;
pub use uninstall::Uninstalled;
pub use unverified::ChangedKey;
pub use url::{Transport, transport};
pub use verdicts::{VerdictRow, VerdictWord};
pub use workers::{HeldRange, Pulse, Registering, WorkerRow};

use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use lockstep_core::{Doing, Error, Kind, Result};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions as _, Connection};

use self::node::{Told, is_there, require_writer};
use self::path::Path;
use self::plans::Plans;
use self::sessions::Sessions;

/// Longest that a transaction of ours may do nothing. 1. A process is stopped, or cut off from the network,
/// inside a write transaction. 2. It holds the barrier, and no process will end it. 3. No step gets the
/// barrier again. So PostgreSQL ends it. A strict write waits for the target inside its transaction, within
/// this bound.
const IDLE_IN_TRANSACTION: &str = "30s";

/// How to reach the source.
#[derive(Clone)]
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

impl std::fmt::Debug for SourceOptions {
    /// Without the URL, which may hold a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SourceOptions")
            .field("connections_max", &self.connections_max)
            .field("connect_timeout", &self.connect_timeout)
            .field("application_name", &self.application_name)
            .finish_non_exhaustive()
    }
}

/// A handle on the source; cheap to clone.
#[derive(Clone, Debug)]
pub struct Source {
    /// Of the pool: see [`sessions`].
    sessions: Sessions,
    /// For intents and their fate only. A strict write holds a connection of `pool` and wants a second one:
    /// were it from the same pool, as many writes as it has connections would wait for each other for ever. A
    /// task that holds one of these wants no other.
    intents: Sessions,
    /// What it was made of, for [`Source::for_application`].
    options: Arc<SourceOptions>,
    /// By how much this machine's clock is known to be ahead of the source's, in milliseconds.
    ahead_ms: Arc<AtomicI64>,
    plans: Arc<Plans>,
    /// Held for as long as there is a handle.
    _alive: Arc<()>,
}

/// Most connections for intents: each is held for one small commit.
const INTENT_CONNECTIONS_MAX: u32 = 4;

impl Source {
    /// Connects as an application, and checks that the server answers. Its statements run with the search
    /// path of the role, which the triggers and constraints of the application's tables may need.
    ///
    /// # Errors
    /// [`Kind::Misconfigured`] for a URL that does not parse, [`Kind::Unavailable`] or [`Kind::Denied`] for a
    /// server that does not answer or accepts no connection.
    #[crate::boxed]
    pub async fn connect(options: &SourceOptions) -> Result<Self> {
        Self::connect_with(options, Path::OfTheRole).await
    }

    /// Connects as the operator: no name that another role has put into the search path is ever found by its
    /// statements. Only those that change rows of the application's tables run with the search path of the
    /// role.
    ///
    /// # Errors
    /// As [`Source::connect`].
    #[crate::boxed]
    pub async fn connect_as_operator(options: &SourceOptions) -> Result<Self> {
        Self::connect_with(options, Path::Own).await
    }

    async fn connect_with(options: &SourceOptions, path: Path) -> Result<Self> {
        let connect = connect_options(options)?;
        let place = format!("connecting to PostgreSQL at {}:{}", connect.get_host(), connect.get_port());
        let advise = |e: sqlx::Error| {
            if let Some(error) = pooler::named_by(&e, &place) {
                return error;
            }
            let mut error = Error::of_sqlx(&place, e);
            error.message +=
                "; check source.url (LOCKSTEP_SOURCE__URL) and that the server accepts connections";
            error
        };
        // One connection first: a pool tries again until its time-out and then says no more than that it
        // timed out.
        let connect = options.password.apply(connect).await?;
        let first = tokio::time::timeout(options.connect_timeout, PgConnection::connect_with(&connect)).await;
        let mut first = first.map_err(|_| advise(sqlx::Error::PoolTimedOut))?.map_err(advise)?;
        pooler::refuse(&mut first, &connect, &place, path == Path::Own).await?;
        require_writer(&mut first, &Told::default()).await.map_err(advise)?;
        // It only had to be possible.
        let _ = first.close().await;
        Ok(Self::lazily(options, &connect, path))
    }

    /// A handle on a server that may be down: it connects when it is first needed. Must be called inside a
    /// Tokio runtime.
    ///
    /// # Errors
    /// [`Kind::Misconfigured`] for a URL that does not parse.
    pub fn connect_lazily(options: &SourceOptions) -> Result<Self> {
        Ok(Self::lazily(options, &connect_options(options)?, Path::OfTheRole))
    }

    /// [`Source::connect_as_operator`] to a server that may be down. Must be called inside a Tokio runtime.
    ///
    /// # Errors
    /// [`Kind::Misconfigured`] for a URL that does not parse.
    pub fn connect_lazily_as_operator(options: &SourceOptions) -> Result<Self> {
        Ok(Self::lazily(options, &connect_options(options)?, Path::Own))
    }

    /// Another handle on the same server, with sessions as an application has them. Must be called inside a
    /// Tokio runtime.
    pub fn for_application(&self) -> Self {
        Self::lazily(&self.options, &self.pool().connect_options(), Path::OfTheRole)
    }

    fn lazily(options: &SourceOptions, connect: &PgConnectOptions, path: Path) -> Self {
        let told = Told::default();
        let plans = Arc::<Plans>::default();
        let pool = |connections_max, path: Path| {
            let (told, plans) = (told.clone(), Arc::clone(&plans));
            PgPoolOptions::new()
                .max_connections(connections_max)
                .acquire_timeout(options.connect_timeout)
                .after_connect(move |connection, _| {
                    let told = told.clone();
                    Box::pin(async move {
                        require_writer(connection, &told).await?;
                        make_a_session(connection, path).await
                    })
                })
                // A connection in use a moment ago is not asked first whether it is still there: that
                // question would be half of what a small write costs.
                .test_before_acquire(false)
                .before_acquire(move |connection, known| {
                    let are_old = plans.are_old(known.age);
                    Box::pin(
                        async move { if are_old { Ok(false) } else { is_there(connection, known).await } },
                    )
                })
                .connect_lazy_with(connect.clone())
        };
        let sessions = |connections_max, path| Sessions::new(pool(connections_max, path));
        // What is asked of intents concerns tables of ours only.
        let (sessions, intents) =
            (sessions(options.connections_max, path), sessions(INTENT_CONNECTIONS_MAX, Path::Own));
        let alive = Arc::new(());
        options.password.clone().keep_fresh(&alive, vec![sessions.pool().clone(), intents.pool().clone()]);
        Self {
            sessions,
            intents,
            options: Arc::new(options.clone()),
            ahead_ms: Arc::default(),
            plans,
            _alive: alive,
        }
    }

    /// The pool, for statements of this module's callers inside this crate and for tests.
    pub fn pool(&self) -> &PgPool {
        self.sessions.pool()
    }

    /// Where it is, for messages: no password is in it.
    pub fn place(&self) -> String {
        let options = self.pool().connect_options();
        let database = options.get_database().unwrap_or("(the role's own)");
        format!("{}:{}/{database} as {}", options.get_host(), options.get_port(), options.get_username())
    }

    /// Name of the database.
    ///
    /// # Errors
    /// When the server does not answer.
    #[crate::boxed]
    pub async fn database(&self) -> Result<String> {
        sqlx::query_scalar("SELECT pg_catalog.current_database()::text")
            .fetch_one(self.pool())
            .await
            .doing("asking for the database's name")
    }

    /// The server's version, as `server_version_num`.
    ///
    /// # Errors
    /// When the server does not answer.
    #[crate::boxed]
    pub async fn server_version(&self) -> Result<i32> {
        let text: String = sqlx::query_scalar("SELECT pg_catalog.current_setting('server_version_num')")
            .fetch_one(self.pool())
            .await
            .doing("asking for the server version")?;
        text.parse().map_err(|_| Error::source(Kind::Misconfigured, "asking for the server version", text))
    }

    /// Connections of the pool that do nothing, and all of them.
    pub fn connections(&self) -> (usize, usize) {
        (self.pool().num_idle(), self.pool().size() as usize)
    }

    /// Closes the pool: no connection is left when this returns.
    #[crate::boxed]
    pub async fn close(&self) {
        self.sessions.close().await;
        self.intents.close().await;
    }
}

fn connect_options(options: &SourceOptions) -> Result<PgConnectOptions> {
    url::check(&options.url)?;
    Ok(PgConnectOptions::from_str(&options.url)
        // What the driver says may quote the URL.
        .map_err(|_| Error::source(Kind::Misconfigured, "reading source.url", url::ADVICE))?
        // Or else a statement that is slow is logged, with the keys that are spelled into it.
        .disable_statement_logging()
        .application_name(&options.application_name)
        // Keys and literals must read the same in every session, whatever the role's defaults are.
        .options([
            ("TimeZone", "UTC"),
            ("standard_conforming_strings", "on"),
            ("client_min_messages", "warning"),
        ])
        // Or else a policy hides rows, and a row that is hidden looks like one that was deleted: with it off
        // PostgreSQL refuses.
        .options([("row_security", "off")])
        // Text of ours is compared as text: keys, fingerprints, rows.
        .options([("IntervalStyle", "postgres"), ("bytea_output", "hex"), ("quote_all_identifiers", "off")])
        .options([
            ("transform_null_equals", "off"),
            ("array_nulls", "on"),
            ("lc_monetary", "C"),
            ("xmloption", "content"),
        ])
        // Not `default_transaction_read_only`: a server that was made read-only is no source, and `node` says
        // so. A role's bound for its own queries would end a comparison of hours, and a wait that has a bound
        // of its own.
        .options([("statement_timeout", "0"), ("lock_timeout", "0")])
        // A role may have it off; then a crash of the server would forget a flip, or an intent whose effect
        // is in the target (I9).
        .options([
            ("synchronous_commit", "on"),
            ("idle_in_transaction_session_timeout", IDLE_IN_TRANSACTION),
        ]))
}

/// Makes a session's commits durable, its isolation the one that our transactions are written for, and its
/// search path `path`, where the role's defaults say otherwise.
///
/// With `synchronous_commit` off: 1. A commit is answered before it is on disk. 2. Its version goes to the
/// target. 3. The server loses power, forgets the commit, and hands the same version out again. 4. The target
/// has it already and refuses the newer state. A stricter default (`remote_apply`) stays as it is.
///
/// A database of encoding SQL_ASCII holds any bytes. Asked for UTF-8, PostgreSQL refuses a whole statement
/// over one of them; bytes as they are show which row it is.
///
/// In REPEATABLE READ a statement that waited for the barrier would read the phase from before its wait.
async fn make_a_session(connection: &mut PgConnection, path: Path) -> std::result::Result<(), sqlx::Error> {
    // The path is still whatever the role has: here operators are named with their schema as well.
    let sql = format!(
        "SELECT pg_catalog.set_config('{kept}', {of_the_role}, false),
                      CASE WHEN $1 THEN pg_catalog.set_config('search_path', $2, false)
                           WHEN pg_catalog.current_setting('{kept}')
                               OPERATOR(pg_catalog.<>) pg_catalog.current_setting('search_path')
                           THEN pg_catalog.set_config('search_path',
                               pg_catalog.current_setting('{kept}'), false) END,
                      pg_catalog.set_config('default_transaction_isolation', 'read committed', false),
                      CASE WHEN pg_catalog.current_setting('server_encoding')
                               OPERATOR(pg_catalog.=) 'SQL_ASCII'
                           THEN pg_catalog.set_config('client_encoding', 'SQL_ASCII', false) END,
                      CASE WHEN pg_catalog.current_setting('synchronous_commit') OPERATOR(pg_catalog.=) 'off'
                           THEN pg_catalog.set_config('synchronous_commit', 'on', false) END",
        kept = path::KEPT_IN,
        of_the_role = path::OF_THE_ROLE,
    );
    sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(path == Path::Own)
        .bind(path::OWN)
        .execute(&mut *connection)
        .await?;
    // Not every version of PostgreSQL has these, and a setting that it does not know ends a connection.
    let sql = "SELECT pg_catalog.set_config(s.name, '0', false) FROM pg_catalog.pg_settings s
               WHERE s.name IN ('idle_session_timeout', 'transaction_timeout') AND s.setting <> '0'";
    sqlx::query(sql).execute(connection).await.map(drop)
}
