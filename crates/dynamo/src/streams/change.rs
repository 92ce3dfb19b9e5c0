//! Meaning of a record, and of a page of them.

use std::collections::HashMap;

use lockstep_core::{Attributes, Change, Folded, FoldedItem, is_tombstone, version_of};

use super::super::control::is_renumbered;
use super::super::mark::is_mark;
use super::api::StreamRecord;
use super::marker::round_of;

fn is_none_of_a_row(item: &Attributes) -> bool {
    is_mark(item) || round_of(item).is_some()
}

/// Reads a record by the images before and after it. They are large, and the change keeps what it needs of
/// them.
fn change_of(old: Option<Attributes>, new: Option<Attributes>, expired: bool) -> Change {
    let live = |item: &Attributes| !is_tombstone(item);
    let Some(new) = new else {
        return match old.filter(live) {
            None => Change::Purged,
            Some(_) if expired => Change::Expired,
            Some(_) => {
                Change::Foreign("an item was removed, without a tombstone, by something else than Lockstep")
            }
        };
    };
    if is_mark(&new) {
        // A mark of history; there is no row behind it.
        return Change::Purged;
    }
    if let Some(round) = round_of(&new) {
        return Change::Marker(round.to_owned());
    }
    match (version_of(&new), old.as_ref().and_then(version_of)) {
        (None, _) => Change::Foreign("an item without a version was written by something else than Lockstep"),
        // 1. Another program gave the item a version of an epoch that never began. 2. It is given one of
        // ours, which is lower.
        (Some(version), Some(before))
            if version <= before && !old.as_ref().is_some_and(|old| is_renumbered(old, &new)) =>
        {
            Change::Foreign("an item was changed without a new version, by something else than Lockstep")
        }
        (Some(version), _) if is_tombstone(&new) => Change::Deleted(version, old.filter(live)),
        (Some(version), _) => Change::Put(version, new),
    }
}

/// Folds a page. Records of one item are in order, so the last one tells.
pub fn changes_of(records: Vec<StreamRecord>) -> Folded {
    let mut folded = Folded::default();
    let mut items: HashMap<String, (usize, FoldedItem)> = HashMap::with_capacity(records.len());
    for (at, record) in records.into_iter().enumerate() {
        let StreamRecord { key, old, new, expired, .. } = record;
        let (went, of_no_row) = (new.is_none(), old.as_ref().or(new.as_ref()).is_none_or(is_none_of_a_row));
        let was = if went { old.clone() } else { None };
        let was_empty = old.is_none();
        let change = change_of(old, new, expired);
        match &change {
            Change::Purged if of_no_row => continue,
            Change::Marker(round) => {
                folded.marker = Some(round.clone());
                folded.markers.push((round.clone(), lockstep_core::place(&key)));
                continue;
            }
            Change::Expired => folded.expired += 1,
            Change::Foreign(why) => {
                folded.foreign += 1;
                folded.foreign_reason = Some(why);
            }
            Change::Put(..) | Change::Deleted(..) | Change::Purged => {}
        }
        let (last, item) = items.entry(lockstep_core::place(&key)).or_default();
        (*last, item.key) = (at, key);
        match change {
            Change::Put(..) | Change::Deleted(..) => {
                item.gone_before |= std::mem::take(&mut item.gone_after);
                item.into_empty |= was_empty;
                item.removed_after = None;
                item.change = Some(kept_image(change, item.change.take()));
            }
            // Its versions begin at 1 again: 1. A row at version 7 expires. 2. It is put again, and as
            // nothing is there it gets version 1. 3. Held against the 7, its newest state would be refused.
            _ if went => {
                item.gone_after = true;
                item.removed_after = was.filter(|_| !matches!(change, Change::Foreign(_)));
            }
            _ => {}
        }
    }
    let mut ordered: Vec<(usize, FoldedItem)> =
        items.into_iter().map(|(place, (at, item))| (at, FoldedItem { place, ..item })).collect();
    ordered.sort_unstable_by_key(|(at, _)| *at);
    folded.items = ordered.into_iter().map(|(_, item)| item).collect();
    folded
}

/// A second tombstone has no row before it; the first one had.
fn kept_image(change: Change, before: Option<Change>) -> Change {
    match (change, before) {
        (Change::Deleted(version, None), Some(Change::Deleted(_, image))) => Change::Deleted(version, image),
        (change, _) => change,
    }
}
