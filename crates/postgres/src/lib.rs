//! PostgreSQL: everything Lockstep asks of the source, and all the SQL there is.
//!
//! In reading order: [`column_sql`] (expressions of one column), [`Relation`] and [`TableBinding`] (one
//! table's names and SQL), `catalog` (a table for those who have no row type of it), `inspect` (what the
//! source looks like), `fingerprint`, `shape` and `read_order` (whether it is still that, and hides nothing),
//! `recorded` (what it is taken for), `contract` (which tables go where), `stamp` (at which earlier builds stop), `fault` (what the driver's errors
//! mean), `columns` (as the migration has taken them), `bring` (the rows of a column that was added),
//! `partitions` and `take_in` (of a table that has some), `url`, `timed` (how long it takes), `password`,
//! `file_owner` (whether another user can change a file), `sessions`, `node`, `pooler`, `away` (why a server
//! does not answer), `path`, `plans` (statements of a table as it was), `sql` (every statement on its way,
//! and the name of our schema in it), `session_settings`, `connect`, `begin`, `lock_tries` and `vacuum`
//! (connections, transactions, locks), `grants` (the rights of each role), `schema` (Lockstep's own tables),
//! `foreign_schemas` (whose they are), `foreign_code` (whose functions writes run), `capture`, `beside`
//! (which migration has a table), `recognise` and `trigger_names` (triggers), `barrier`, `control`,
//! `settings`, `tuning`, `counts` and `spend_cap` (phase and epoch, what is turned while everything runs,
//! what was counted, and what it cost), `lead` (which daemon leads), `pending` and `page` (keys to be
//! delivered, with their rows, of bounded size), `held_back` (marks that are gone and still read), `relays`
//! (which share each relay delivers), `statements` and `calls` (writing single rows), `lookup` (reading
//! single keys), `standing` (how far the target is behind, asked by readers), `left` (what a transaction left
//! under its keys), `intents` and `sweep` (strict writes under way, and what they left), `instances`
//! (leases), `parts` (of a step, as against another coordinator), `window`, `copy`, `some_rows` and `count`
//! (reading rows), `range_plan`, `planned` and `progress` (ranges), `imports` (files of parts for S3),
//! `workers`, `blocks` and `block_ranges` (ranges of a file), `acknowledge` and `budget` (who holds which
//! range, how far it is, and what all may spend), `together` (what a step asks of all tables at once),
//! `comparisons`, `comparison_answers` and `comparison_progress` (the same of a comparison that is shared),
//! `sequences` (ids), `dead_letters`, `listed` (those that an operator has seen), `probe` (capture is seen to
//! work), `repair` (marks from outside), [`reverse`] (rows that come back from the target), `unreadable`
//! (marks that are no keys), `strangers` (other roles), `trusted` (whose relation a read may be of),
//! `references`, `journal`, `numbers` and `verdicts` (of comparisons), `full_pass`, `unverified` and `lately`
//! (what was delivered since a pass, and since a moment), `clock` (whether a stored time is young),
//! `late_requests`, `glance` (whether anything has happened at all), `load` and `activity` (how busy it is,
//! and each table), `continuity`, `elsewhere` and `replicated` (copies), `contradicted`, `marked` and
//! `undecided` (a step back is noticed, and what it leaves to be decided), `own`, `remembered` and
//! `completions` (whose the schema is, and what is complete), `guard`, `archive` and `uninstall` (the end).

mod acknowledge;
mod activity;
mod archive;
mod away;
mod barrier;
mod begin;
mod beside;
mod binding;
mod block_ranges;
mod blocks;
mod bring;
mod budget;
mod calls;
mod capture;
mod catalog;
mod clock;
pub mod column_sql;
mod columns;
mod comparison_answers;
mod comparison_progress;
mod comparisons;
mod completions;
mod connect;
mod continuity;
mod contract;
mod contradicted;
mod control;
mod copy;
mod count;
mod counts;
mod dead_letters;
mod elsewhere;
mod fault;
mod file_owner;
mod fingerprint;
mod foreign_code;
mod foreign_schemas;
mod full_pass;
mod glance;
mod grants;
mod guard;
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
mod listed;
mod load;
mod lock_tries;
mod lookup;
mod marked;
mod node;
mod numbers;
mod own;
mod page;
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
mod range_plan;
mod read_order;
mod recognise;
mod recorded;
mod references;
mod relays;
mod remembered;
mod repair;
mod replicated;
pub mod reverse;
mod schema;
pub mod sequences;
mod session_settings;
mod sessions;
mod settings;
mod shape;
mod some_rows;
mod spend_cap;
mod sql;
mod stamp;
mod standing;
mod statements;
mod strangers;
mod sweep;
mod take_in;
mod timed;
mod together;
mod trigger_names;
mod trusted;
mod tuning;
mod undecided;
mod uninstall;
mod unreadable;
mod unverified;
mod url;
mod vacuum;
mod verdicts;
mod window;
mod workers;

// A future is compiled where it is polled; in a box, it is compiled here and not once more in each crate
// above.
pub(crate) use async_recursion::async_recursion as boxed;

pub use acknowledge::Acknowledged;
pub use activity::Activity;
pub use archive::Ending;
pub use barrier::{CoordinatorLock, FeedLock, barrier, take_exclusive, take_shared};
pub use begin::SourceTransaction;
pub use binding::{Relation, TableBinding};
pub use binding::{list, quote_identifier};
pub use blocks::{BlockRead, Heap};
pub use calls::{Call, CallEnd, Called, Marked, Marks, call, call_sql};
pub use capture::CAPTURE_VERSION;
pub use catalog::{CatalogColumn, CatalogIndex, CatalogTable};
pub use columns::{ColumnTaken, changes_of_key, columns_in, unknown_columns};
pub use comparison_answers::{AnswerPart, AnswerPlace, Answered};
pub use comparison_progress::ComparisonProgress;
pub use comparisons::{ComparisonPiece, PieceBounds, SharedComparison};
pub use continuity::{KnownMarks, NewMark, SourceContinuity};
pub use contract::{Adopted, Contract, layout_differences};
pub use contradicted::{Contradicted, LostBefore, RefusedPut};
pub(crate) use control::control_of_row;
pub use control::{TableState, flip_phase, flip_phase_at_least, phase_channel, read_control};
pub use copy::{CopyChunk, KeyBound, RangeRead};
pub use counts::{CountRow, read_settings, report};
pub use dead_letters::DeadLetter;
pub use fault::{Sqlx, of_sqlx};
pub use file_owner::{is_of_another_user, may_be_written_by, user_of_process};
pub use glance::Glance;
pub use grants::{GrantedRole, grants};
pub use held_back::HeldBack;
pub use imports::{ImportDestination, ImportRow, PartRow};
pub use intents::{
    Mark, MarkedKey, WITH_ID, begin_write, begin_write_in, id_assigned, id_of, id_under_way, is_under_way,
    resolve_in_transaction,
};
pub use recognise::CaptureState;

pub use full_pass::FullPass;
pub use inspect::{Dependent, SourceTable};
pub use intents::TransactionId;
pub use journal::{Entry, EntryKind, IntentId, require_open};
pub use late_requests::begin_late_requests;
pub use lately::DeliveredKeys;
pub use left::{KeysOfTable, Left, left_under};
pub use listed::OpenLetters;
pub use load::Load;
pub use lock_tries::LockTries;
pub use lookup::KeyState;
pub use own::OwnMigration;
pub use page::{KeyDigest, PendingBatch, PendingRow};
pub use password::Password;
pub use pending::{Delivered, KeyOrder, Lag};
pub use planned::{INITIAL_LOAD_ROWS, INITIAL_LOAD_UNITS, LoadPlan, PlannedLoad};
pub use probe::CaptureProbe;
pub use progress::{PlanLook, RangeProgress, RangeRow};

pub use range_plan::RangePlan;
pub use references::{Dangling, Referred};
pub use relays::{JoiningRelay, RelayRow, RelayShare};
pub use remembered::{Completed, CompletedTable, Whose, read_whose};
pub use replicated::Replicated;
pub use session_settings::{connect_own, make_own_session};
pub use sessions::Session;
pub use settings::{SettingRow, Turn};
pub use shape::{RowSecurity, Shape, column_types, column_types_of, columns_of, hides, is_moved, read_order};
pub use spend_cap::{Cap, READ_UNITS, Spending, THROTTLED, WRITE_UNITS};
pub use sql::{CONTROL_SCHEMA, archive_schema, control_schema, use_control_schema, wrong_control_schema};
pub use standing::{Oldest, Standing};
pub use statements::{Computed, RowStatements};
pub use strangers::{ForeignHolder, Prepared};
pub use sweep::{Swept, TransactionFate};
pub use timed::TimedPool;
pub use together::{Due, FeedDrain, TableNumbers, Unsettled, hold_shapes};
pub use tuning::Tuning;
pub use undecided::WaitingMark;
pub use uninstall::Uninstalled;
pub use unverified::{ChangedKey, ChangedPage};
pub use url::{Transport, transport};
pub use verdicts::{VerdictRow, VerdictWord, latest_verdict_in};
pub use workers::{HeldRange, Pulse, Registering, WorkerRow};

use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use lockstep_core::{Doing, Error, Kind, Result};

use self::plans::Plans;
use self::sessions::Sessions;
use self::take_in::TakenIn;

/// Options by which the source is reached.
#[derive(Clone)]
pub struct SourceOptions {
    /// `postgres://user:password@host:port/database?sslmode=…`. TLS is used as `sslmode` says.
    pub url: String,
    /// Source of the password, if not the URL.
    pub password: Password,
    /// Most connections held at once.
    pub connections_max: u32,
    /// Longest wait for a connection.
    pub connect_timeout: Duration,
    /// `application_name`, so that a DBA sees who it is.
    pub application_name: String,
    /// Schema of Lockstep's own tables, of which each migration of a database has one. A process has one:
    /// see [`use_control_schema`].
    pub control_schema: String,
}

impl std::fmt::Debug for SourceOptions {
    /// Without the URL, which may hold a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SourceOptions")
            .field("connections_max", &self.connections_max)
            .field("connect_timeout", &self.connect_timeout)
            .field("application_name", &self.application_name)
            .field("control_schema", &self.control_schema)
            .finish_non_exhaustive()
    }
}

/// A moment by the source's clock, and when it was seen.
type ClockSeen = (DateTime<Utc>, Instant);

/// A handle on the source; cheap to clone.
#[derive(Clone, Debug)]
pub struct Source {
    /// Sessions of the pool: see [`sessions`].
    sessions: Sessions,
    /// For intents and their fate only. A strict write holds a connection of `pool` and wants a second one:
    /// were it from the same pool, as many writes as it has connections would wait for each other for ever. A
    /// task that holds one of these wants no other.
    intents: Sessions,
    /// Options that it was made of, for [`Source::for_application`].
    options: Arc<SourceOptions>,
    /// The source's clock as it was seen last, and when.
    clock_seen: Arc<RwLock<Option<ClockSeen>>>,
    plans: Arc<Plans>,
    own: OwnMigration,
    taken_in: Arc<TakenIn>,
    /// Held for as long as there is a handle.
    _alive: Arc<()>,
}

impl Source {
    /// Returns the pool, which times each statement, for crates that hold one connection over several
    /// calls, and for tests.
    pub fn pool(&self) -> TimedPool<'_> {
        self.sessions.pool()
    }

    /// Returns the address of the source, for messages: no password is in it.
    pub fn address(&self) -> String {
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
        sql::query_scalar("SELECT pg_catalog.current_database()::text")
            .fetch_one(self.pool())
            .await
            .doing("asking for the database's name")
    }

    /// Returns the server's version, as `server_version_num`.
    ///
    /// # Errors
    /// When the server does not answer.
    #[crate::boxed]
    pub async fn server_version(&self) -> Result<i32> {
        let text: String = sql::query_scalar("SELECT pg_catalog.current_setting('server_version_num')")
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
