//! Keys that a comparison found to repair, and what became of it, as text.

use lockstep_coordinator::{Repairable, Repaired, Repairs};

use crate::report::{searched, table};

/// Most that are printed.
const LISTED_MAX: usize = 100;

/// Lists the keys that can be repaired, a line each.
pub(super) fn listed(repairs: &Repairs) -> String {
    let mut text = match repairs.repairable.is_empty() {
        true => "There is nothing that the relay could repair.".to_owned(),
        false => {
            let rows = repairs.repairable.iter().take(LISTED_MAX);
            let rows = rows
                .map(|r| vec![r.table.clone(), r.class.to_string(), r.key.join(", "), r.columns.join(", ")]);
            table(&["table", "finding", "key", "columns"], rows)
        }
    };
    text += &format!("\n{} to repair", repairs.repairable.len());
    text += &deleted(repairs);
    for other in &repairs.unrepairable {
        text +=
            &format!("\n  not by the relay: {} {} {}: {}", other.table, other.class, other.key, other.next);
    }
    if repairs.unlisted > 0 {
        text += &format!("\n  {} more are not listed; repair these, and look again", repairs.unlisted);
    }
    if let Some(days) = searched(repairs.window_start, repairs.window_end) {
        text += &format!("\n  {days}");
    }
    for failure in &repairs.failures {
        text += &format!("\n  not compared: {failure}");
    }
    text
}

/// Words about rows that DynamoDB says were deleted.
fn deleted(repairs: &Repairs) -> String {
    let deleted: Vec<&Repairable> =
        repairs.repairable.iter().filter(|finding| finding.deletion.is_some()).collect();
    if deleted.is_empty() {
        return String::new();
    }
    let mut text = format!(
        "\n  {} of them are rows that DynamoDB says were deleted: `repair --apply` leaves them, and with \
         --bring-back writes them again",
        deleted.len()
    );
    for finding in deleted.iter().take(LISTED_MAX) {
        let key = finding.key.join(", ");
        text += &match finding.deletion {
            Some(deletion) if deletion.may_be_lost => format!(
                "\n    {} {key}: deleted at version {}, perhaps in a time that PostgreSQL lost; `repair \
                 --take-target` with this key deletes the row",
                finding.table, deletion.version
            ),
            Some(deletion) => format!(
                "\n    {} {key}: deleted at version {}, and PostgreSQL has it all the same: it was written \
                 where it was not captured",
                finding.table, deletion.version
            ),
            None => String::new(),
        };
    }
    text
}

/// Tells the effect of a repair.
pub(super) fn told(repaired: &Repaired) -> String {
    let Repaired { resumed, marked, verified, unverified } = repaired;
    let mut text =
        format!("{marked} keys marked and delivered; {verified} of them read again, and both stores agree");
    if *resumed > 0 {
        text += &format!("\n  {resumed} of them were left by a repair that was broken off");
    }
    for what in unverified {
        text += &format!("\n  unverified: {what}");
    }
    text
}
