//! What an acceptance is of: one state of an item, and the row that PostgreSQL keeps instead.
//!
//! 1. PostgreSQL refuses payment 5, whose amount is negative, and an operator accepts that PostgreSQL keeps
//! the row of before. 2. An application deletes its loan. 3. The feed deletes the loan's row, and a cascade
//! the payment's. 4. The way back goes through under the acceptance of step 1, payment 5 is in DynamoDB
//! alone, and a repair puts a tombstone over it. The same where the item changes to another state that
//! PostgreSQL cannot hold.
//!
//! So a note says of which version of its item it is. With another version the acceptance goes, and with
//! whatever changes the row. With the same one it stays: a reverse backfill notes every such item once more.

use lockstep_core::{Attributes, Version, version_of};

/// Version in the note of an item that has none. NULL is there where nobody has read it.
const NONE: i64 = -1;

/// Assignments that take an acceptance back.
pub(super) const WITHDRAWN: &str = "acknowledged_at = NULL, acknowledged_by = NULL";

/// Returns what a note says of the version of an item.
pub(super) fn noted(version: Option<Version>) -> i64 {
    version.map_or(NONE, |version| version.0)
}

/// Returns what a note says of the version of an item that was read.
pub(super) fn noted_of(item: Option<&Attributes>) -> i64 {
    noted(item.and_then(version_of))
}

/// Returns the assignments by which note `a` becomes one of version `now`, an SQL expression. An older
/// version was read before what the note is of, and changes nothing.
pub(super) fn becomes(now: &str) -> String {
    let stays = format!("(a.version = {now} OR {now} BETWEEN 0 AND a.version)");
    format!(
        "version = CASE WHEN {stays} THEN a.version ELSE {now} END,
         acknowledged_at = CASE WHEN {stays} THEN a.acknowledged_at END,
         acknowledged_by = CASE WHEN {stays} THEN a.acknowledged_by END"
    )
}
