//! Gates of what was compared: the newest verdict, and what shadow reads have found since.

use std::collections::BTreeSet;

use chrono::DateTime;
use lockstep_core::Advice::{Relay, Repair, SetDistrustedReporters, Validate};
use lockstep_core::Epoch;
use lockstep_core::settings::DISTRUSTED_REPORTERS;
use lockstep_postgres::VerdictWord;

use crate::error::Result;
use crate::gate::GateResult;
use crate::options::MigrationContext;

pub(super) async fn fresh_verdict(migration: &MigrationContext, epoch: Epoch) -> Result<GateResult> {
    let age_max = migration.options.steps.verdict_age_max;
    let name = "verdict is clean and fresh";
    let Some(verdict) = migration.source.latest_verdict().await? else {
        return Ok(GateResult::fail(name, "nothing has been validated yet", format!("run {Validate}")));
    };
    let windowed = ["window_start", "window_end"]
        .iter()
        .any(|bound| verdict.report.get(bound).is_some_and(|at| !at.is_null()));
    if verdict.consistent && windowed {
        return Ok(GateResult::fail(
            name,
            "the newest verdict is of a window of days only",
            format!("run {Validate} without a window"),
        ));
    }
    // Those that are recorded, which may be more than this process is configured for.
    let recorded = migration.source.recorded_tables().await?;
    let configured = migration.tables.iter().map(|binding| binding.name().to_owned());
    let names: BTreeSet<String> = configured.chain(recorded).collect();
    let not_in_it: Vec<String> = names.into_iter().filter(|name| !is_of(&verdict.report, name)).collect();
    if verdict.consistent && !not_in_it.is_empty() {
        // It was made before they were part of the migration.
        let detail = format!("the newest verdict says nothing of {}", not_in_it.join(", "));
        return Ok(GateResult::fail(name, detail, format!("run {Validate} with all tables configured")));
    }
    let number = verdict.report.get("began").and_then(serde_json::Value::as_i64);
    if verdict.consistent && number.is_none() {
        let detail =
            "the newest verdict does not say what it began after: an earlier version of Lockstep recorded it";
        return Ok(GateResult::fail(name, detail, format!("run {Validate} with this version")));
    }
    let said = verdict.word();
    let word = match said {
        VerdictWord::Consistent => "consistent",
        VerdictWord::Inconsistent => "not consistent",
        VerdictWord::Incomplete => "incomplete: nothing was found, and not everything was compared",
    };
    let oldest = verdict.oldest_reading();
    let age_s = verdict.reading_age_s();
    let fresh = age_s <= age_max.as_secs_f64() && verdict.epoch == epoch.0;
    for binding in &migration.tables {
        let state = migration.source.table_state(binding.name()).await?;
        // By the clock and by numbers: one that was set back between the two would say that it was after.
        let is_before = |state: lockstep_postgres::TableState| {
            state.captured_at > oldest || number.is_some_and(|number| state.captured_number > number)
        };
        if verdict.consistent && fresh && state.is_some_and(is_before) {
            let detail = format!(
                "the newest verdict predates the installation of capture on {}, or a rewrite of its rows \
                 into another file",
                binding.relation
            );
            return Ok(GateResult::fail(name, detail, format!("run {Validate}")));
        }
    }
    let age = match age_s.is_finite() {
        true => format!("{age_s:.0} s old"),
        false => "of a moment that PostgreSQL's clock has not reached".to_owned(),
    };
    let detail = format!("{word}, {age}, made in epoch {}", verdict.epoch);
    let next = format!(
        "run {Validate} in this phase{}; a verdict counts for {} s and within its \
            epoch, and what one finds until a whole one that began afterwards finds \
            nothing",
        if said == VerdictWord::Incomplete {
            format!(" again, with a {Relay} running")
        } else {
            String::new()
        },
        age_max.as_secs()
    );
    Ok(GateResult::check(name, verdict.consistent && fresh, detail, next))
}

/// Returns the gate of the shadow reads that applications made since the newest verdict. The verdict covers
/// the moment of comparison; shadow reads cover answers given since then.
pub(super) async fn shadow_reads(migration: &MigrationContext, epoch: Epoch) -> Result<GateResult> {
    let name = "shadow reads agree";
    let since = match migration.source.latest_verdict().await? {
        // That of the full pass under an incremental one. 1. An item is changed past Lockstep. 2. A shadow
        // read finds it. 3. An incremental comparison looks at what was captured, and not at this item: it
        // agrees.
        Some(verdict) => verdict.oldest_reading(),
        // The gate before this one says that there is none.
        None => DateTime::UNIX_EPOCH,
    };
    let counted = migration.source.counted_in(epoch, since).await?;
    let sum = |name: &str| counted.iter().filter(|row| row.name == name).map(|row| row.count).sum::<i64>();
    let (agree, differ) = (sum("shadow.agree"), sum("shadow.differ"));
    let reporters = match differ {
        0 => Vec::new(),
        _ => migration.source.reporters_of_differences(epoch, since).await?,
    };
    let by: Vec<String> = reporters.iter().map(|(role, count)| format!("{role} ({count})")).collect();
    let by = if by.is_empty() { String::new() } else { format!(", as reported by role {}", by.join(", ")) };
    let settings = migration.source.settings().await?;
    let passed_over =
        settings.iter().find(|row| row.name == DISTRUSTED_REPORTERS).map_or_else(String::new, |row| {
            format!(
                "; reports of {} are passed over, as {} has set ({DISTRUSTED_REPORTERS})",
                row.value, row.actor
            )
        });
    let detail = match (agree, differ) {
        (0, 0) => format!("no application has reported one since the verdict{passed_over}"),
        _ => format!(
            "{differ} of {} that applications made since the verdict differ{by}{passed_over}",
            agree + differ
        ),
    };
    let next = format!(
        "run {Validate}, and {Repair} what it finds; a consistent verdict of everything that began after \
        the last of them passes. If one of the roles makes its reports up, \
        {SetDistrustedReporters} passes over it"
    );
    Ok(GateResult::check(name, differ == 0, detail, next))
}

/// Tells whether a report is also of this table.
fn is_of(report: &serde_json::Value, table: &str) -> bool {
    let tables = report.get("tables").and_then(serde_json::Value::as_array);
    tables.into_iter().flatten().any(|of| of.get("name").and_then(serde_json::Value::as_str) == Some(table))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_is_of_the_tables_in_its_report_only() {
        let report = serde_json::json!({ "tables": [{ "name": "payments" }] });
        assert!(is_of(&report, "payments"));
        assert!(!is_of(&report, "integration_logs") && !is_of(&serde_json::json!({}), "payments"));
    }
}
