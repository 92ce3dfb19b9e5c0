//! Estimate of what a migration will take: hours, write units and dollars, before it begins (R50). Reads only
//! the source.

mod arithmetic;
mod facts;
mod note;
mod options;
mod sample;
mod took;

use lockstep_core::Result;
use lockstep_postgres::{Source, TableBinding};
use serde::Serialize;

pub use arithmetic::{LoadPathEstimate, PhaseEstimate, Saving};
use facts::facts_of;
pub use facts::{COUNTED_PAGES_MAX, TableFacts};
pub(crate) use note::note_plan;
pub use options::PlanOptions;
pub use sample::{ItemSample, Largest, Mean};
pub use took::{LoadCost, LoadTook, load_took};

use arithmetic::{PARTITION_UNITS_PER_S, TABLE_QUOTA_UNITS_PER_S};

/// Share of the sampled items in one partition from which it is told.
const LARGEST_SHARE_TOLD: f64 = 0.10;
/// Fewest items of a sample that say anything of partitions.
const SAMPLE_ROWS_MIN: usize = 50;

/// Estimate of what a migration will take.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// The tables.
    pub tables: Vec<TableFacts>,
    /// Ways to bring the initial load over.
    pub load_paths: Vec<LoadPathEstimate>,
    /// Cost of each phase, the last entry being what comes after.
    pub phases: Vec<PhaseEstimate>,
    /// Beside PostgreSQL's bill, where that is configured.
    pub saving: Option<Saving>,
    /// Rows and keys that do not fit DynamoDB's limits, or soon will not; one sentence each.
    pub warnings: Vec<String>,
    /// Prices that it was computed with.
    pub prices: PlanOptions,
}

/// Assumptions on which the estimate rests beside the tables.
#[derive(Clone, Debug, PartialEq)]
pub struct Assumptions {
    /// Prices, and what the application does.
    pub options: PlanOptions,
    /// Write units a second that all tables together may take, if a limit is set.
    pub write_units_per_s_max: Option<u64>,
    /// Share of reads that DynamoDB answers in HybridRead, in percent.
    pub canary_percent: f64,
    /// Largest table, in pages, whose rows are counted where PostgreSQL has no statistics of it. Of one that
    /// is larger, the rows are those that this number of pages holds at least.
    pub counted_pages_max: i64,
}

/// Estimates what moving `tables` takes.
///
/// # Errors
/// When the source does not answer, or a table is not there.
///
/// # Cancel safety
/// It only reads.
#[crate::boxed]
pub async fn estimate(
    source: &Source,
    tables: &[TableBinding],
    assumptions: &Assumptions,
) -> Result<Estimate> {
    let options = &assumptions.options;
    let mut facts = Vec::new();
    for binding in tables {
        facts.push(facts_of(source, binding, options.sample_rows, assumptions.counted_pages_max).await?);
    }
    let phases = arithmetic::phases(&facts, options, assumptions.canary_percent);
    Ok(Estimate {
        load_paths: arithmetic::load_paths(&facts, options, assumptions.write_units_per_s_max),
        saving: arithmetic::saving(&phases, options),
        warnings: facts.iter().flat_map(warnings).collect(),
        phases,
        prices: options.clone(),
        tables: facts,
    })
}

/// Returns what of a table does not fit, or soon will not.
fn warnings(facts: &TableFacts) -> Vec<String> {
    let TableFacts { name, sample, writes_per_s, .. } = facts;
    let mut told = Vec::new();
    if sample.unholdable > 0 {
        told.push(format!(
            "{name}: no item can hold {} of {} rows looked at; they become dead letters, which refuse the step to HybridRead \
             until they are repaired or acknowledged",
            sample.unholdable, sample.rows
        ));
    }
    let units_per_s = writes_per_s * sample.table_units.value;
    if units_per_s > TABLE_QUOTA_UNITS_PER_S {
        told.push(format!(
            "{name}: its writes need {units_per_s:.0} write units a second; the default quota of a table is \
             {TABLE_QUOTA_UNITS_PER_S:.0}: ask AWS for more before the step to DualWrite"
        ));
    }
    for largest in sample.largest.iter().filter(|_| sample.rows >= SAMPLE_ROWS_MIN) {
        let place =
            if largest.of == "table" { "the table".to_owned() } else { format!("index {}", largest.of) };
        let hot = units_per_s * largest.share;
        if hot > PARTITION_UNITS_PER_S {
            told.push(format!(
                "{name}: the largest partition of {place} would take {hot:.0} write units a second, and one partition takes \
                 {PARTITION_UNITS_PER_S:.0}: spread its key over shards"
            ));
        } else if largest.share >= LARGEST_SHARE_TOLD {
            told.push(format!(
                "{name}: {:.0} % of the rows looked at are in one partition of {place}; one partition takes \
                 {PARTITION_UNITS_PER_S:.0} write units a second",
                largest.share * 100.0
            ));
        }
    }
    told
}
