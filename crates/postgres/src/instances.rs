//! Registered instances: who may serve by a phase, and until when (R19, I6).
//!
//! The order of the statements is what holds I6, and each says why. Clocks of different machines are never
//! compared: an instance measures its lease by its own clock from before it asked, a step measures it by its
//! own from after its flip.

use crate::control_of_row;
use crate::sql;

use lockstep_core::{Control, Doing, Epoch, Error, InstanceRow, InstanceState, Registration, Result};
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Row as _};

use super::Source;
use super::clock::sayable;

/// Time for which an expired row is kept for people to see, at least.
const EXPIRED_KEPT: &str = "1 day";

/// Makes an instance known, or known again. It has acknowledged nothing yet.
///
/// This commits before the instance reads the phase ([`renew`]), and not in one transaction with it: 1. It
/// reads the old phase. 2. A step flips, looks for instances and sees none. 3. The row is committed, and the
/// instance serves by the old phase while the next step begins.
#[crate::boxed]
pub async fn register(connection: &mut PgConnection, who: &Registration) -> Result<()> {
    sql::query(
        "INSERT INTO lockstep.instances (id, name, host, pid, started_at, lease_ms)
         VALUES ($1, $2, coalesce(pg_catalog.host(pg_catalog.inet_client_addr()), 'local'), $3, $4, $5)
         ON CONFLICT (id) DO UPDATE SET host = excluded.host, epoch = NULL, state = 'live',
             renewals = lockstep.instances.renewals + 1, renewed_at = pg_catalog.clock_timestamp()",
    )
    .bind(who.id)
    .bind(&who.name)
    .bind(i64::from(std::process::id()))
    .bind(who.started_at)
    .bind(i64::try_from(who.lease.as_millis()).unwrap_or(i64::MAX))
    .execute(connection)
    .await
    .doing("registering this instance")?;
    Ok(())
}

/// Tells whether a lease was refused because its number is that of another role's row. Not so where a
/// right is missing: who took another number then would leave a row at each try.
pub fn is_another_roles(error: &Error) -> bool {
    error.sqlstate().as_deref() == Some("42501") && error.message.contains("registered by another role")
}

/// Renews a lease, acknowledges `epoch`, and returns the phase; `None` where the instance is not registered
/// any more: then the phase was not read either, for an instance that no step waits for must not serve by it.
#[crate::boxed]
pub async fn renew(connection: &mut PgConnection, id: i64, epoch: Option<Epoch>) -> Result<Option<Control>> {
    let doing = "renewing this instance's lease";
    let renewed: Option<PgRow> = sql::query(
        "WITH renewed AS (
             UPDATE lockstep.instances SET epoch = $2, renewals = renewals + 1,
                 renewed_at = pg_catalog.clock_timestamp()
             WHERE id = $1 AND state = 'live' RETURNING id)
         SELECT phase, epoch, changed_at FROM lockstep.control, renewed",
    )
    .bind(id)
    .bind(epoch.map(|epoch| epoch.0))
    .fetch_optional(connection)
    .await
    .doing(doing)?;
    renewed.map(|row| control_of_row(&row)).transpose()
}

/// Forgets an instance that serves nothing any more.
#[crate::boxed]
pub async fn deregister(connection: &mut PgConnection, id: i64) -> Result<()> {
    sql::query("DELETE FROM lockstep.instances WHERE id = $1")
        .bind(id)
        .execute(connection)
        .await
        .doing("deregistering this instance")?;
    Ok(())
}

impl Source {
    /// Returns every registered instance, live ones first; none where schema `lockstep` is older than
    /// instances.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn instances(&self) -> Result<Vec<InstanceRow>> {
        let (started_at, renewed_at) = (sayable("started_at"), sayable("renewed_at"));
        // Each operator has the types of PostgreSQL's own, so that none in the session's path is a better
        // match. Each column by its name: a later version adds one, and a statement that was prepared before
        // fails. An application's role writes names, of any length, and times, of any year.
        let found = sql::query(AssertSqlSafe(format!(
            "SELECT id, pg_catalog.left(name, 255) AS name, pg_catalog.left(host, 255) AS host,
                 pid, {started_at} AS started_at, epoch, lease_ms, renewals,
                 {renewed_at} AS renewed_at, state, lease_ms - (1000::float8 * extract(epoch
                     FROM pg_catalog.clock_timestamp() - {renewed_at})::float8)::bigint AS lease_left_ms
             FROM lockstep.instances ORDER BY state DESC, name, started_at, id"
        )))
        .try_map(|row: PgRow| instance_of_row(&row))
        .fetch_all(self.pool())
        .await
        .doing("reading the instances");
        match found {
            Err(error) if error.is_missing_table() => Ok(Vec::new()),
            found => found,
        }
    }

    /// Notes that an instance's lease was waited out, unless it has renewed since `seen`; says whether it was
    /// noted. From then on its renewals find nothing, and it has to register again before it is told the
    /// phase.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn expire_instance(&self, seen: &InstanceRow) -> Result<bool> {
        let doing = "noting that a lease is over";
        let noted =
            sql::query("UPDATE lockstep.instances SET state = 'expired' WHERE id = $1 AND renewals = $2")
                .bind(seen.id)
                .bind(seen.renewals)
                .execute(self.pool())
                .await
                .doing(doing)?;
        // Processes that were killed never come back for their rows.
        sql::query(
            "DELETE FROM lockstep.instances WHERE state = 'expired'
                AND renewed_at < pg_catalog.clock_timestamp() - $1::interval",
        )
        .bind(EXPIRED_KEPT)
        .execute(self.pool())
        .await
        .doing(doing)?;
        Ok(noted.rows_affected() == 1)
    }
}

fn instance_of_row(row: &PgRow) -> sqlx::Result<InstanceRow> {
    // A CHECK of the table knows these two.
    let state = match row.try_get("state")? {
        "expired" => InstanceState::Expired,
        _ => InstanceState::Live,
    };
    Ok(InstanceRow {
        id: row.try_get("id")?,
        name: row.try_get("name")?,
        host: row.try_get("host")?,
        pid: row.try_get("pid")?,
        started_at: row.try_get("started_at")?,
        epoch: row.try_get("epoch")?,
        lease_ms: row.try_get("lease_ms")?,
        renewals: row.try_get("renewals")?,
        renewed_at: row.try_get("renewed_at")?,
        lease_left_ms: row.try_get("lease_left_ms")?,
        state,
    })
}
