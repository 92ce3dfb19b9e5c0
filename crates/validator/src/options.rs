//! What a validation is asked to do.

use std::path::PathBuf;
use std::time::Duration;

use lockstep_core::Window;
use serde::{Deserialize, Serialize};

/// Settings of one validation.
#[derive(Clone, Debug)]
pub struct ValidateOptions {
    /// Only rows and items of these days; a table without a day column is compared whole. A report of a
    /// window says so.
    pub window: Window,
    /// Workers of each pass of each table. Also the most connections to the source used at once, and half the
    /// most requests to the target in flight, all tables together.
    pub parallel: usize,
    /// Most source rows of one chunk. Large rows make chunks smaller by themselves.
    pub chunk_rows: usize,
    /// Into how many segments a target table is cut for scanning.
    pub scan_segments: usize,
    /// How long a suspect may be on its way before it is given up as unsettled.
    pub settle_timeout: Duration,
    /// Whether someone delivers pending keys, so that waiting for them makes sense. If not, a suspect that is
    /// pending is counted as pending at once, and the verdict is not consistent.
    pub wait_for_pending: bool,
    /// Whether the caller has stopped all writers and the pending set has drained. Only then are counts of
    /// both sides comparable, and only then must nothing be pending at the end. While writers go on something
    /// always is; with `wait_for_pending` its number is then shown and not counted as a finding (see
    /// [`decide`](crate::decide)).
    pub quiescent: bool,
    /// By how much the counts of a table may differ when quiescent, dead letters and expired rows aside.
    pub count_tolerance: u64,
    /// The same in percent of the rows; the greater of both counts.
    pub count_tolerance_percent: f64,
    /// Most findings listed for each table; all are counted.
    pub findings_max: usize,
    /// About how much memory a table may take while it is compared, in bytes. What there is more goes to
    /// files; rows and pages under way come on top with `parallel`.
    pub memory_bytes: usize,
    /// Most read units a second taken from the target, all tables together, on average; `None` takes what it
    /// gives.
    pub read_units_per_s_max: Option<f64>,
    /// Where an unfinished run is kept, so that it goes on after its process was killed; `None` keeps
    /// nothing.
    pub kept: Option<Kept>,
    /// The number of this pass ([`begin`](crate::begin)), so that a later one can go on from it; `None` where
    /// none will.
    pub pass: Option<i64>,
    /// Only the keys that changed since the full pass, instead of everything.
    pub incremental: bool,
    /// Whether the caller has seen the reverse feed through after the last write to the target. Only then
    /// does the source know every item that changed in DynamoOnly, and only when `quiescent` does it stay so:
    /// an incremental pass wants both there.
    pub fed_through: bool,
    /// Only this number of rows and items, chosen by chance, instead of all of them. A report of a sample
    /// says so.
    pub sample: Option<Sample>,
    /// Whether other processes may read a part of it ([`help`](crate::help)), and how this one is known to
    /// them; `None` reads all of it here. What is shared is not kept, and the data itself is not judged.
    pub sharing: Option<Sharing>,
    /// Folders with exports of the target, one a table, whose items are read instead of the table's; none
    /// reads the table. Nothing of it is kept, and no gate takes the verdict.
    pub exports: Vec<PathBuf>,
    /// Whether findings show values that the table does not reveal. Such a report is for who may read the
    /// rows anyway.
    pub unmasked: bool,
    /// Whether the passes also judge the data itself: business rules, sums, daily counts, references. It
    /// costs decoding each item, and one statement a reference. A sample is too little to judge by.
    pub quality: bool,
    /// The seed of the digests, to compute those of an earlier report again; `None` takes one that cannot be
    /// known before.
    pub digest_seed: Option<u64>,
}

/// How a process takes part in a comparison that several share.
#[derive(Clone, Debug)]
pub struct Sharing {
    /// What people call it.
    pub name: String,
    /// How long it is believed without a word.
    pub lease: Duration,
}

/// How much of each table to look at, and which part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// Rows of the source to look up in the target, and as many items of the target to look up in the source.
    pub rows: usize,
    /// Decides which; the same seed takes the same ones while they are there.
    pub seed: i64,
}

/// Where and how an unfinished run is kept.
#[derive(Clone, Debug)]
pub struct Kept {
    /// A folder; each table has one of its own in it. No other account should be able to write there.
    pub folder: PathBuf,
    /// Whether to begin again, whatever an earlier run has left.
    pub restart: bool,
}

impl ValidateOptions {
    /// What the bytes of one chunk aim at, so that those under way and what they are decoded to stay within
    /// the memory.
    pub(crate) fn chunk_bytes(&self) -> usize {
        (self.memory_bytes / 64 / self.parallel.max(1)).clamp(64 << 10, 4 << 20)
    }
}

impl ValidateOptions {
    /// The same of all rows and items of all days, read now: for a caller for whom less proves nothing.
    ///
    /// 1. History is copied for a window of days, which is left in the configuration. 2. Everything is
    ///    copied, and the truth moves. 3. The last comparison is of those days, and completes over a row of
    ///    another one.
    #[must_use]
    pub fn of_everything(self) -> Self {
        let (window, sample, exports) = (Window::default(), None, Vec::new());
        Self { window, sample, exports, incremental: false, ..self }
    }

    /// By how much the count of the target may differ from this count of rows. The share is rounded down: a
    /// hundredth of nothing excuses nothing.
    pub(crate) fn tolerance_of(&self, rows: u64) -> u64 {
        let share = (rows as f64 * self.count_tolerance_percent / 100.0).floor() as u64;
        self.count_tolerance.max(share)
    }
}

impl Default for ValidateOptions {
    fn default() -> Self {
        Self {
            window: Window::default(),
            parallel: 4,
            chunk_rows: 1_000,
            scan_segments: 8,
            settle_timeout: Duration::from_secs(30),
            wait_for_pending: true,
            quiescent: false,
            count_tolerance: 0,
            count_tolerance_percent: 0.0,
            findings_max: 100,
            memory_bytes: 256 << 20,
            read_units_per_s_max: None,
            kept: None,
            pass: None,
            incremental: false,
            fed_through: false,
            sample: None,
            sharing: None,
            exports: Vec::new(),
            unmasked: false,
            quality: true,
            digest_seed: None,
        }
    }
}
