//! The relay: delivers pending changes, continuously, with a lag that is always visible (R12, I1, I10).
//!
//! Read a batch of keys with their rows in one snapshot; write each under its version; take out of the set
//! exactly what was delivered. A crash anywhere delivers again, which the guard makes harmless (I2). Several
//! relays may run at once, and share the keys (R53).
//!
//! In reading order: `turns` (a look at all tables, again and again), `passes` (several tables at once),
//! `pass` (reading, sending and acknowledging overlap), `batch` (the keys of one read), `inserts` (whether
//! new rows go in by the batch), `deliver` (one key, whatever happens), `allowed` and `pace` (how fast),
//! `share` (which keys, beside other relays), `quiet` (how it waits for the next change); `run` and `kept`
//! have what they share.

mod allowed;
mod batch;
mod deliver;
mod kept;
mod pace;
mod pass;
mod passes;
mod quiet;
mod refusals;
mod run;
mod share;
mod turns;

use lockstep_postgres::{KeyOrder, TableBinding};
use tokio_util::sync::CancellationToken;

use crate::error::Result;
use crate::options::MigrationContext;
use crate::progress::Progress;
use kept::{Kept, Queue};
use pace::Pace;
pub use run::{RelaySummary, RelayUntil};
use run::{Run, Table};
use share::Shares;

/// Delivers pending changes of every table until told to stop. Needs no lock: it may run beside other relays.
///
/// Until it is cancelled it waits for a store that is away, whatever the reason, and tells of it (I18). A
/// missing right ends it only before it has once worked.
///
/// # Errors
/// What no retry can repair; [`SchemaChanged`](crate::CoordinatorError::SchemaChanged);
/// [`HistoryLost`](crate::CoordinatorError::HistoryLost). Until the set is empty: any failure of a store that
/// lasts for minutes. Cancellation is not an error.
///
/// # Cancel safety
/// Dropping the future is safe at any point: what was not acknowledged is delivered again.
#[crate::boxed]
pub async fn relay(
    migration: &MigrationContext,
    until: RelayUntil,
    progress: &Progress,
    cancel: &CancellationToken,
) -> Result<RelaySummary> {
    relay_in(KeyOrder::Ascending, migration, until, progress, cancel).await
}

/// Relays as [`relay`] does, in that order: beside a relay that runs already, a caller that needs the set to
/// be empty soon goes the other way.
pub(crate) async fn relay_in(
    order: KeyOrder,
    migration: &MigrationContext,
    until: RelayUntil,
    progress: &Progress,
    cancel: &CancellationToken,
) -> Result<RelaySummary> {
    let tables: Vec<&TableBinding> = match order {
        KeyOrder::Ascending => migration.tables.iter().collect(),
        KeyOrder::Descending => migration.tables.iter().rev().collect(),
    };
    // The other way goes what a step waits for.
    let is_bounded = until == RelayUntil::Cancelled && order == KeyOrder::Ascending;
    let (pace, shares) = (Pace::new(is_bounded), Shares::new(is_bounded, migration));
    let (queue, in_flight) = (Queue::default(), migration.options.relay.requests_in_flight);
    let kept: Vec<Kept> = tables.iter().map(|_| Kept::new(in_flight)).collect();
    let run = Run { order, migration, until, progress, cancel, pace: &pace, shares: &shares, queue: &queue };
    let ended = run.turns(&tables, &kept).await;
    shares.end().await;
    ended
}
