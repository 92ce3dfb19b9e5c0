//! Marks that are gone, and that every look at the pending set reads all the same: PostgreSQL keeps them for
//! sessions that may still see them.

use lockstep_core::{Doing, Result};

use super::Source;
use crate::sql;

/// Part of the pending set that cannot be taken out.
#[derive(Clone, Debug, PartialEq, serde::Serialize, sqlx_macros::FromRow)]
pub struct HeldBack {
    /// Marks that are gone and not taken out yet, as PostgreSQL counts them.
    pub dead: i64,
    /// Marks that are there.
    pub live: i64,
    /// Whom they are kept for: the oldest session, standby, replication slot or prepared transaction, as far
    /// as our role may see it.
    pub by: Option<String>,
    /// Time in seconds for which that one has been at work, where it tells.
    pub for_s: Option<f64>,
}

impl HeldBack {
    /// Number of marks that are gone from which on a look at the pending set takes longer for them than for
    /// what is there: it reads past them in a tenth of a second.
    pub const DEAD: i64 = 200_000;

    /// Tells whether those that are gone are in the way, from `dead` of them on; of a set in which a tenth of them
    /// wait, they are what is to be expected.
    pub fn is_bloated(&self, dead: i64) -> bool {
        self.dead >= dead && self.dead / 10 > self.live
    }
}

impl Source {
    /// Returns what autovacuum has not taken out of the pending set, and for whom it is kept.
    ///
    /// # Errors
    /// The driver's.
    pub async fn held_back(&self) -> Result<Option<HeldBack>> {
        sql::query_as(
            "SELECT coalesce(s.n_dead_tup, 0) AS dead, coalesce(s.n_live_tup, 0) AS live, o.who AS by, o.for_s
             FROM pg_catalog.pg_stat_all_tables s LEFT JOIN LATERAL (
                 SELECT h.who, h.for_s FROM (
                     SELECT 'session ' || a.pid::text || ' of role ' || coalesce(a.usename::text, '?') AS who,
                         extract(epoch FROM pg_catalog.clock_timestamp() - a.xact_start)::float8 AS for_s,
                         pg_catalog.age(a.backend_xmin) AS behind
                     FROM pg_catalog.pg_stat_activity a
                     -- Sessions of other databases keep nothing of this one.
                     WHERE a.pid <> pg_catalog.pg_backend_pid() AND a.datname = pg_catalog.current_database()
                     UNION ALL SELECT 'the standby ' || coalesce(r.application_name, '?') || ', by hot_standby_feedback',
                         NULL,
                         pg_catalog.age(r.backend_xmin) FROM pg_catalog.pg_stat_replication r
                     UNION ALL SELECT 'replication slot ' || l.slot_name::text, NULL, pg_catalog.age(l.xmin)
                     FROM pg_catalog.pg_replication_slots l
                     UNION ALL SELECT 'prepared transaction ' || p.gid,
                         extract(epoch FROM pg_catalog.clock_timestamp() - p.prepared)::float8,
                         pg_catalog.age(p.transaction)
                     FROM pg_catalog.pg_prepared_xacts p
                     WHERE p.database = pg_catalog.current_database()) AS h
                 WHERE h.behind > 0 ORDER BY h.behind DESC LIMIT 1) AS o ON true
             WHERE s.relid = pg_catalog.to_regclass('lockstep.pending')::oid",
        )
        .fetch_optional(self.pool())
        .await
        .doing("asking what keeps marks from being taken out")
    }
}
