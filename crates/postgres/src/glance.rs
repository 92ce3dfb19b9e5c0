//! One statement that says whether anything has happened, for what looks often and mostly finds nothing.
//!
//! A relay that meets no change, and a daemon whose page is not open, asked some dozens of statements a
//! second for the same answers. The question asked here instead is cheap, and its answer says of each thing
//! that they look at whether it is as it was: a caller that sees a difference asks everything again. A glance
//! decides nothing else: nothing is delivered, acknowledged or judged by one.

use std::time::Duration;

use lockstep_core::{Doing, Result};
use sqlx::AssertSqlSafe;

use super::clock::worker_is_live;
use super::relays::renewing_sql;
use super::{RelayShare, Source};
use crate::sql;

/// State that a glance saw. Two that are equal, and of which neither waits, have nothing new between them.
#[derive(Clone, Debug, PartialEq, Eq, sqlx_macros::FromRow)]
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
             || (renewed_at > pg_catalog.clock_timestamp() - lease_ms * interval '1 millisecond')::text,
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

/// Whether anything waits, its mark, and of the share that was renewed its token and bounds.
type GlanceRow = (bool, String, Option<i64>, Option<i32>, Option<i32>);

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

    /// Returns the same, and renews the lease of a relay with it, as [`Source::renew_relay`] does: what is
    /// looked at by a relay that rests, and is alone, is asked by one statement. The share is `None` where it
    /// was not renewed: the relay was taken out, or another one's share is to be dealt out first.
    ///
    /// # Errors
    /// When the server does not answer, or does not take the renewal.
    ///
    /// # Cancel safety
    /// A lease that was renewed is renewed.
    pub async fn glance_renewing(&self, relay: i64, lease: Duration) -> Result<(Glance, Option<RelayShare>)> {
        let sql = format!(
            "WITH renewed AS ({})
             SELECT {WAITS} AS waits, pg_catalog.concat_ws(';', {OF_CHANGES}) AS mark,
                 own.token, own.lower, own.upper
             FROM (SELECT 1) AS one LEFT JOIN renewed AS own ON NOT own.is_to_deal",
            renewing_sql()
        );
        let asked: sqlx::Result<GlanceRow> = sql::query_as(AssertSqlSafe(sql))
            .bind(relay)
            .bind(lease.as_secs_f64())
            .fetch_one(self.pool())
            .await;
        let (waits, mark, token, lower, upper) = asked.doing("looking whether anything has happened")?;
        let share = match (token, lower, upper) {
            (Some(token), Some(lower), Some(upper)) => Some(RelayShare::of(relay, token, (lower, upper))),
            _ => None,
        };
        Ok((Glance { waits, mark }, share))
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
