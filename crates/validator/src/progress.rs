//! Progress of a validation: counters that any thread may read at any time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lockstep_postgres::TableBinding;
use serde::Serialize;

/// Progress of a validation, shared between it and the code that shows it.
#[derive(Debug)]
pub struct ValidationProgress {
    tables: Vec<TableValidationProgress>,
}

impl ValidationProgress {
    /// Counters at zero for `tables`.
    pub fn new(tables: &[TableBinding]) -> Arc<Self> {
        let tables = tables.iter().map(|binding| TableValidationProgress {
            name: binding.name(),
            ..TableValidationProgress::default()
        });
        Arc::new(Self { tables: tables.collect() })
    }

    /// Returns one entry a table, in the order they were given.
    pub fn tables(&self) -> &[TableValidationProgress] {
        &self.tables
    }

    /// Returns all counters as they are now.
    pub fn snapshot(&self) -> Vec<ProgressSnapshot> {
        self.tables.iter().map(TableValidationProgress::snapshot).collect()
    }

    pub(crate) fn of(&self, name: &str) -> Option<&TableValidationProgress> {
        self.tables.iter().find(|table| table.name == name)
    }
}

/// Progress of one table. The counters only grow.
#[derive(Debug, Default)]
pub struct TableValidationProgress {
    name: &'static str,
    pub(crate) rows_expected: AtomicU64,
    pub(crate) source_rows: AtomicU64,
    pub(crate) rows_resumed: AtomicU64,
    pub(crate) target_items: AtomicU64,
    pub(crate) suspects: AtomicU64,
    pub(crate) findings: AtomicU64,
}

impl TableValidationProgress {
    /// Returns the table's name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Source rows to be read, as counted at the start; 0 before that.
    pub fn rows_expected(&self) -> u64 {
        self.rows_expected.load(Ordering::Relaxed)
    }

    /// Source rows read by the source pass, those of an earlier part of this run included.
    pub fn source_rows(&self) -> u64 {
        self.source_rows.load(Ordering::Relaxed)
    }

    /// Source rows that an earlier part of this run had read.
    pub fn rows_resumed(&self) -> u64 {
        self.rows_resumed.load(Ordering::Relaxed)
    }

    /// Items read by the target pass, tombstones included.
    pub fn target_items(&self) -> u64 {
        self.target_items.load(Ordering::Relaxed)
    }

    /// Keys that were read again because the stores did not agree at first.
    pub fn suspects(&self) -> u64 {
        self.suspects.load(Ordering::Relaxed)
    }

    /// Findings, unsettled keys included.
    pub fn findings(&self) -> u64 {
        self.findings.load(Ordering::Relaxed)
    }

    /// Returns all of them at once.
    pub fn snapshot(&self) -> ProgressSnapshot {
        ProgressSnapshot {
            name: self.name,
            rows_expected: self.rows_expected(),
            source_rows: self.source_rows(),
            rows_resumed: self.rows_resumed(),
            target_items: self.target_items(),
            suspects: self.suspects(),
            findings: self.findings(),
        }
    }
}

/// [`TableValidationProgress`] at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ProgressSnapshot {
    /// See [`TableValidationProgress::name`].
    pub name: &'static str,
    /// See [`TableValidationProgress::rows_expected`].
    pub rows_expected: u64,
    /// See [`TableValidationProgress::source_rows`].
    pub source_rows: u64,
    /// See [`TableValidationProgress::rows_resumed`].
    pub rows_resumed: u64,
    /// See [`TableValidationProgress::target_items`].
    pub target_items: u64,
    /// See [`TableValidationProgress::suspects`].
    pub suspects: u64,
    /// See [`TableValidationProgress::findings`].
    pub findings: u64,
}
