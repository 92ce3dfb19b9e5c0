//! Whether the server behind a connection is one to work with: it must take writes.
//!
//! 1. The writer of a cluster fails over.
//! 2. For seconds to minutes its name still leads to the old one, which is a replica now.
//! 3. A pool that connects in that time keeps such connections for half an hour: every write fails there, and
//!    what it reads of the phase may be old.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sqlx::Connection as _;
use sqlx::pool::PoolConnectionMetadata;
use sqlx::postgres::PgConnection;

use crate::fault::read_only_refusals;
use crate::sql;

/// Idle time after which a firewall or a restart may have cut a connection.
pub(super) const TRUSTED_FOR: Duration = Duration::from_secs(1);
/// Time for which connections are doubted after one turned out to be to such a node: others lead there as
/// well.
const DOUBTED_FOR: Duration = Duration::from_secs(10);

/// Tells whether a connection that worked a moment ago must be asked all the same.
pub(super) fn connections_are_doubted() -> bool {
    static SEEN: AtomicU64 = AtomicU64::new(0);
    static UNTIL: Mutex<Option<Instant>> = Mutex::new(None);
    let refusals = read_only_refusals();
    if refusals == 0 {
        return false;
    }
    let mut until = UNTIL.lock().unwrap_or_else(PoisonError::into_inner);
    if SEEN.swap(refusals, Relaxed) != refusals {
        *until = Some(Instant::now() + DOUBTED_FOR);
    }
    until.is_some_and(|until| Instant::now() < until)
}

/// Whether it was said already that the server takes no writes.
#[derive(Clone, Debug, Default)]
pub(super) struct Told(Arc<AtomicBool>);

/// Refuses a connection to a node that takes no writes. It is said once, until there is one that does.
pub(super) async fn require_writer(connection: &mut PgConnection, told: &Told) -> Result<(), sqlx::Error> {
    if takes_writes(connection).await? {
        told.0.store(false, Relaxed);
        return Ok(());
    }
    const WHY: &str = "this PostgreSQL node takes no writes now (a replica, as after a failover, or read-only by a setting)";
    if !told.0.swap(true, Relaxed) {
        tracing::warn!("{WHY}; it is tried again until the address leads to one that does");
    }
    Err(sqlx::Error::Io(std::io::Error::other(WHY)))
}

async fn takes_writes(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    // In recovery it is on, whatever the settings say.
    sql::query_scalar(
        "SELECT pg_catalog.current_setting('transaction_read_only') OPERATOR(pg_catalog.=) 'off'",
    )
    .fetch_one(connection)
    .await
}

/// Tells whether a connection of the pool still works. One in use a moment ago is not asked, unless another
/// has just met a read-only node.
pub(super) async fn is_there(
    connection: &mut PgConnection,
    known: PoolConnectionMetadata,
) -> Result<bool, sqlx::Error> {
    if connections_are_doubted() {
        return Ok(takes_writes(connection).await.unwrap_or(false));
    }
    Ok(known.idle_for < TRUSTED_FOR || connection.ping().await.is_ok())
}
