//! Note of what the initial load is reckoned to take, made as its copying begins: afterwards the plan stands
//! beside what it took.

use lockstep_core::Result;
use lockstep_postgres::LoadPlan;

use super::arithmetic::NEW_TABLE_UNITS_PER_S;
use super::{COUNTED_PAGES_MAX, TableFacts, facts_of};
use crate::options::{LoadPathChoice, MigrationContext};

/// Rows looked at in each of three parts of a table: the initial load waits for it.
const SAMPLE_ROWS: usize = 200;

/// Notes the plan of each table that has none. It is a bill: where it does not work out, the initial load is
/// copied without one.
pub(crate) async fn note_plan(migration: &MigrationContext) {
    if let Err(error) = note(migration).await {
        tracing::warn!(
            "could not note the plan of the initial load, so no report compares it with what the load takes: \
             {error}"
        );
    }
}

async fn note(migration: &MigrationContext) -> Result<()> {
    let (source, options) = (&migration.source, &migration.options.backfill);
    // Of an import nothing is counted, and of some days no statistics tell how many rows they have.
    if options.load_path == LoadPathChoice::Import || !options.window().is_whole() {
        return Ok(());
    }
    let noted = source.planned().await?;
    let mut facts = Vec::new();
    for binding in &migration.tables {
        // One that was begun before there were plans, or was broken off, has no plan of the whole.
        let is_new = source.ranges(binding.name()).await?.is_empty();
        if is_new && !noted.iter().any(|plan| plan.table_name == binding.name()) {
            facts.push(facts_of(source, binding, SAMPLE_ROWS, COUNTED_PAGES_MAX).await?);
        }
    }
    for (name, plan) in plans(&facts, options.write_units_per_s_max) {
        source.note_plan(&name, plan).await?;
    }
    Ok(())
}

/// Returns the plan of each table. With a limit they share it, so that each is ready when all are.
fn plans(facts: &[TableFacts], limit: Option<u64>) -> Vec<(String, LoadPlan)> {
    let units = |facts: &TableFacts| facts.rows * facts.sample.units.value;
    let all: f64 = facts.iter().map(units).sum();
    let one = |facts: &TableFacts| {
        let alone = facts.rows * facts.sample.table_units.value / NEW_TABLE_UNITS_PER_S;
        let seconds = limit.filter(|limit| *limit > 0).map_or(alone, |limit| all / limit as f64);
        let plan = LoadPlan {
            rows: facts.rows,
            write_units: units(facts),
            units_band: facts.rows * facts.sample.units.plus_minus,
            seconds,
        };
        (facts.name.clone(), plan)
    };
    facts.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{ItemSample, Mean};
    use super::*;

    fn table(rows: f64, units: f64, table_units: f64) -> TableFacts {
        let mean = |value| Mean { value, plus_minus: 0.5 };
        let sample =
            ItemSample { units: mean(units), table_units: mean(table_units), ..ItemSample::default() };
        TableFacts {
            name: "t".to_owned(),
            rows,
            source_bytes: 0,
            writes_per_s: 0.0,
            reads_per_s: 0.0,
            counted_for_s: 0.0,
            sample,
        }
    }

    #[test]
    fn a_limit_is_shared_and_without_one_each_table_takes_what_a_new_one_does() {
        let facts = [table(8_000.0, 3.0, 1.0), table(4_000.0, 2.0, 2.0)];
        let seconds = |limit| plans(&facts, limit).iter().map(|(_, plan)| plan.seconds).collect::<Vec<_>>();
        assert_eq!(seconds(None), [2.0, 2.0]);
        assert_eq!(seconds(Some(1_000)), [32.0, 32.0]);
        let (_, first) = &plans(&facts, None)[0];
        assert_eq!((first.rows, first.write_units, first.units_band), (8_000.0, 24_000.0, 4_000.0));
    }
}
