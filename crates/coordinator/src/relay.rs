//! The relay: delivers pending changes, continuously, with a lag that is always visible (R12, I1, I10).
//!
//! Read a batch of keys with their rows in one snapshot; write each under its version; take out of the set
//! exactly what was delivered. A crash anywhere delivers again, which the guard makes harmless (I2). Several
//! relays may run at once, and share the keys (R53).
//!
//! In reading order: `pass` (reading, sending and acknowledging overlap), `batch` (the keys of one read),
//! `inserts` (whether new rows go in by the batch), `deliver` (one key, whatever happens), `pace` (how fast),
//! `share` (which keys, beside other relays), `quiet` (how it waits for the next change).

mod batch;
mod deliver;
mod inserts;
mod pace;
mod pass;
mod quiet;
mod refusals;
mod share;

use std::time::{Duration, Instant};

use lockstep_core::{Kind, Phase, Side};
use lockstep_dynamo::ReadAt;
use lockstep_postgres::{KeyOrder, RelayShare, TableBinding};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::continuity;
use crate::error::{CoordinatorError, Result};
use crate::options::MigrationContext;
use crate::outage::Outage;
use crate::progress::{Progress, TableProgress};
use crate::waves;
use inserts::Inserts;
use pace::Pace;
use quiet::Quiet;
use share::Shares;

/// Time between two looks at the intents of strict writes.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// Condition under which a relay ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelayUntil {
    /// The relay ends when nothing has been pending in any table during one whole pass.
    Empty,
    /// The relay ends when it is cancelled.
    Cancelled,
}

/// Counts of what a relay did.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RelaySummary {
    /// Changes delivered.
    pub delivered: u64,
    /// Rows set aside.
    pub dead_letters: u64,
    /// Passes over all tables.
    pub passes: u64,
}

/// Delivers pending changes of every table until told to stop. Needs no lock: it may run beside other relays.
///
/// Until it is cancelled it waits for a store that is away, whatever the reason, and tells of it (I18). A
/// missing right ends it only before it has once worked.
///
/// # Errors
/// What no retry can repair; [`CoordinatorError::SchemaChanged`]; [`CoordinatorError::HistoryLost`]. Until
/// the set is empty: any failure of a store that lasts for minutes. Cancellation is not an error.
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
    let pace = Pace::new(is_bounded, migration.options.relay.requests_in_flight);
    let shares = Shares::new(is_bounded, migration);
    let run = Run { order, migration, until, progress, cancel, pace: &pace, shares: &shares };
    let ended = run.turns(&tables).await;
    shares.end().await;
    ended
}

/// Values that stay the same in one run.
#[derive(Clone, Copy)]
struct Run<'a> {
    order: KeyOrder,
    migration: &'a MigrationContext,
    until: RelayUntil,
    progress: &'a Progress,
    cancel: &'a CancellationToken,
    pace: &'a Pace,
    shares: &'a Shares,
}

/// One table of a run.
#[derive(Clone, Copy)]
struct Table<'a> {
    run: Run<'a>,
    binding: &'a TableBinding,
    progress: &'a TableProgress,
    inserts: &'a Inserts,
    /// The keys that are this relay's; `None` for every key.
    share: Option<RelayShare>,
    /// Time at which what is being sent was read.
    read_at: ReadAt,
}

impl Run<'_> {
    /// Takes one turn after the other, until it is time to end.
    async fn turns(&self, tables: &[&TableBinding]) -> Result<RelaySummary> {
        let Run { migration, until, progress, cancel, shares, .. } = *self;
        let inserts: Vec<Inserts> = tables.iter().map(|_| Inserts::default()).collect();
        let mut summary = RelaySummary::default();
        let (mut swept_at, mut began_well, mut outage) = (None::<Instant>, false, Outage::new("the relay"));
        let mut quiet = Quiet::default();
        loop {
            let turn = self.turn(tables, &inserts, &mut swept_at, &mut summary).await;
            if cancel.is_cancelled() {
                return Ok(summary);
            }
            let error = match turn {
                Ok(0) if until == RelayUntil::Empty => return Ok(summary),
                Ok(seen) => {
                    (began_well, _) = (true, outage.over());
                    shares.succeeded();
                    if seen == 0 {
                        quiet.rest(migration, cancel).await;
                        continue;
                    }
                    quiet.over();
                    if migration.tables.iter().all(|t| progress.of(t.name()).pause_reason().is_some()) {
                        let idle_pause = migration.options.relay.idle_pause;
                        let _ = cancel.run_until_cancelled(tokio::time::sleep(idle_pause)).await;
                    }
                    continue;
                }
                // A caller that needs the set to be empty now has to know why it is not.
                Err(error) if until == RelayUntil::Empty => return Err(error),
                Err(error) => Outage::passing(error, began_well || summary.delivered > 0)?,
            };
            shares.failed();
            progress.tables.iter().for_each(|table| table.pause(Some(error.to_string())));
            if !outage.wait(&error, cancel).await {
                return Ok(summary);
            }
        }
    }

    /// Goes once through all tables; returns how many keys it met.
    async fn turn(
        &self,
        tables: &[&TableBinding],
        inserts: &[Inserts],
        swept_at: &mut Option<Instant>,
        summary: &mut RelaySummary,
    ) -> Result<u64> {
        let migration = self.migration;
        if !migration.target.has_owner() {
            // PostgreSQL was away when the command began, and whose schema `lockstep` is was not known.
            waves::claim(&migration.source, &migration.target).await?;
            waves::require_current(&migration.source, &migration.target)?;
        }
        continuity::turn(migration).await?;
        // 1. A relay with another target name delivers. 2. Its keys leave the pending set. 3. The
        //    right table stays old.
        migration.source.require_contract(&migration.tables).await?;
        if migration.source.control().await?.phase == Phase::DynamoOnly {
            // The truth is in the target, and nothing is pending: a mark that was made by hand would put
            // an old row over it.
            return Ok(0);
        }
        // Keys that strict writes left half-done become pending first, so that no set is called empty over it
        // (I10).
        if self.until == RelayUntil::Empty || swept_at.is_none_or(|at| at.elapsed() >= SWEEP_EVERY) {
            migration.source.sweep_intents(Duration::ZERO).await?;
            *swept_at = Some(Instant::now());
        }
        let names: Vec<&str> = tables.iter().map(|binding| binding.name()).collect();
        // First: the rows of a partition that was attached become pending by it.
        self.record_shapes().await?;
        let due = migration.source.changes_due(&names).await?;
        // It joins the others, and follows the settings, also where nothing is pending.
        self.shares.part().await;
        self.pace.follow(*self).await;
        let (mut seen, mut failure) = (0, None);
        for ((&binding, inserts), due) in tables.iter().zip(inserts).zip(due) {
            let progress = self.progress.of(binding.name());
            // Opened once: after that it is only looked at, so that an idle relay writes nothing.
            let opened = match due.is_open {
                true => Ok(()),
                false => migration.source.enable_relay(binding.name()).await,
            };
            match opened {
                Ok(()) => progress.pause(None),
                // A cold load is not over; its end is worth waiting for.
                Err(e) if e.kind == Kind::Busy => {
                    progress.pause(Some(e.to_string()));
                    seen += 1;
                    continue;
                }
                Err(e) => return Err(e.into()),
            }
            if !due.is_due {
                progress.nothing_pending();
                continue;
            }
            let share = self.shares.part().await;
            let read_at = migration.target.reading();
            match (Table { run: *self, binding, progress, inserts, share, read_at }).pass(summary).await {
                Ok(met) => seen += met,
                // A row that one table's target does not take holds up no other table.
                Err(CoordinatorError::Store(error)) if error.side == Side::Target => {
                    failure = failure.or(Some(error))
                }
                Err(error) => return Err(error),
            }
        }
        summary.passes += 1;
        failure.map_or(Ok(seen), |error| Err(error.into()))
    }

    /// Records the shapes of all tables, by one statement where all are as they are recorded: a partition
    /// that was made for rows of now is known before long, and one that goes again is missed. The pending
    /// rows are read by the record of that time.
    async fn record_shapes(&self) -> Result<()> {
        let source = &self.migration.source;
        for at in source.shapes_to_record(&self.migration.tables).await? {
            source.record_shape(&self.migration.tables[at]).await?;
        }
        Ok(())
    }
}
