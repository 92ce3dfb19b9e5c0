//! Options of one validation, beside what is configured for all of them.

use std::time::Duration;

use lockstep_core::Window;
use lockstep_dynamo::ExportPlace;
use lockstep_postgres::Spending;
use serde::{Deserialize, Serialize};

use crate::settings::{Kept, ValidateSettings};

/// Options of one validation.
#[derive(Clone, Debug)]
pub struct ValidateOptions {
    /// Settings of all validations.
    pub settings: ValidateSettings,
    /// Only rows and items of these days; a table without a day column is compared whole. A report of a
    /// window says so.
    pub window: Window,
    /// Whether a relay delivers pending keys, so that waiting for them makes sense. If not, a suspect that is
    /// pending is counted as pending at once, and the verdict is not consistent.
    pub wait_for_pending: bool,
    /// Whether the caller has stopped all writers and the pending set has drained. Only then are counts of
    /// both sides comparable, and only then must nothing be pending at the end. While writers go on something
    /// always is; with `wait_for_pending` its number is then shown and not counted as a finding (see
    /// [`decide`](crate::decide)).
    pub quiescent: bool,
    /// Folder in which an unfinished run is kept, so that it goes on after its process was killed; `None`
    /// keeps nothing.
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
    /// them; `None` reads all of it here. A shared comparison is not kept, and the data itself is not judged.
    pub sharing: Option<Sharing>,
    /// Places of exports of the target, one a table, whose items are read instead of the table's; none
    /// reads the table. No gate takes the verdict.
    pub exports: Vec<ExportPlace>,
    /// Whether findings show values that the table does not reveal. Such a report is for who may read the
    /// rows anyway.
    pub unmasked: bool,
    /// Whether the passes also judge the data itself: business rules, sums, daily counts, references. It
    /// costs decoding each item, and one statement a reference. A sample is too little to judge by.
    pub quality: bool,
    /// Dollars that may be spent: at the cap it waits until more is allowed. `None` reads to its end,
    /// whatever that costs, as what a step, a repair or the end of a migration asks for has to.
    pub spending: Option<Spending>,
    /// The seed of the digests, to compute those of an earlier report again; `None` takes one that cannot be
    /// known before.
    pub digest_seed: Option<u64>,
}

/// Part of a process in a comparison that several share.
#[derive(Clone, Debug)]
pub struct Sharing {
    /// Name of the process, for people.
    pub name: String,
    /// Time for which it is believed without a word.
    pub lease: Duration,
}

/// Share of each table to look at, and which part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// Rows of the source to look up in the target, and as many items of the target to look up in the source.
    pub rows: usize,
    /// Decides which; the same seed takes the same ones while they are there.
    pub seed: i64,
}

impl ValidateOptions {
    /// Returns the same of all rows and items of all days, read now: for a caller for whom less proves
    /// nothing.
    ///
    /// 1. The initial load is copied for a window of days, which is left in the configuration. 2. Everything
    ///    is copied, and the truth moves. 3. The last comparison is of those days, and completes over a row
    ///    of another one.
    #[must_use]
    pub fn of_everything(self) -> Self {
        let (window, sample, exports) = (Window::default(), None, Vec::new());
        Self { window, sample, exports, incremental: false, ..self }
    }
}

impl From<ValidateSettings> for ValidateOptions {
    fn from(settings: ValidateSettings) -> Self {
        Self { settings, ..Self::default() }
    }
}

impl Default for ValidateOptions {
    fn default() -> Self {
        Self {
            settings: ValidateSettings::default(),
            window: Window::default(),
            wait_for_pending: true,
            quiescent: false,
            kept: None,
            pass: None,
            incremental: false,
            fed_through: false,
            sample: None,
            sharing: None,
            exports: Vec::new(),
            unmasked: false,
            quality: true,
            spending: None,
            digest_seed: None,
        }
    }
}
