//! A change of one key by a source transaction, whatever its table is.

use std::collections::HashMap;
use std::sync::Arc;

use lockstep_core::{Item, SourceKey, Unholdable, Version, place};
use lockstep_postgres::{Mark, MarkedKey, TableBinding};

/// A change of one key, to be put under the version that the capture trigger gave it.
pub(super) struct Change {
    pub(super) binding: Arc<TableBinding>,
    pub(super) key: MarkedKey,
    pub(super) source_key: SourceKey,
    pub(super) state: State,
}

/// The state that the target is to hold.
pub(super) enum State {
    Row(Result<Item, Unholdable>),
    Gone,
}

impl Change {
    /// Notes that a key has a new state; returns its index among the deliveries. A key noted again keeps its
    /// index.
    pub(super) fn note(
        changes: &mut Vec<Self>,
        binding: &Arc<TableBinding>,
        key: SourceKey,
        state: State,
    ) -> usize {
        let marked = MarkedKey { table: binding.name(), key: key.to_json() };
        let known = changes.iter().position(|c| c.key.table == marked.table && c.source_key == key);
        let change = Self { binding: binding.clone(), key: marked, source_key: key, state };
        match known {
            Some(index) => {
                changes[index] = change;
                index
            }
            None => {
                changes.push(change);
                changes.len() - 1
            }
        }
    }

    /// The item to put for `mark`.
    ///
    /// # Errors
    /// The reason why the target cannot hold it.
    pub(super) fn item(&self, mark: &Mark) -> Result<Item, Unholdable> {
        match &self.state {
            State::Row(item) => Ok(item.clone()?.at(mark.version)),
            State::Gone => {
                Ok(lockstep_core::tombstone(self.binding.table.target_key(&self.source_key)?, mark.version))
            }
        }
    }

    /// Returns the table of this change, and the place where the row is or, gone from this key, was; `None`
    /// where no item can be.
    fn at(&self) -> Option<(&'static str, String)> {
        let place = match &self.state {
            State::Row(item) => place(&item.as_ref().ok()?.clone().into_attributes()),
            State::Gone => place(&self.binding.table.target_key(&self.source_key).ok()?.to_attributes()),
        };
        Some((self.key.table, place))
    }

    /// Says whether the row is gone from this key.
    pub(super) fn is_gone(&self) -> bool {
        matches!(self.state, State::Gone)
    }
}

/// The state of each place that is to be put there, where keys share places.
///
/// Two keys of one row may share one. The tombstone of a key that the row has left would be put over the row,
/// or beside the tombstone of another key, and DynamoDB takes no item twice in one transaction. So the row is
/// put, or the latest tombstone; the mark of each other key is left to the relay, which knows.
pub(super) struct Places(HashMap<(&'static str, String), Version>);

impl Places {
    pub(super) fn of(changes: &[Change], marks: &[Mark]) -> Self {
        let mut latest = HashMap::new();
        // Mostly no key is left, and nothing is to be told apart.
        if changes.iter().any(Change::is_gone) {
            let rows = changes.iter().filter(|change| !change.is_gone()).map(|row| (row, Version::MAX));
            let gone = marks.iter().map(|mark| (&changes[mark.of], mark.version));
            for (change, version) in rows.chain(gone.filter(|(change, _)| change.is_gone())) {
                let Some(at) = change.at() else { continue };
                let known = latest.entry(at).or_insert(version);
                *known = version.max(*known);
            }
        }
        Self(latest)
    }

    /// Tells whether `change`, of this version, is a tombstone that something else is put in the place of.
    pub(super) fn is_outdone(&self, change: &Change, version: Version) -> bool {
        change.is_gone() && change.at().and_then(|at| self.0.get(&at)).is_some_and(|latest| *latest > version)
    }
}
