//! The backfill: the initial load moves in ranges, in any order, by many workers, and resumes where it was
//! (R10).
//!
//! A worker and the coordinator's backfill are one engine: both take ranges under a lease, and the watermark
//! of a range is what both acknowledge.
//!
//! In reading order: this file (one run over all tables), `cut` (the plan of a table: by keys or by blocks),
//! `table` (one table), `lease` and `shift` (which ranges this process may move, and until when), `piece`
//! (what is left of a range), `chunk` (what is read of it at once, and whether it counts), `range` (one
//! range: read, hand on, keep the watermark), `parts` (the same into files, for an import), `encode` (bytes
//! to items, on rayon), `deliver` (one batch into the target), `again` (rows that waited for too long to be
//! sent), `budget` (what all workers may spend), `watermark`; `rate` is beside this folder.

mod again;
mod budget;
mod chunk;
mod cut;
mod deliver;
mod encode;
mod lease;
mod parts;
mod piece;
mod range;
mod shared;
mod shift;
mod table;
mod watermark;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use futures::future::try_join_all;
use lockstep_core::Advice::Backfill;
use lockstep_core::{Error as StoreError, Kind};
use lockstep_postgres::Cap;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use self::budget::Budget;
use self::lease::KeptLease;
pub(crate) use self::lease::Who;
pub use self::shared::BackfillSummary;
use self::shared::Shared;
use self::table::Table;
use crate::error::{CoordinatorError, Result};
use crate::import;
use crate::options::MigrationContext;
use crate::progress::Progress;
use crate::rate::Rate;
use crate::spent::Spent;
use crate::strain::Strain;

/// Moves the initial load of every table, beside what workers move of it. Capture must be on, and the
/// coordinator's lock held.
pub(crate) async fn run(
    migration: &Arc<MigrationContext>,
    progress: &Arc<Progress>,
    cancel: &CancellationToken,
) -> Result<Vec<BackfillSummary>> {
    progress.tables.iter().for_each(crate::progress::TableProgress::begin_run);
    let name = format!("backfill, {}", migration.actor);
    let who = Who { name, coordinator: true, lease: migration.options.backfill.lease };
    let tables = loop {
        let tables = begin(migration, progress).await?;
        // 1. DynamoDB was asked for a job. 2. A plan is made from the start. 3. No part would go into
        //    that job, so none is acknowledged, and each range would be held without an end. They wait for
        //    the table instead.
        let now: Vec<&Table> = tables.iter().filter(|table| !table.waits_for_a_job()).collect();
        work_on(migration, &now, &who, progress, cancel).await?;
        let again = import::finish(migration, progress, cancel).await?;
        let names: Vec<&str> = migration.tables.iter().map(|binding| binding.name()).collect();
        let window = &migration.options.backfill.window();
        if !again && !migration.source.look_at_plan(&names, window).await?.open {
            break tables;
        }
    };
    try_join_all(tables.iter().map(|table| table.summary(migration, progress))).await
}

/// Moves ranges of the plan until each is done, by this worker or by others. Says how often a lease ended
/// meanwhile.
pub(crate) async fn help(
    migration: &Arc<MigrationContext>,
    who: &Who,
    progress: &Arc<Progress>,
    cancel: &CancellationToken,
) -> Result<u64> {
    for binding in &migration.tables {
        let state = migration.source.table_state(binding.name()).await?;
        if state.is_some_and(|state| state.importing) && !import::takes_workers(migration, binding).await? {
            // Parts lie on the machine of the coordinator's backfill, which copies all of them; or a job
            // reads them.
            let message = format!(
                "its initial load goes in by an import, whose parts {Backfill} writes; a \
                worker waits"
            );
            return Err(StoreError::source(Kind::Busy, format!("moving {}", binding.name()), message).into());
        }
    }
    let tables = begin(migration, progress).await?;
    work_on(migration, &tables.iter().collect::<Vec<_>>(), who, progress, cancel).await
}

/// Makes the plan of every table, unless there is one. The coordinator's lock must be held.
pub(crate) async fn plan_all(migration: &MigrationContext) -> Result<()> {
    for binding in &migration.tables {
        let described = migration.source.describe(binding).await?;
        cut::plan_once(migration, binding, described.rows_likely()).await?;
    }
    Ok(())
}

async fn begin(migration: &Arc<MigrationContext>, progress: &Progress) -> Result<Vec<Table>> {
    try_join_all(migration.tables.iter().map(|binding| Table::begin(migration, binding, progress))).await
}

/// Works one shift after the other, each under a lease of its own, until no range is left.
async fn work_on(
    migration: &Arc<MigrationContext>,
    tables: &[&Table],
    who: &Who,
    progress: &Arc<Progress>,
    cancel: &CancellationToken,
) -> Result<u64> {
    let options = &migration.options.backfill;
    let shared = Arc::new(Shared {
        rate: Rate::new(options.write_units_per_s_max).within(options.requests_in_flight),
        budget: Budget::new(&migration.source, options.write_units_per_s_max),
        readers: Semaphore::new(options.readers.max(1)),
        queue_kib: Arc::new(Semaphore::new((options.queue_bytes_max / 1024).max(1))),
        errors: AtomicU64::new(0),
        no_statements: AtomicBool::new(false),
    });
    let mut spent = Spent::of_initial_load(progress);
    let working = async {
        let mut ended_leases = 0;
        loop {
            let kept = KeptLease::register(&migration.source, who, progress).await?;
            // The end of the shift ends what is under way.
            let stop = cancel.child_token();
            let runs: Vec<_> = tables
                .iter()
                .map(|table| table.under(migration, &kept.lease, &shared, progress, &stop))
                .collect();
            let ended = shift::shift(&migration.source, &runs, &kept.lease, options.readers, cancel).await;
            stop.cancel();
            kept.end().await;
            match ended {
                Ok(()) => return Ok(ended_leases),
                Err(CoordinatorError::Store(error))
                    if error.kind == Kind::Fenced && !cancel.is_cancelled() =>
                {
                    ended_leases += 1;
                    tracing::warn!("{error}");
                }
                Err(error) => return Err(error),
            }
        }
    };
    tokio::select! {
        ended = working => {
            spent.note(&migration.source, progress).await;
            ended
        }
        () = follow_tuning(migration, &shared, progress, &mut spent) => {
            unreachable!("the tuning is followed for ever")
        }
    }
}

/// Applies changes of the tuning within a second, for as long as it is polled.
async fn follow_tuning(
    migration: &MigrationContext,
    shared: &Shared,
    progress: &Progress,
    spent: &mut Spent,
) {
    let mut was_paused: Option<String> = None;
    let (mut strain, mut cap) = (Strain::default(), Cap::default());
    let source = &migration.source;
    loop {
        let mut why = None;
        if let Ok(tuning) = migration.source.tuning().await {
            let tuned = tuning.write_units_per_s_max.and_then(|units| u64::try_from(units).ok());
            // The requests in flight end; nothing new is begun while an operator has paused it.
            // Nor at the cap. 1. No daemon runs, which would pause it there. 2. A load costs more than was
            // planned. 3. It goes on through the night, and the cap is a number that no daemon reads.
            let is_paused = match tuning.paused {
                true => Some("an operator has paused the backfill".to_owned()),
                false => cap.over(source, &migration.options.spending, tuning.spend_cap_usd).await,
            };
            let paused = is_paused.is_some().then_some(0);
            if is_paused != was_paused {
                if let Some(why) = is_paused.as_ref().filter(|_| was_paused.is_none()) {
                    tracing::warn!("nothing is copied: {why}");
                }
                progress.tables.iter().for_each(|table| table.pause(is_paused.clone()));
                was_paused = is_paused;
            }
            let budget = tuned.or(migration.options.backfill.write_units_per_s_max);
            shared.rate.set_budget(paused.or(budget));
            shared.budget.set(budget);
            why = strain.of(&migration.source, &tuning).await;
        }
        if why.is_some() {
            shared.rate.strained();
        }
        let slowed = [why, shared.rate.why()].into_iter().flatten().collect::<Vec<_>>().join("; ");
        progress
            .tables
            .iter()
            .for_each(|table| table.slow(Some(slowed.clone()).filter(|why| !why.is_empty())));
        spent.note(&migration.source, progress).await;
        let ceiling = shared.rate.ceiling().unwrap_or(0.0) as u64;
        progress.tables.iter().for_each(|table| table.ceiling.store(ceiling, Relaxed));
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
