//! Refused puts, judged: whether what the target holds instead can be of this history.
//!
//! Within one history a put is refused only by a state that was marked here before it was delivered. So the
//! mark of the refused put is a newer one by then, or was taken out, or a strict write has its intent open.
//! 1. PostgreSQL is restored to a moment, and is not known to have been. 2. A row that was delivered at
//! version 15 in the time that is lost is deleted now, at version 12. 3. The tombstone is refused. 4. Were
//! the mark taken out, the row would be there for good, and a repair would bring it back to PostgreSQL. So
//! a refusal takes out no mark but where the target holds the very state; and a mark that stands as it was
//! read, over something that it cannot have been refused by, says that history was lost.

use lockstep_core::{Doing, Epoch, Result, SourceKey, Version};
use sqlx::AssertSqlSafe;

use super::Source;
use super::binding::digest_sql;
use crate::sql;

/// A put of the present state of a pending key that the target refused.
#[derive(Clone, Debug)]
pub struct RefusedPut {
    /// The key.
    pub key: SourceKey,
    /// The version of the mark.
    pub version: Version,
    /// The version that the target holds.
    pub seen: Version,
    /// Whether it holds the same state under it.
    pub is_same: bool,
}

/// Signs by which a state is known to be of a time that the source has lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LostBefore {
    /// The epoch that was begun when history was last found to be lost.
    pub epoch: Epoch,
    /// The version that was handed out last.
    pub handed_out: Version,
}

impl LostBefore {
    /// Tells whether a state that the target holds under `version` may be of a time that is lost.
    pub fn may_be_lost(&self, version: Version) -> bool {
        version.epoch() < self.epoch || version > self.handed_out
    }
}

/// A change that the target refuses by something that this history has not delivered.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, sqlx_macros::FromRow)]
pub struct Contradicted {
    /// The table.
    pub table_name: String,
    /// The source key.
    pub key: String,
    /// The version of the change.
    pub version: i64,
    /// The version that the target holds.
    pub seen: i64,
}

impl Contradicted {
    /// Tells whether it is the change of this key.
    pub fn is_of(&self, key: &SourceKey) -> bool {
        SourceKey::parse(&self.key).is_ok_and(|own| own == *key)
    }
}

impl Source {
    /// Returns those of `refused` that no delivery of this history explains, by what is pending now; they are
    /// noted for every process. Their marks stay. Call it after the puts were answered.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Cancel safety
    /// Asked again, it says the same.
    #[crate::boxed]
    pub async fn contradicted_by(&self, table: &str, refused: &[RefusedPut]) -> Result<Vec<Contradicted>> {
        let mut keys = Vec::with_capacity(refused.len());
        let (mut versions, mut seen, mut same) = (Vec::new(), Vec::new(), Vec::new());
        for put in refused {
            keys.push(put.key.to_json());
            versions.push(put.version.0);
            seen.push(put.seen.0);
            same.push(put.is_same);
        }
        let sql = format!(
            "WITH refused AS MATERIALIZED (
                 SELECT {of_refused} AS digest, r.k::jsonb AS key, r.v AS version, r.s AS seen, r.e AS is_same
                 FROM ROWS FROM (pg_catalog.unnest($2::text[]), pg_catalog.unnest($3::bigint[]),
                     pg_catalog.unnest($4::bigint[]), pg_catalog.unnest($5::boolean[])) AS r (k, v, s, e)),
             standing AS MATERIALIZED (
                 SELECT r.* FROM refused r JOIN lockstep.pending p ON {of_mark} = r.digest
                 WHERE p.table_name = $1 AND p.version = r.version
                     -- Two keys of one row may share a place: then the other one's state is this one's.
                     AND NOT (r.is_same AND r.seen <= (SELECT s.last_value FROM lockstep.version_seq s))
                     AND NOT EXISTS (SELECT FROM lockstep.intents i
                                     WHERE i.table_name = $1 AND {of_intent} = r.digest)),
             noted AS (
                 INSERT INTO lockstep.contradicted AS c (table_name, key, version, seen, epoch)
                 SELECT $1, r.key, r.version, r.seen, k.epoch FROM standing r, lockstep.control k
                 ORDER BY r.seen DESC, r.digest LIMIT 1
                 ON CONFLICT (table_name) DO UPDATE SET key = excluded.key, version = excluded.version,
                     seen = excluded.seen, epoch = excluded.epoch, noted_at = excluded.noted_at
                 WHERE c.epoch <> excluded.epoch)
             SELECT $1 AS table_name, r.key::text AS key, r.version, r.seen FROM standing r",
            of_refused = digest_sql("r.k::jsonb"),
            of_mark = digest_sql("p.key"),
            of_intent = digest_sql("i.key"),
        );
        sql::query_as(AssertSqlSafe(sql))
            .bind(table)
            .bind(&keys)
            .bind(&versions)
            .bind(&seen)
            .bind(&same)
            .fetch_all(self.pool())
            .await
            .doing("judging refused puts")
    }

    /// Returns the signs of a state of a time that the source has lost, as far as it is known to have lost
    /// any.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn lost_before(&self) -> Result<LostBefore> {
        let found: (i64, i64) = sql::query_as(
            "SELECT h.lost_before, s.last_value FROM lockstep.history h, lockstep.version_seq s",
        )
        .fetch_one(self.pool())
        .await
        .doing("asking whether history was lost")?;
        Ok(LostBefore { epoch: Epoch(found.0), handed_out: Version(found.1) })
    }
}
