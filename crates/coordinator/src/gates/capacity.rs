//! Whether the target takes what the backfill is allowed to write (R50).
//!
//! 1. A table was made with a hundred provisioned write units a second. 2. The backfill is given a thousand.
//! 3. It is throttled from its first second on, and what the plan said of hours is wrong by ten.

use lockstep_core::Advice::{BackfillWriteUnitsMax, WarmWriteUnits};
use lockstep_dynamo::{WriteBound, WriteCapacity, WriteQuotas};
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
    if is_copied(migration, binding).await? {
        return Ok(GateResult::pass(NAME, "its initial load is copied"));
    }
    let budget = migration.options.backfill.write_units_per_s_max;
    Ok(judge(&binding.target_name, capacities, budget, places(migration)))
}

/// Returns the gate of a table that is to be made: on demand, with the warm throughput that is configured.
pub(super) fn of_new(migration: &MigrationContext, binding: &TableBinding) -> GateResult {
    let (name, budget) = (&binding.target_name, migration.options.backfill.write_units_per_s_max);
    judge_new(binding.name(), name, migration.target.warm_when_made(name), budget)
}

fn judge_new(table: &str, name: &str, warm: u64, budget: Option<u64>) -> GateResult {
    let takes = format!("{name} will take {warm} write units a second at once, and more as it grows");
    let Some(budget) = budget.filter(|budget| *budget > warm) else {
        return GateResult::pass(NAME, takes);
    };
    let detail = format!(
        "WARNING: {takes}; the budget is {budget}, beyond which writes are throttled: set {} before it is \
         made",
        WarmWriteUnits(table.to_owned())
    );
    GateResult::pass(NAME, detail)
}

async fn is_copied(migration: &MigrationContext, binding: &TableBinding) -> Result<bool> {
    let ranges = migration.source.ranges(binding.name()).await?;
    Ok(!ranges.is_empty() && ranges.iter().all(|range| range.done))
}

/// Name of the gate of the account.
const OF_ACCOUNT: &str = "the account's quota";

fn ask_for_more() -> String {
    format!(
        "ask AWS for more (Service Quotas, table-level write throughput limit), or give the backfill a \
         smaller budget by {BackfillWriteUnitsMax}"
    )
}

/// Returns the gate of the account's own quotas, while there is an initial load to be copied under a budget.
///
/// 1. The tables are on demand, and new. 2. The backfill is given more than the account allows one of them.
/// 3. No description of a table says so, and it is throttled until an operator asks AWS.
pub(super) async fn of_account(migration: &MigrationContext) -> Result<Option<GateResult>> {
    let budget = migration.options.backfill.write_units_per_s_max.filter(|budget| *budget > 0);
    let Some(budget) = budget else { return Ok(None) };
    let mut to_copy = false;
    for binding in &migration.tables {
        to_copy = to_copy || !is_copied(migration, binding).await?;
    }
    if !to_copy {
        return Ok(None);
    }
    Ok(Some(match migration.target.write_quotas().await {
        Ok(quotas) => judge_account(quotas, budget, places(migration)),
        // An emulator knows none, a role may not ask, and Amazon throttles the question itself: none of that
        // says that the quota is too small.
        Err(error) => GateResult::pass(OF_ACCOUNT, format!("not known: {}", error.message)),
    }))
}

/// Returns how many tables and indexes share the budget.
fn places(migration: &MigrationContext) -> u64 {
    migration.tables.iter().map(|table| 1 + table.table.target().indexes.len() as u64).sum()
}

/// As [`judge`] does, no place is asked for less than its share. The quota of all tables together is one of
/// provisioned capacity, which these may not have: it is told, and refuses nothing.
fn judge_account(quotas: WriteQuotas, budget: u64, places: u64) -> GateResult {
    let share = budget / places.max(1);
    let Some(of_table) = quotas.table else {
        return GateResult::pass(OF_ACCOUNT, "the endpoint does not say");
    };
    if of_table < share {
        let found = format!(
            "a table or index may have {of_table} write units a second, and the backfill may write \
             {budget} over {places} of them, {share} to each"
        );
        return GateResult::fail(OF_ACCOUNT, found, ask_for_more());
    }
    let mut told = Vec::new();
    if of_table < budget {
        told.push(format!("a table or index may have {of_table} write units a second"));
    }
    if let Some(account) = quotas.account.filter(|account| *account < budget) {
        told.push(format!("all provisioned tables together may have {account}"));
    }
    GateResult::pass(
        OF_ACCOUNT,
        match told.is_empty() {
            true => {
                format!("a table or index may have {of_table} write units a second; the budget is {budget}")
            }
            false => format!("WARNING: {}; the budget is {budget}", told.join(", ")),
        },
    )
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
    fn a_quota_that_is_below_the_share_of_each_place_is_refused_and_one_below_the_budget_is_told() {
        let quotas = |table, account| WriteQuotas { table, account };
        let refused = judge_account(quotas(Some(100), Some(80_000)), 1_000, 4);
        assert!(
            !refused.passed
                && refused.detail.contains("may have 100")
                && refused.detail.contains("250 to each")
        );
        for (quotas, told) in [
            (quotas(Some(400), Some(80_000)), "WARNING: a table or index may have 400"),
            (quotas(Some(40_000), Some(900)), "WARNING: all provisioned tables together may have 900"),
            (quotas(Some(1_000), Some(1_000)), "a table or index may have 1000"),
            (quotas(None, Some(1)), "the endpoint does not say"),
        ] {
            let gate = judge_account(quotas, 1_000, 4);
            assert!(gate.passed && gate.detail.starts_with(told), "{gate:?}");
        }
    }

    #[test]
    fn a_table_that_is_to_be_made_is_held_against_the_budget_and_says_how_it_is_warmed() {
        let told = judge_new("orders", "prod_orders", 4_000, Some(10_000));
        assert!(told.passed && told.tells && told.detail.starts_with("WARNING"), "{told:?}");
        assert!(told.detail.contains(&WarmWriteUnits("orders".to_owned()).to_string()), "{told:?}");
        for (warm, budget) in [(10_000, Some(10_000)), (4_000, None), (4_000, Some(400))] {
            let gate = judge_new("orders", "prod_orders", warm, budget);
            assert!(gate.passed && !gate.tells && gate.detail.contains("at once"), "{gate:?}");
        }
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
