//! Questions of a page to the source, decided without I/O.

use lockstep_core::{AnyRow, AnyTable, Attributes, Change, Folded, FoldedItem, Version};

use super::epochs::{Epochs, Origin};
use super::foreign::Ahead;

/// One item's newest state.
pub(super) struct Entry {
    pub(super) place: String,
    pub(super) version: Version,
    pub(super) state: State,
    /// The stream says that nothing was at its place before: a version that is known may be of an item that
    /// has gone.
    pub(super) into_empty: bool,
}

/// State of a row, as its item says it.
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

/// Outcome of a page.
#[derive(Default)]
pub(super) struct Plan {
    pub(super) entries: Vec<Entry>,
    /// Items whose versions begin at 1 again, before and after the entries.
    pub(super) forget_before: Vec<String>,
    pub(super) forget_after: Vec<String>,
    /// Items that are no row of this table: place, version, and why.
    pub(super) undecodable: Vec<(String, Version, String)>,
    /// Items that DynamoDB removed, after the entries: place, and source key as SQL literals, where what went
    /// tells it.
    pub(super) removed: Vec<(String, Option<Vec<String>>)>,
    /// Places at which an item was deleted whose attributes were not those of the row of that place.
    pub(super) disowned: Vec<String>,
    /// Items to be read from the target, which says whether this is news: place, version, and source key as
    /// SQL literals.
    pub(super) earlier: Vec<(String, Version, Vec<String>)>,
    /// Source keys, as SQL literals, of items that a late write has changed.
    pub(super) late: Vec<Vec<String>>,
    /// States that came from the source.
    pub(super) skipped: u64,
    /// Items of an epoch that the source has never begun.
    pub(super) ahead: Vec<Ahead>,
}

pub(super) fn plan(table: &dyn AnyTable, folded: &Folded, epochs: &Epochs) -> Plan {
    let mut plan = Plan::default();
    for item in &folded.items {
        let place = item.place.clone();
        if item.gone_before {
            plan.forget_before.push(place.clone());
        }
        if item.gone_after {
            plan.forget_after.push(place.clone());
        }
        if let Some(was) = &item.removed_after {
            plan.removed.push((place.clone(), key_at(table, &item.key, was)));
        }
        let (Some(Change::Put(version, _)) | Some(Change::Deleted(version, _))) = &item.change else {
            continue;
        };
        match epochs.origin(*version) {
            Origin::Source => plan.skipped += 1,
            Origin::Ahead => plan.ahead.push((place, *version, key_of(table, item))),
            Origin::Late => plan.late.extend(key_of(table, item)),
            Origin::Earlier => plan.earlier.extend(key_of(table, item).map(|key| (place, *version, key))),
            Origin::Target => match state_of(table, item) {
                Ok(state) => {
                    let had_image = matches!(item.change, Some(Change::Deleted(_, Some(_))));
                    if had_image && matches!(state, State::Unknown) {
                        plan.disowned.push(place.clone());
                    }
                    plan.entries.push(Entry { place, version: *version, state, into_empty: item.into_empty });
                }
                Err(why) => plan.undecodable.push((place, *version, why)),
            },
        }
    }
    plan
}

/// The source key of an item that was changed; of a tombstone over nothing there is none, and no harm in it.
fn key_of(table: &dyn AnyTable, item: &FoldedItem) -> Option<Vec<String>> {
    let (Some(Change::Put(_, image)) | Some(Change::Deleted(_, Some(image)))) = &item.change else {
        return None;
    };
    key_at(table, &item.key, image)
}

fn state_of(table: &dyn AnyTable, item: &FoldedItem) -> Result<State, String> {
    match &item.change {
        Some(Change::Put(_, image)) => live_at(table, &item.key, image),
        Some(Change::Deleted(_, Some(image))) => {
            Ok(key_at(table, &item.key, image).map_or(State::Unknown, State::Gone))
        }
        _ => Ok(State::Unknown),
    }
}

/// Returns the source key of the item that is at `key`; none where it is no row of this table.
pub(super) fn key_at(table: &dyn AnyTable, key: &Attributes, item: &Attributes) -> Option<Vec<String>> {
    misplaced(table, key, item).ok()?;
    table.key_of_item(item).ok()
}

/// Returns the row of the item that is at `key`.
///
/// # Errors
/// Why it is no row of this table.
pub(super) fn row_at(
    table: &dyn AnyTable,
    key: &Attributes,
    item: &Attributes,
) -> Result<Box<dyn AnyRow>, String> {
    misplaced(table, key, item)?;
    table.row_of_item(item).map_err(|why| format!("the item is no row of this table: {why}"))
}

/// Returns the state of the row of the item that is at `key`.
///
/// # Errors
/// Why it is no row of this table.
pub(super) fn live_at(table: &dyn AnyTable, key: &Attributes, item: &Attributes) -> Result<State, String> {
    let row = row_at(table, key, item)?;
    let key = row.key().map_err(|why| format!("the item has no source key: {why}"))?;
    Ok(State::Live(row, key))
}

/// Refuses an item that is not at the place of the row which its attributes are.
///
/// 1. A program puts an item whose key is that of one row and whose attributes are those of another. 2. By
/// its attributes it would overwrite the other row. 3. It goes, and the other row with it, and by a
/// cascade all that refers to that.
fn misplaced(table: &dyn AnyTable, key: &Attributes, item: &Attributes) -> Result<(), String> {
    match table.place_of_item(item) {
        Ok(own) if !own.is_of(key) => Err("the item's key is not the one of the row in its attributes: \
             write it under that key, or correct its attributes"
            .to_owned()),
        _ => Ok(()),
    }
}
