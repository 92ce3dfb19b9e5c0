//! The whole page, in the order in which one reads it: the verdict first.

use lockstep_validator::{Report, TableReport, Verdict};
use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::text::{count, moment, seconds};
use crate::{ReportPage, evidence, quality, tables};

/// Embedded: the page has nothing beside it.
const STYLE: &str = include_str!("style.css");

pub(crate) fn page(page: &ReportPage<'_>) -> Markup {
    let report = page.report;
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                // A reader's browser asks no server and runs nothing, whatever a name in it says.
                meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'";
                title { "Lockstep: " (report.verdict.label()) ", " (moment(report.started_at)) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    p class="product" { "Lockstep" }
                    h1 { "Consistency of PostgreSQL and DynamoDB" }
                    (verdict(report))
                }
                main {
                    (tables::coverage(report))
                    (tables::findings(report))
                    (quality::days(report))
                    (quality::quality(report))
                    (evidence::latency(report))
                    (evidence::timeline(page.timeline))
                    (evidence::lag(report))
                    (evidence::manifest(report))
                }
                footer {
                    "Made " (moment(page.made_at)) " by Lockstep " (report.manifest.lockstep_version)
                    ". Report schema " (report.schema_version)
                    ". Values of fields are masked unless the table's definition reveals them or they were asked for."
                }
            }
        }
    }
}

fn verdict(report: &Report) -> Markup {
    let (class, sign, word, sentence) = match &report.verdict {
        Verdict::Consistent if report.is_whole() => {
            ("good", "✓", "Consistent", "Every row of both stores was compared, and they agree.")
        }
        Verdict::Consistent => {
            ("good", "✓", "Consistent as far as it was compared", "All that was compared agrees.")
        }
        Verdict::Inconsistent { .. } => {
            ("bad", "✕", "Not consistent", "The stores differ, or something was left undone.")
        }
        Verdict::Incomplete { .. } => {
            ("open", "!", "Not shown to be consistent", "Not everything was compared.")
        }
    };
    let sum = |of: fn(&TableReport) -> u64| -> u64 { report.tables.iter().map(of).sum() };
    let resumed = sum(|table| table.rows_resumed);
    html! {
        section class=(format!("verdict {class}")) aria-label="Verdict" {
            div class="sign" aria-hidden="true" { (sign) }
            div {
                p class="word" { (word) }
                p { (sentence) }
                @if report.accepted() > 0 {
                    p {
                        "But for " (report.accepted()) " dead letters: PostgreSQL stays without that state "
                        "of these items, as was accepted."
                    }
                }
                @if !report.verdict.reasons().is_empty() {
                    ul { @for reason in report.verdict.reasons() { li { (reason) } } }
                }
                @if report.window_start.is_some() || report.window_end.is_some() {
                    p { b { "Only a window of days was compared." } }
                }
                @if report.incremental {
                    p { b {
                        "Every row was compared as of the time below; since then the " (count(sum(|table| table.keys_changed)))
                        " keys that changed, again."
                    } }
                }
                @if report.from_export {
                    p { b {
                        "Exports of the target were read, and each key that differs from them in both \
                         stores: a fault after the time below may have been overlooked."
                    } }
                }
                @if let Some(sample) = report.sample {
                    p { b {
                        "Only a sample was compared: " (count(sum(|table| table.rows_sampled))) " rows and "
                        (count(sum(|table| table.items_sampled))) " items, chosen by seed " (sample.seed) "."
                    } }
                }
            }
        }
        dl class="facts" {
            div { dt { "Rows compared" } dd { (count(sum(|table| table.compared))) } }
            div { dt { "Findings" } dd { (count(report.findings_total())) } }
            div { dt { "Begun" } dd { (moment(report.started_at)) } }
            div { dt { "Took" } dd { (seconds(report.duration_s)) } }
            @if let Some(as_of) = report.as_of() { div { dt { "As of" } dd { (moment(as_of)) } } }
            @if resumed > 0 { div { dt { "Read by an earlier part" } dd { (count(resumed)) " rows" } } }
            div { dt { "Phase" } dd {
                (report.phase.map_or_else(|| "unknown".to_owned(), |phase| phase.to_string()))
                @if let Some(epoch) = report.epoch { " (epoch " (epoch) ")" }
            } }
            div { dt { "Days" } dd {
                @match (report.window_start, report.window_end) {
                    (None, None) => "all",
                    (start, end) => {
                        (start.map_or_else(|| "…".to_owned(), moment)) " to " (end.map_or_else(|| "…".to_owned(), moment))
                    }
                }
            } }
        }
    }
}
