//! What a page asks of the source, decided without I/O.

use std::cmp::Ordering;

use crate::erased::{AnyRow, AnyTable};
use crate::key::place;
use crate::phase::Phase;
use crate::source::Control;
use crate::target::streams::{Change, Folded, FoldedItem};
use crate::version::{Epoch, Version};

/// Where a version came from, seen from the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// Written in this DynamoOnly: it is news here.
    Target,
    /// Written in an earlier epoch, or in a phase in which the source decides: it came from here.
    Source,
    /// Of an epoch that the source does not know of yet.
    Ahead,
    /// Written in a DynamoOnly that is over, and landed only now.
    Late,
}

/// `fed_in` is the newest DynamoOnly that the table was fed in.
///
/// Late is this: 1. A write of DynamoOnly times out, so nobody was told that it succeeded; its request is still under way. 2. The way back
/// is taken: everything that has landed is in the source. 3. The request lands. Its version outranks what the item holds, and
/// the source knows nothing of it: the item would differ for good.
pub(super) fn origin(version: Version, control: &Control, fed_in: Option<Epoch>) -> Origin {
    match version.epoch().cmp(&control.epoch) {
        Ordering::Greater => Origin::Ahead,
        Ordering::Equal if control.phase == Phase::DynamoOnly => Origin::Target,
        Ordering::Less if control.phase != Phase::DynamoOnly && fed_in == Some(version.epoch()) => Origin::Late,
        Ordering::Equal | Ordering::Less => Origin::Source,
    }
}

/// One item's newest state.
pub(super) struct Entry {
    pub(super) place: String,
    pub(super) version: Version,
    pub(super) state: State,
}

/// What an item says of its row.
pub(super) enum State {
    /// The row is this one; its source key as SQL literals.
    Live(Box<dyn AnyRow>, Vec<String>),
    /// The row with this source key was deleted, or moved to another place.
    Gone(Vec<String>),
    /// A tombstone, with nothing known of the row before it.
    Unknown,
}

impl Entry {
    /// The source key, where it is known.
    pub(super) fn key(&self) -> Option<&Vec<String>> {
        match &self.state {
            State::Live(_, key) | State::Gone(key) => Some(key),
            State::Unknown => None,
        }
    }
}

/// What a page comes to.
#[derive(Default)]
pub(super) struct Plan {
    pub(super) entries: Vec<Entry>,
    /// Items whose versions begin anew, before and after the entries.
    pub(super) forget_before: Vec<String>,
    pub(super) forget_after: Vec<String>,
    /// Items that are no row of this table, and why.
    pub(super) undecodable: Vec<(String, String)>,
    /// Source keys, as SQL literals, of items that a late write has changed.
    pub(super) late: Vec<Vec<String>>,
    /// States that came from the source.
    pub(super) skipped: u64,
    /// Whether anything is of an epoch that the source does not know yet.
    pub(super) ahead: bool,
}

pub(super) fn plan(table: &dyn AnyTable, folded: &Folded, control: &Control, fed_in: Option<Epoch>) -> Plan {
    let mut plan = Plan::default();
    for item in &folded.items {
        let place = place(&item.key);
        if item.gone_before {
            plan.forget_before.push(place.clone());
        }
        if item.gone_after {
            plan.forget_after.push(place.clone());
        }
        let (Some(Change::Put(version, _)) | Some(Change::Deleted(version, _))) = &item.change else { continue };
        match origin(*version, control, fed_in) {
            Origin::Source => plan.skipped += 1,
            Origin::Ahead => plan.ahead = true,
            Origin::Late => plan.late.extend(late_key(table, item)),
            Origin::Target => match state_of(table, item) {
                Ok(state) => plan.entries.push(Entry { place, version: *version, state }),
                Err(why) => plan.undecodable.push((place, why)),
            },
        }
    }
    plan
}

/// The source key of an item that a late write has changed; of a tombstone over nothing there is none, and no harm in it.
fn late_key(table: &dyn AnyTable, item: &FoldedItem) -> Option<Vec<String>> {
    let (Some(Change::Put(_, image)) | Some(Change::Deleted(_, Some(image)))) = &item.change else { return None };
    table.key_of_item(image).ok()
}

fn state_of(table: &dyn AnyTable, item: &FoldedItem) -> Result<State, String> {
    match &item.change {
        Some(Change::Put(_, image)) => {
            let row = table.row_of_item(image).map_err(|e| format!("the item is no row of this table: {e}"))?;
            let key = row.key().map_err(|e| format!("the item has no source key: {e}"))?;
            Ok(State::Live(row, key))
        }
        Some(Change::Deleted(_, Some(image))) => Ok(table.key_of_item(image).map_or(State::Unknown, State::Gone)),
        _ => Ok(State::Unknown),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_written_in_this_dynamo_only_is_news_and_in_the_one_before_is_late() {
        let control = |phase| Control { phase, epoch: Epoch(5), changed_at: chrono::DateTime::UNIX_EPOCH };
        let version = |epoch: i64| Version(Epoch(epoch).floor() + 1);
        for (phase, epoch, fed_in, expected) in [
            (Phase::DynamoOnly, 5, 5, Origin::Target),
            (Phase::DynamoOnly, 4, 5, Origin::Source),
            (Phase::DynamoOnly, 3, 3, Origin::Source),
            (Phase::DynamoOnly, 6, 5, Origin::Ahead),
            (Phase::HybridRead, 5, 3, Origin::Source),
            (Phase::HybridRead, 4, 3, Origin::Source),
            (Phase::HybridRead, 4, 4, Origin::Late),
            (Phase::DualWrite, 3, 3, Origin::Late),
            (Phase::HybridRead, 6, 4, Origin::Ahead),
        ] {
            assert_eq!(origin(version(epoch), &control(phase), Some(Epoch(fed_in))), expected, "{phase} {epoch} {fed_in}");
        }
        assert_eq!(origin(Version::HISTORY, &control(Phase::DynamoOnly), None), Origin::Source);
    }
}
