//! Counts of each table's comparison, and its findings.

use lockstep_validator::{Report, RowFinding, TableReport};
use maud::{Markup, html};

use crate::chart;
use crate::text::{count, percent};

pub(crate) fn coverage(report: &Report) -> Markup {
    html! {
        section {
            h2 { "Coverage" }
            table {
                thead { tr {
                    th { "Table" } th { "Rows" } th { "Items" } th { "Compared" } th { "of all" } th { "Equal" }
                    th { "Expired" } th { "Pending" } th { "Dead letters" } th { "To the end" }
                } }
                tbody { @for t in &report.tables { tr {
                    th scope="row" { (t.name) }
                    td { (count(t.source_count)) }
                    // Only a whole scan counts the items; an incremental pass makes one while no application
                    // writes.
                    td { @if report.sample.is_none() && (!report.incremental || t.target_count > 0) { (count(t.target_count)) } @else { "–" } }
                    td { (count(t.compared)) }
                    td { (percent(t.compared, t.source_count)) }
                    @for number in [t.equal, t.expired, t.pending] { td { (count(number)) } }
                    td { (count(t.dead_letters)) @if t.dead_letters_unacknowledged > 0 { " (" (t.dead_letters_unacknowledged) " open)" } }
                    td { @if t.complete { "yes" } @else { b { "no" } } }
                } } }
            }
            @for t in &report.tables {
                h3 { (t.name) }
                (chart::stacked(&format!("Results of the rows of {}", t.name), &classes(t)))
                @if let Some(failure) = &t.failure { p class="warning" { (failure) } }
            }
        }
    }
}

fn classes(t: &TableReport) -> [(&'static str, u64, &'static str); 8] {
    [
        ("equal", t.equal, "c-equal"),
        ("missing", t.missing, "c-missing"),
        ("different", t.different, "c-different"),
        ("extra", t.extra, "c-extra"),
        ("undecodable or foreign", t.undecodable, "c-undecodable"),
        ("unsettled", t.unsettled, "c-unsettled"),
        ("dead letters", t.dead_letters, "c-dead"),
        ("expired", t.expired, "c-expired"),
    ]
}

pub(crate) fn findings(report: &Report) -> Markup {
    let listed: Vec<(&str, &RowFinding)> = report
        .tables
        .iter()
        .flat_map(|t| t.findings.iter().map(|finding| (t.name.as_str(), finding)))
        .collect();
    let unlisted = report.findings_total().saturating_sub(listed.len() as u64);
    html! {
        section {
            h2 { "Findings" }
            @if listed.is_empty() && unlisted == 0 {
                p { "None: no row is missing, different, extra, undecodable or unsettled." }
            } @else {
                table class="wide" {
                    thead { tr { th { "Table" } th { "Class" } th { "Key" } th { "Field" } th { "PostgreSQL" } th { "DynamoDB" } } }
                    tbody { @for (table, finding) in &listed { (one(table, finding)) } }
                }
                @if unlisted > 0 { p { (count(unlisted)) " more were counted and are not listed." } }
            }
        }
    }
}

fn one(table: &str, finding: &RowFinding) -> Markup {
    let lines = finding.fields.len().max(1);
    html! {
        tr class="first" {
            th scope="row" rowspan=(lines) { (table) }
            td rowspan=(lines) { (finding.class) }
            td rowspan=(lines) class="code" {
                (finding.key)
                @if let Some(other) = &finding.shares_place_with {
                    ", one item for this row and that of " (other)
                }
            }
            @match finding.fields.first() {
                Some(field) => { td class="code" { (field.place()) } td { (field.source) } td { (field.target) } }
                None => { td class="code" { (finding.columns.join(", ")) } td {} td {} }
            }
        }
        @for field in finding.fields.iter().skip(1) {
            tr { td class="code" { (field.place()) } td { (field.source) } td { (field.target) } }
        }
    }
}
