//! A change of one key by a source transaction, whatever its table is.

use std::sync::Arc;

use lockstep_core::{Item, SourceKey, TargetKey, Unholdable, place};
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

    /// Says whether the row is gone from this key and another of `changes` puts it at the same place: two
    /// keys of one row may share one. Its tombstone would be put over the row; the mark is left to the relay,
    /// which knows.
    pub(super) fn is_put_by_another(&self, changes: &[Self]) -> bool {
        let Ok(place) = self.binding.table.target_key(&self.source_key) else { return false };
        let is_there = |other: &Self| match &other.state {
            State::Row(Ok(item)) => TargetKey::of(&item.clone().into_attributes()).as_ref() == Some(&place),
            _ => false,
        };
        self.is_gone() && changes.iter().any(|other| other.key.table == self.key.table && is_there(other))
    }

    /// The table and the place of its tombstone, where the row is gone from this key.
    pub(super) fn tombstone_at(&self) -> Option<(&'static str, String)> {
        let key = self.is_gone().then(|| self.binding.table.target_key(&self.source_key).ok())??;
        Some((self.key.table, place(&key.to_attributes())))
    }

    /// Says whether the row is gone from this key.
    pub(super) fn is_gone(&self) -> bool {
        matches!(self.state, State::Gone)
    }
}
