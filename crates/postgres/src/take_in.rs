//! Taking in partitions that came, and seeing to the keys of those that went.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use lockstep_core::{Control, Doing, Error, Kind, Phase, Result};
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

use super::barrier::limit_lock_waits;
use super::beside;
use super::binding::{digest_sql, list, quote_identifier};
use super::copy::bound_sql;
use super::partitions::{Leaf, NONE, STRANGE, relation};
use super::trusted::is_trusted_sql;
use super::{KeyBound, Source, TableBinding, barrier, read_control};
use crate::sql;

/// Most rows that are marked in one statement: they are locked for as long.
pub(super) const ROWS_AT_ONCE: usize = 1_000;
/// Most keys that are marked in one statement behind the closed barrier.
const KEYS_AT_ONCE: usize = 2_000;
/// Longest wait for the rows of a partition.
pub(super) const LOCK_TIMEOUT: Duration = Duration::from_millis(300);

/// Places up to which the rows of partitions were marked. 1. A partition with many rows is attached. 2.
/// Some of its rows are locked for longer than they are waited for, each time others. 3. Begun again at
/// the first row each time, it would never end, and mark the same rows over and over.
#[derive(Debug, Default)]
pub(super) struct TakenIn(Mutex<HashMap<Marked, KeyBound>>);

/// A partition as it was when it was marked: attached again, or with another file, it begins again.
type Marked = [String; 3];

impl TakenIn {
    fn place(&self, leaf: &Leaf) -> Option<KeyBound> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&Self::of(leaf)).cloned()
    }

    fn go_on_after(&self, leaf: &Leaf, place: &KeyBound) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(Self::of(leaf), place.clone());
    }

    fn end(&self, leaf: &Leaf) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&Self::of(leaf));
    }

    fn of(leaf: &Leaf) -> Marked {
        [leaf.oid.clone(), leaf.attached.clone(), leaf.file.clone()]
    }
}

impl Source {
    /// Makes sure of all rows of partitions that are new, and gives them as they are to be recorded. In
    /// DynamoOnly none of their rows may be one that DynamoDB has not; where that cannot be seen, a partition
    /// is recorded as a strange one.
    ///
    /// # Errors
    /// [`Kind::Busy`] where rows or the barrier are locked, or `until` is past; the driver's. The next call
    /// goes on where this one ended.
    pub(super) async fn take_in(
        &self,
        binding: &TableBinding,
        new: &[Leaf],
        until: Option<Instant>,
    ) -> Result<Vec<Leaf>> {
        let doing = "taking a partition in";
        // 1. A partition is attached that is captured by itself in a migration beside this one. 2. Its rows
        // would be moved by both.
        if !new.is_empty() {
            let mut looking = self.begin(doing).await?;
            beside::refuse(&mut looking, binding, doing).await?;
        }
        let mut taken = Vec::with_capacity(new.len());
        for leaf in new {
            let mut leaf = Leaf { guard: NONE.to_owned(), ..leaf.clone() };
            if self.is_strange(binding, &leaf, until).await.map_err(|error| of_its_owner(error, &leaf))? {
                leaf.attached = format!("{STRANGE}{}", leaf.attached);
            }
            tracing::info!(table = binding.name(), partition = leaf.name, "a partition is taken in");
            taken.push(leaf);
        }
        Ok(taken)
    }

    /// Tells whether a partition that came has rows that no trigger captured and that cannot be marked now.
    /// Where rows can be marked, all of them are, captured ones once more: what fills a partition in the
    /// transaction that makes it may have our trigger off, in a savepoint that its rows do not tell of.
    async fn is_strange(&self, binding: &TableBinding, leaf: &Leaf, until: Option<Instant>) -> Result<bool> {
        if !self.holds_rows(leaf).await? || self.mark_rows_of(binding, leaf, until).await? {
            return Ok(false);
        }
        Ok(!(leaf.born && self.has_only_captured_rows(leaf).await?))
    }

    /// Tells whether no row of a partition is of the transaction that made it.
    async fn has_only_captured_rows(&self, leaf: &Leaf) -> Result<bool> {
        let own = leaf.attached.rsplit('.').next().unwrap_or_default();
        self.exists(leaf, &format!(" WHERE xmin::text = '{own}'")).await.map(|found| !found)
    }

    async fn holds_rows(&self, leaf: &Leaf) -> Result<bool> {
        self.exists(leaf, "").await
    }

    async fn exists(&self, leaf: &Leaf, filter: &str) -> Result<bool> {
        let doing = "looking into a partition";
        let mut connection = self.pool().acquire().await.doing(doing)?;
        let Some(relation) = relation(&mut connection, leaf).await? else { return Ok(false) };
        let sql = format!("SELECT EXISTS (SELECT FROM ONLY {relation}{filter})");
        sql::query_scalar(AssertSqlSafe(sql)).persistent(false).fetch_one(&mut *connection).await.doing(doing)
    }

    /// Marks each row of a partition, under its lock, as its trigger would have. `false`, with nothing
    /// marked, in DynamoOnly.
    async fn mark_rows_of(
        &self,
        binding: &TableBinding,
        leaf: &Leaf,
        until: Option<Instant>,
    ) -> Result<bool> {
        let doing = "marking the rows of a partition";
        let mut after = self.taken_in.place(leaf);
        loop {
            if until.is_some_and(|until| Instant::now() >= until) {
                let message = format!("the rows of partition {} are being taken in", leaf.name);
                return Err(Error::source(Kind::Busy, doing, message));
            }
            let mut transaction = self.begin(doing).await?;
            limit_lock_waits(&mut transaction, LOCK_TIMEOUT).await?;
            if try_shared(&mut transaction, doing).await?.phase == Phase::DynamoOnly {
                return Ok(false);
            }
            let Some(relation) = relation(&mut transaction, leaf).await? else { return Ok(true) };
            let (only, from) = (format!("ONLY {relation}"), (after.as_ref(), None));
            let places = mark_next(&mut transaction, binding, &only, from, (ROWS_AT_ONCE, LOCKED)).await;
            let places = places.doing(doing)?;
            transaction.commit().await.doing(doing)?;
            let all = places.len();
            match places.into_iter().next_back() {
                Some(last) if all >= ROWS_AT_ONCE => {
                    self.taken_in.go_on_after(leaf, &last);
                    after = Some(last);
                }
                _ => {
                    self.taken_in.end(leaf);
                    return Ok(true);
                }
            }
        }
    }

    /// Marks the keys that partitions which were detached still hold, so that a relay need not be told by a
    /// comparison which items have no row any more. An item that cannot be read, as of a table that has other
    /// columns by now, is left to the comparison. Nothing in DynamoOnly.
    pub(super) async fn mark_what_is_left_in(
        &self,
        binding: &TableBinding,
        gone: impl Iterator<Item = &Leaf>,
    ) -> Result<()> {
        for leaf in gone {
            if self.control().await?.phase == Phase::DynamoOnly {
                return Ok(());
            }
            match self.mark_keys_left_in(binding, leaf).await {
                Err(error) if error.sqlstate().is_some_and(|code| code.starts_with("42")) => {
                    tracing::warn!(partition = leaf.name, %error, "a comparison has to find the keys that it held");
                }
                done => done?,
            }
        }
        Ok(())
    }

    /// Behind the closed barrier: there is no row to lock.
    ///
    /// A partition that is a stranger's by now is left to the comparison: 1. It is detached, and goes to a
    /// role that archives. 2. That one changes the type of its key, with a cast to text by a function of its
    /// own. 3. Read, that runs with the rights of the operator.
    async fn mark_keys_left_in(&self, binding: &TableBinding, leaf: &Leaf) -> Result<()> {
        let doing = "marking the keys of a partition that was detached";
        let mut after = None::<KeyBound>;
        loop {
            let mut transaction = self.begin_marking().await?;
            let Some(relation) = relation(&mut transaction, leaf).await? else { return Ok(()) };
            // From here on it stays whose it is, and what its columns are.
            limit_lock_waits(&mut transaction, LOCK_TIMEOUT).await?;
            let lock = AssertSqlSafe(format!("LOCK TABLE ONLY {relation} IN ACCESS SHARE MODE"));
            let locked = sql::query(lock).persistent(false).execute(&mut *transaction).await.doing(doing);
            let is_readable = match locked {
                // A role that keeps it locked holds no repair up.
                Err(error) if error.kind == Kind::Busy => false,
                Err(error) => return Err(error),
                Ok(_) => is_still_ours(&mut transaction, binding, leaf).await?,
            };
            if !is_readable {
                tracing::warn!(
                    partition = leaf.name,
                    "it was detached, and is another role's, has another key or is locked by now: a \
                     comparison has to find the keys that it held"
                );
                return Ok(());
            }
            let (only, from) = (format!("ONLY {relation}"), (after.as_ref(), None));
            let places = mark_next(&mut transaction, binding, &only, from, (KEYS_AT_ONCE, "")).await;
            let places = places.doing(doing)?;
            transaction.commit().await.doing(doing)?;
            let all = places.len();
            match places.into_iter().next_back() {
                Some(last) if all >= KEYS_AT_ONCE => after = Some(last),
                _ => return Ok(()),
            }
        }
    }
}

/// Takes the barrier shared until the transaction ends, unless a phase change holds it or waits for it, and
/// returns the phase that holds from here on.
///
/// # Errors
/// [`Kind::Busy`] where one does; the driver's.
pub(super) async fn try_shared(transaction: &mut PgConnection, doing: &str) -> Result<Control> {
    let entered: bool = sql::query_scalar("SELECT pg_catalog.pg_try_advisory_xact_lock_shared($1, $2)")
        .bind(barrier().0)
        .bind(barrier().1)
        .fetch_one(&mut *transaction)
        .await
        .doing(doing)?;
    if !entered {
        return Err(Error::source(Kind::Busy, doing, "a step holds the barrier"));
    }
    read_control(transaction).await
}

/// Lock of rows that are marked while writers go on.
pub(super) const LOCKED: &str = "FOR NO KEY UPDATE OF s";

/// Marks the keys of the next rows of `relation` after a key, of those that a condition holds for, as the
/// capture function does, and returns their primary keys in order.
///
/// As they were before any row was waited for: 1. The last row of a page is locked by an application,
/// which gives it a higher key and commits. 2. Its lock is acquired, and what is read of it then is that
/// key. 3. The next page would begin after it, and the rows between would never be marked.
pub(super) async fn mark_next(
    connection: &mut PgConnection,
    binding: &TableBinding,
    relation: &str,
    (after, condition): (Option<&KeyBound>, Option<&str>),
    (rows_max, lock): (usize, &str),
) -> std::result::Result<Vec<KeyBound>, sqlx::Error> {
    let key = binding.primary_key_sql("s");
    let texts = list(binding.primary_key().map(|name| format!("s.{}::text", quote_identifier(name))));
    let after = after.map(|bound| format!("({key}) > ({})", bound_sql(binding, bound)));
    let of = condition.map(str::to_owned).into_iter().chain(after).collect::<Vec<_>>().join(" AND ");
    let filter = if of.is_empty() { of } else { format!(" WHERE {of}") };
    let sql = format!(
        "WITH places AS MATERIALIZED (
             SELECT ARRAY[{texts}] AS place FROM {relation} AS s{filter} ORDER BY {key} LIMIT {rows_max}),
         rows AS MATERIALIZED (
             SELECT {} AS key FROM {relation} AS s{filter} ORDER BY {key} LIMIT {rows_max} {lock}),
         marked AS (INSERT INTO lockstep.pending AS p (table_name, key, version)
             SELECT $1, key, pg_catalog.nextval('lockstep.version_seq') FROM rows
             ON CONFLICT (table_name, {}) DO UPDATE SET version = CASE WHEN excluded.version > p.version
                 THEN excluded.version ELSE pg_catalog.nextval('lockstep.version_seq') END)
         SELECT place FROM places",
        binding.key_sql("s"),
        digest_sql("key"),
    );
    let marked = sql::query_scalar(AssertSqlSafe(sql)).persistent(false).bind(binding.name());
    marked.fetch_all(connection).await
}

/// Tells whether a partition that went is of a role that is trusted with the moved table, and has the columns
/// of its key as that has them. The transaction has a lock of it.
async fn is_still_ours(connection: &mut PgConnection, binding: &TableBinding, leaf: &Leaf) -> Result<bool> {
    let key: Vec<&str> = binding.table.key_columns().iter().map(|column| column.name).collect();
    sql::query_scalar(AssertSqlSafe(format!(
        "SELECT {} AND NOT EXISTS (
             SELECT FROM pg_attribute p LEFT JOIN pg_attribute a ON a.attrelid = c.oid
                 AND a.attname = p.attname AND a.atttypid = p.atttypid AND NOT a.attisdropped
             WHERE p.attrelid = pg_catalog.to_regclass($1)::oid AND p.attname = ANY ($3::text[]::name[])
                 AND NOT p.attisdropped AND a.attnum IS NULL)
         FROM pg_class c WHERE c.oid = $2::text::oid",
        is_trusted_sql("c.relowner", "$1"),
    )))
    .bind(binding.relation.sql())
    .bind(&leaf.oid)
    .bind(key)
    .fetch_optional(connection)
    .await
    .doing("asking whose a partition is that was detached")
    .map(|found| found.unwrap_or(false))
}

/// Says what to do where the role may not look. 1. A DBA makes a partition, which is theirs; rows are written
/// to it through its parent. 2. Our role owns the parent alone, and may not look into the partition.
fn of_its_owner(error: Error, leaf: &Leaf) -> Error {
    if error.kind != Kind::Denied {
        return error;
    }
    let message = format!(
        "{}: partition {} was made by another role; ALTER TABLE {} OWNER TO the owner of its parent",
        error.message, leaf.name, leaf.name
    );
    Error::source(Kind::Denied, "taking a partition in", message)
}
