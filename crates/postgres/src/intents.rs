//! Intents: a strict write puts into the target before it commits, and says so first (I9).
//!
//! A transaction of a strict write that ended without its commit may have left a *phantom* in the target: a
//! state that no commit stands behind. Its intent, one row a key, is durable before the put leaves, on
//! another connection; the transaction takes it out itself, so it goes with the commit or stays with the
//! rollback. The sweeper marks the keys of what was rolled back as pending, and the relay overwrites the
//! phantom with the truth. Until then an open intent is part of the pending set (I1).
//!
//! The mark is made under a *repair version* that the transaction itself reserved while it held the row, and
//! not under a fresh one. 1. A writer changes the row and takes version 11, but has not marked the key yet. 2.
//! A sweeper takes a fresh version 12, marks, and a relay delivers the old state at 12 and takes the mark
//! out. 3. The writer marks at 11, commits, and its newer state is refused. A repair version outranks the
//! phantom, and any later holder of the row outranks it.

use std::time::Duration;

use lockstep_core::{Control, Doing, Error, Fields, Kind, Result, Version};
use sqlx::postgres::{PgConnection, PgQueryResult, PgRow};
use sqlx::{AssertSqlSafe, Row as _};

use super::begin::begin_with;
use super::binding::{TableBinding, digest_sql, quote_identifier};
use super::sessions::Sessions;
use super::{BARRIER, Source, SourceTransaction};
use crate::control_of_row;

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
    /// Which of the keys that were asked for.
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

/// Begins a transaction, enters the barrier, then reads the phase, all in READ COMMITTED whatever the role's
/// default: the phase must be read by a statement that starts after the barrier was had.
#[crate::boxed]
pub async fn begin_write(source: &Source) -> Result<(SourceTransaction, Control, TransactionId)> {
    let mut transaction = begin_behind_barrier(&source.sessions, None).await?;
    let row = sqlx::query(
        "SELECT phase, epoch, changed_at, pg_catalog.pg_current_xact_id()::text AS xid
        FROM lockstep.control",
    )
    .fetch_one(&mut *transaction)
    .await
    .doing("reading the phase")?;
    let id = parse_xid(row.get("xid"))?;
    Ok((transaction, control_of_row(&row)?, id))
}

/// Whether a transaction is still the one of `id`, and was not ended by a statement in it.
///
/// # Errors
/// The driver's, as of a transaction in which a statement has failed.
#[crate::boxed]
pub async fn is_under_way(transaction: &mut PgConnection, id: TransactionId) -> Result<bool> {
    let now: Option<String> = sqlx::query_scalar("SELECT pg_catalog.pg_current_xact_id_if_assigned()::text")
        .fetch_one(transaction)
        .await
        .doing("looking whether a transaction is under way")?;
    now.map_or(Ok(false), |now| Ok(parse_xid(now)? == id))
}

async fn begin_behind_barrier(
    sessions: &Sessions,
    lock_timeout: Option<Duration>,
) -> Result<SourceTransaction> {
    let (class, object) = BARRIER;
    let timeout = lock_timeout
        .map(|limit| format!("SET LOCAL lock_timeout = {}; ", limit.as_millis()))
        .unwrap_or_default();
    let sql = format!(
        "BEGIN ISOLATION LEVEL READ COMMITTED; {timeout}SELECT pg_catalog.pg_advisory_xact_lock_shared({class}, {object})"
    );
    begin_with(sessions, sql, "beginning a write").await
}

/// What this transaction left under a key: the row that has it, and the mark, read together (I14).
pub struct Left {
    /// The mark.
    pub mark: Mark,
    row: PgRow,
    exists: bool,
}

/// Columns before the row's own in the statement that reads them.
const ROW_AT: usize = 4;

impl Left {
    /// Runs `read` over the row's fields; `None` where no row has this key.
    pub fn with_fields<T>(&self, read: impl FnOnce(&mut Fields<'_>) -> T) -> Option<T> {
        self.exists.then(|| Fields::of_query(&self.row, ROW_AT, read))
    }
}

/// Reads what this transaction left under those of `keys`, each with its number, that it marked. To be read
/// after its last statement, never after the first, and never from what a statement returned:
/// 1. `RETURNING` shows a row as it was written.
/// 2. A trigger, a cascade or a later statement changes it, or takes it away, and marks its key under a newer
///    version.
/// 3. What was returned would leave under that version and be acknowledged.
///
/// The rows are locked by this transaction, so no other one changes them meanwhile.
///
/// # Errors
/// The driver's.
#[crate::boxed]
pub async fn left_under(
    transaction: &mut PgConnection,
    binding: &TableBinding,
    keys: &[(usize, &str)],
    strict: bool,
) -> Result<Vec<Left>> {
    let sql = format!(
        "SELECT d.n, p.version, CASE WHEN $4 THEN pg_catalog.nextval('lockstep.version_seq') END, s.{first_key} IS NOT NULL, {columns}
         FROM unnest($2::bigint[], $3::text[]) AS d (n, key)
         JOIN lockstep.pending p ON p.table_name = $1 AND {stored} = {asked}
         LEFT JOIN {relation} AS s ON {same_row}",
        first_key = quote_identifier(binding.table.key_columns()[0].name),
        columns = binding.columns_sql("s"),
        relation = binding.relation.sql(),
        same_row = binding.row_of_key_sql("s", "p.key"),
        stored = digest_sql("p.key"),
        asked = digest_sql("d.key::jsonb"),
    );
    let (places, keys): (Vec<i64>, Vec<&str>) = keys.iter().map(|(of, key)| (*of as i64, *key)).unzip();
    let doing = "reading rows and versions of this transaction";
    let found = sqlx::query(AssertSqlSafe(sql))
        .bind(binding.name())
        .bind(&places)
        .bind(&keys)
        .bind(strict)
        .fetch_all(transaction)
        .await
        .doing(doing)?;
    let left = |row: PgRow| {
        let (of, version): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
        let (repair, exists): (Option<i64>, bool) = (row.try_get(2)?, row.try_get(3)?);
        let mark = Mark { of: of as usize, version: Version(version), repair: repair.map(Version) };
        Ok::<_, sqlx::Error>(Left { mark, row, exists })
    };
    let mut found = found.into_iter().map(left).collect::<Result<Vec<_>, _>>().doing(doing)?;
    found.sort_by_key(|left| left.mark.of);
    Ok(found)
}

/// Takes what the target holds by now out of the pending set, and this transaction's intents with it, inside
/// the transaction: both are true when it commits, and neither when it does not.
#[crate::boxed]
pub async fn settle_in_transaction(
    transaction: &mut PgConnection,
    held: &[(&MarkedKey, Version)],
) -> Result<()> {
    let settled = match held {
        [(key, version)] => settle_one(transaction, key, *version).await,
        held => settle_many(transaction, held).await,
    };
    settled.map(drop).doing("settling a strict write")
}

/// Most strict writes are of one key, and a join costs half as much again as the deletes themselves.
async fn settle_one(
    transaction: &mut PgConnection,
    key: &MarkedKey,
    version: Version,
) -> sqlx::Result<PgQueryResult> {
    let same = format!("table_name = $1 AND {} = {}", digest_sql("key"), digest_sql("$2::jsonb"));
    let sql = format!(
        "WITH gone AS (DELETE FROM lockstep.pending WHERE {same} AND version = $3),
         cured AS (DELETE FROM lockstep.dead_letters WHERE {same} AND version < $3)
         DELETE FROM lockstep.intents WHERE xid = pg_catalog.pg_current_xact_id()"
    );
    let settle = sqlx::query(AssertSqlSafe(sql));
    settle.bind(key.table).bind(&key.key).bind(version.0).execute(transaction).await
}

async fn settle_many(
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
         DELETE FROM lockstep.intents WHERE xid = pg_catalog.pg_current_xact_id()",
        of_held = digest_sql("k::jsonb"),
        of_mark = digest_sql("p.key"),
        of_letter = digest_sql("x.key"),
    );
    sqlx::query(AssertSqlSafe(sql)).bind(&tables).bind(&keys).bind(&versions).execute(transaction).await
}

impl Source {
    /// Makes the intents of a strict write durable, before anything of it leaves for the target (I9).
    #[crate::boxed]
    pub async fn record_intents(&self, id: TransactionId, keys: &[(&MarkedKey, Version)]) -> Result<()> {
        let tables: Vec<&str> = keys.iter().map(|(key, _)| key.table).collect();
        let names: Vec<&str> = keys.iter().map(|(key, _)| key.key.as_str()).collect();
        let repairs: Vec<i64> = keys.iter().map(|(_, repair)| repair.0).collect();
        let doing = "recording an intent";
        let mut session = self.intents.take().await.doing(doing)?;
        sqlx::query(
            "INSERT INTO lockstep.intents (xid, table_name, key, repair_version)
             SELECT $1::text::xid8, t, k::jsonb, r FROM unnest($2::text[], $3::text[],
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

    /// How many intents are open, and the age of the oldest in seconds.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn open_writes_age(&self) -> Result<(i64, f64)> {
        sqlx::query_as(
            "SELECT pg_catalog.count(*), greatest(0, coalesce(extract(epoch
                FROM pg_catalog.clock_timestamp() - pg_catalog.min(made_at)), 0))::float8
                    FROM lockstep.intents",
        )
        .fetch_one(self.intents.pool())
        .await
        .doing("counting open intents")
    }

    /// Drops the intents of a transaction of which nothing can be in the target.
    #[crate::boxed]
    pub async fn drop_intents(&self, ids: &[TransactionId]) -> Result<u64> {
        let dropped = sqlx::query("DELETE FROM lockstep.intents WHERE xid = ANY ($1::text[]::xid8[])")
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
    pub async fn settle_aborted(&self, ids: &[TransactionId]) -> Result<u64> {
        // Behind the barrier: who closes it sees either the intents or the marks, never neither.
        let mut transaction = begin_behind_barrier(&self.intents, Some(LOCK_TIMEOUT)).await?;
        let sql = format!(
            "WITH settled AS (DELETE FROM lockstep.intents WHERE xid = ANY ($1::text[]::xid8[])
                              RETURNING table_name, key, repair_version)
             INSERT INTO lockstep.pending AS p (table_name, key, version)
             SELECT table_name, key, pg_catalog.max(repair_version) FROM settled GROUP BY table_name, key
                 ORDER BY table_name, key
             ON CONFLICT (table_name, {}) DO UPDATE SET version = greatest(p.version, excluded.version)",
            digest_sql("key")
        );
        let marked = sqlx::query(AssertSqlSafe(sql))
            .bind(texts(ids))
            .execute(&mut *transaction)
            .await
            .doing("settling an intent")?;
        transaction.commit().await.doing("settling an intent")?;
        Ok(marked.rows_affected())
    }

    /// Intents that are open: strict writes under way, and those whose end no sweeper has looked up yet.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn open_write_intents(&self) -> Result<i64> {
        sqlx::query_scalar("SELECT pg_catalog.count(*) FROM lockstep.intents")
            .fetch_one(self.intents.pool())
            .await
            .doing("counting open intents")
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
