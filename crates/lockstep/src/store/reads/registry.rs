//! The read policies of all tables that one writer writes: a write of several tables owes each of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use lockstep_core::SourceKey;
use lockstep_postgres::{Source, TableBinding};

use super::owed::{Owed, Unheard};
use super::{ReadOptions, Reads};
use crate::central::Central;

/// One [`Reads`] a table, so that every handle on a table reads the deferred writes of every other.
pub(in crate::store) struct ReadsOfTables {
    tables: Mutex<HashMap<&'static str, Reads>>,
    /// Options of tables that are asked for first from now on; the defaults until options are set.
    options: OnceLock<ReadOptions>,
    central: Arc<Central>,
}

impl ReadsOfTables {
    /// Makes it with no table yet; what operators turn goes before what is configured.
    pub(in crate::store) fn new(central: Arc<Central>) -> Self {
        Self { tables: Mutex::default(), options: OnceLock::new(), central }
    }

    /// Says how tables that are asked for from now on are read. Once.
    pub(in crate::store) fn configure(&self, options: ReadOptions) {
        let _ = self.options.set(options);
    }

    /// The policy of a table, made when it is asked for first.
    pub(in crate::store) fn of(&self, source: &Source, binding: &TableBinding) -> Reads {
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        let make = || {
            let reads = Reads::new(source.clone(), binding, self.central.clone());
            reads.configure(self.options.get().unwrap_or(&ReadOptions::default()));
            reads
        };
        tables.entry(binding.name()).or_insert_with(make).clone()
    }

    /// The write of a table, of keys that are not known before it is answered.
    pub(in crate::store) fn unheard(&self, table: &'static str) -> Unheard {
        let tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        Unheard::new(tables.get(table).map(|reads| reads.0.watch.clone()))
    }

    /// A write of a table in the target, the truth, has ended, or may have.
    pub(in crate::store) fn wrote(&self, table: &'static str) {
        let tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reads) = tables.get(table) {
            reads.0.watch.wrote();
        }
    }

    /// The debt to the target of a write about to be committed, in the order of its keys.
    pub(in crate::store) fn owe(&self, keys: impl Iterator<Item = (&'static str, SourceKey)>) -> Owed {
        let tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        // A table that no store is open on has no readers.
        Owed::new(
            keys.map(|(table, key)| tables.get(table).map(|reads| (reads.0.watch.clone(), key))).collect(),
        )
    }
}
