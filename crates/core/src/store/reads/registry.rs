//! The read policies of all tables that one writer writes: a write of several tables owes each of them.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::Reads;
use super::deferred::Owed;
use crate::key::SourceKey;
use crate::source::{Source, TableBinding};

/// One [`Reads`] a table, so that every handle on a table reads the deferred writes of every other.
#[derive(Default)]
pub(in crate::store) struct ReadsOfTables(Mutex<HashMap<&'static str, Reads>>);

impl ReadsOfTables {
    /// The policy of a table, made when it is asked for first.
    pub(in crate::store) fn of(&self, source: &Source, binding: &TableBinding) -> Reads {
        let mut tables = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tables.entry(binding.name()).or_insert_with(|| Reads::new(source.clone(), binding)).clone()
    }

    /// What a write about to be committed owes the target, in the order of its keys.
    pub(in crate::store) fn owe(&self, keys: impl Iterator<Item = (&'static str, SourceKey)>) -> Owed {
        let tables = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A table that nobody has a handle on has no readers.
        Owed::new(keys.map(|(table, key)| tables.get(table).map(|reads| (reads.0.watch.clone(), key))).collect())
    }
}
