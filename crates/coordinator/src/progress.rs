//! Progress for people who watch: counters that any thread may read at any time.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use lockstep_dynamo::LoadPath;
use lockstep_postgres::TableBinding;

/// Progress of all tables.
#[derive(Debug)]
pub struct Progress {
    /// One entry a table, in the order of the migration.
    pub tables: Vec<TableProgress>,
}

/// Progress of one table. Counters only grow within a run; the lag is a reading.
#[derive(Debug, Default)]
pub struct TableProgress {
    /// Table name.
    pub name: &'static str,
    pub(crate) rows_expected: AtomicU64,
    pub(crate) rows_resumed: AtomicU64,
    pub(crate) rows_read: AtomicU64,
    pub(crate) rows_written: AtomicU64,
    pub(crate) rows_present: AtomicU64,
    pub(crate) rows_expired: AtomicU64,
    pub(crate) bytes_read: AtomicU64,
    pub(crate) capacity_milliunits: AtomicU64,
    pub(crate) history_milliunits: AtomicU64,
    pub(crate) dead_letters: AtomicU64,
    pub(crate) relayed: AtomicU64,
    pub(crate) pending: AtomicU64,
    pub(crate) throttles: AtomicU64,
    pub(crate) history_throttles: AtomicU64,
    pub(crate) lost_replies: AtomicU64,
    pub(crate) ceiling: AtomicU64,
    pub(crate) ranges_moved: AtomicU64,
    /// Age of the oldest pending key, and when that was seen.
    oldest: Mutex<Option<(Instant, Duration)>>,
    /// Time at which the last of them ended.
    pub(crate) last_range: Mutex<Option<Instant>>,
    pub(crate) load_path: Mutex<Option<LoadPath>>,
    pub(crate) pause_reason: Mutex<Option<String>>,
    pub(crate) slowed_by: Mutex<Option<String>>,
}

impl Progress {
    /// Progress of `tables`, all at zero.
    pub fn new(tables: &[TableBinding]) -> Self {
        Self {
            tables: tables
                .iter()
                .map(|t| TableProgress { name: t.name(), ..TableProgress::default() })
                .collect(),
        }
    }

    /// Rows that this run has finished, over all tables.
    pub(crate) fn rows_settled(&self) -> u64 {
        self.tables.iter().map(|t| t.rows_written() + t.rows_present() + t.dead_letters()).sum()
    }

    /// Returns why nothing moves, or why it moves no faster, each reason once.
    pub(crate) fn held_back_by(&self) -> Option<String> {
        each_once(self.tables.iter().filter_map(TableProgress::held_back_by))
    }

    pub(crate) fn of(&self, name: &str) -> &TableProgress {
        self.tables
            .iter()
            .find(|table| table.name == name)
            .expect("progress has every table of the migration")
    }
}

macro_rules! getters {
    ($( $(#[$meta:meta])* $name:ident ),* $(,)?) => {
        $( $(#[$meta])* pub fn $name(&self) -> u64 { self.$name.load(Relaxed) } )*
    };
}

/// Joins reasons, each of them once; `None` where there is none.
pub fn each_once(reasons: impl Iterator<Item = String>) -> Option<String> {
    let mut once: Vec<String> = Vec::new();
    for why in reasons {
        if !once.contains(&why) {
            once.push(why);
        }
    }
    (!once.is_empty()).then(|| once.join("; "))
}

impl TableProgress {
    /// Returns why nothing of the table moves, or why it moves no faster.
    pub fn held_back_by(&self) -> Option<String> {
        self.pause_reason().or_else(|| self.slowed_by())
    }

    getters! {
        /// Rows the backfill expects to read, by the planner's estimate.
        rows_expected,
        /// Rows that earlier runs had finished, and this one did not read again.
        rows_resumed,
        /// Rows read by this run.
        rows_read,
        /// Rows put into the target by this run.
        rows_written,
        /// Rows that needed nothing: their key was in the target already, or they are past their expiry.
        rows_present,
        /// Number of those that expired more than a day ago and were not brought over.
        rows_expired,
        /// Bytes read from the source by this run.
        bytes_read,
        /// Rows set aside by this run.
        dead_letters,
        /// Ranges that this run has brought to their end.
        ranges_moved,
        /// Changes delivered by this run.
        relayed,
        /// Pending keys, when last looked.
        pending,
        /// Requests or items that the target asked to slow down for.
        throttles,
        /// Number of those that the initial load met.
        history_throttles,
        /// Requests whose answer was lost.
        lost_replies,
    }

    /// Age of the oldest pending key in milliseconds. It grows by itself: 1. A relay looks, and the target
    /// goes away. 2. Nothing is looked at until it answers. 3. An age that stood still would say that
    /// all is well.
    pub fn oldest_ms(&self) -> u64 {
        let oldest = *self.oldest.lock().unwrap_or_else(PoisonError::into_inner);
        oldest.map_or(0, |(seen_at, age)| (age + seen_at.elapsed()).as_millis() as u64)
    }

    /// Notes what is pending.
    pub(crate) fn waits(&self, keys: u64, oldest: Duration) {
        self.pending.store(keys, Relaxed);
        let oldest = (keys > 0).then(|| (Instant::now(), oldest));
        *self.oldest.lock().unwrap_or_else(PoisonError::into_inner) = oldest;
    }

    /// Write units consumed by this run, where the endpoint tells.
    pub fn capacity_units(&self) -> u64 {
        self.capacity_milliunits.load(Relaxed) / 1000
    }

    /// Returns those of them that the initial load took.
    pub fn initial_load_units(&self) -> u64 {
        self.history_milliunits.load(Relaxed) / 1000
    }

    /// Write units a second that the rate control allows at the moment; `None` for no limit.
    pub fn write_units_ceiling(&self) -> Option<u64> {
        Some(self.ceiling.load(Relaxed)).filter(|ceiling| *ceiling > 0)
    }

    /// Returns how the initial load goes into this table.
    pub fn load_path(&self) -> Option<LoadPath> {
        *self.load_path.lock().expect("no panic while holding it")
    }

    /// Returns why nothing moves, if nothing moves.
    pub fn pause_reason(&self) -> Option<String> {
        self.pause_reason.lock().expect("no panic while holding it").clone()
    }

    /// Returns why it moves no faster, if something holds it back.
    pub fn slowed_by(&self) -> Option<String> {
        self.slowed_by.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn slow(&self, why: Option<String>) {
        *self.slowed_by.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }

    /// Sets back what counts one run of the backfill.
    pub(crate) fn begin_run(&self) {
        for counter in [
            &self.rows_read,
            &self.rows_written,
            &self.rows_present,
            &self.rows_expired,
            &self.bytes_read,
            &self.dead_letters,
            &self.ranges_moved,
        ] {
            counter.store(0, Relaxed);
        }
    }

    /// Returns when the last range of this run came to its end.
    pub fn last_range_at(&self) -> Option<Instant> {
        *self.last_range.lock().expect("no panic while holding it")
    }

    /// Notes that a range has come to its end.
    pub(crate) fn range_ended(&self) {
        self.ranges_moved.fetch_add(1, Relaxed);
        *self.last_range.lock().expect("no panic while holding it") = Some(Instant::now());
    }

    pub(crate) fn pause(&self, reason: Option<String>) {
        *self.pause_reason.lock().expect("no panic while holding it") = reason;
    }

    pub(crate) fn add_initial_load(&self, units: f64) {
        self.history_milliunits.fetch_add((units * 1000.0) as u64, Relaxed);
        self.add_capacity(units);
    }

    /// Nothing of this table is pending.
    pub(crate) fn nothing_pending(&self) {
        self.waits(0, Duration::ZERO);
    }

    pub(crate) fn add_capacity(&self, units: f64) {
        self.capacity_milliunits.fetch_add((units * 1000.0) as u64, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_age_of_what_waits_grows_while_no_relay_looks() {
        let table = TableProgress::default();
        table.waits(3, Duration::from_secs(90));
        let first = table.oldest_ms();
        assert!((90_000..100_000).contains(&first), "{first}");
        while table.oldest_ms() == first {
            std::hint::spin_loop();
        }
        table.waits(0, Duration::ZERO);
        assert_eq!((table.pending(), table.oldest_ms()), (0, 0));
    }
}
