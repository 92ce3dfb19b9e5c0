//! Progress of the feed, for people who watch.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use lockstep_postgres::TableBinding;

/// Progress of all tables.
#[derive(Debug)]
pub struct FeedProgress {
    /// One entry a table, in the order of the migration.
    pub tables: Vec<FeedTableProgress>,
}

/// Progress of one table in this run.
#[derive(Debug, Default)]
pub struct FeedTableProgress {
    /// Table name.
    pub name: &'static str,
    pub(super) records: AtomicU64,
    pub(super) applied: AtomicU64,
    pub(super) skipped: AtomicU64,
    pub(super) put_off: AtomicU64,
    pub(super) throttles: AtomicU64,
}

impl FeedProgress {
    /// Progress of `tables`, all at zero.
    pub fn new(tables: &[TableBinding]) -> Self {
        Self {
            tables: tables
                .iter()
                .map(|t| FeedTableProgress { name: t.name(), ..FeedTableProgress::default() })
                .collect(),
        }
    }

    /// Returns how often the stream of each table asked to slow down.
    pub fn throttles(&self) -> Vec<(&'static str, u64)> {
        self.tables.iter().map(|table| (table.name, table.throttles())).collect()
    }

    pub(super) fn of(&self, name: &str) -> &FeedTableProgress {
        self.tables
            .iter()
            .find(|table| table.name == name)
            .expect("progress has every table of the migration")
    }
}

impl FeedTableProgress {
    /// Records read.
    pub fn records(&self) -> u64 {
        self.records.load(Relaxed)
    }

    /// Items whose state was news.
    pub fn applied(&self) -> u64 {
        self.applied.load(Relaxed)
    }

    /// States that came from the source, or that it has had.
    pub fn skipped(&self) -> u64 {
        self.skipped.load(Relaxed)
    }

    /// Returns how often the stream asked to slow down.
    pub fn throttles(&self) -> u64 {
        self.throttles.load(Relaxed)
    }

    /// Returns how often a row was put off because PostgreSQL would not have it yet.
    pub fn put_off(&self) -> u64 {
        self.put_off.load(Relaxed)
    }
}
