//! Cut of a table into ranges, and when it is cut again.

use lockstep_core::Advice::BackfillAgain;
use lockstep_core::{Error as StoreError, Kind, Window};
use lockstep_postgres::{KeyBound, RangePlan, RangeRow, Source, TableBinding};

use crate::error::{CoordinatorError, Result};
use crate::options::MigrationContext;
use crate::plan;

/// Whether a plan is the first one of a table, or follows one whose file is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    First,
    Again,
}

/// Makes the plan, unless an earlier run made it: then its ranges, and its window, stand.
///
/// # Errors
/// The source's; [`Kind::Misconfigured`] where the plan was made for another window of days.
pub(super) async fn plan_once(
    migration: &MigrationContext,
    binding: &TableBinding,
    rows_estimate: i64,
) -> Result<()> {
    let (source, window) = (&migration.source, &migration.options.backfill.window());
    if require_window(source, binding, window).await? {
        return Ok(());
    }
    let plan = choose(migration, binding, rows_estimate, Cut::First).await?;
    source.plan_ranges(binding.name(), window, &plan).await?;
    Ok(())
}

/// Returns the ranges of a planned table. Where some are of blocks of a file that the table has left, and not
/// done, all of them begin again first.
///
/// # Errors
/// The source's.
pub(super) async fn ranges_of_its_file(
    migration: &MigrationContext,
    binding: &TableBinding,
) -> Result<Vec<RangeRow>> {
    let source = &migration.source;
    let ranges = source.ranges(binding.name()).await?;
    let Some(file) = ranges.iter().find(|range| !range.done).and_then(|range| range.file.clone()) else {
        return Ok(ranges);
    };
    if source.heap(binding).await?.file.as_ref() == Some(&file) {
        return Ok(ranges);
    }
    begin_again(migration, binding, &file).await?;
    Ok(source.ranges(binding.name()).await?)
}

/// Cuts a table again whose ranges are of blocks of `file`, unless another worker has. Nothing that was
/// acknowledged counts: 1. Blocks 0 to 99 are read. 2. The table is rewritten, and a row of block 200 lies in
/// block 5 now. 3. Blocks 100 to 299 of the new file are read. That row is in neither.
///
/// # Errors
/// The source's.
pub(super) async fn begin_again(
    migration: &MigrationContext,
    binding: &TableBinding,
    file: &str,
) -> Result<()> {
    let source = &migration.source;
    let rows_estimate = source.describe(binding).await?.rows_likely();
    let plan = choose(migration, binding, rows_estimate, Cut::Again).await?;
    if source.plan_instead(binding.name(), file, &plan).await? {
        let by = match plan {
            RangePlan::Keys(_) => "keys",
            RangePlan::Blocks { .. } => "blocks",
        };
        tracing::warn!(
            "{} was rewritten (as by VACUUM FULL or CLUSTER) while its blocks were read: it is read again \
             from the beginning, by {by}; what is there already is passed over",
            binding.relation
        );
    }
    Ok(())
}

async fn choose(
    migration: &MigrationContext,
    binding: &TableBinding,
    rows_estimate: i64,
    cut: Cut,
) -> Result<RangePlan> {
    let (source, options) = (&migration.source, &migration.options.backfill);
    let pieces = options.ranges_per_table.max(1);
    let state = source.table_state(binding.name()).await?;
    let heap = source.heap(binding).await?;
    let importing = state.is_some_and(|state| state.importing);
    let wanted = plan::by_blocks(options.ranges, &heap, cut == Cut::Again);
    if wanted && let Some(why) = &heap.unreadable {
        tracing::warn!("{} is read by its keys and not by blocks: {why}", binding.relation);
    }
    match heap.file {
        // Where the file is empty, rows may still be elsewhere, as those of a table that an extension spreads
        // over servers: what the keys say counts.
        Some(file) if wanted && heap.unreadable.is_none() && !importing && heap.blocks > 0 => {
            Ok(RangePlan::Blocks { file, ranges: plan::split_blocks(heap.blocks, pieces) })
        }
        _ => {
            let bounds: Vec<KeyBound> = source.sample_bounds(binding, pieces, rows_estimate).await?;
            Ok(RangePlan::Keys(plan::split(&bounds)))
        }
    }
}

/// Tells whether there is a plan, which must be for this window.
///
/// # Errors
/// The source's; [`Kind::Misconfigured`] where the plan was made for another window of days.
async fn require_window(source: &Source, binding: &TableBinding, window: &Window) -> Result<bool> {
    let Some(state) = source.table_state(binding.name()).await?.filter(|state| state.planned_at.is_some())
    else {
        return Ok(false);
    };
    let planned = Window { start: state.window_start, end: state.window_end };
    if planned == *window {
        return Ok(true);
    }
    Err(for_another_window(binding.name()))
}

/// Makes the error for work on a plan that was made for another window of days than this process has.
pub(super) fn for_another_window(table: &str) -> CoordinatorError {
    let message =
        format!("the plan was made for another window of days; run {BackfillAgain} to make a new plan");
    StoreError::source(Kind::Misconfigured, format!("resuming the backfill of {table}"), message).into()
}
