//! Intents: a strict write puts into the target before it commits, and says so first (I9).
//!
//! A transaction of a strict write that ended without its commit may have left a *phantom* in the target: a
//! state that no commit stands behind. Its intent, one row a key, is durable before the put leaves, on
//! another connection; the transaction takes it out itself, so it goes with the commit or stays with the
//! rollback. The sweeper marks the keys of what was rolled back as pending, and the relay overwrites the
//! phantom with the truth. Until then an open intent is part of the pending set (I1).
//!
//! The mark is made under a *repair version* that the transaction itself reserved while it held the row,
//! and not under a fresh one. 1. A writer changes the row and takes version 11, but has not marked the key
//! yet. 2. A sweeper takes a fresh version 12, marks, and a relay delivers the old state at 12 and takes
//! the mark out. 3. The writer marks at 11, commits, and its newer state is refused. A repair version
//! outranks the phantom, and any later holder of the row outranks it.

use std::time::Duration;

use lockstep_core::{Control, Doing, Epoch, Error, Kind, Result, Version};
use sqlx::postgres::{PgConnection, PgQueryResult, PgRow};
use sqlx::{AssertSqlSafe, Row as _};

use super::begin::begin_with;
use super::binding::digest_sql;
use super::sessions::Sessions;
use super::timed::STATEMENT;
use super::{Source, SourceTransaction, barrier};
use crate::control_of_row;
use crate::sql;

/// A transaction of the source, as `pg_current_xact_id()` numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TransactionId(pub u64);

/// A key that a transaction may have marked.
#[derive(Clone, Debug)]
pub struct MarkedKey {
    /// The table's name.
    pub table: &'static str,
    /// The source key as JSON text.
    pub key: String,
}

/// The mark that a transaction made.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    /// Index of the key among those that were asked for.
    pub of: usize,
    /// The version of the state.
    pub version: Version,
    /// The version under which the key is marked should the state turn out a phantom; reserved for strict
    /// writes only.
    pub repair: Option<Version>,
}

/// Longest wait for a key that an application has locked: below PostgreSQL's `deadlock_timeout` (1 s), so
/// that of a sweep and an application that wait for each other it is never the application that is chosen to
/// fail.
const LOCK_TIMEOUT: Duration = Duration::from_millis(300);

/// Condition for the intents that a role takes out with its own transaction. Another role can record intents
/// under a number that it has seen; a transaction that took those out would be refused, and they are the
/// sweeper's once it has ended.
const OWN: &str = "(owner IS NULL OR owner = current_user)";

/// Begins a transaction, enters the barrier, then reads the phase, all in READ COMMITTED whatever the role's
/// default: the phase must be read by a statement that starts after the barrier was had.
///
/// # Errors
/// The driver's; [`Kind::Fenced`] where the schema is known to be another migration's by now.
#[crate::boxed]
pub async fn begin_write(source: &Source) -> Result<(SourceTransaction, Control, TransactionId)> {
    let mut transaction = begin_behind_barrier(&source.sessions, None, "").await?;
    let doing = "reading the phase";
    let row = sql::query(
        "SELECT phase, epoch, changed_at, pg_catalog.pg_current_xact_id()::text AS xid,
             pg_catalog.to_jsonb(c) ->> 'migration_id' AS migration_id
        FROM lockstep.control c",
    )
    .fetch_one(&mut *transaction)
    .await
    .doing(doing)?;
    // 1. An application is suspended in DualWrite. 2. Its migration is completed, and a second one begins. 3.
    // It wakes, and would write PostgreSQL by the phase of the second.
    source.own().require(row.get("migration_id"), Kind::Fenced, doing)?;
    let id = parse_xid(row.get("xid"))?;
    Ok((transaction, control_of_row(&row)?, id))
}

/// Begins a transaction, enters the barrier and makes sure that the epoch is the believed one, all in one
/// round trip; `None`, with nothing begun, where it is another. The number of the transaction comes with the
/// first row that it changes, by [`WITH_ID`].
///
/// # Errors
/// The driver's.
#[crate::boxed]
pub async fn begin_write_in(source: &Source, believed: Epoch) -> Result<Option<SourceTransaction>> {
    // Each statement of the message has a snapshot of its own, so the epoch is read after the barrier was
    // had. A message without parameters returns no rows to its sender but may fail, and says why in the
    // server's log.
    let check = format!(
        "SELECT CASE WHEN k.epoch = {} THEN true
                ELSE ('lockstep: the epoch is ' || coalesce(k.epoch::text, 'not known'))::boolean END
         FROM (SELECT (SELECT c.epoch FROM lockstep.control c) AS epoch) k",
        believed.0
    );
    match begin_behind_barrier(&source.sessions, None, &check).await {
        Ok(transaction) => Ok(Some(transaction)),
        // That text is no boolean.
        Err(error) if error.sqlstate().as_deref() == Some("22P02") => Ok(None),
        Err(error) => Err(error),
    }
}

/// Put after what a statement returns that changes rows, it returns the number of its transaction as well.
pub const WITH_ID: &str = ", pg_catalog.pg_current_xact_id()::text AS lockstep_xid";

/// Returns the number that came by [`WITH_ID`].
///
/// # Errors
/// [`Kind::Invalid`] where the row has none.
pub fn id_of(row: &PgRow) -> Result<TransactionId> {
    parse_xid(row.try_get("lockstep_xid").doing("reading a transaction's number")?)
}

/// Returns the number of a transaction; `None` where it has changed nothing.
///
/// # Errors
/// The driver's, as of a transaction in which a statement has failed.
#[crate::boxed]
pub async fn id_under_way(transaction: &mut PgConnection) -> Result<Option<TransactionId>> {
    let now: Option<String> = sql::query_scalar("SELECT pg_catalog.pg_current_xact_id_if_assigned()::text")
        .fetch_one(transaction)
        .await
        .doing("looking whether a transaction is under way")?;
    now.map(parse_xid).transpose()
}

/// Returns the same, of a transaction that is numbered by being asked.
///
/// # Errors
/// The driver's.
#[crate::boxed]
pub async fn id_assigned(transaction: &mut PgConnection) -> Result<TransactionId> {
    let id: String = sql::query_scalar("SELECT pg_catalog.pg_current_xact_id()::text")
        .fetch_one(transaction)
        .await
        .doing("numbering a transaction")?;
    parse_xid(id)
}

/// Tells whether a transaction is still the one of `id`, and was not ended by a statement in it. What it
/// commits is on disk before that is answered, whatever a statement in it has set.
///
/// # Errors
/// The driver's, as of a transaction in which a statement has failed.
#[crate::boxed]
pub async fn is_under_way(transaction: &mut PgConnection, id: TransactionId) -> Result<bool> {
    // The path may be one that a statement has set.
    let now: (Option<String>, Option<String>) = sql::query_as(
        "SELECT pg_catalog.pg_current_xact_id_if_assigned()::text,
             CASE WHEN pg_catalog.current_setting('synchronous_commit') OPERATOR(pg_catalog.=) 'off'
                  THEN pg_catalog.set_config('synchronous_commit', 'on', true) END",
    )
    .fetch_one(transaction)
    .await
    .doing("looking whether a transaction is under way")?;
    Ok(now.0.map(parse_xid).transpose()? == Some(id))
}

async fn begin_behind_barrier(
    sessions: &Sessions,
    lock_timeout: Option<Duration>,
    then: &str,
) -> Result<SourceTransaction> {
    let (class, object) = barrier();
    let timeout = lock_timeout
        .map(|limit| format!("SET LOCAL lock_timeout = {}; ", limit.as_millis()))
        .unwrap_or_default();
    let sql = format!(
        "BEGIN ISOLATION LEVEL READ COMMITTED; {timeout}SELECT pg_catalog.pg_advisory_xact_lock_shared({class}, {object}); {then}"
    );
    begin_with(sessions, sql, "beginning a write").await
}

/// Takes what the target holds by now out of the pending set, and this transaction's intents with it, inside
/// the transaction: both are true when it commits, and neither when it does not.
#[crate::boxed]
pub async fn resolve_in_transaction(
    transaction: &mut PgConnection,
    held: &[(&MarkedKey, Version)],
) -> Result<()> {
    let resolved = match held {
        [(key, version)] => resolve_one(transaction, key, *version).await,
        held => resolve_many(transaction, held).await,
    };
    resolved.map(drop).doing("resolving a strict write")
}

/// Most strict writes are of one key, and a join costs half as much again as the deletes themselves.
async fn resolve_one(
    transaction: &mut PgConnection,
    key: &MarkedKey,
    version: Version,
) -> sqlx::Result<PgQueryResult> {
    let same = format!("table_name = $1 AND {} = {}", digest_sql("key"), digest_sql("$2::jsonb"));
    let sql = format!(
        "WITH gone AS (DELETE FROM lockstep.pending WHERE {same} AND version = $3),
         cured AS (DELETE FROM lockstep.dead_letters WHERE {same} AND version < $3)
         DELETE FROM lockstep.intents WHERE xid = pg_catalog.pg_current_xact_id() AND {OWN}"
    );
    let resolve = sql::query(AssertSqlSafe(sql));
    resolve.bind(key.table).bind(&key.key).bind(version.0).execute(transaction).await
}

async fn resolve_many(
    transaction: &mut PgConnection,
    held: &[(&MarkedKey, Version)],
) -> sqlx::Result<PgQueryResult> {
    let tables: Vec<&str> = held.iter().map(|(key, _)| key.table).collect();
    let keys: Vec<&str> = held.iter().map(|(key, _)| key.key.as_str()).collect();
    let versions: Vec<i64> = held.iter().map(|(_, version)| version.0).collect();
    let sql = format!(
        "WITH held AS MATERIALIZED (
             SELECT t AS table_name, {of_held} AS digest, v AS version FROM unnest($1::text[],
                 $2::text[], $3::bigint[]) AS d (t, k, v)),
         gone AS (DELETE FROM lockstep.pending p USING held h
                  WHERE p.table_name = h.table_name AND {of_mark} = h.digest AND p.version = h.version),
         cured AS (DELETE FROM lockstep.dead_letters x USING held h
                   WHERE x.table_name = h.table_name AND {of_letter} = h.digest AND x.version < h.version)
         DELETE FROM lockstep.intents WHERE xid = pg_catalog.pg_current_xact_id() AND {OWN}",
        of_held = digest_sql("k::jsonb"),
        of_mark = digest_sql("p.key"),
        of_letter = digest_sql("x.key"),
    );
    sql::query(AssertSqlSafe(sql)).bind(&tables).bind(&keys).bind(&versions).execute(transaction).await
}

impl Source {
    /// Makes the intents of a strict write durable, before anything of it leaves for the target (I9).
    ///
    /// Where no repair version was reserved for a key yet, one is here. The statement that made its mark is
    /// over, so it outranks the mark, and the transaction still holds the row, so that any later holder of
    /// the row outranks it.
    #[crate::boxed]
    pub async fn record_intents(
        &self,
        id: TransactionId,
        keys: &[(&MarkedKey, Option<Version>)],
    ) -> Result<()> {
        let tables: Vec<&str> = keys.iter().map(|(key, _)| key.table).collect();
        let names: Vec<&str> = keys.iter().map(|(key, _)| key.key.as_str()).collect();
        let repairs: Vec<Option<i64>> =
            keys.iter().map(|(_, repair)| repair.map(|repair| repair.0)).collect();
        let doing = "recording an intent";
        let mut session = self.intents.take(STATEMENT).await.doing(doing)?;
        sql::query(
            "INSERT INTO lockstep.intents (xid, table_name, key, repair_version)
             SELECT $1::text::xid8, t, k::jsonb, coalesce(r, pg_catalog.nextval('lockstep.version_seq'))
             FROM unnest($2::text[], $3::text[],
                 $4::bigint[]) AS d (t, k, r)",
        )
        .bind(id.0.to_string())
        .bind(&tables)
        .bind(&names)
        .bind(&repairs)
        .execute(&mut *session)
        .await
        .doing(doing)?;
        session.keep();
        Ok(())
    }

    /// Returns how many intents are open, and the age of the oldest in seconds.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn open_writes_age(&self) -> Result<(i64, f64)> {
        sql::query_as(
            "SELECT pg_catalog.count(*), greatest(0, coalesce(extract(epoch
                FROM pg_catalog.clock_timestamp() - pg_catalog.min(made_at)), 0))::float8
                    FROM lockstep.intents",
        )
        .fetch_one(self.intents.pool())
        .await
        .doing("counting open intents")
    }

    /// Drops this role's intents of a transaction of which nothing can be in the target.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn drop_intents(&self, id: TransactionId) -> Result<u64> {
        self.drop_where(&[id], OWN).await
    }

    /// Drops the intents of transactions that are known to have committed, whichever role made them.
    pub(super) async fn drop_committed(&self, ids: &[TransactionId]) -> Result<u64> {
        self.drop_where(ids, "true").await
    }

    async fn drop_where(&self, ids: &[TransactionId], which: &str) -> Result<u64> {
        let sql = format!("DELETE FROM lockstep.intents WHERE xid = ANY ($1::text[]::xid8[]) AND {which}");
        let dropped = sql::query(AssertSqlSafe(sql))
            .bind(texts(ids))
            .execute(self.intents.pool())
            .await
            .doing("dropping an intent")?;
        Ok(dropped.rows_affected())
    }

    /// Marks the keys of transactions that are known to be rolled back, and drops their intents; returns how
    /// many keys.
    ///
    /// # Errors
    /// [`Kind::Busy`] when an application had one of the keys locked for too long; nothing was done then.
    #[crate::boxed]
    pub async fn resolve_aborted(&self, ids: &[TransactionId]) -> Result<u64> {
        self.resolve_aborted_of(ids, None).await
    }

    /// The same of the intents of one role alone; the empty one made those of before roles were noted.
    pub(super) async fn resolve_aborted_of(&self, ids: &[TransactionId], owner: Option<&str>) -> Result<u64> {
        // Behind the barrier: who closes it sees either the intents or the marks, never neither.
        let mut transaction = begin_behind_barrier(&self.intents, Some(LOCK_TIMEOUT), "").await?;
        let sql = format!(
            "WITH resolved AS (DELETE FROM lockstep.intents WHERE xid = ANY ($1::text[]::xid8[])
                                  AND ($2::text IS NULL OR coalesce(owner::text, '') = $2)
                              RETURNING table_name, key, repair_version)
             INSERT INTO lockstep.pending AS p (table_name, key, version)
             SELECT table_name, key::jsonb, pg_catalog.max(repair_version)
                 FROM (SELECT table_name, key::text AS key, repair_version FROM resolved) AS printed
                 GROUP BY table_name, key ORDER BY table_name, key
             ON CONFLICT (table_name, {}) DO UPDATE SET version = greatest(p.version, excluded.version)",
            digest_sql("key")
        );
        let marked = sql::query(AssertSqlSafe(sql))
            .bind(texts(ids))
            .bind(owner)
            .execute(&mut *transaction)
            .await
            .doing("resolving an intent")?;
        transaction.commit().await.doing("resolving an intent")?;
        Ok(marked.rows_affected())
    }
}

pub(super) fn parse_xid(text: String) -> Result<TransactionId> {
    let id =
        text.parse().map_err(|_| Error::source(Kind::Invalid, "reading a transaction's number", text))?;
    Ok(TransactionId(id))
}

fn texts(ids: &[TransactionId]) -> Vec<String> {
    ids.iter().map(|id| id.0.to_string()).collect()
}
