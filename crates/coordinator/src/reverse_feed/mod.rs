//! The reverse feed: PostgreSQL follows DynamoDB in DynamoOnly, so that there is a way back (R5, I7).
//!
//! One task a table follows its stream, shards in parallel, parents before children; each page becomes rows
//! and a position in one transaction. It may be killed at any time: what was not saved comes again. In
//! reading order: `progress`, `begun` (which epochs there were), `rounds` (what is noted and asked of all
//! tables at once), `sink` (pages to rows), `again` (items read once more), `table` (one table's task), this
//! file (all), `missing` and `drained` (whether all that was written has come through), `renumber` (versions
//! of other programs), `backfill` (when the stream has lost its history).

mod again;
mod backfill;
mod begun;
mod drained;
mod missing;
mod progress;
mod renumber;
mod rounds;
mod sink;
mod table;

pub(crate) use again::{bring_back, once_brought_back};
pub use backfill::{ReverseBackfill, reverse_backfill};
pub(crate) use backfill::{reverse_backfill_in_repair, reverse_backfill_news};
pub use drained::{Drained, drained};
pub(crate) use drained::{all_drained, streams};
pub use progress::{FeedProgress, FeedTableProgress};
pub use renumber::{Renumbered, renumber_foreign};

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use lockstep_core::Kind;
use lockstep_postgres::FeedLock;
use serde::Serialize;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::continuity;
use crate::error::{CoordinatorError, Result};
use crate::feed_alarm::closed;
use crate::feed_options::ReverseFeedOptions;
use crate::options::MigrationContext;
use crate::outage::Outage;
use crate::records;
use rounds::{Rounds, raise_alarms};

/// Interval at which the feed makes sure that it still has its lock, and looks at its lag.
const LOCK_CHECK: Duration = Duration::from_secs(1);
const ALARM_EVERY: Duration = Duration::from_secs(60);
/// Time that a feed that was asked to stop may take for the pages it is at.
const STOP_WITHIN: Duration = Duration::from_secs(10);
/// Longest wait of a feed that is to end when everything has come through. A backlog of a day takes a while.
const DRAIN_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Condition under which a feed ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeedUntil {
    /// End once everything that was written before the feed began has come through, in every table.
    Drained,
    /// End by cancellation.
    Cancelled,
}

/// Counts of what a feed did.
#[derive(Clone, Debug, Serialize)]
pub struct FeedSummary {
    /// Each table.
    pub tables: Vec<FeedTableSummary>,
}

/// Counts of what it did to one table.
#[derive(Clone, Debug, Serialize)]
pub struct FeedTableSummary {
    /// Table name.
    pub name: &'static str,
    /// Records read.
    pub records: u64,
    /// Items whose state was news.
    pub applied: u64,
    /// States that came from the source, or that it has had.
    pub skipped: u64,
    /// Standing of the feed, over all runs.
    pub standing: Option<lockstep_postgres::reverse::FeedStanding>,
    /// Sentence about writes that are not in PostgreSQL and that no stream will bring, and what leads on.
    /// `None` where there are none, and where PostgreSQL did not answer.
    pub missing: Option<String>,
}

/// Feeds every table until told to stop. One process at a time.
///
/// It may be started in any phase: before DynamoOnly it finds nothing that is news, and that is how it is
/// started *before* the step, so that no record can be missed.
///
/// Once every table was fed it waits for a store that is away, whatever the reason, tells of it, and goes on
/// from what was saved (I18): a stream keeps what is missed for a day.
///
/// # Errors
/// [`lockstep_core::Kind::Busy`] when another feed runs; [`CoordinatorError::HistoryLost`]; what fails
/// before it has once worked; what no retry can repair. Cancellation is not an error.
///
/// # Cancel safety
/// Dropping the future is safe at any point: what was not saved comes again.
#[crate::boxed]
pub async fn reverse_feed(
    migration: &MigrationContext,
    options: &ReverseFeedOptions,
    until: FeedUntil,
    progress: &Arc<FeedProgress>,
    cancel: &CancellationToken,
) -> Result<FeedSummary> {
    let mut outage = Outage::new("the reverse feed");
    let opened = Arc::new(Opened::default());
    loop {
        let before = opened.times();
        let ended = feed_once(migration, options, until, progress, &opened, cancel).await;
        // 1. A page cannot be taken, and the feed's own tries are used up. 2. It begins again, opens every
        // stream, and fails at that page. If opening the streams ended the outage, the failure would never be
        // reported.
        let is_stuck = matches!(&ended, Err(CoordinatorError::Store(error)) if outage.is_again(error));
        if opened.times() > before && !is_stuck {
            outage.over();
        }
        let began_well = opened.times() >= migration.tables.len();
        match ended {
            Ok(()) => break,
            // Records that were not saved come again.
            Err(_) if cancel.is_cancelled() => break,
            Err(error) if !began_well => return Err(error),
            Err(error) => {
                let error = Outage::passing(error, began_well)?;
                if !outage.wait(&error, cancel).await {
                    break;
                }
            }
        }
    }
    let mut tables = Vec::new();
    for binding in &migration.tables {
        let of = progress.of(binding.name());
        let standing = match migration.source.reverse_standing(binding.name()).await {
            // If the feed is cancelled while the source is unreachable, the outage is not reported.
            Err(_) if cancel.is_cancelled() => None,
            standing => standing?,
        };
        tables.push(FeedTableSummary {
            name: binding.name(),
            records: of.records(),
            applied: of.applied(),
            skipped: of.skipped(),
            missing: standing.as_ref().and_then(closed),
            standing,
        });
    }
    Ok(FeedSummary { tables })
}

/// Number of times that a table's stream was opened, over all tables of a feed.
#[derive(Debug, Default)]
struct Opened(AtomicUsize);

impl Opened {
    fn times(&self) -> usize {
        self.0.load(SeqCst)
    }

    fn another(&self) {
        self.0.fetch_add(1, SeqCst);
    }
}

async fn feed_once(
    migration: &MigrationContext,
    options: &ReverseFeedOptions,
    until: FeedUntil,
    progress: &Arc<FeedProgress>,
    opened: &Arc<Opened>,
    cancel: &CancellationToken,
) -> Result<()> {
    migration.source.require_contract(&migration.tables).await?;
    continuity::turn(migration).await?;
    let lock = migration.source.lock_reverse_feed().await?;
    let stop = cancel.child_token();
    let mut tasks = JoinSet::new();
    let rounds = Arc::new(Rounds::new(&migration.tables));
    tasks.spawn(Arc::clone(&rounds).run(migration.clone(), options.again_every, stop.clone()));
    for binding in &migration.tables {
        let (migration, options, progress) = (migration.clone(), options.clone(), Arc::clone(progress));
        let (binding, stop) = (binding.clone(), stop.clone());
        let (opened, rounds) = (Arc::clone(opened), Arc::clone(&rounds));
        tasks.spawn(async move {
            let of_table = progress.of(binding.name());
            let opened = || opened.another();
            table::feed(&migration, &binding, &options, of_table, &rounds, opened, &stop).await
        });
    }
    run(migration, until, tasks, lock, &stop).await
}

/// Pause between two looks of a feed that stands by, at whether the other one still runs.
const STAND_BY: Duration = Duration::from_millis(200);

/// Feeds every table until told to stop, or stands by for as long as another process does.
///
/// # Errors
/// What no retry can repair. Cancellation is not an error.
///
/// # Cancel safety
/// As for [`reverse_feed`].
#[crate::boxed]
pub async fn keep_feeding(
    migration: &MigrationContext,
    options: &ReverseFeedOptions,
    progress: &Arc<FeedProgress>,
    cancel: &CancellationToken,
) -> Result<()> {
    loop {
        match reverse_feed(migration, options, FeedUntil::Cancelled, progress, cancel).await {
            Err(CoordinatorError::Store(error)) if error.kind == Kind::Busy => {
                if cancel.run_until_cancelled(tokio::time::sleep(STAND_BY)).await.is_none() {
                    return Ok(());
                }
            }
            ended => return ended.map(drop),
        }
    }
}

/// Waits for the end of all tables; the first that fails, or a lost lock, stops the others.
async fn run(
    migration: &MigrationContext,
    until: FeedUntil,
    mut tasks: JoinSet<Result<()>>,
    mut lock: FeedLock,
    stop: &CancellationToken,
) -> Result<()> {
    let through = async {
        match until {
            FeedUntil::Cancelled => std::future::pending::<Result<()>>().await,
            FeedUntil::Drained => {
                let streams = streams(migration).await?;
                all_drained(migration, &streams, DRAIN_MAX).await.map(drop)
            }
        }
    };
    tokio::pin!(through);
    // Told to stop, a table ends with the page it is at; one that waits for a store that is away is not
    // waited for.
    let late = async {
        stop.cancelled().await;
        tokio::time::sleep(STOP_WITHIN).await;
    };
    tokio::pin!(late);
    let mut aborted = false;
    let mut result = Ok(());
    let mut check = tokio::time::interval(LOCK_CHECK);
    let mut alarm = tokio::time::interval(ALARM_EVERY);
    loop {
        let ended = tokio::select! {
            task = tasks.join_next() => match task {
                None => break,
                Some(task) => task.map_err(CoordinatorError::from).and_then(|fed| fed),
            },
            drained = &mut through, if !stop.is_cancelled() => {
                stop.cancel();
                drained
            }
            _ = check.tick() => match lock.check().await {
                Ok(()) if records::require_going_on(migration).await.is_err() => {
                    tracing::info!("the migration is complete, and the reverse feed ends");
                    stop.cancel();
                    Ok(())
                }
                Ok(()) => continuity::turn(migration).await,
                Err(error) => Err(error.into()),
            },
            _ = alarm.tick() => raise_alarms(migration).await,
            () = &mut late, if !aborted => {
                aborted = true;
                tasks.abort_all();
                Ok(())
            }
        };
        if ended.is_err() && result.is_ok() {
            // The cause, not what comes of it; of a task that was ended here there is nothing to tell.
            result = if aborted { Ok(()) } else { ended };
            stop.cancel();
            if result.is_err() {
                // Records that were not saved come again.
                aborted = true;
                tasks.abort_all();
            }
        }
    }
    lock.release().await;
    result
}
