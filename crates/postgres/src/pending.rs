//! The pending set: keys whose newest state may not be in the target yet (I1).

use chrono::{DateTime, Utc};
use lockstep_core::{Doing, Kind, Result, SourceKey, Version};
use sqlx::AssertSqlSafe;

use super::binding::digest_sql;
use super::page::{KeyDigest, PendingBatch, page_sql};
use super::{RelayShare, Source, TableBinding};
use crate::sql;

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

/// Reads of a page that fail as invalid although each of its marks reads: those that did not may have been
/// set aside by another relay meanwhile.
const UNEXPLAINED_MAX: u32 = 3;

/// Marks of a page.
#[derive(Clone, Copy)]
struct Wanted<'a> {
    share: Option<&'a RelayShare>,
    order: KeyOrder,
    after: Option<&'a KeyDigest>,
    /// Digests of marks that do not read.
    without: &'a [Vec<u8>],
    limit: i64,
}

impl Wanted<'_> {
    /// Returns the condition, over parameters 2 and 4, and the order.
    fn sql(&self) -> (String, &'static str) {
        let (after_sql, order_sql) = match self.order {
            KeyOrder::Ascending => (">", "ASC"),
            KeyOrder::Descending => ("<", "DESC"),
        };
        let digest = digest_sql("key");
        let of_share = self.share.map(|share| share.condition_sql(&digest)).unwrap_or_default();
        let which = format!(
            "($2::bytea IS NULL OR {digest} {after_sql} $2) AND {digest} <> ALL ($4::bytea[]){of_share}"
        );
        (which, order_sql)
    }
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
    /// made it, and the changes behind it must not wait for it. That is repeated as often as it takes: 1. One
    /// such mark is set aside. 2. Another one comes before the page is read again. 3. Its error ends the
    /// relay, of all tables.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn read_pending(
        &self,
        share: Option<&RelayShare>,
        binding: &TableBinding,
        order: KeyOrder,
        after: Option<&KeyDigest>,
        limit: i64,
    ) -> Result<PendingBatch> {
        let (mut after, mut without, mut failed) = (after.cloned(), Vec::new(), 0);
        loop {
            let wanted = Wanted { share, order, after: after.as_ref(), without: &without, limit };
            let mut batch = match self.try_read_pending(binding, wanted).await {
                Err(error) if error.kind == Kind::Invalid => {
                    let page = self.marks_of(binding, wanted).await?;
                    let found = super::unreadable::find(self, binding, &page).await?;
                    failed += u32::from(found.is_empty());
                    if failed > UNEXPLAINED_MAX {
                        return Err(error);
                    }
                    for mark in found {
                        self.set_aside_unread(binding.name(), &mark).await?;
                        // It stays where it is locked, and is read no more.
                        without.push(mark.digest.0);
                    }
                    continue;
                }
                read => read?,
            };
            for mark in std::mem::take(&mut batch.unreadable) {
                self.set_aside_unread(binding.name(), &mark).await?;
            }
            match batch.next.take() {
                // Only such marks were on it.
                Some(next) if batch.rows.is_empty() => after = Some(next),
                next => return Ok(PendingBatch { next, ..batch }),
            }
        }
    }

    async fn try_read_pending(&self, binding: &TableBinding, wanted: Wanted<'_>) -> Result<PendingBatch> {
        let (which, order_sql) = wanted.sql();
        let sql = page_sql(binding, &which, order_sql);
        let doing = format!("reading pending keys of {}", binding.name());
        let found = sql::query(AssertSqlSafe(sql))
            .bind(binding.name())
            .bind(wanted.after.map(|after| after.0.as_slice()))
            .bind(wanted.limit)
            .bind(wanted.without)
            .fetch_all(self.pool())
            .await
            .doing(&doing)?;
        Ok(PendingBatch::of(found, wanted.limit as usize))
    }

    /// Digests and versions of the marks of a page.
    async fn marks_of(&self, binding: &TableBinding, wanted: Wanted<'_>) -> Result<Vec<(Vec<u8>, i64)>> {
        let (which, order_sql) = wanted.sql();
        let sql = format!(
            "SELECT {of_mark}, version FROM lockstep.pending WHERE table_name = $1 AND {which}
             ORDER BY {of_mark} {order_sql} LIMIT $3",
            of_mark = digest_sql("key"),
        );
        sql::query_as(AssertSqlSafe(sql))
            .bind(binding.name())
            .bind(wanted.after.map(|after| after.0.as_slice()))
            .bind(wanted.limit)
            .bind(wanted.without)
            .fetch_all(self.pool())
            .await
            .doing(&format!("reading marks of {}", binding.name()))
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
        let gone = sql::query_as(AssertSqlSafe(sql)).bind(table).bind(&keys).bind(&versions).bind(read_at);
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
        sql::query("UPDATE lockstep.tables SET relayed = relayed + $2 WHERE name = $1")
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
            sql::query_as(LAG).bind(table).fetch_one(self.pool()).await.doing("measuring the lag")?;
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
        let found: Vec<String> = sql::query_scalar(AssertSqlSafe(sql))
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
