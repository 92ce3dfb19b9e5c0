//! What a validation is asked to do.

use std::time::Duration;

use lockstep_core::source::Window;

/// Settings of one validation.
#[derive(Clone, Debug)]
pub struct ValidateOptions {
    /// Only rows and items of these days; a table without a day column is compared whole. A report of a window says so.
    pub window: Window,
    /// Workers of each pass of each table. Also the most connections to the source used at once, and half the most
    /// requests to the target in flight, all tables together.
    pub parallel: usize,
    /// Most source rows of one chunk. Large rows make chunks smaller by themselves.
    pub chunk_rows: usize,
    /// Into how many segments a target table is cut for scanning.
    pub scan_segments: usize,
    /// How long a suspect may be on its way before it is given up as unsettled.
    pub settle_timeout: Duration,
    /// Whether someone delivers pending keys, so that waiting for them makes sense. If not, a suspect that is pending is
    /// counted as pending at once, and the verdict is not consistent.
    pub wait_for_pending: bool,
    /// Whether the caller has stopped all writers and the pending set has drained. Only then are counts of both sides
    /// comparable, and only then must nothing be pending at the end. While writers go on something always is; with
    /// `wait_for_pending` its number is then shown and held against nobody (see [`decide`](crate::decide)).
    pub quiescent: bool,
    /// By how much the counts of a table may differ when quiescent, dead letters and expired rows aside.
    pub count_tolerance: u64,
    /// Most findings listed for each table; all are counted.
    pub findings_max: usize,
    /// Whether findings show values that the table does not reveal. Such a report is for who may read the rows anyway.
    pub unmasked: bool,
    /// Whether the passes also judge the data itself: business rules, sums, daily counts, references. It costs decoding each
    /// item, and one statement a reference.
    pub quality: bool,
    /// The seed of the digests, to compute those of an earlier report again; `None` takes one that nobody can know before.
    pub digest_seed: Option<u64>,
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
            findings_max: 100,
            unmasked: false,
            quality: true,
            digest_seed: None,
        }
    }
}
