//! The backfill: history moves in ranges, in any order, by many workers, and resumes where it was (R10).
//!
//! In reading order: this file (one run over all tables), `range` (one range: read, hand on, keep the
//! watermark), `encode` (bytes to items, on rayon), `deliver` (one batch into the target), `watermark`;
//! `rate` is beside this folder.

mod deliver;
mod encode;
mod range;
mod watermark;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use futures::stream::{FuturesUnordered, StreamExt};
use lockstep_core::{Error as StoreError, Kind, Window};
use lockstep_dynamo::{Backoff, LoadPath};
use lockstep_postgres::{KeyBound, RangeRow, TableBinding};
use rand::seq::SliceRandom;
use serde::Serialize;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result};
use crate::options::Migration;
use crate::plan;
use crate::progress::{Progress, TableProgress};
use crate::rate::Rate;
use crate::spent::Spent;

/// What a backfill did for one table.
#[derive(Clone, Debug, Serialize)]
pub struct BackfillSummary {
    /// The table.
    pub table: String,
    /// How history was put.
    pub load_path: LoadPath,
    /// Ranges of the plan.
    pub ranges: u64,
    /// Ranges that earlier runs had finished; none of them was read again.
    pub ranges_resumed: u64,
    /// Rows that earlier runs had settled.
    pub rows_resumed: u64,
    /// Rows read by this run.
    pub rows_read: u64,
    /// Rows put by this run.
    pub rows_written: u64,
    /// Rows whose key was there already.
    pub rows_present: u64,
    /// Rows set aside by this run.
    pub dead_letters: u64,
    /// Bytes read by this run.
    pub bytes_read: u64,
    /// How long it took.
    pub duration_s: f64,
}

/// What all tables of a run share: the bounds.
pub(super) struct Shared {
    rate: Rate,
    /// One permit a range being read, so that the source sees a bounded number of readers.
    readers: Semaphore,
    /// One permit a request in flight.
    requests: Semaphore,
    /// One permit a KiB read and not yet acknowledged: what bounds memory.
    queue_kib: Arc<Semaphore>,
    errors: AtomicU64,
    /// Whether the endpoint has half of PartiQL.
    no_statements: AtomicBool,
}

/// One table in one run.
pub(super) struct TableRun {
    migration: Arc<Migration>,
    binding: TableBinding,
    fingerprint: String,
    window: Window,
    path: LoadPath,
    shared: Arc<Shared>,
    all_progress: Arc<Progress>,
    cancel: CancellationToken,
}

/// Moves the history of every table. Capture must be on, and the coordinator's lock held.
pub(crate) async fn run(
    migration: &Arc<Migration>,
    progress: &Arc<Progress>,
    cancel: &CancellationToken,
) -> Result<Vec<BackfillSummary>> {
    let options = &migration.options.backfill;
    let shared = Arc::new(Shared {
        rate: Rate::new(options.write_units_per_s_max),
        readers: Semaphore::new(options.readers.max(1)),
        requests: Semaphore::new(options.requests_in_flight.max(1)),
        queue_kib: Arc::new(Semaphore::new((options.queue_bytes_max / 1024).max(1))),
        errors: AtomicU64::new(0),
        no_statements: AtomicBool::new(false),
    });
    // A failing table stops the others: what they had under way is settled or read again, either is right.
    let stop = cancel.child_token();
    let tables = migration.tables.iter().map(|binding| table(migration, binding, &shared, progress, &stop));
    let mut running: FuturesUnordered<_> = tables.collect();
    let mut spent = Spent::default();
    let (mut summaries, mut failure) = (Vec::new(), None);
    let moved = async {
        while let Some(next) = running.next().await {
            match next {
                Ok(summary) => summaries.push(summary),
                Err(error) => {
                    stop.cancel();
                    // The first failure is the cause; that the others were interrupted is its effect.
                    failure = match failure.take() {
                        None | Some(Error::Interrupted) => Some(error),
                        earlier => earlier,
                    };
                }
            }
        }
    };
    tokio::select! {
        () = moved => {}
        () = follow_tuning(migration, &shared, progress, &mut spent) => unreachable!("the tuning is followed for ever"),
    }
    spent.note(&migration.source, progress).await;
    failure.map_or(Ok(summaries), Err)
}

/// Applies changes of the tuning within a second, for as long as it is polled.
async fn follow_tuning(migration: &Migration, shared: &Shared, progress: &Progress, spent: &mut Spent) {
    let mut was_paused = false;
    loop {
        if let Ok(tuning) = migration.source.tuning().await {
            let tuned = tuning.write_units_per_s_max.and_then(|units| u64::try_from(units).ok());
            // What is in flight ends; nothing new is begun while an operator has paused it.
            let paused = tuning.paused.then_some(0);
            if tuning.paused != was_paused {
                was_paused = tuning.paused;
                let why = was_paused.then(|| "an operator has paused the backfill".to_owned());
                progress.tables.iter().for_each(|table| table.pause(why.clone()));
            }
            shared.rate.set_budget(paused.or(tuned).or(migration.options.backfill.write_units_per_s_max));
        }
        spent.note(&migration.source, progress).await;
        let ceiling = shared.rate.ceiling().unwrap_or(0.0) as u64;
        progress.tables.iter().for_each(|table| table.ceiling.store(ceiling, Relaxed));
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn table(
    migration: &Arc<Migration>,
    binding: &TableBinding,
    shared: &Arc<Shared>,
    all_progress: &Arc<Progress>,
    cancel: &CancellationToken,
) -> Result<BackfillSummary> {
    let started = Instant::now();
    let progress = all_progress.of(binding.name());
    let name = binding.name();
    let source = &migration.source;
    let path = choose_path(migration, binding).await?;
    *progress.load_path.lock().expect("no panic while holding it") = Some(path);
    let table = source.describe(binding).await?;
    let window = migration.options.backfill.window.clone();
    plan_once(migration, binding, &window, table.rows_estimate).await?;
    let ranges = source.ranges(name).await?;
    let resumed: i64 = ranges.iter().map(|range| range.rows_read).sum();
    progress.begin_run();
    progress.rows_expected.store(table.rows_estimate.max(resumed) as u64, Relaxed);
    progress.rows_resumed.store(resumed as u64, Relaxed);
    let state = source.table_state(name).await?;
    let fingerprint = state.map(|state| state.fingerprint).unwrap_or_default();
    let mut open: Vec<RangeRow> = ranges.iter().filter(|range| !range.done).cloned().collect();
    let ranges_resumed = ranges.len() - open.len();
    // In random order: neighbouring keys often share a DynamoDB partition, and workers side by side would
    // heat it up.
    open.shuffle(&mut rand::rng());

    let run = Arc::new(TableRun {
        migration: migration.clone(),
        binding: binding.clone(),
        fingerprint,
        window,
        path,
        shared: shared.clone(),
        all_progress: all_progress.clone(),
        cancel: cancel.clone(),
    });
    // A task a range, as many at once as there are readers: encoding, serialising and signing use every
    // processor.
    let mut tasks = JoinSet::new();
    let mut waiting = open.into_iter();
    for range in waiting.by_ref().take(migration.options.backfill.readers.max(1)) {
        tasks.spawn(run.clone().range(range));
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
        if let Some(range) = waiting.next() {
            tasks.spawn(run.clone().range(range));
        }
    }
    Ok(BackfillSummary {
        table: name.to_owned(),
        load_path: path,
        ranges: ranges.len() as u64,
        ranges_resumed: ranges_resumed as u64,
        rows_resumed: resumed as u64,
        rows_read: progress.rows_read(),
        rows_written: progress.rows_written(),
        rows_present: progress.rows_present(),
        dead_letters: progress.dead_letters(),
        bytes_read: progress.bytes_read(),
        duration_s: started.elapsed().as_secs_f64(),
    })
}

async fn choose_path(migration: &Migration, binding: &TableBinding) -> Result<LoadPath> {
    let probe = binding.table.target().unused_key();
    let has_partiql =
        Backoff::patient().retry(|| migration.target.has_partiql(&binding.target_name, &probe)).await?;
    Ok(plan::load_path(migration.options.backfill.load_path, has_partiql))
}

/// Makes the plan, unless an earlier run made it: then its ranges, and its window, stand.
async fn plan_once(
    migration: &Migration,
    binding: &TableBinding,
    window: &Window,
    rows_estimate: i64,
) -> Result<()> {
    let source = &migration.source;
    if let Some(state) = source.table_state(binding.name()).await?
        && state.planned_at.is_some()
    {
        let planned = Window { start: state.window_start, end: state.window_end };
        if planned != *window {
            let message =
                "the plan was made for another window of days; run `backfill --restart` to make a new plan";
            return Err(StoreError::source(
                Kind::Misconfigured,
                format!("resuming the backfill of {}", binding.name()),
                message,
            )
            .into());
        }
        return Ok(());
    }
    let pieces = migration.options.backfill.ranges_per_table.max(1);
    let bounds: Vec<KeyBound> = source.sample_bounds(binding, pieces, rows_estimate).await?;
    source.plan_ranges(binding.name(), window, &plan::split(&bounds)).await?;
    Ok(())
}

impl TableRun {
    fn progress(&self) -> &TableProgress {
        self.all_progress.of(self.binding.name())
    }

    /// Sets a row aside, if it still is as it was read, and stops the run when there are too many.
    async fn set_aside_key(&self, key: &KeyBound, tuple: &[u8], reason: &str) -> Result<()> {
        let aside = Backoff::brief()
            .retry(|| self.migration.source.set_aside_history(&self.binding, key, tuple, reason))
            .await?;
        if !aside {
            return Ok(());
        }
        self.progress().dead_letters.fetch_add(1, Relaxed);
        let found = self.shared.errors.fetch_add(1, Relaxed) + 1;
        let allowed = self.migration.options.backfill.errors_max;
        if found > allowed {
            return Err(Error::TooManyErrors { table: self.binding.name().to_owned(), found, allowed });
        }
        Ok(())
    }
}
