//! State, safety and what comes next, in words. Pure.

use lockstep_core::Advice::{
    Advance, AdvanceToDualWrite, Applying, Complete, Doctor, DropSource, Migrate, Relay, Repair, RepairRows,
    RepairState, RepairStateAtOnce, Rollback, Status, TakeTarget, Validate,
};
use lockstep_core::Phase;

use super::finding::{Finding, Severity};
use super::observation::Observation;
use super::truth::{epoch, no_application_writes, phase};
use crate::remedy::Remedy;

/// Returns the state of the migration, in a sentence.
pub(super) fn state(seen: &Observation, findings: &[Finding]) -> String {
    let broken = findings.iter().filter(|finding| finding.severity == Severity::Broken).count();
    let how = match (broken, findings.len()) {
        (0, 0) => "Nothing is wrong.".to_owned(),
        (0, n) => format!("Nothing is broken; {n} to look at."),
        (n, _) => format!("{n} broken."),
    };
    if seen.source_error.is_some() {
        return format!("The phase is not known: PostgreSQL does not answer. {how}");
    }
    if let Some(since) = seen.target_record.and_then(|record| record.completed_at) {
        return format!(
            "Complete since {}: DynamoDB is the truth for good, and applications go on with it. {how}",
            since.format("%Y-%m-%d %H:%M:%S UTC")
        );
    }
    let phase = phase(seen);
    let Some((_, of_source, since)) = seen.control else {
        return match seen.earlier.is_empty() {
            true => format!("Lockstep was never installed in this PostgreSQL. {how}"),
            false => format!(
                "This migration has not begun in this PostgreSQL. Complete there before it: {}. {how}",
                seen.earlier.join("; ")
            ),
        };
    };
    // The same as the status shows: pauses in DynamoDB are epochs of its own. After a way back that was
    // refused PostgreSQL still has the one before it.
    let epoch = epoch(seen).unwrap_or(of_source);
    let who = match phase {
        Phase::PostgresOnly => "PostgreSQL is written and read, as before the migration",
        Phase::DualWrite => "both stores are written, PostgreSQL answers reads and is the truth",
        Phase::HybridRead => "both stores are written, DynamoDB answers reads, PostgreSQL is the truth",
        Phase::DynamoOnly => "DynamoDB is written and read and is the truth",
    };
    format!("{phase} (epoch {epoch}) since {}: {who}. {how}", since.format("%Y-%m-%d %H:%M:%S UTC"))
}

/// Returns what is safe to do now.
pub(super) fn safe(seen: &Observation, remedies: &[Remedy]) -> Vec<String> {
    let mut safe = Vec::new();
    match (seen.control, phase(seen)) {
        (None, Phase::PostgresOnly) => {}
        (_, Phase::DynamoOnly) if remedies.contains(&Remedy::RemakeControl) => {
            safe.push(
                "Applications are NOT safe to run before this is repaired: an id could be handed out twice."
                    .to_owned(),
            );
        }
        _ if no_application_writes(seen)
            && seen.target_record_error.is_none()
            && seen.at_work.coordinator.is_none() =>
        {
            safe.push(
                "No application can write before this is repaired. Those that run may stay: they go on by \
                themselves."
                    .to_owned(),
            );
        }
        (_, Phase::DynamoOnly) if remedies.contains(&Remedy::ReturnToSource) => {
            safe.push(
                "Stop the applications: what they write now may contradict what PostgreSQL still has."
                    .to_owned(),
            );
        }
        (_, Phase::DynamoOnly) => {
            safe.push("Applications may go on: what they write is kept in DynamoDB.".to_owned())
        }
        (_, phase) => {
            safe.push(
                "Applications may go on writing: PostgreSQL is the truth and takes every write.".to_owned(),
            );
            let doubtful = remedies
                .iter()
                .any(|remedy| !matches!(remedy, Remedy::SettleSteps | Remedy::SwitchExpiryOn { .. }));
            if phase == Phase::HybridRead && doubtful {
                safe.push(format!(
                    "Reads from DynamoDB are NOT safe: they may show what PostgreSQL \
                    does not have. {RepairStateAtOnce} sends them to PostgreSQL first."
                ));
            }
        }
    }
    if seen.histories.losses().is_empty() {
        safe.push(format!(
            "{Status}, {Doctor} and {Validate} only read. Every other command may be \
                run and broken off at any time."
        ));
    } else {
        safe.push(format!(
            "{Status}, {Doctor} and {Validate} only read. Backfill, relay, steps and \
                the reverse feed refuse by themselves."
        ));
    }
    safe
}

/// Returns the commands to run, in this order.
pub(super) fn next(seen: &Observation, findings: &[Finding], remedies: &[Remedy]) -> Vec<String> {
    let mut next: Vec<String> = Vec::new();
    let unrepaired =
        findings.iter().filter(|finding| finding.severity == Severity::Broken && finding.remedy.is_none());
    next.extend(unrepaired.map(|finding| finding.next.clone()));
    if !remedies.is_empty() {
        next.push(format!("{RepairState:#} (lists what it would do), then with {Applying}"));
    }
    let written_once = phase(seen) == Phase::PostgresOnly;
    if remedies.contains(&Remedy::List) && !written_once {
        let look = format!(
            "then, in DualWrite, {Repair:#}: look at each finding; what is only in \
            DynamoDB may be what PostgreSQL forgot. {TakeTarget} brings it back, \
            {RepairRows} lets PostgreSQL stand"
        );
        next.push(look);
    }
    if remedies.contains(&Remedy::RaiseEpoch) || remedies.contains(&Remedy::ReturnToSource) {
        next.push(match written_once {
            true => format!("then {AdvanceToDualWrite:#}, which goes on"),
            false => {
                format!(
                    "then, in DualWrite, {Relay:#} beside it; then {Validate:#}, and \
                        {Advance:#}"
                )
            }
        });
    }
    next.extend(
        findings
            .iter()
            .filter(|f| f.severity == Severity::Attention && f.remedy.is_none() && f.next != "nothing")
            .map(|f| f.next.clone()),
    );
    if next.is_empty() {
        next.push(match seen.control {
            None if seen.completed.is_some() && seen.left.is_empty() => "nothing has to be done".to_owned(),
            None if seen.completed.is_some() => {
                format!("nothing has to be done; {DropSource:#} drops the source tables")
            }
            None => format!("{Migrate:#}"),
            Some((Phase::PostgresOnly, ..)) => format!("nothing has to be done; {Migrate:#} goes on"),
            Some((Phase::DualWrite, ..)) => {
                format!(
                    "nothing has to be done; {Validate:#} and {Advance:#} go on, \
                        {Rollback:#} goes back"
                )
            }
            Some((Phase::HybridRead, ..)) => {
                format!(
                    "nothing has to be done; {Advance:#} goes on, {Rollback:#} goes \
                        back"
                )
            }
            Some((Phase::DynamoOnly, ..)) => {
                format!(
                    "nothing has to be done; {Rollback:#} goes back, {Complete:#} \
                        ends the migration"
                )
            }
        });
    }
    let mut seen_before = std::collections::HashSet::new();
    next.retain(|step| seen_before.insert(step.clone()));
    next
}
