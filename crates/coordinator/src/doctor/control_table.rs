//! Parts of DynamoDB's control table, beside its record, that could not be read.

use lockstep_core::Advice::{Doctor, Rights};

use super::finding::Finding;
use super::observation::Observation;

/// Keys that are named; there may be thousands.
const NAMED_MAX: usize = 5;

/// Judges the parts that could not be read. Pure.
pub(super) fn findings(seen: &Observation) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !seen.no_leases.is_empty() {
        let named = seen.no_leases.iter().take(NAMED_MAX).cloned().collect::<Vec<_>>().join(", ");
        findings.push(Finding::attention(
            format!(
                "{} items stand among the leases of the control table and are none: {named}",
                seen.no_leases.len()
            ),
            "no instance renews them, and no step waits for them. Another program wrote them with the rights \
            of an application, and may write other items there",
            "find out which program writes the control table, and delete these items from it",
        ));
    }
    if let Some(error) = &seen.leases_error {
        findings.push(Finding::attention(
            format!("the leases in DynamoDB could not be read: {error}"),
            "it is not known which instances run, and a step of the truth cannot wait for them",
            format!("bring DynamoDB back, or give the rights that {Rights} prints"),
        ));
    }
    findings.extend(seen.control_unread.iter().map(|error| {
        Finding::attention(
            format!("the id counters of the control table could not be compared: {error}"),
            "whether they would hand out ids that are in use is not known",
            format!(
                "bring DynamoDB back. An item of the control table that says to be another migration's while its \
                 record is ours is deleted by hand; then run {Doctor} again"
            ),
        )
    }));
    findings
}
