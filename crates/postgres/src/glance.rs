//! One statement that says whether anything has happened, for what looks often and mostly finds nothing.
//!
//! A relay that meets no change, and a daemon whose page is not open, asked some dozens of statements a
//! second for the same answers. The question asked here instead is cheap, and its answer says of each thing
//! that they look at whether it is as it was: a caller that sees a difference asks everything again. A glance
//! decides nothing else: nothing is delivered, acknowledged or judged by one.

use lockstep_core::{Doing, Result};
use sqlx::AssertSqlSafe;

use super::Source;
use super::clock::worker_is_live;
use crate::sql;

/// State that a glance saw. Two that are equal, and of which neither waits, have nothing new between them.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Glance {
    /// Whether a key is pending, an intent is open, or a worker is at work.
    pub waits: bool,
    /// Text that stands for everything else. It means nothing by itself.
    pub mark: String,
}

/// Every version that is handed out moves the sequence, also in a transaction that does not commit. The row
/// of `control` has phase, epoch, contract and settings, those of `tables` what is captured. A partition that
/// is attached brings rows that no trigger has seen. Another server behind the same name, as after a failover
/// that a pooler hides, started at another moment: its history is looked at before anything else.
const OF_CHANGES: &str = "(SELECT s.last_value::text || '/' || c.xmin::text || '/' || c.ctid::text
         FROM lockstep.version_seq s, lockstep.control c),
     (SELECT coalesce(h.server, '-') || '/' || h.version::text FROM lockstep.history h),
     pg_catalog.pg_postmaster_start_time()::text,
     (SELECT pg_catalog.string_agg(t.name || t.xmin::text, ',' ORDER BY t.name) FROM lockstep.tables t),
     (SELECT pg_catalog.sum(
             pg_catalog.hashtextextended(i.inhrelid::text || ' ' || i.inhparent::text, 0))::text
         FROM pg_catalog.pg_inherits i)";

/// Expressions for what the page shows besides. Moments that pass by themselves (a lease, the end of a
/// setting) are asked for as yes or no.
const OF_THE_REST: &str = "(SELECT pg_catalog.max(id)::text FROM lockstep.journal),
     (SELECT pg_catalog.max(id)::text FROM lockstep.verdicts),
     (SELECT pg_catalog.string_agg(
             name || xmin::text || (coalesce(until > pg_catalog.clock_timestamp(), true))::text,
             ',' ORDER BY name)
         FROM lockstep.settings),
     (SELECT pg_catalog.string_agg(id::text || state || coalesce(epoch, 0)::text
             || (renewed_at + lease_ms * interval '1 millisecond' > pg_catalog.clock_timestamp())::text,
             ',' ORDER BY id)
         FROM lockstep.instances),
     (SELECT pg_catalog.count(*)::text || ' ' || pg_catalog.count(acknowledged_at)::text
         FROM lockstep.dead_letters),
     (SELECT pg_catalog.max(newest_at)::text FROM lockstep.counts WHERE name NOT LIKE 'spent.%'),
     (SELECT pg_catalog.sum(
             pg_catalog.hashtextextended(t.oid::text || t.xmin::text || t.tgenabled::text, 0))::text
         FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid
         WHERE p.pronamespace = pg_catalog.to_regnamespace('lockstep'))";

const WAITS: &str = "EXISTS (SELECT FROM lockstep.pending) OR EXISTS (SELECT FROM lockstep.intents)";

impl Source {
    /// Checks whether a relay may have something to do.
    ///
    /// `None` where it cannot be said by one statement, as where the schema is not there or is of an earlier
    /// version: then everything is asked.
    ///
    /// # Errors
    /// When the server does not answer.
    ///
    /// # Cancel safety
    /// Reading has no effect.
    pub async fn glance_at_changes(&self) -> Result<Option<Glance>> {
        self.glanced(format!("SELECT {WAITS} AS waits, pg_catalog.concat_ws(';', {OF_CHANGES}) AS mark"))
            .await
    }

    /// Returns the same for everything that is shown of a migration.
    ///
    /// # Errors
    /// As there.
    ///
    /// # Cancel safety
    /// Reading has no effect.
    pub async fn glance(&self) -> Result<Option<Glance>> {
        let sql = format!(
            "SELECT {WAITS} OR EXISTS (SELECT FROM lockstep.workers w WHERE {}) AS waits,
                 pg_catalog.concat_ws(';', {OF_CHANGES}, {OF_THE_REST}) AS mark",
            worker_is_live("w")
        );
        self.glanced(sql).await
    }

    async fn glanced(&self, sql: String) -> Result<Option<Glance>> {
        let found = sql::query_as(AssertSqlSafe(sql))
            .fetch_optional(self.pool())
            .await
            .doing("looking whether anything has happened");
        match found {
            // No schema, an earlier one, or a role that may not read all of it.
            Err(error)
                if matches!(error.sqlstate().as_deref(), Some("42P01" | "42703" | "42501" | "3F000")) =>
            {
                Ok(None)
            }
            found => found,
        }
    }
}
