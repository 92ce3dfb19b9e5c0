//! Findings of comparisons, and the decision that they ask for. Pure.

use lockstep_core::Advice::{
    AdvanceToDualWrite, Relay, Repair, RepairRows, ReverseBackfill, ReverseFeed, RollbackToDualWrite,
    TakeTargetKey, Validate,
};
use lockstep_core::Phase;
use lockstep_postgres::VerdictWord;

use super::finding::Finding;
use super::observation::Observation;

/// Returns what a person does about findings of which one may be the only copy of what PostgreSQL forgot.
fn decide() -> String {
    format!(
        "{Repair:#}, which lists what differs: where DynamoDB is right, {TakeTargetKey} writes the row to \
         PostgreSQL, and {RepairRows} lets PostgreSQL stand in all that is left, for good; then {Relay:#} and \
         {Validate:#}"
    )
}

/// Judges the newest verdict, or a loss that is not decided about.
pub(super) fn findings(seen: &Observation, phase: Phase) -> Option<Finding> {
    if seen.loss_undecided {
        let is_wrong = seen.verdict.zip(seen.control).is_some_and(|(verdict, (_, epoch, _))| {
            !verdict.consistent && !verdict.incomplete && verdict.epoch == epoch.0
        });
        return Some(undecided(phase, is_wrong));
    }
    let (verdict, (_, epoch, _)) = (seen.verdict?, seen.control?);
    if verdict.consistent || verdict.epoch != epoch.0 {
        return None;
    }
    Some(if verdict.incomplete { incomplete(phase) } else { not_consistent(phase, verdict.later) })
}

/// Returns the advice that brings DynamoDB to what PostgreSQL says, where that may be done unasked.
pub(super) fn repair(seen: &Observation) -> String {
    if seen.loss_undecided { decide() } else { format!("{RepairRows:#}") }
}

/// 1. PostgreSQL lost history, and the repair of the state lists what DynamoDB has more. 2. The operator asks
/// again what is next, and is told to repair what differs. 3. A tombstone is put over the only copy of a row.
///
/// Where DynamoDB answers reads and a comparison has found something, that is no less broken for being
/// undecided: reads go to PostgreSQL first.
fn undecided(phase: Phase, is_wrong: bool) -> Finding {
    let what = "PostgreSQL lost history, or took the truth back from a DynamoDB that did or that has what \
        PostgreSQL refused, and no comparison of everything has agreed since";
    if phase == Phase::HybridRead && is_wrong {
        return Finding::broken(
            format!("{what}; the newest verdict is NOT consistent"),
            "DynamoDB answers reads, and may answer wrong. What it has more, or has otherwise, may be the only \
             copy of what was acknowledged",
            format!("{RollbackToDualWrite:#}, so that PostgreSQL answers; then {}", decide()),
        );
    }
    let next = match phase {
        Phase::PostgresOnly => format!("{AdvanceToDualWrite:#}, then {}", decide()),
        _ => decide(),
    };
    Finding::attention(
        what,
        "what DynamoDB has more, or has otherwise, may be the only copy of what was acknowledged",
        next,
    )
}

/// Nothing is known to be wrong, and nothing to be repaired.
fn incomplete(phase: Phase) -> Finding {
    let beside = if phase == Phase::DynamoOnly { ReverseFeed } else { Relay };
    Finding::attention(
        "the newest verdict is incomplete: nothing was found, and not everything was compared",
        "a store went away, or changes were on their way while it compared; the steps to HybridRead and \
        DynamoOnly ask for a consistent one",
        match phase {
            // No relay runs there, and nothing is to be delivered.
            Phase::PostgresOnly => format!("{Validate:#}"),
            _ => format!("{Validate:#}, with {beside:#} running"),
        },
    )
}

/// Returns what was found, and whether the comparison after it says otherwise: it is not of everything.
fn found_wrong(later: Option<VerdictWord>) -> String {
    let what = "the newest verdict is NOT consistent";
    match later {
        None => what.to_owned(),
        Some(word) => {
            let word = match word {
                VerdictWord::Consistent => "consistent",
                VerdictWord::Inconsistent => "not consistent either",
                VerdictWord::Incomplete => "incomplete",
            };
            format!("{what} (of those of everything; one after it was {word}, and does not answer it)")
        }
    }
}

fn not_consistent(phase: Phase, later: Option<VerdictWord>) -> Finding {
    let what = found_wrong(later);
    match phase {
        Phase::HybridRead => Finding::broken(
            what,
            "DynamoDB answers reads, and may answer wrong",
            format!(
                "{RollbackToDualWrite:#}, so that PostgreSQL answers; then \
                {RepairRows:#}, and {Validate:#}"
            ),
        ),
        Phase::DualWrite => Finding::attention(
            what,
            "reads are answered by PostgreSQL; the step to HybridRead is refused",
            format!("{RepairRows:#}, then {Validate:#}"),
        ),
        Phase::PostgresOnly => Finding::attention(
            what,
            format!(
                "no application reads DynamoDB; {Repair} is for the phases in which both \
                are written"
            ),
            format!("{AdvanceToDualWrite:#}, then {RepairRows:#}, and {Validate:#}"),
        ),
        Phase::DynamoOnly => Finding::attention(
            what,
            "reads are answered by DynamoDB, which is the truth; a step back is compared once more",
            format!("{ReverseBackfill:#}, which brings PostgreSQL to it; then {Validate:#}"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use lockstep_core::Epoch;

    use super::super::finding::Severity;
    use super::super::observation::VerdictSeen;
    use super::*;

    /// In HybridRead the verdict alone was BROKEN, and the same verdict beside a loss was not.
    #[test]
    fn a_loss_to_be_decided_about_hides_no_reads_that_may_be_wrong() {
        for (phase, consistent, incomplete, epoch, expected) in [
            (Phase::HybridRead, false, false, 4, Severity::Broken),
            (Phase::HybridRead, true, false, 4, Severity::Attention),
            (Phase::HybridRead, false, true, 4, Severity::Attention),
            (Phase::HybridRead, false, false, 3, Severity::Attention),
            (Phase::DualWrite, false, false, 4, Severity::Attention),
        ] {
            let seen = Observation {
                control: Some((phase, Epoch(4), chrono::DateTime::UNIX_EPOCH)),
                verdict: Some(VerdictSeen { consistent, incomplete, age_s: 1.0, epoch, later: None }),
                loss_undecided: true,
                ..Observation::default()
            };
            let found = findings(&seen, phase).expect("a finding");
            assert_eq!(found.severity, expected, "{phase} {consistent} {incomplete} {epoch}");
            assert!(found.next.contains(&TakeTargetKey.to_string()), "{}", found.next);
            assert_eq!(
                found.next.contains(&format!("{RollbackToDualWrite:#}")),
                expected == Severity::Broken
            );
        }
    }

    #[test]
    fn what_may_be_the_only_copy_is_repaired_by_no_command_that_says_nothing_of_it() {
        for phase in [Phase::PostgresOnly, Phase::DualWrite, Phase::HybridRead] {
            let verdict =
                VerdictSeen { consistent: false, incomplete: false, age_s: 1.0, epoch: 4, later: None };
            let decided = Observation {
                control: Some((phase, Epoch(4), chrono::DateTime::UNIX_EPOCH)),
                verdict: Some(verdict),
                ..Observation::default()
            };
            let undecided = Observation { loss_undecided: true, ..decided.clone() };
            let next = |seen: &Observation| findings(seen, phase).expect("a finding").next;
            let take = TakeTargetKey.to_string();
            assert!(!next(&decided).contains(&take), "{phase}");
            assert!(next(&undecided).contains(&take), "{phase}");
            assert!(repair(&undecided).contains(&take) && !repair(&decided).contains("list"));
        }
    }
}
