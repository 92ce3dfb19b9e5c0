//! The validator: every row of both stores compared, field by field, while writers go on.
//!
//! Words: the *source pass* reads every row once, the *target pass* every item once; each makes a *print* of
//! what it reads and adds it to the *ledger*, whose *buckets* are sums. Where two buckets differ, their
//! entries are compared one by one. A *suspect* is a key on which the two stores did not agree when the
//! passes came by. A suspect that is still in disagreement when it has *come to rest*, that is, when nothing
//! of it is on its way any more, is a *finding*. A *verdict* is what all of that comes to; it never says
//! consistent while something was not compared, failed, or waits unacknowledged (I11).
//!
//! There is no write path to rows or items here. Findings are repaired by the relay, and the verdict is
//! recorded by the caller. Only [`begin`] and [`record`] write, into Lockstep's own tables, what a later pass
//! may go on from, and processes that share a comparison what they hand to each other; and every one
//! notes what it reads of DynamoDB.
//!
//! Read the modules in this order; each names only those before it, which a test keeps. `settings`,
//! `options`, `evidence` (what is configured, what one run is asked, what it can show); `pace`, `bill` and
//! `reader` (how stores are asked, and what that costs); `private`, `print` and `ledger` (what is compared);
//! `quality`; what comes out: `table_report`, `counts`, [`decide`] in `verdict`, [`Report`] in `report`,
//! `verified` (what a later pass goes on from); `progress`, `diff` (what two stores are to be, pure),
//! `tasks`, `name`, `suspect`, `tally`; `table_run` (what the passes of one table share); `source_pass` and
//! `target_pass` (or `export_pass`), `keep` (what survives us), or `sample` instead of both; `recheck`;
//! `count_pass`; `incremental`; and the composition: `shared` (one table by several processes), `comparison`
//! (one table to its end), `run` for all, `keys` for single ones, `count` for counts alone.
//!
//! ```no_run
//! # use lockstep_dynamo::Target;
//! # use lockstep_postgres::{Source, TableBinding};
//! # async fn example(source: Source, target: Target, tables: Vec<TableBinding>) {
//! use lockstep_validator::{
//!     CancellationToken, ValidateOptions, ValidateSettings, ValidationProgress, validate,
//! };
//!
//! let progress = ValidationProgress::new(&tables);
//! let options = ValidateOptions::from(ValidateSettings { parallel: 8, ..ValidateSettings::default() });
//! let report = validate(&source, &target, &tables, &options, &progress, &CancellationToken::new()).await;
//! for reason in report.verdict.reasons() {
//!     println!("{}: {reason}", report.verdict.label());
//! }
//! # }
//! ```

mod evidence;
mod options;
mod progress;
mod report;
mod settings;
mod table_report;
mod verdict;

mod counts;
mod diff;

mod bill;
mod pace;
mod reader;
mod tasks;

mod name;
mod suspect;
mod tally;

mod keep;
mod ledger;
mod print;
mod private;

mod count;
mod count_pass;
mod export_pass;
mod incremental;
mod sample;
mod source_pass;
mod target_pass;

mod recheck;

mod quality;

mod comparison;
mod keys;
mod run;
mod shared;
mod table_run;
mod verified;

#[cfg(test)]
mod tests;

// A future is compiled where it is polled; in a box, it is compiled here and not once more in each crate
// above.
pub(crate) use async_recursion::async_recursion as boxed;

pub use count::{CountReport, DayCounts, TableCount, count};
pub use evidence::{
    Digests, ExportSeen, LagSample, Manifest, ManifestTable, Percentiles, QueryLatency, SCHEMA_VERSION,
};
pub use keys::{report_of_keys, validate_keys};
pub use options::{Sample, Sharing, ValidateOptions};
pub use private::{private_file, private_folder};
pub use progress::{ProgressSnapshot, TableValidationProgress, ValidationProgress};
pub use quality::{
    DayCount, GroupDifference, Quality, QualityRating, ReferenceCheck, RuleCount, SideQuality, SumCheck,
    SumTotal, rate,
};
pub use report::Report;
pub use run::validate;
pub use settings::{Kept, ValidateSettings};
pub use shared::{Helped, HelpedTable, help};
pub use table_report::{FindingClass, RowFinding, TableReport};
pub use verdict::{Verdict, decide};
pub use verified::{begin, record, record_base, record_found, starting_point};

pub use tokio_util::sync::CancellationToken;
