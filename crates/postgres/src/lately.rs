//! Recent deliveries, for a step that must see that the target's indexes show them.
//!
//! Keys that are delivered are noted for the validator with the number of the newest pass (see `unverified`),
//! each once for a number. Another number, which no pass has, has them noted again from here on.

use lockstep_core::{Doing, Result};
use sqlx::AssertSqlSafe;

use super::Source;
use super::binding::digest_sql;
use super::page::KeyDigest;
use crate::sql;

/// Number of hours for which keys are noted at least.
const NOTED_FOR_H: i32 = 1;
/// Text before every digest.
const BEFORE_ALL: &[u8] = &[];

impl Source {
    /// Begins to note each key that is delivered with the number that this returns, or a later one. Earlier
    /// notes stay for a validation that goes on from an earlier pass.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn note_deliveries(&self) -> Result<i64> {
        sql::query_scalar(
            "UPDATE lockstep.passes SET number = number + 1,
                 noted_until = greatest(noted_until, pg_catalog.clock_timestamp() + pg_catalog.make_interval(hours => $1)) RETURNING number",
        )
        .bind(NOTED_FOR_H)
        .fetch_one(self.pool())
        .await
        .doing("having deliveries noted")
    }

    /// Up to `limit` keys of each of these tables that were delivered since, in the order of their digests,
    /// after `after`, where there is one; in the order of the tables.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn delivered_since(
        &self,
        asked: &[(&str, Option<&KeyDigest>)],
        number: i64,
        limit: usize,
    ) -> Result<Vec<DeliveredKeys>> {
        let names: Vec<&str> = asked.iter().map(|(name, _)| *name).collect();
        let after: Vec<&[u8]> =
            asked.iter().map(|(_, after)| after.map_or(BEFORE_ALL, |after| after.0.as_slice())).collect();
        let sql = format!(
            // PostgreSQL takes the key apart, and not we: a number must keep all its digits.
            "SELECT asked.nth - 1, found.digest, found.key
             FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($4::bytea[]))
                     WITH ORDINALITY AS asked (name, seen, nth),
                 LATERAL (SELECT {digest} AS digest, ARRAY(
                             SELECT e.value FROM pg_catalog.jsonb_array_elements_text(u.key)
                             WITH ORDINALITY AS e (value, n) ORDER BY e.n) AS key
                     FROM lockstep.unverified u
                     WHERE u.table_name = asked.name AND u.pass >= $2 AND {digest} > asked.seen
                     ORDER BY {digest} LIMIT $3) AS found
             ORDER BY asked.nth, found.digest",
            digest = digest_sql("u.key"),
        );
        let found: Vec<(i64, Vec<u8>, Vec<String>)> = sql::query_as(AssertSqlSafe(sql))
            .bind(names)
            .bind(number)
            .bind(limit as i64)
            .bind(after)
            .fetch_all(self.pool())
            .await
            .doing("reading what was delivered lately")?;
        let mut pages = vec![DeliveredKeys::default(); asked.len()];
        for (at, digest, key) in found {
            let page = &mut pages[at as usize];
            page.keys.push(key);
            page.next = Some(KeyDigest(digest));
        }
        for page in pages.iter_mut().filter(|page| page.keys.len() < limit) {
            page.next = None;
        }
        Ok(pages)
    }
}

/// Keys of a table that were delivered, and where the next of them begin.
#[derive(Clone, Debug, Default)]
pub struct DeliveredKeys {
    /// The keys, each as one literal a key column.
    pub keys: Vec<Vec<String>>,
    /// Place to hand to the next call; `None` when this was the end.
    pub next: Option<KeyDigest>,
}
