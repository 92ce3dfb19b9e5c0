//! Facts about a table that an estimate rests on.

use lockstep_core::Result;
use lockstep_postgres::{Source, TableBinding};
use serde::Serialize;

use super::sample::{self, ItemSample};

/// Bound of `Assumptions::counted_pages_max` for who cannot wait until a table is counted: an initial load,
/// and a request.
pub const COUNTED_PAGES_MAX: i64 = 1_000;

/// Facts about a table.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TableFacts {
    /// Name of the table.
    pub name: String,
    /// Rows, as the planner believes; those of a small table that was never analysed are counted.
    pub rows: f64,
    /// Bytes on disk, indexes included.
    pub source_bytes: i64,
    /// Changed rows a second, as the statistics have counted.
    pub writes_per_s: f64,
    /// Reads a second, at most.
    pub reads_per_s: f64,
    /// Seconds over which both were counted.
    pub counted_for_s: f64,
    /// Sample of its rows.
    pub sample: ItemSample,
}

/// `counted_pages_max`: a table that was never analysed and has more pages is taken to have as many rows as
/// it has at least, and is not counted.
pub(super) async fn facts_of(
    source: &Source,
    binding: &TableBinding,
    sample_rows: usize,
    counted_pages_max: i64,
) -> Result<TableFacts> {
    let activity = source.activity(binding).await?;
    let described = source.describe(binding).await?;
    let parts = source.some_rows(binding, sample_rows).await?;
    let sample = sample::look(&binding.table, parts.iter().flat_map(|part| part.tuples()));
    // A table that was never analysed has no estimate; if the sample had room for more rows, it has all of
    // them.
    let rows = if described.rows_estimate > 0 {
        described.rows_estimate
    } else if described.pages <= counted_pages_max {
        source.count(binding, &lockstep_core::Window::default()).await?
    } else {
        described.rows_likely()
    };
    Ok(TableFacts {
        name: binding.name().to_owned(),
        rows: rows as f64,
        source_bytes: activity.total_bytes,
        writes_per_s: activity.writes_per_s(),
        reads_per_s: activity.reads_per_s(),
        counted_for_s: activity.counted_for_s,
        sample,
    })
}
