//! Leadership among several daemons: the one whose session holds a lock leads.

use std::time::Duration;

use lockstep_core::{Doing, Error, Kind, Result};
use sqlx::Connection;

use super::Source;
use super::barrier::{CoordinatorLock, holder};
use crate::sql;

/// Number of the lock, among those in `barrier`.
const LEADER: i32 = 40;

/// After so long without a word from the leader PostgreSQL ends its session, and the lock with it. The leader
/// asks every second.
///
/// 1. The machine of the leader is stopped, or cut off, and its connection stays open. 2. Nothing would free
/// the lock, and no other daemon would take over. PostgreSQL before 14 does not know this bound; there the
/// end of a connection is noticed by TCP alone.
const SILENT_FOR: Duration = Duration::from_secs(10);

impl Source {
    /// Takes the leader's lock, or says who has it. While another session has it, that costs one statement of
    /// the pool: who stands by asks each second, and a session of its own each time would cost more than the
    /// leader does.
    ///
    /// # Errors
    /// [`lockstep_core::Kind::Busy`] when another daemon leads.
    #[crate::boxed]
    pub async fn lock_leader(&self) -> Result<CoordinatorLock> {
        let doing = "taking the leader's lock";
        {
            let mut connection = self.pool().acquire().await.doing(doing)?;
            if let Some(pid) = holder(&mut connection, LEADER).await? {
                return Err(Error::source(Kind::Busy, doing, format!("PostgreSQL backend {pid} has it")));
            }
        }
        let mut lock = self.lock_for("leader", LEADER).await?;
        let sql = "SELECT pg_catalog.set_config(s.name, CASE s.name WHEN 'idle_session_timeout' THEN $1 ELSE '3' END, false)
                   FROM pg_catalog.pg_settings s
                   WHERE s.name IN ('idle_session_timeout', 'tcp_keepalives_idle', 'tcp_keepalives_interval', 'tcp_keepalives_count')";
        let session = lock.session();
        sql::query(sql).bind(SILENT_FOR.as_millis().to_string()).execute(&mut *session).await.doing(doing)?;
        session.ping().await.doing(doing)?;
        Ok(lock)
    }
}
