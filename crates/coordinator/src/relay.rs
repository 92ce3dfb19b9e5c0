//! The relay: delivers pending changes, continuously, with a lag that is always visible (R12, I1, I10).
//!
//! Read a batch of keys with their rows in one snapshot; write each under its version; take out of the set
//! exactly what was delivered. A crash anywhere delivers again, which the guard makes harmless (I2). Several
//! relays may run at once.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::stream::{self, StreamExt};
use lockstep_core::{Error as StoreError, Item, Kind, Phase, Retry, Side, TargetKey, Unholdable, tombstone};
use lockstep_dynamo::{Backoff, ReadAt, Written};
use lockstep_postgres::{Delivered, KeyOrder, PendingRow, Shape, TableBinding};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result, require_shape};
use crate::history;
use crate::options::Migration;
use crate::outage::Outage;
use crate::progress::{Progress, TableProgress};

/// How often the lag is measured: it counts the pending set, which is not free.
const LAG_EVERY: Duration = Duration::from_secs(1);

/// How often intents of strict writes are looked at.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// When a relay ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelayUntil {
    /// When nothing has been pending in any table during one whole pass.
    Empty,
    /// When it is cancelled.
    Cancelled,
}

/// What a relay did.
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
/// What no retry can mend; [`Error::SchemaChanged`]; [`Error::HistoryLost`]. Until the set is empty: any
/// failure of a store that lasts for minutes. Cancellation is not an error.
///
/// # Cancel safety
/// Dropping the future is safe at any point: what was not acknowledged is delivered again.
pub async fn relay(
    migration: &Migration,
    until: RelayUntil,
    progress: &Progress,
    cancel: &CancellationToken,
) -> Result<RelaySummary> {
    relay_in(KeyOrder::Ascending, migration, until, progress, cancel).await
}

/// As [`relay`], in that order: beside a relay that runs already, a caller that needs the set to be empty
/// soon goes the other way.
pub(crate) async fn relay_in(
    order: KeyOrder,
    migration: &Migration,
    until: RelayUntil,
    progress: &Progress,
    cancel: &CancellationToken,
) -> Result<RelaySummary> {
    let tables: Vec<&TableBinding> = match order {
        KeyOrder::Ascending => migration.tables.iter().collect(),
        KeyOrder::Descending => migration.tables.iter().rev().collect(),
    };
    let run = Run { order, migration, until, progress, cancel };
    let mut summary = RelaySummary::default();
    let (mut swept_at, mut began_well, mut outage) = (None::<Instant>, false, Outage::new("the relay"));
    loop {
        let turn = run.turn(&tables, &mut swept_at, &mut summary).await;
        if cancel.is_cancelled() {
            return Ok(summary);
        }
        let error = match turn {
            Ok(0) if until == RelayUntil::Empty => return Ok(summary),
            Ok(seen) => {
                (began_well, _) = (true, outage.over());
                if seen == 0
                    || migration.tables.iter().all(|t| progress.of(t.name()).pause_reason().is_some())
                {
                    let _ = cancel
                        .run_until_cancelled(tokio::time::sleep(migration.options.relay.idle_pause))
                        .await;
                }
                continue;
            }
            // A caller that needs the set to be empty now has to know why it is not.
            Err(error) if until == RelayUntil::Empty => return Err(error),
            Err(error) => Outage::passing(error, began_well || summary.delivered > 0)?,
        };
        progress.tables.iter().for_each(|table| table.pause(Some(error.to_string())));
        if !outage.wait(&error, cancel).await {
            return Ok(summary);
        }
    }
}

/// What stays the same in one run.
#[derive(Clone, Copy)]
struct Run<'a> {
    order: KeyOrder,
    migration: &'a Migration,
    until: RelayUntil,
    progress: &'a Progress,
    cancel: &'a CancellationToken,
}

impl Run<'_> {
    /// Goes once through all tables; returns how many keys it met.
    async fn turn(
        &self,
        tables: &[&TableBinding],
        swept_at: &mut Option<Instant>,
        summary: &mut RelaySummary,
    ) -> Result<u64> {
        let migration = self.migration;
        history::turn(migration).await?;
        // 1. A relay with another target name delivers. 2. What it delivered leaves the pending set. 3. The
        //    right table stays old.
        migration.source.require_contract(&migration.tables).await?;
        if migration.source.control().await?.phase == Phase::DynamoOnly {
            // The truth is in the target, and nothing is pending: a mark that somebody made would put an old
            // row over it.
            return Ok(0);
        }
        // What strict writes left half-done becomes pending first, so that no set is called empty over it
        // (I10).
        if self.until == RelayUntil::Empty || swept_at.is_none_or(|at| at.elapsed() >= SWEEP_EVERY) {
            migration.source.sweep_intents(Duration::ZERO).await?;
            *swept_at = Some(Instant::now());
        }
        let (mut seen, mut failure) = (0, None);
        for &binding in tables {
            let table = self.progress.of(binding.name());
            match open_for_changes(migration, binding).await {
                Ok(()) => table.pause(None),
                // A cold load is not over; its end is worth waiting for.
                Err(e) if e.kind == Kind::Busy => {
                    table.pause(Some(e.to_string()));
                    seen += 1;
                    continue;
                }
                Err(e) => return Err(e.into()),
            }
            match self.pass(binding, table, summary).await {
                Ok(met) => seen += met,
                // What one table's target does not take holds up no other table.
                Err(Error::Store(error)) if error.side == Side::Target => failure = failure.or(Some(error)),
                Err(error) => return Err(error),
            }
        }
        summary.passes += 1;
        failure.map_or(Ok(seen), |error| Err(error.into()))
    }
}

/// Opens a table for changes, once: after that it only looks, so that an idle relay writes nothing.
async fn open_for_changes(migration: &Migration, binding: &TableBinding) -> Result<(), StoreError> {
    let state = migration.source.table_state(binding.name()).await?;
    if state.is_some_and(|state| state.relay_enabled_at.is_some()) {
        return Ok(());
    }
    migration.source.enable_relay(binding.name()).await
}

impl Run<'_> {
    /// Goes once through the pending keys of a table; returns how many it met. A row that the target does not
    /// take now, for a reason that says nothing of the row, stays pending and is the error in the end: it
    /// holds up none that the target takes.
    async fn pass(
        &self,
        binding: &TableBinding,
        progress: &TableProgress,
        summary: &mut RelaySummary,
    ) -> Result<u64> {
        let Self { migration, order, cancel, .. } = *self;
        let source = &migration.source;
        let mut captured = source.record_shape(binding).await?.unwrap_or_default();
        let (mut after, mut seen, mut measured_at, mut failure) = (None, 0, None::<Instant>, None);
        loop {
            if cancel.is_cancelled() {
                return Ok(seen);
            }
            let read_at = migration.target.reading();
            let batch = source
                .read_pending(binding, order, after.as_ref(), migration.options.relay.batch_keys as i64)
                .await?;
            if measured_at.is_none_or(|at| at.elapsed() >= LAG_EVERY) {
                let lag = source.lag(binding.name()).await?;
                progress.pending.store(lag.keys as u64, Relaxed);
                progress.oldest_ms.store((lag.oldest_s * 1000.0) as u64, Relaxed);
                measured_at = Some(Instant::now());
            }
            if batch.rows.is_empty() {
                return failure.map_or(Ok(seen), Err);
            }
            seen += batch.rows.len() as u64;
            // After the read, before anything is acknowledged: see `Source::fingerprint`.
            let now = source.fingerprint(binding).await?;
            if matches!(Shape::of(&captured, &now), Shape::Grown(_)) {
                captured = source.record_shape(binding).await?.unwrap_or_default();
            }
            require_shape(binding, &captured, &now)?;
            let width = migration.options.relay.requests_in_flight.max(1);
            // Boxed and collected first: otherwise the compiler cannot see that this future may be sent to
            // another thread.
            let mut deliveries = Vec::with_capacity(batch.rows.len());
            for row in &batch.rows {
                deliveries.push(self.deliver(binding, progress, (row, read_at)).boxed());
            }
            let fates: Vec<Result<Fate>> = stream::iter(deliveries).buffer_unordered(width).collect().await;
            let mut delivered = Vec::with_capacity(fates.len());
            let mut of_this_batch = None;
            for fate in fates {
                match fate {
                    Ok(Fate::Delivered(key)) => delivered.push(key),
                    Ok(Fate::SetAside) => {
                        summary.dead_letters += 1;
                        progress.dead_letters.fetch_add(1, Relaxed);
                    }
                    Ok(Fate::MarkedAgain) => {}
                    Err(error) => of_this_batch = Some(error),
                }
            }
            // What was delivered is acknowledged even when another row of the batch failed.
            if !delivered.is_empty() {
                source.acknowledge(binding.name(), &delivered, batch.read_at).await?;
                source.count_relayed(binding.name(), delivered.len() as u64).await?;
                summary.delivered += delivered.len() as u64;
                progress.relayed.fetch_add(delivered.len() as u64, Relaxed);
            }
            if let Some(error) = of_this_batch {
                // None was taken: there is no use in going on.
                if delivered.is_empty() || self.until == RelayUntil::Empty {
                    return Err(error);
                }
                failure = Some(error);
            }
            match batch.next {
                Some(next) => after = Some(next),
                None => return failure.map_or(Ok(seen), Err),
            }
        }
    }
}

/// What became of one pending key.
enum Fate {
    Delivered(Delivered),
    SetAside,
    /// It could not be held, but is being changed right now, or it was read too long ago: the next pass
    /// judges it again.
    MarkedAgain,
}

impl Run<'_> {
    /// Writes the present state of one key: the row, or a tombstone where it is gone.
    async fn deliver(
        &self,
        binding: &TableBinding,
        progress: &TableProgress,
        (row, read_at): (&PendingRow, ReadAt),
    ) -> Result<Fate> {
        let done = || Fate::Delivered(Delivered { key: row.key.clone(), version: row.version });
        let item = match row.with_fields(|fields| binding.table.encode(fields)) {
            Some(Ok(item)) => item.at(row.version),
            Some(Err(reason)) => return self.set_aside(binding, progress, (row, read_at), &reason).await,
            None => match binding.table.target_key(&row.key) {
                // Two keys of one row may share a place, as when the target knows the day of a time only. 1.
                // The row moves from one to the other, and a repair marks the old key last. 2. Its tombstone
                // would outrank the row. So there the row itself is put, which is what the place holds.
                Ok(key) => match row.with_moved_fields(|fields| binding.table.encode(fields)) {
                    Some(Ok(item)) if TargetKey::of(&item.clone().into_attributes()) == Some(key.clone()) => {
                        item.at(row.version)
                    }
                    _ => tombstone(key, row.version),
                },
                // No DynamoDB key can be formed of it, so nothing of that row ever was in the target.
                Err(_) => return Ok(done()),
            },
        };
        match self.write(binding, progress, (row, read_at), item).await {
            Ok(_) => Ok(done()),
            // It was read too long ago, as where the target takes little: the next pass reads it again.
            Err(e) if e.kind == Kind::Fenced => Ok(Fate::MarkedAgain),
            // Only what DynamoDB says of an item is this (I18): see `codes` of lockstep-dynamo.
            Err(e) if e.kind == Kind::Invalid => {
                self.set_aside(binding, progress, (row, read_at), &Unholdable::because(e.message)).await
            }
            Err(e) => Err(e.into()),
        }
    }

    /// Sets a row aside that the target cannot hold.
    ///
    /// The target may hold an older state of it, which would be served as if it were the newest. 1. A row of
    /// 1 KB is in the target. 2. It grows to 500 KB: no item can hold it. 3. A read from the target would
    /// find the old 1 KB. So the old state gives way to a tombstone under the new version; a read then misses
    /// and goes to the source.
    async fn set_aside(
        &self,
        binding: &TableBinding,
        progress: &TableProgress,
        (row, read_at): (&PendingRow, ReadAt),
        reason: &Unholdable,
    ) -> Result<Fate> {
        if let Ok(key) = binding.table.target_key(&row.key) {
            let dead = tombstone(key, row.version);
            match self.write(binding, progress, (row, read_at), dead).await {
                Ok(_) => {}
                Err(error) if error.kind == Kind::Fenced => return Ok(Fate::MarkedAgain),
                Err(error) => return Err(error.into()),
            }
        }
        let moved = self
            .migration
            .source
            .set_aside_pending(binding.name(), &row.key, row.version, &reason.to_string())
            .await?;
        Ok(if moved { Fate::SetAside } else { Fate::MarkedAgain })
    }

    /// One guarded write, repeated while that can help. A lost reply is looked up by repeating it: the guard
    /// answers (I8).
    async fn write(
        &self,
        binding: &TableBinding,
        progress: &TableProgress,
        (row, read_at): (&PendingRow, ReadAt),
        item: Item,
    ) -> Result<Written, StoreError> {
        // A relay that runs until told to stop tells of it after some seconds, and tries again with the next
        // pass.
        let mut away = match self.until {
            RelayUntil::Empty => Backoff::patient(),
            RelayUntil::Cancelled => Backoff::new(Duration::from_millis(25), Duration::from_secs(2), 10),
        };
        let mut throttled = Backoff::new(Duration::from_millis(25), Duration::from_secs(5), u32::MAX);
        loop {
            let error = match self
                .migration
                .target
                .put_guarded_of(read_at, &binding.target_name, item.clone(), row.version)
                .await
            {
                Ok(written) => {
                    progress.add_capacity(written.capacity_units);
                    return Ok(written);
                }
                Err(error) => error,
            };
            let message = error.to_string();
            let pause = match error.kind.retry() {
                _ if error.kind == Kind::Fenced => return Err(error),
                Retry::Never => return Err(error),
                Retry::Slower => {
                    progress.throttles.fetch_add(1, Relaxed);
                    progress.pause(Some(format!("{} throttles", binding.target_name)));
                    throttled.pause(error)
                }
                Retry::Again => {
                    if error.kind == Kind::Unknown {
                        progress.lost_replies.fetch_add(1, Relaxed);
                    }
                    away.pause(error)
                }
            };
            match self.cancel.run_until_cancelled(pause).await {
                Some(paused) => paused?,
                None => {
                    return Err(StoreError::target(
                        Kind::Unavailable,
                        "delivering, and told to stop",
                        message,
                    ));
                }
            }
            progress.pause(None);
        }
    }
}
