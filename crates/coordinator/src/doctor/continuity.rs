//! Meaning of lost history, by the phase that it is met in. Pure.

use lockstep_core::Advice::UninstallCopy;
use lockstep_core::{Phase, Side};

use super::finding::Finding;
use crate::loss::Loss;
use crate::remedy::Remedy;

/// 1. A database is copied, and a command runs on the copy. 2. The copy knows less than DynamoDB has seen, as
/// one that was set back. 3. What mends the one puts the rows of the other over the original's.
fn first_of_a_copy() -> String {
    format!(
        "make sure first that this is no copy of a database that is still in use: its rows would be put over \
         those of the original, and {UninstallCopy} is what to run there. Else: "
    )
}

/// Judges one sign of a loss.
pub(super) fn finding(loss: &Loss, phase: Phase) -> Finding {
    match (loss.side(), loss.target_table(), phase) {
        (Side::Source, _, Phase::DynamoOnly) => Finding::broken(
            loss.to_string(),
            "DynamoDB is the truth and has lost nothing, but PostgreSQL is further behind than its reverse feed knows: there is no way \
             back until it has caught up",
            format!("{}make PostgreSQL follow DynamoDB again", first_of_a_copy()),
        )
        .repaired_by(Remedy::FollowTarget),
        (Side::Source, ..) => Finding::broken(
            loss.to_string(),
            "PostgreSQL is the truth, and what it forgot is lost to it. It hands out versions that DynamoDB has seen: a newer state could \
             be refused as delivered. DynamoDB may hold states that PostgreSQL has forgotten, and may be the only one to hold them",
            format!(
                "{}raise the epoch, so that every later version outranks the lost ones; then compare, and \
                 decide which store is right",
                first_of_a_copy()
            ),
        )
        .repaired_by(Remedy::RaiseEpoch),
        (Side::Target, Some(table), Phase::DynamoOnly) => Finding::broken(
            loss.to_string(),
            "DynamoDB was the truth. What was acknowledged since is in PostgreSQL as far as the reverse \
            feed had brought it; what it had not \
             brought is in no store that is left",
            "stop the applications. If a backup of the table is newer than what is there, restore it under \
            the table's name first. Then \
             PostgreSQL becomes the truth again, with everything that either store still has",
        )
        .repaired_by(Remedy::ReturnToSource)
        .of(table),
        (Side::Target, table, _) => {
            let table = table.unwrap_or_default();
            Finding::broken(
                loss.to_string(),
                "PostgreSQL is the truth and has lost nothing. What was acknowledged as delivered to DynamoDB may not be there, and \
                 queries that DynamoDB answers may miss rows",
                "take the table that is there for the one in use, copy and compare again",
            )
            .repaired_by(Remedy::AdoptTarget { table: table.to_owned() })
            .of(table)
        }
    }
}
