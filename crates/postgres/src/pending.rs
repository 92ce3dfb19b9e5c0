//! The pending set: keys whose newest state may not be in the target yet (I1).

use chrono::{DateTime, Utc};
use lockstep_core::{Doing, Error, Fields, Kind, Result, SourceKey, Version};
use sqlx::AssertSqlSafe;
use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::binding::digest_sql;
use super::{RelayShare, Source, TableBinding};

/// Lag of the target for one table. Always visible (R12).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Lag {
    /// Pending keys.
    pub keys: i64,
    /// Age of the oldest mark, in seconds; 0 when nothing is pending.
    pub oldest_s: f64,
}

/// Statement that counts the pending keys of table `$1`, with the age of the oldest.
///
/// An open intent is a mark to be: its key may be a phantom's (see `intents`). Of what was made before the
/// clock was set back it is not known how long it waits.
pub(crate) const LAG: &str = "SELECT pg_catalog.count(*), coalesce(extract(epoch
         FROM CASE WHEN pg_catalog.max(since) > pg_catalog.clock_timestamp() + interval '1 second'
             THEN interval '1 day' + (pg_catalog.max(since) - pg_catalog.clock_timestamp())
             ELSE pg_catalog.clock_timestamp() - pg_catalog.min(since) END), 0)::float8
     FROM (SELECT marked_at AS since FROM lockstep.pending WHERE table_name = $1
           UNION ALL SELECT made_at FROM lockstep.intents WHERE table_name = $1) AS open";

/// One pending key with the row it names, both from one snapshot.
pub struct PendingRow {
    /// The key.
    pub key: SourceKey,
    /// The version of its newest state in that snapshot.
    pub version: Version,
    row: PgRow,
    exists: bool,
    /// Whether there is a row of that primary key.
    is_there: bool,
}

/// Columns before the row's own in the statement that reads a batch. They are read by their place: a table
/// may have a `version` and a `key` of its own, and the driver gives the last column of a name.
const ROW_AT: usize = 5;

impl PendingRow {
    /// Runs `read` over the row's fields; `None` when the row is gone, so that a tombstone is due.
    pub fn with_fields<T>(&self, read: impl FnOnce(&mut Fields<'_>) -> T) -> Option<T> {
        self.exists.then(|| Fields::of_query(&self.row, ROW_AT, read))
    }

    /// Runs `read` over the fields of the row that has this primary key under another source key; `None`
    /// where there is none.
    pub fn with_moved_fields<T>(&self, read: impl FnOnce(&mut Fields<'_>) -> T) -> Option<T> {
        (self.is_there && !self.exists).then(|| Fields::of_query(&self.row, ROW_AT, read))
    }
}

/// Pending keys of one table, and where the next batch starts.
pub struct PendingBatch {
    /// The keys with their rows.
    pub rows: Vec<PendingRow>,
    /// Hand it to the next call; `None` when this was the end of the set.
    pub next: Option<SourceKey>,
    /// Time at which the snapshot was taken, by the source's clock.
    pub read_at: DateTime<Utc>,
}

impl PendingBatch {
    /// Returns the end of the set.
    pub fn nothing() -> Self {
        Self { rows: Vec::new(), next: None, read_at: DateTime::UNIX_EPOCH }
    }

    /// Makes the page of what [`page_sql`] found, of `limit` keys.
    pub(super) fn of(found: Vec<PgRow>, limit: usize, doing: &str) -> Result<Self> {
        let full = found.len() == limit;
        let read_at = found.first().map_or_else(Utc::now, |row| row.get(4));
        let mut rows = Vec::with_capacity(found.len());
        for row in found {
            let key: String = row.get(0);
            let key =
                SourceKey::parse(&key).map_err(|e| Error::source(Kind::Invalid, doing, e.to_string()))?;
            rows.push(PendingRow {
                key,
                version: Version(row.get(1)),
                exists: row.get(2),
                is_there: row.get(3),
                row,
            });
        }
        let next = if full { rows.last().map(|row| row.key.clone()) } else { None };
        Ok(Self { rows, next, read_at })
    }
}

/// Returns the statement that reads marks of table `$1` with the rows they name, `$3` of them at most;
/// `which` is the condition on `key` and may use `$2`.
pub(super) fn page_sql(binding: &TableBinding, which: &str, order_sql: &str) -> String {
    format!(
        "SELECT p.key::text, p.version, coalesce({present_key} = p.key, false), s.{first_key} IS NOT NULL,
            pg_catalog.statement_timestamp(), {columns}
         FROM (SELECT key, version FROM lockstep.pending
               WHERE table_name = $1 AND {which}
               ORDER BY {of_mark} {order_sql} LIMIT $3) AS p
         LEFT JOIN {relation} AS s ON {same_row}
         ORDER BY {of_page} {order_sql}",
        of_mark = digest_sql("key"),
        of_page = digest_sql("p.key"),
        first_key = super::binding::quote_identifier(binding.table.key_columns()[0].name),
        columns = binding.columns_sql("s"),
        present_key = binding.key_sql("s"),
        relation = binding.relation.sql(),
        same_row = binding.row_of_primary_key_sql("s", "p.key"),
    )
}

/// Order in which the set is gone through, by the digests of its keys. Two relays that go different ways meet
/// once, and deliver nothing twice on the way there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyOrder {
    /// Order from the first digest.
    Ascending,
    /// Order from the last digest.
    Descending,
}

/// Key that was delivered and may leave the set, unless it has been marked again meanwhile.
#[derive(Clone, Debug)]
pub struct Delivered {
    /// The key.
    pub key: SourceKey,
    /// The version that the target now holds, or outranks.
    pub version: Version,
}

impl Source {
    /// Reads up to `limit` pending keys of a share (`None` for every key) after `after` in that order, each
    /// with the row it names, in one statement and so in one snapshot.
    ///
    /// Without `FOR UPDATE`, on purpose. Under READ COMMITTED PostgreSQL re-reads a locked pending row after
    /// a wait but keeps the old snapshot for the joined row: new version, old image, written and
    /// acknowledged. For the same reason this is one statement and not two.
    ///
    /// A mark that does not read as a key of the table is set aside, and the rest is read: no trigger of ours
    /// made it, and the changes behind it must not wait for it.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn read_pending(
        &self,
        share: Option<&RelayShare>,
        binding: &TableBinding,
        order: KeyOrder,
        after: Option<&SourceKey>,
        limit: i64,
    ) -> Result<PendingBatch> {
        match self.try_read_pending(share, binding, order, after, limit).await {
            Err(error)
                if error.kind == Kind::Invalid && super::unreadable::set_aside(self, binding).await? > 0 =>
            {
                self.try_read_pending(share, binding, order, after, limit).await
            }
            read => read,
        }
    }

    async fn try_read_pending(
        &self,
        share: Option<&RelayShare>,
        binding: &TableBinding,
        order: KeyOrder,
        after: Option<&SourceKey>,
        limit: i64,
    ) -> Result<PendingBatch> {
        let (after_sql, order_sql) = match order {
            KeyOrder::Ascending => (">", "ASC"),
            KeyOrder::Descending => ("<", "DESC"),
        };
        let which = format!(
            "($2::jsonb IS NULL OR {} {after_sql} {}){}",
            digest_sql("key"),
            digest_sql("$2::jsonb"),
            share.map(|share| share.condition_sql(&digest_sql("key"))).unwrap_or_default(),
        );
        let sql = page_sql(binding, &which, order_sql);
        let doing = format!("reading pending keys of {}", binding.name());
        let found = sqlx::query(AssertSqlSafe(sql))
            .bind(binding.name())
            .bind(after.map(|key| sqlx::types::Json(key.clone())))
            .bind(limit)
            .fetch_all(self.pool())
            .await
            .doing(&doing)?;
        PendingBatch::of(found, limit as usize, &doing)
    }

    /// Takes exactly what was delivered out of the set; returns how many keys left it.
    ///
    /// A key that was marked again meanwhile keeps its newer mark, and its age starts at `read_at`, because
    /// everything older has been delivered. An age that would change by less than a second is left: a
    /// REPEATABLE READ transaction of an application that writes a row whose mark was touched after its
    /// snapshot fails with 40001, although no writer has changed the row. `SKIP LOCKED`: an application's
    /// transaction may hold key a and want b while we hold b and want a; a key that is locked is being marked
    /// again anyway.
    ///
    /// # Errors
    /// The driver's. Not having acknowledged is harmless: the keys are delivered again (I2).
    #[crate::boxed]
    pub async fn acknowledge(
        &self,
        table: &str,
        delivered: &[Delivered],
        read_at: DateTime<Utc>,
    ) -> Result<u64> {
        self.acknowledge_of(None, table, delivered, read_at).await
    }

    /// Acknowledges as [`Source::acknowledge`] does, for a relay that has a share. Keys that are not in its
    /// share any more, and all of them once its lease is over, stay pending; it is asked here, in the
    /// statement that takes marks out. 1. A relay looks at its clock. 2. It is stopped for a minute. 3. Its
    /// keys are another's. 4. It wakes and acknowledges.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn acknowledge_of(
        &self,
        share: Option<&RelayShare>,
        table: &str,
        delivered: &[Delivered],
        read_at: DateTime<Utc>,
    ) -> Result<u64> {
        let (keys, versions) = columns_of(delivered);
        let doing = "acknowledging delivered keys";
        let mut session = self.session(doing).await?;
        let sql = format!(
            "WITH delivered AS MATERIALIZED (SELECT {of_delivered} AS digest, v AS version
                FROM unnest($2::text[], $3::bigint[]) AS d(k, v){of_share}),
             locked AS MATERIALIZED (
                 SELECT d.digest, p.version <= d.version AS reached
                 FROM lockstep.pending p JOIN delivered d ON {of_mark} = d.digest
                 WHERE p.table_name = $1 FOR UPDATE OF p SKIP LOCKED),
             gone AS (DELETE FROM lockstep.pending p USING locked l
                      WHERE p.table_name = $1 AND {of_mark} = l.digest AND l.reached RETURNING 1),
             younger AS (UPDATE lockstep.pending p SET marked_at = greatest(p.marked_at, $4) FROM locked l
                         WHERE p.table_name = $1 AND {of_mark} = l.digest AND NOT l.reached
                             AND p.marked_at < $4 - interval '1 second'),
             cured AS (DELETE FROM lockstep.dead_letters x USING delivered d
                       WHERE x.table_name = $1 AND {of_letter} = d.digest AND x.version < d.version)
             SELECT pg_catalog.count(*) FROM gone",
            of_delivered = digest_sql("k::jsonb"),
            of_share = share.map_or_else(String::new, |_| {
                format!(" WHERE {}", RelayShare::is_held_sql("$5", &digest_sql("d.k::jsonb")))
            }),
            of_mark = digest_sql("p.key"),
            of_letter = digest_sql("x.key"),
        );
        let gone = sqlx::query_as(AssertSqlSafe(sql)).bind(table).bind(&keys).bind(&versions).bind(read_at);
        let gone = match share {
            Some(share) => gone.bind(share.relay),
            None => gone,
        };
        let row: (i64,) = gone.fetch_one(&mut *session).await.doing(doing)?;
        session.keep();
        Ok(row.0 as u64)
    }

    /// Adds to the durable count of changes that relays have delivered.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn count_relayed(&self, table: &str, delivered: u64) -> Result<()> {
        sqlx::query("UPDATE lockstep.tables SET relayed = relayed + $2 WHERE name = $1")
            .bind(table)
            .bind(delivered as i64)
            .execute(self.pool())
            .await
            .doing("counting delivered keys")?;
        Ok(())
    }

    /// Pending keys of a table and the age of the oldest, open intents of strict writes included.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn lag(&self, table: &str) -> Result<Lag> {
        let (keys, oldest_s): (i64, f64) =
            sqlx::query_as(LAG).bind(table).fetch_one(self.pool()).await.doing("measuring the lag")?;
        Ok(Lag { keys, oldest_s: oldest_s.max(0.0) })
    }

    /// Returns those of `keys` that are pending right now, or may become so by an open intent.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn pending_among(&self, table: &str, keys: &[SourceKey]) -> Result<Vec<SourceKey>> {
        let keys: Vec<String> = keys.iter().map(SourceKey::to_json).collect();
        let sql = format!(
            "WITH asked AS MATERIALIZED (SELECT {} AS digest FROM pg_catalog.unnest($2::text[]) AS k)
             SELECT p.key::text FROM lockstep.pending p JOIN asked a ON {} = a.digest WHERE p.table_name = $1
             UNION SELECT i.key::text FROM lockstep.intents i JOIN asked a ON {} = a.digest WHERE i.table_name = $1",
            digest_sql("k::jsonb"),
            digest_sql("p.key"),
            digest_sql("i.key"),
        );
        let found: Vec<String> = sqlx::query_scalar(AssertSqlSafe(sql))
            .bind(table)
            .bind(&keys)
            .fetch_all(self.pool())
            .await
            .doing("looking keys up in the pending set")?;
        Ok(found.iter().filter_map(|key| SourceKey::parse(key).ok()).collect())
    }
}

fn columns_of(delivered: &[Delivered]) -> (Vec<String>, Vec<i64>) {
    delivered.iter().map(|d| (d.key.to_json(), d.version.0)).unzip()
}
