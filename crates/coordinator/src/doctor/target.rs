//! Findings of what a target table does by itself: it expires items, and refuses them for an index. Pure.

use lockstep_core::Advice::{RetryDeadLetters, Rights};
use lockstep_core::Phase;
use lockstep_dynamo::UndeclaredIndex;

use super::finding::Finding;
use super::observation::{CaptureSeen, ExpirySeen, TableSeen, TargetSeen};
use crate::remedy::Remedy;

/// Adds what is found of a table that was adopted.
pub(super) fn of_target(table: &TableSeen, phase: Phase, add: &mut impl FnMut(Finding)) {
    if table.capture == CaptureSeen::Absent || !matches!(table.target, TargetSeen::There { .. }) {
        return;
    }
    expiry(table, phase, add);
    indexes(table, add);
}

fn expiry(table: &TableSeen, phase: Phase, add: &mut impl FnMut(Finding)) {
    let name = &table.target_name;
    match &table.expiry {
        ExpirySeen::Right => {}
        // The import that makes the table switches it on.
        ExpirySeen::Off if table.importing => {}
        ExpirySeen::Off => add(Finding::attention(
            format!("the rows of DynamoDB table {name} expire, and its expiry is off"),
            "nothing is lost; what has expired stays",
            "switch it on",
        )
        .repaired_by(Remedy::SwitchExpiryOn { table: table.name.clone() })),
        ExpirySeen::Wrong(found) => {
            let Some((wrong, next)) = found.wrong(name) else { return };
            let means = match phase {
                Phase::DynamoOnly => {
                    "DynamoDB is the truth, and removes rows by itself. The reverse feed counts each as a \
                     removal by another program, which closes the way back; PostgreSQL still has the row"
                }
                _ => "PostgreSQL is the truth and has every row; a comparison finds what is missing",
            };
            add(Finding::broken(format!("DynamoDB table {name}: {wrong}"), means, next));
        }
        ExpirySeen::Unknown(why) => add(Finding::attention(
            format!("by what items of DynamoDB table {name} expire could not be asked: {why}"),
            "if it is another attribute than ours, DynamoDB removes rows that live",
            format!("bring DynamoDB back, or give the rights that {Rights} prints"),
        )),
    }
}

fn indexes(table: &TableSeen, add: &mut impl FnMut(Finding)) {
    let name = &table.target_name;
    for index in table.undeclared.iter().filter(|index| index.may_refuse()) {
        add(Finding::broken(
            format!("DynamoDB table {name} has {index}, which is none of the table's design"),
            "a row whose value there is empty, or of another type, is refused for it: it gives way to a \
             tombstone and becomes a dead letter; where DynamoDB is the truth the write fails",
            match index.is_local {
                false => format!("delete it: {}; then {RetryDeadLetters:#}", deletion(name, &index.name)),
                true => {
                    "a local index goes with its table only: go back to PostgresOnly, and begin again with \
                         a table without it"
                        .to_owned()
                }
            },
        ));
    }
    let bounded = |index: &&UndeclaredIndex| index.is_local && !index.may_refuse();
    if let Some(index) = table.undeclared.iter().find(bounded) {
        add(Finding::attention(
            format!("DynamoDB table {name} has {index}"),
            "a partition that outgrows 10 GB takes no further rows; they become dead letters",
            "nothing",
        ));
    }
}

fn deletion(table: &str, index: &str) -> String {
    format!(
        "aws dynamodb update-table --table-name {table} --global-secondary-index-updates \
         '[{{\"Delete\":{{\"IndexName\":\"{index}\"}}}}]'"
    )
}
