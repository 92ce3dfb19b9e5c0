//! The report as one page that can be sent to an auditor (R29).
//!
//! One file, no script and nothing from a network: what is in it is what was seen. It knows the validator's
//! report and nothing of stores; what else it shows is given to it as plain values. Every value is escaped,
//! and values are masked before they come here.
//!
//! Read the modules in this order: [`ReportPage`] here; `page` (the whole, in the order of reading); `tables`
//! (coverage and findings); `quality`; `evidence` (latency, timeline, lag, manifest); `chart` (the drawings);
//! `text` (numbers and moments).

mod chart;
mod evidence;
mod page;
mod quality;
mod tables;
mod text;

#[cfg(test)]
mod tests;

use chrono::{DateTime, Utc};
use lockstep_validator::Report;

/// Parts of which a page is made.
#[derive(Clone, Copy, Debug)]
pub struct ReportPage<'a> {
    /// Report of a comparison.
    pub report: &'a Report,
    /// Moments of the migration before, in any order.
    pub timeline: &'a [TimelineMoment],
    /// Time at which the page is made.
    pub made_at: DateTime<Utc>,
}

/// An entry of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimelineMoment {
    /// Time of the moment.
    pub at: DateTime<Utc>,
    /// `intent`, `done`, `undone`, `refused` or `note`.
    pub kind: String,
    /// Description of what happened.
    pub step: String,
    /// More of it, if there is more to say.
    pub detail: String,
    /// Operator or process that did it.
    pub actor: String,
}

/// Returns the page as HTML.
pub fn html(page: &ReportPage<'_>) -> String {
    page::page(page).into_string()
}
