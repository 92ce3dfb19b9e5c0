//! Whether the target takes what the backfill is allowed to write (R50).
//!
//! 1. A table was made with a hundred provisioned write units a second. 2. The backfill is given a thousand.
//! 3. It is throttled from its first second on, and what the plan said of hours is wrong by ten.

use lockstep_dynamo::{WriteBound, WriteCapacity};
use lockstep_postgres::TableBinding;

use crate::error::Result;
use crate::gate::GateResult;
use crate::options::MigrationContext;

const NAME: &str = "capacity for the initial load";

/// Returns the gate of a table that is there. Of one whose initial load is copied nothing is asked any more.
pub(super) async fn gate(
    migration: &MigrationContext,
    binding: &TableBinding,
    capacities: &[WriteCapacity],
) -> Result<GateResult> {
    let ranges = migration.source.ranges(binding.name()).await?;
    if !ranges.is_empty() && ranges.iter().all(|range| range.done) {
        return Ok(GateResult::pass(NAME, "its initial load is copied"));
    }
    let places = migration.tables.iter().map(|table| 1 + table.table.target().indexes.len() as u64).sum();
    Ok(judge(&binding.target_name, capacities, migration.options.backfill.write_units_per_s_max, places))
}

/// `budget` is what the backfill of all tables may write, and `places` how many tables and indexes share it.
fn judge(name: &str, capacities: &[WriteCapacity], budget: Option<u64>, places: u64) -> GateResult {
    let place = |capacity: &WriteCapacity| match &capacity.index {
        Some(index) => format!("index {index} of {name}"),
        None => name.to_owned(),
    };
    let how = |bound| match bound {
        WriteBound::Provisioned => "provisioned",
        WriteBound::Limited => "set as its limit on demand",
        WriteBound::Warm => "that it takes at once on demand, and more as it grows",
    };
    let of = |capacity: &WriteCapacity| {
        format!(
            "{} has {} write units a second {}",
            place(capacity),
            capacity.units_per_s,
            how(capacity.bound)
        )
    };
    let is_fixed = |capacity: &&WriteCapacity| capacity.bound != WriteBound::Warm;
    let Some(budget) = budget.filter(|budget| *budget > 0) else {
        let fixed: Vec<String> = capacities.iter().filter(is_fixed).map(of).collect();
        return GateResult::pass(
            NAME,
            match fixed.is_empty() {
                true => "as much as the table takes".to_owned(),
                false => {
                    format!(
                        "WARNING: {}, and the initial load takes all of it: no budget is set",
                        fixed.join(", ")
                    )
                }
            },
        );
    };
    // No place is asked for less than its share, whichever of them takes the most.
    let share = budget / places.max(1);
    let is_short = |least: u64| {
        let short = capacities.iter().filter(is_fixed).filter(|capacity| capacity.units_per_s < least);
        short.map(of).collect::<Vec<_>>()
    };
    let refused = is_short(share);
    if !refused.is_empty() {
        let least =
            capacities.iter().filter(is_fixed).map(|capacity| capacity.units_per_s).min().unwrap_or(0);
        return GateResult::fail(
            NAME,
            format!(
                "{}, and the backfill may write {budget} over {places} tables and indexes, {share} to each",
                refused.join(", ")
            ),
            format!(
                "give it {share} or more, or capacity on demand, or the backfill a budget of at most {}",
                least.saturating_mul(places)
            ),
        );
    }
    let told = is_short(budget);
    let warm = capacities.iter().filter(|capacity| {
        capacity.index.is_none() && capacity.bound == WriteBound::Warm && capacity.units_per_s < budget
    });
    let told: Vec<String> = told.into_iter().chain(warm.map(of)).collect();
    GateResult::pass(
        NAME,
        match told.is_empty() {
            true => format!("the budget is {budget} write units a second"),
            false => format!(
                "WARNING: {}; the budget is {budget}, beyond which writes are throttled",
                told.join(", ")
            ),
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(units_per_s: u64, bound: WriteBound) -> WriteCapacity {
        WriteCapacity { index: None, units_per_s, bound }
    }

    #[test]
    fn what_could_never_take_its_share_is_refused_with_what_to_change() {
        let gate = judge("orders", &[with(100, WriteBound::Provisioned)], Some(1_000), 4);
        assert!(
            !gate.passed && gate.detail.contains("orders has 100 write units a second provisioned"),
            "{gate:?}"
        );
        let next = gate.next.expect("what to do");
        assert!(next.contains("give it 250 or more") && next.contains("at most 400"), "{next}");
        assert!(judge("orders", &[with(100, WriteBound::Provisioned)], Some(400), 4).passed);
        let index = WriteCapacity { index: Some("by_id".to_owned()), ..with(5, WriteBound::Limited) };
        let gate = judge("orders", &[with(9_000, WriteBound::Provisioned), index], Some(1_000), 2);
        assert!(!gate.passed && gate.detail.contains("index by_id of orders"), "{gate:?}");
    }

    #[test]
    fn what_is_throttled_for_a_while_is_told_and_what_fits_is_not() {
        let told = judge("orders", &[with(4_000, WriteBound::Warm)], Some(10_000), 1);
        assert!(told.passed && told.detail.starts_with("WARNING"), "{told:?}");
        let told = judge("orders", &[with(100, WriteBound::Provisioned)], None, 1);
        assert!(told.passed && told.detail.starts_with("WARNING"), "{told:?}");
        for (capacities, budget) in [
            (vec![with(4_000, WriteBound::Warm)], Some(1_000)),
            (vec![with(1_000, WriteBound::Provisioned)], Some(1_000)),
            (vec![], Some(1_000)),
            (vec![with(4_000, WriteBound::Warm)], None),
        ] {
            let gate = judge("orders", &capacities, budget, 1);
            assert!(gate.passed && !gate.detail.contains("WARNING"), "{gate:?}");
        }
    }
}
