//! Whether a migration may be completed.

use lockstep_core::Advice::{
    Acknowledging, AdvanceToDynamoOnly, DeadLetters, Doctor, ReverseBackfill, ValidateUnmasked,
};
use lockstep_core::{TargetRecord, Truth, Writes, truth};
use lockstep_validator::Report;

use crate::doctor::{Severity, examine, observe};
use crate::error::Result;
use crate::gate::{Collector, GateReport, GateResult, Observer};
use crate::gates::{nothing_else_depends, state_is_whole};
use crate::options::MigrationContext;

/// Checks everything but the comparison; returns the record as it was.
pub(super) async fn check(
    migration: &MigrationContext,
    observer: &dyn Observer,
) -> Result<(GateReport, Option<TargetRecord>)> {
    // 1. A process is configured for some of the tables. 2. It compares those, one last time. 3. It completes
    // all of them.
    migration.source.contract().await?.require_all(&migration.tables)?;
    let mut gates = Collector::new(observer);
    let source = migration.source.control().await?;
    let record = migration.target.control().record().await?;
    let in_target = truth(&source, record.as_ref()) == Truth::InTarget
        && record.is_some_and(|record| record.writes == Writes::Open);
    gates.add(GateResult::check(
        "phase is DynamoOnly",
        in_target,
        if in_target {
            "DynamoDB is the truth, and writes are open".to_owned()
        } else {
            format!("the phase is {}", source.phase)
        },
        format!(
            "{AdvanceToDynamoOnly} first, and stay there for as long as you may want to \
            go back"
        ),
    ));
    if !in_target {
        return Ok((gates.report, None));
    }
    gates.add(state_is_whole(migration).await?);
    let mut seen = observe(&migration.source, &migration.target, &migration.tables).await?;
    // It is we.
    seen.at_work.coordinator = None;
    let diagnosis = examine(&seen);
    let broken = diagnosis.findings.iter().filter(|finding| finding.severity == Severity::Broken);
    let broken: Vec<&str> = broken.map(|finding| finding.what.as_str()).collect();
    let found = if broken.is_empty() { "nothing is broken".to_owned() } else { broken.join("; ") };
    gates.add(GateResult::check("doctor", broken.is_empty(), found, format!("run {Doctor}")));
    gates.add(nothing_else_depends(&migration.source).await?);
    for binding in &migration.tables {
        let (all, unacknowledged) = migration.source.count_dead_letters(binding.name()).await?;
        let detail = format!("{all} dead letters, {unacknowledged} not acknowledged");
        let next = format!(
            "each of these rows is in one store only: look at them with {DeadLetters}, \
            and `{Acknowledging}` what may be left"
        );
        gates.add(GateResult::check("dead letters", unacknowledged == 0, detail, next).of(binding.name()));
    }
    Ok((gates.report, record))
}

/// Returns the comparison as a gate. It must be clean: no comparison follows it.
pub(super) fn verdict(report: &Report) -> GateResult {
    let consistent = report.verdict.is_consistent();
    let found = match (consistent, report.accepted()) {
        (true, 0) => "both stores hold the same".to_owned(),
        (true, accepted) => format!(
            "both stores hold the same, but for {accepted} dead letters: PostgreSQL stays without that state \
             of these items, as was accepted"
        ),
        (false, _) => report.verdict.reasons().join("; "),
    };
    let next = format!(
        "{ValidateUnmasked} shows what differs; {ReverseBackfill} brings PostgreSQL to \
        what DynamoDB says"
    );
    GateResult::check("last verdict", consistent, found, next)
}
