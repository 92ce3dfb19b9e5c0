//! From findings to what the repair of the state does about them. Pure.

use super::finding::Finding;
use crate::planned::is_part_of_the_return;
use crate::remedy::Remedy;

/// Returns the remedies of findings, in order, each once.
pub fn plan(findings: &[Finding]) -> Vec<Remedy> {
    let mut plan: Vec<Remedy> = findings.iter().filter_map(|finding| finding.remedy.clone()).collect();
    // A target table that was the truth, and lost something: the one that is there is taken first.
    let adopted = findings.iter().filter(|finding| finding.remedy == Some(Remedy::ReturnToSource));
    plan.extend(adopted.filter_map(|finding| Some(Remedy::AdoptTarget { table: finding.table.clone()? })));
    // What was sent with the columns before they were taken loses to the marks of the epoch that begins then.
    let brought: Vec<Remedy> = plan
        .iter()
        .filter_map(|remedy| match remedy {
            Remedy::TakeColumns { table, columns, whole } => {
                let (table, columns) = (table.clone(), columns.clone());
                Some(Remedy::BringColumns { table, columns, whole: *whole })
            }
            _ => None,
        })
        .collect();
    if !brought.is_empty() {
        plan.extend(brought);
        plan.extend([Remedy::RaiseEpoch, Remedy::Compare]);
    }
    // Whatever was off or lost, what was concluded before is no longer true; a new epoch ends every verdict
    // of the one before.
    if plan.iter().any(|remedy| matches!(remedy, Remedy::Recapture { .. } | Remedy::AdoptTarget { .. })) {
        plan.extend([Remedy::RaiseEpoch, Remedy::Backfill, Remedy::Compare]);
    } else if plan.iter().any(|remedy| matches!(remedy, Remedy::TakePartitions { .. })) {
        plan.extend([Remedy::RaiseEpoch, Remedy::Compare]);
    } else if plan.contains(&Remedy::RaiseEpoch) && !plan.contains(&Remedy::Compare) {
        plan.push(Remedy::List);
    }
    if plan.contains(&Remedy::CloseRecord) {
        plan.extend([Remedy::RaiseEpoch, Remedy::List]);
    }
    // What SQL may have changed in a PostgreSQL that was not frozen is overwritten by what is the truth.
    let refills = |remedy: &Remedy| {
        matches!(remedy, Remedy::FollowTarget | Remedy::Refreeze { .. } | Remedy::TakeShape { .. })
    };
    if plan.iter().any(refills) {
        plan.push(Remedy::ReverseBackfill);
    }
    if plan.contains(&Remedy::ReturnToSource) {
        // All of that is part of it.
        plan.retain(|remedy| !is_part_of_the_return(remedy));
        plan.push(Remedy::List);
    }
    // Where the source forgot something, it is not for us to say that it is right.
    if findings.iter().any(|finding| finding.remedy == Some(Remedy::RaiseEpoch)) {
        plan.push(Remedy::List);
    }
    if plan.contains(&Remedy::List) {
        plan.retain(|remedy| *remedy != Remedy::Compare);
    }
    plan.sort();
    plan.dedup();
    plan
}
