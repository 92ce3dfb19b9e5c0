//! A worker: one of any number of processes, on any number of machines, that move one migration (R53).
//!
//! Today it takes ranges of the backfill. The first one that finds no plan takes the coordinator's lock for
//! as long as it takes to make one; after that none of them needs the lock, and each needs its lease.

use std::sync::Arc;
use std::time::Duration;

use lockstep_core::Advice::{Backfill, BackfillAgain, Status};
use lockstep_core::{Error as StoreError, Kind, Phase};
use lockstep_postgres::PlanLook;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::backfill::{self, Who};
use crate::continuity;
use crate::coordinator::Coordinator;
use crate::error::{CoordinatorError, Result};
use crate::gate::Observer;
use crate::import;
use crate::options::MigrationContext;
use crate::outage::Outage;
use crate::progress::Progress;
use crate::records;
use crate::waves;

/// Time between two looks of a worker that stays for new work.
const LOOK_FOR_WORK: Duration = Duration::from_secs(5);

/// Options of a worker.
#[derive(Clone, Debug)]
pub struct WorkOptions {
    /// Name of the worker, for people.
    pub name: String,
    /// Whether it waits for more once everything is done.
    pub stay: bool,
}

/// Counts of what a worker did.
#[derive(Clone, Debug, Serialize)]
pub struct WorkSummary {
    /// Name of the worker, for people.
    pub worker: String,
    /// Each table.
    pub tables: Vec<WorkedTable>,
    /// Number of times that its lease ended before it had: it was stopped, or cut off from the source.
    pub leases_ended: u64,
}

/// Counts of what a worker did for one table.
#[derive(Clone, Debug, Serialize)]
pub struct WorkedTable {
    /// The table.
    pub table: String,
    /// Ranges that it brought to their end.
    pub ranges: u64,
    /// Rows read.
    pub rows_read: u64,
    /// Rows put.
    pub rows_written: u64,
    /// Rows whose key was there already.
    pub rows_present: u64,
    /// Rows set aside.
    pub dead_letters: u64,
    /// Bytes read.
    pub bytes_read: u64,
}

/// Works until no range is left, or, if it stays, until cancelled. A store that is away is waited for.
///
/// # Errors
/// [`CoordinatorError::Refused`] by a gate; [`CoordinatorError::Interrupted`] when cancelled before
/// everything was done; what no waiting repairs.
///
/// # Cancel safety
/// Cancelling, dropping and killing are all safe. Its ranges are free at once after the first, and else after
/// its lease; what is not behind a watermark is read again.
#[crate::boxed]
pub async fn work(
    migration: MigrationContext,
    options: &WorkOptions,
    progress: &Arc<Progress>,
    observer: &dyn Observer,
    cancel: &CancellationToken,
) -> Result<WorkSummary> {
    let migration = Arc::new(migration);
    let (mut outage, mut began_well, mut leases_ended) = (Outage::new("the worker"), false, 0);
    loop {
        let turned = turn(&migration, options, progress, observer, cancel, &mut began_well).await;
        let pause = match turned {
            Ok(ended) => {
                leases_ended += ended;
                outage.over();
                if !options.stay {
                    if import::any(&migration).await? {
                        observer.note(&format!("every part is written: {Backfill} has DynamoDB import them"));
                    }
                    break;
                }
                cancel.run_until_cancelled(tokio::time::sleep(LOOK_FOR_WORK)).await.is_some()
            }
            Err(_) if cancel.is_cancelled() => false,
            Err(error) => {
                let error = Outage::passing(error, began_well)?;
                outage.wait(&error, cancel).await
            }
        };
        if !pause {
            if options.stay {
                break;
            }
            return Err(CoordinatorError::Interrupted);
        }
    }
    let tables = progress.tables.iter().map(|table| WorkedTable {
        table: table.name.to_owned(),
        ranges: table.ranges_moved(),
        rows_read: table.rows_read(),
        rows_written: table.rows_written(),
        rows_present: table.rows_present(),
        dead_letters: table.dead_letters(),
        bytes_read: table.bytes_read(),
    });
    Ok(WorkSummary { worker: options.name.clone(), tables: tables.collect(), leases_ended })
}

/// Everything there is to do now. Says how often a lease ended meanwhile.
async fn turn(
    migration: &Arc<MigrationContext>,
    options: &WorkOptions,
    progress: &Arc<Progress>,
    observer: &dyn Observer,
    cancel: &CancellationToken,
    began_well: &mut bool,
) -> Result<u64> {
    let source = &migration.source;
    waves::claim(source, &migration.target).await?;
    records::require_going_on(migration).await?;
    waves::refuse_completed(migration).await?;
    // An older version of Lockstep may have made it, or none.
    source.migrate_schema().await?;
    let look = look_at_plan(migration).await?;
    let planned = is_planned(migration, &look);
    if planned && !look.open {
        *began_well = true;
        return Ok(0);
    }
    require_truth(migration).await?;
    if !planned {
        make_plan(migration, observer).await?;
    }
    *began_well = true;
    require_whole(migration).await?;
    let lease = migration.options.backfill.lease;
    let who = Who { name: options.name.clone(), coordinator: false, lease };
    let ended = backfill::help(migration, &who, progress, cancel).await?;
    if is_planned(migration, &look_at_plan(migration).await?) {
        return Ok(ended);
    }
    // A plan that is forgotten leaves no range, and nothing of it says that everything was moved.
    let message = format!(
        "the plan was forgotten meanwhile, by {BackfillAgain} or a repair; there \
            will be another"
    );
    Err(StoreError::source(Kind::Busy, "copying the initial load", message).into())
}

async fn look_at_plan(migration: &MigrationContext) -> Result<PlanLook> {
    let names: Vec<&str> = migration.tables.iter().map(|binding| binding.name()).collect();
    Ok(migration.source.look_at_plan(&names, &migration.options.backfill.window()).await?)
}

/// Tells whether each table has a plan.
fn is_planned(migration: &MigrationContext, look: &PlanLook) -> bool {
    usize::try_from(look.planned) == Ok(migration.tables.len())
}

/// Prepares the migration as the coordinator's backfill does, and makes its plan.
async fn make_plan(migration: &MigrationContext, observer: &dyn Observer) -> Result<()> {
    let coordinator = Coordinator::open(migration.clone()).await?;
    let planned = async {
        coordinator.prepare(observer).await?;
        crate::estimate::note_plan(migration).await;
        backfill::plan_all(migration).await
    };
    let planned = planned.await;
    coordinator.close().await;
    planned
}

/// Refuses to copy from a store that follows.
async fn require_truth(migration: &MigrationContext) -> Result<()> {
    if migration.source.control().await?.phase == Phase::DynamoOnly {
        let message = format!(
            "DynamoDB is the truth, and PostgreSQL follows it: there is no initial load to copy; see {Status}"
        );
        return Err(StoreError::source(Kind::Refused, "copying the initial load", message).into());
    }
    Ok(())
}

/// Refuses to copy where changes made meanwhile would be lost, or where a store is not the one it was.
async fn require_whole(migration: &MigrationContext) -> Result<()> {
    let source = &migration.source;
    for binding in &migration.tables {
        source.capture_state(binding).await?.require_on(binding.name())?;
    }
    continuity::require_kept(migration).await?;
    Ok(source.require_contract(&migration.tables).await?)
}
