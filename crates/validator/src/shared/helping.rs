//! Workers: reading a part of a comparison that another process leads.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lockstep_core::{Error, Kind, Result, Retry};
use lockstep_dynamo::Target;
use lockstep_postgres::{SharedComparison, Source, TableBinding};
use serde::Serialize;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use super::LOOK_EVERY;
use super::lease::Registered;
use super::portion::Portion;
use super::terms::Terms;
use crate::options::{Sharing, ValidateOptions};
use crate::progress::ValidationProgress;
use crate::reader::Reader;
use crate::settings::ValidateSettings;
use crate::table_run::TableRun;
use crate::tasks::{Stopped, ended};

/// Time that a worker waits after a store has failed it, before it takes part again.
const PAUSE: Duration = Duration::from_secs(2);

/// Readings that a process made for comparisons that others lead.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Helped {
    /// Name of the worker, for people.
    pub worker: String,
    /// Comparisons that it took part in, one a table.
    pub comparisons: u64,
    /// Number of times that its lease ended before it had: it was stopped, or cut off from the source.
    pub leases_ended: u64,
    /// Each table.
    pub tables: Vec<HelpedTable>,
}

/// Readings of a table.
#[derive(Clone, Debug, Default, Serialize)]
pub struct HelpedTable {
    /// The table.
    pub table: String,
    /// Rows that it read.
    pub rows: u64,
    /// Items that it read.
    pub items: u64,
}

/// Takes part in every comparison of these tables that another process leads, with the window and the
/// segments that it has there. Ends once those that were under way have ended, and waits for a first one; if
/// it is to `stay`, it goes on until cancelled. A store that is away is waited for.
///
/// Of `options`, those count that say how this process reads: what it takes of memory, of connections and of
/// the target's units. The rate is the one of all processes together.
///
/// # Errors
/// [`Kind::Misconfigured`] where this process does not see what the leader sees: another version, table,
/// target, layout or phase. Waiting does not repair it. What is under way of other tables ends first: 1. One
/// of two tables was altered, and does not fit any more. 2. What this process has read of the other one is
/// in its files alone, and would be read again by all who are left.
///
/// # Cancel safety
/// Reading has no effect. Others read again what it has read: at once when cancelled, and else once its lease
/// is over.
#[crate::boxed]
pub async fn help(
    source: &Source,
    target: &Target,
    tables: &[TableBinding],
    (options, sharing, stay): (&ValidateOptions, &Sharing, bool),
    progress: &Arc<ValidationProgress>,
    cancel: &CancellationToken,
) -> Result<Helped> {
    let reader = Reader::new(source, target, options);
    let (mut tasks, mut under_way) = (JoinSet::new(), HashMap::new());
    let (mut comparisons, leases_ended) = (0, Arc::new(AtomicU64::new(0)));
    let mut failed = None;
    'looking: loop {
        for binding in tables {
            let found = match reader.ask(|| source.shared_comparison(binding.name())).await {
                Ok(found) => found,
                // Those that are under way wait for the source by themselves.
                Err(error) if error.kind.retry() != Retry::Never && !tasks.is_empty() => break,
                Err(error) => {
                    failed = Some(error);
                    break 'looking;
                }
            };
            let Some(found) = found.filter(|found| under_way.get(binding.name()) != Some(&found.run)) else {
                continue;
            };
            under_way.insert(binding.name(), found.run);
            comparisons += 1;
            let (reader, binding) = (reader.of_a_share(), binding.clone());
            let (options, sharing, progress) = (options.clone(), sharing.clone(), Arc::clone(progress));
            let (leases_ended, cancel) = (Arc::clone(&leases_ended), cancel.clone());
            tasks.spawn(async move {
                let helping = (&options, &sharing, &progress);
                let helped = help_one(&reader, &binding, &found, helping, &leases_ended, &cancel).await;
                helped.map(|()| binding.name())
            });
        }
        while let Some(task) = tasks.try_join_next() {
            // It may go on after its leader was away for a while.
            match of_task(task) {
                Ok(table) => _ = under_way.remove(table),
                Err(error) => {
                    failed = Some(error);
                    break 'looking;
                }
            }
        }
        let has_helped = comparisons > 0 && tasks.is_empty() && !stay;
        let is_cancelled = cancel.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_none();
        if has_helped || is_cancelled {
            break;
        }
    }
    while let Some(task) = tasks.join_next().await {
        failed = failed.or(of_task(task).err());
    }
    reader.settle().await;
    failed.map_or(Ok(()), Err)?;
    let tables = progress.tables().iter().map(|table| HelpedTable {
        table: table.name().to_owned(),
        rows: table.source_rows(),
        items: table.target_items(),
    });
    Ok(Helped {
        worker: sharing.name.clone(),
        comparisons,
        leases_ended: leases_ended.load(Ordering::Relaxed),
        tables: tables.collect(),
    })
}

type Task = std::result::Result<std::result::Result<&'static str, Stopped>, JoinError>;

/// Returns the table of a task that has ended well.
fn of_task(task: Task) -> Result<&'static str> {
    let ended = task.unwrap_or_else(|_| Err(Stopped::Panicked(lockstep_core::PANICKED.to_owned())));
    ended.map_err(|why| match why {
        Stopped::Store(error) => error,
        other => Error::source(Kind::Misconfigured, "taking part in a comparison", other.to_string()),
    })
}

/// Takes part in one comparison until it has ended.
async fn help_one(
    reader: &Reader,
    binding: &TableBinding,
    of: &SharedComparison,
    (options, sharing, progress): (&ValidateOptions, &Sharing, &Arc<ValidationProgress>),
    leases_ended: &AtomicU64,
    cancel: &CancellationToken,
) -> std::result::Result<(), Stopped> {
    loop {
        let helping = help_once(reader, binding, of, (options, sharing, progress), cancel);
        match helping.await {
            Ok(()) => return Ok(()),
            Err(Stopped::LeaseOver) => _ = leases_ended.fetch_add(1, Ordering::Relaxed),
            Err(Stopped::Store(error)) if error.kind.retry() != Retry::Never => {
                tracing::warn!(table = binding.name(), "a comparison is helped again in a moment: {error}");
                if cancel.run_until_cancelled(tokio::time::sleep(PAUSE)).await.is_none() {
                    return Ok(());
                }
            }
            Err(error) => return Err(error),
        }
    }
}

async fn help_once(
    reader: &Reader,
    binding: &TableBinding,
    of: &SharedComparison,
    (options, sharing, progress): (&ValidateOptions, &Sharing, &Arc<ValidationProgress>),
    cancel: &CancellationToken,
) -> std::result::Result<(), Stopped> {
    let source = &reader.source;
    reader.ask(|| source.require_contract(std::slice::from_ref(binding))).await?;
    // Expiry is judged by this time.
    reader.ask(|| source.clock()).await?;
    let control = reader.ask(|| source.control()).await?;
    let terms = terms_of(of)?;
    let options = ValidateOptions {
        window: terms.window(),
        settings: ValidateSettings { scan_segments: terms.segments, ..options.settings.clone() },
        kept: None,
        quality: false,
        ..options.clone()
    };
    let run = TableRun::new(reader, binding, &options, (&control, None), progress);
    work_once(&run, of, sharing, cancel).await
}

fn terms_of(of: &SharedComparison) -> std::result::Result<Terms, Stopped> {
    let other = "the process that leads the comparison is of another version of Lockstep".to_owned();
    serde_json::from_value(of.terms.clone()).map_err(|_| Stopped::Unfit(other))
}

/// Does the leader's own share of the work, until it is to stop.
pub(super) async fn work(
    leader: &Arc<TableRun>,
    of: &SharedComparison,
    sharing: &Sharing,
    stop: &CancellationToken,
) -> std::result::Result<(), Stopped> {
    loop {
        // Its readings are counted where those of all workers are.
        match work_once(&leader.beside(), of, sharing, stop).await {
            Ok(()) if stop.is_cancelled() => return Ok(()),
            // The leader's own lease was over for a while, and may not have cost it the comparison.
            Ok(()) if leader.reader.source.comparison_pieces(of.run).await?.is_empty() => {
                return Err(Stopped::GivenUp);
            }
            Ok(()) | Err(Stopped::LeaseOver) => {}
            Err(Stopped::Store(error)) if error.kind.retry() != Retry::Never => {
                tracing::warn!(table = leader.binding.name(), "pieces are read again in a moment: {error}");
            }
            Err(error) => return Err(error),
        }
        if stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_none() {
            return Ok(());
        }
    }
}

/// Reads and answers under one registration.
async fn work_once(
    run: &Arc<TableRun>,
    of: &SharedComparison,
    sharing: &Sharing,
    cancel: &CancellationToken,
) -> std::result::Result<(), Stopped> {
    let terms = terms_of(of)?;
    let registered = Registered::register(run, sharing).await?;
    let working = async {
        let portion = Arc::new(Portion::new(run, of, terms, &registered).await?);
        let mut readers = JoinSet::new();
        for _ in 0..run.options.settings.parallel.max(1) {
            readers.spawn(Arc::clone(&portion).read());
        }
        let answered = tokio::select! {
            answered = portion.answer() => answered,
            Some(failed) = readers.join_next() => ended(failed),
        };
        tracing::info!(table = run.binding.name(), pieces = portion.pieces(), "took part in a comparison");
        answered
    };
    let worked = tokio::select! {
        worked = working => worked,
        () = registered.over() => Err(Stopped::LeaseOver),
        () = cancel.cancelled() => Ok(()),
    };
    registered.end().await;
    worked
}
