//! Findings of items whose version another program chose. Pure.

use lockstep_core::Advice::{RepairStateAtOnce, RetryDeadLetters, ReverseFeed};
use lockstep_core::Phase;

use super::finding::Finding;
use super::observation::TableSeen;
use crate::feed_alarm;

/// Versions that no epoch of ours handed out, and a feed that cannot tell whether they are such.
pub(super) fn versions(table: &TableSeen, phase: Phase, add: &mut impl FnMut(Finding)) {
    let Some(standing) = &table.reverse else { return };
    if let Some(stopped) = feed_alarm::stopped(standing) {
        add(Finding::broken(
            format!("the reverse feed: {stopped}"),
            "nothing is lost while DynamoDB's streams keep it, which is 24 h; PostgreSQL follows no further, and there is no way back",
            format!(
                "repair what is found besides: {RepairStateAtOnce:#} where history is lost; bring DynamoDB back where \
                 it is away. {ReverseFeed:#} has to run"
            ),
        ));
    }
    if let Some(foreign) = feed_alarm::foreign(standing) {
        let means = match phase {
            Phase::DynamoOnly => {
                "DynamoDB has what they say, and it is kept; PostgreSQL has what their rows were before. A step back and the completion are refused"
            }
            _ => {
                "PostgreSQL is the truth, and DynamoDB would refuse each change of their rows; steps are refused"
            }
        };
        add(Finding::broken(
            foreign,
            means,
            format!("find that program and stop it; then {RetryDeadLetters:#}"),
        ));
    }
}
