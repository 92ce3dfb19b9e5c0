//! Pending keys of several tables.

use lockstep_core::{Doing, Result};

use crate::Source;
use crate::sql;

/// Work that a relay has for a table.
#[derive(Clone, Debug, PartialEq, Eq, sqlx_macros::FromRow)]
pub struct Due {
    /// Whether it was opened for changes.
    pub is_open: bool,
    /// Whether a key is pending, or an intent is open.
    pub is_due: bool,
}

/// Changes that keep the truth from moving away from a table.
#[derive(Clone, Debug, PartialEq, Eq, sqlx_macros::FromRow)]
pub struct Unsettled {
    /// Version of its trigger functions; `None` where it is not captured.
    pub capture_version: Option<i32>,
    /// Pending keys and open intents.
    pub waiting: i64,
    /// Rows that the target cannot hold and that no operator has accepted.
    pub unacknowledged: i64,
}

impl Source {
    /// Returns the work that a relay has for each of these tables, in their order, of one moment.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Cancel safety
    /// Reading has no effect.
    #[crate::boxed]
    pub async fn changes_due(&self, names: &[&str]) -> Result<Vec<Due>> {
        sql::query_as(
            "SELECT t.relay_enabled_at IS NOT NULL AS is_open,
                 EXISTS (SELECT FROM lockstep.pending p WHERE p.table_name = asked.name)
                     OR EXISTS (SELECT FROM lockstep.intents i WHERE i.table_name = asked.name) AS is_due
             FROM pg_catalog.unnest($1::text[]) WITH ORDINALITY AS asked (name, nth)
             LEFT JOIN lockstep.tables t ON t.name = asked.name ORDER BY asked.nth",
        )
        .bind(names)
        .fetch_all(self.pool())
        .await
        .doing("asking which tables have changes")
    }

    /// Counts the keys of these tables that are pending, open intents included.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Cancel safety
    /// Reading has no effect.
    #[crate::boxed]
    pub async fn waiting(&self, names: &[&str]) -> Result<i64> {
        sql::query_scalar(
            "SELECT (SELECT pg_catalog.count(*) FROM lockstep.pending WHERE table_name = ANY ($1))
                  + (SELECT pg_catalog.count(*) FROM lockstep.intents WHERE table_name = ANY ($1))",
        )
        .bind(names)
        .fetch_one(self.pool())
        .await
        .doing("counting pending keys")
    }

    /// Returns what keeps the truth from moving away from each of these tables, in their order, of one
    /// moment.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Cancel safety
    /// Reading has no effect.
    #[crate::boxed]
    pub async fn unsettled(&self, names: &[&str]) -> Result<Vec<Unsettled>> {
        sql::query_as(
            "SELECT t.capture_version,
                 (SELECT pg_catalog.count(*) FROM lockstep.pending p WHERE p.table_name = asked.name)
                     + (SELECT pg_catalog.count(*) FROM lockstep.intents i WHERE i.table_name = asked.name)
                     AS waiting,
                 (SELECT pg_catalog.count(*) FROM lockstep.dead_letters d
                      WHERE d.table_name = asked.name AND d.acknowledged_at IS NULL)
                     + (SELECT pg_catalog.count(*) FROM lockstep.reverse_again a
                        WHERE a.table_name = asked.name
                            AND pg_catalog.to_jsonb(a) ->> 'acknowledged_at' IS NULL
                            AND (a.found_at < pg_catalog.clock_timestamp() - interval '5 minutes'
                                 OR (pg_catalog.to_jsonb(a) ->> 'for_good')::boolean)) AS unacknowledged
             FROM pg_catalog.unnest($1::text[]) WITH ORDINALITY AS asked (name, nth)
             LEFT JOIN lockstep.tables t ON t.name = asked.name ORDER BY asked.nth",
        )
        .bind(names)
        .fetch_all(self.pool())
        .await
        .doing("asking what keeps the truth from moving")
    }
}
