//! Recent deliveries, for a step that must see that the target's indexes show them.
//!
//! Keys that are delivered are noted for the validator with the number of the newest pass (see `unverified`),
//! each once for a number. Another number, which no pass has, has them noted again from here on.

use lockstep_core::{Doing, Result};

use super::Source;
use crate::sql;

/// Number of hours for which keys are noted at least.
const NOTED_FOR_H: i32 = 1;

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

    /// Up to `limit` keys of each of these tables that were delivered since, one literal a key column, in the
    /// order of the tables.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn delivered_since(
        &self,
        names: &[&str],
        number: i64,
        limit: i64,
    ) -> Result<Vec<Vec<Vec<String>>>> {
        let found: Vec<(i64, Vec<String>)> = sql::query_as(
            // PostgreSQL takes the key apart, and not we: a number must keep all its digits.
            "SELECT asked.nth - 1, found.key
             FROM pg_catalog.unnest($1::text[]) WITH ORDINALITY AS asked (name, nth),
                 LATERAL (SELECT ARRAY(SELECT e.value FROM pg_catalog.jsonb_array_elements_text(u.key)
                         WITH ORDINALITY AS e (value, n) ORDER BY e.n) AS key
                     FROM lockstep.unverified u
                     WHERE u.table_name = asked.name AND u.pass >= $2 LIMIT $3) AS found",
        )
        .bind(names)
        .bind(number)
        .bind(limit)
        .fetch_all(self.pool())
        .await
        .doing("reading what was delivered lately")?;
        let mut keys = vec![Vec::new(); names.len()];
        for (at, key) in found {
            keys[at as usize].push(key);
        }
        Ok(keys)
    }
}
