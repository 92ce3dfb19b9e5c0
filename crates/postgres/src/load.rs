//! Load of the source, so that copying the initial load takes what applications leave.

use lockstep_core::{Doing, Result};

use super::Source;
use crate::sql;

/// Load of the source now.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize, sqlx_macros::FromRow)]
pub struct Load {
    /// Sessions of others that are at work in any database of the server, as far as this role may see them.
    pub active_sessions: i64,
    /// Sessions that the server takes.
    pub sessions_max: i64,
    /// Bytes that the replica furthest behind has not replayed; `None` where there is none, or where this
    /// role may not see it.
    pub replica_lag_bytes: Option<i64>,
    /// Bytes of write-ahead log since the server was set up. Its growth is the rate. `None` on a replica.
    pub wal_bytes: Option<i64>,
}

impl Source {
    /// Measures how busy the source is now. Lockstep's own sessions do not count.
    ///
    /// # Errors
    /// When the server does not answer.
    ///
    /// # Cancel safety
    /// Reading has no effect.
    pub async fn load(&self) -> Result<Load> {
        sql::query_as(
            "SELECT (SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_activity
                     WHERE state = 'active' AND backend_type = 'client backend' AND application_name NOT LIKE 'lockstep%')
                     AS active_sessions,
                 pg_catalog.current_setting('max_connections')::bigint AS sessions_max,
                 CASE WHEN NOT pg_catalog.pg_is_in_recovery() THEN
                     (SELECT pg_catalog.max(pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), replay_lsn))::bigint
                      FROM pg_catalog.pg_stat_replication) END AS replica_lag_bytes,
                 CASE WHEN NOT pg_catalog.pg_is_in_recovery() THEN
                     pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), '0/0')::bigint END AS wal_bytes",
        )
        .fetch_one(self.pool())
        .await
        .doing("reading how busy the source is")
    }
}
