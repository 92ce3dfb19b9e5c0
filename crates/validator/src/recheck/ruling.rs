//! Meaning of a reading of a suspect. Pure; the reasoning is in the parent module.

use std::time::Duration;

use lockstep_core::{FieldDiff, Version};

use crate::diff::Class;
use crate::table_report::FindingClass;
use crate::tally::Outcome;

/// Time for which a strict write may be in the target before it is committed.
pub(crate) const WRITE_AHEAD: Duration = Duration::from_secs(1);

/// Answers of the stores about a suspect, read as the parent module says.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// The item changed between its two readings, so nothing is known of it at the moment of the snapshot.
    pub(crate) moved: bool,
    /// The row is the state of a version that its item had in this comparison; known in DynamoOnly only.
    pub(crate) earlier: bool,
    /// The key was pending in the snapshot.
    pub(crate) pending: bool,
    /// Whether the key was a dead letter in the snapshot.
    pub(crate) dead_letter: bool,
    /// The version of the item of which an operator has accepted that the source stays without that state;
    /// known in DynamoOnly only.
    pub(crate) accepted: Option<Version>,
    /// There is an item, and it is no tombstone.
    pub(crate) live: bool,
    /// The version of the item; `None` without one.
    pub(crate) version: Option<Version>,
    /// Class of row and item against each other.
    pub(crate) class: Class,
    /// Differences of row and item, as they may be reported.
    pub(crate) fields: Vec<FieldDiff>,
}

/// Conclusions that this validation allows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Policy {
    /// Whether a pending key is worth waiting for.
    pub(crate) wait_for_pending: bool,
    /// Whether a key that is not pending has been delivered: everywhere but in DynamoOnly.
    pub(crate) pending_tells: bool,
    /// Whether strict writes may be in the target before they are committed.
    pub(crate) writes_ahead: bool,
}

/// Ruling on a suspect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ruling {
    /// Nothing is proven yet.
    Again,
    /// The suspect is no finding.
    Decided(Outcome),
    /// The suspect is a finding.
    Found {
        /// Class of the finding.
        class: FindingClass,
        /// Columns that differ.
        columns: Vec<String>,
        /// Whether a row was held against an item, or against its absence.
        compared: bool,
    },
}

/// Rules on a suspect whose item has disagreed at the same version for `disagreeing_for`.
pub(crate) fn rule(seen: Seen, disagreeing_for: Duration, policy: Policy) -> Ruling {
    let shares = matches!(seen.class, Class::Shared(_));
    if seen.earlier && !policy.pending_tells && !seen.dead_letter && !shares {
        // It agreed with the item as that was a moment ago, which is as good as any moment. An item that the
        // feed set aside since does not follow by itself, and is told as what it is.
        return Ruling::Decided(Outcome::Equal);
    }
    if seen.moved {
        return Ruling::Again;
    }
    match seen.class {
        // Agreement needs no more proof, even if a later state is pending: it was seen at one moment.
        Class::Equal => return Ruling::Decided(Outcome::Equal),
        Class::Absent => return Ruling::Decided(Outcome::Aside),
        // The target has one place for all of them, whichever row is on its way.
        Class::Shared(columns) => {
            return Ruling::Found { class: FindingClass::Different, columns, compared: true };
        }
        _ => {}
    }
    if seen.pending {
        return if policy.wait_for_pending { Ruling::Again } else { Ruling::Decided(Outcome::Pending) };
    }
    // It excuses only what it is about. 1. A row is set aside, and acknowledged. 2. It is repaired and
    // delivered, by whatever way.
    // 3. Its item is lost, or changed. A row that can be held has no excuse for that.
    // Neither has a live item. In the place of a row that it sets aside the relay puts a tombstone, and a
    // read takes what else is there for the row. 1. A source is set back, and the item of a later image
    // outranks that tombstone. 2. The row, as it is again, is a dead letter, and acknowledged.
    if seen.dead_letter && !seen.live && matches!(seen.class, Class::Unholdable(_)) {
        return Ruling::Decided(Outcome::Aside);
    }
    // The source follows the target, and would not have this state; nothing will change that. Only the state
    // that was accepted: with a later one the item is on its way again, or a dead letter of its own.
    let follows =
        matches!(seen.class, Class::Missing | Class::Different(_) | Class::Extra | Class::Undecodable(_));
    if !policy.pending_tells && follows && seen.accepted.is_some() && seen.accepted == seen.version {
        return Ruling::Decided(Outcome::Accepted);
    }
    if seen.class == Class::Expired {
        return Ruling::Decided(Outcome::Expired);
    }
    if !policy.pending_tells {
        return Ruling::Again;
    }
    let may_be_ahead =
        policy.writes_ahead && seen.version.is_some_and(|version| version > Version::INITIAL_LOAD);
    if may_be_ahead && disagreeing_for < WRITE_AHEAD {
        return Ruling::Again;
    }
    let (class, columns, compared) = match seen.class {
        Class::Missing => (FindingClass::Missing, Vec::new(), true),
        Class::Different(columns) => (FindingClass::Different, columns, true),
        Class::Extra => (FindingClass::Extra, Vec::new(), false),
        Class::Undecodable(attribute) => (FindingClass::Undecodable, vec![attribute], true),
        Class::Unholdable(column) if seen.dead_letter => (FindingClass::Different, vec![column], true),
        Class::Unholdable(column) => (FindingClass::Undecodable, vec![column], false),
        Class::Equal | Class::Absent | Class::Expired | Class::Shared(_) => unreachable!("decided above"),
    };
    Ruling::Found { class, columns, compared }
}
