//! An autovacuum in the way of a lock on a table.
//!
//! PostgreSQL ends an autovacuum that another session waits for once that session has waited for
//! `deadlock_timeout`, a second by default. While a session waits for the lock that creates a trigger, every
//! writer of the table waits behind it, so no try of ours waits that long, and a vacuum of an hour would
//! outlast them all. The lock that a vacuum takes disturbs no writer: we wait for that one first.

use std::time::Duration;

use lockstep_core::{Doing, Result};
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

use super::barrier::limit_lock_waits;
use crate::sql::{self, Run as _};

/// Time that we wait beyond `deadlock_timeout`: what a vacuum takes to end once it is asked to.
const ENDING: Duration = Duration::from_millis(500);

/// Has autovacuums of a table end, and keeps new ones out until the transaction ends. `relation` is quoted.
///
/// # Errors
/// [`Kind::Busy`](lockstep_core::Kind::Busy) while something else holds that lock that PostgreSQL does not
/// end for us: a `VACUUM` that a person has begun, one that prevents transaction numbers from wrapping
/// around, `CREATE INDEX CONCURRENTLY`; the driver's.
pub(super) async fn hold_off(transaction: &mut PgConnection, relation: &str) -> Result<()> {
    let doing = format!("waiting until no VACUUM and no CREATE INDEX CONCURRENTLY works on {relation}");
    let patience: i32 =
        sql::query_scalar("SELECT setting::int FROM pg_catalog.pg_settings WHERE name = 'deadlock_timeout'")
            .fetch_one(&mut *transaction)
            .await
            .doing(&doing)?;
    limit_lock_waits(transaction, Duration::from_millis(patience.unsigned_abs().into()) + ENDING).await?;
    let lock = format!("LOCK TABLE {relation} IN SHARE UPDATE EXCLUSIVE MODE");
    transaction.execute(AssertSqlSafe(lock)).await.doing(&doing).map(drop)
}
