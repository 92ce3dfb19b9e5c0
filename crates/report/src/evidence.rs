//! Evidence behind the verdict: latency, the way here, lag, and what was compared.

use std::collections::BTreeMap;

use lockstep_validator::Report;
use maud::{Markup, html};

use crate::text::{count, milliseconds, moment};
use crate::{TimelineMoment, chart};

/// Most entries of the journal that are shown, the newest.
const MOMENTS_MAX: usize = 60;

pub(crate) fn latency(report: &Report) -> Markup {
    html! {
        @if !report.latency.is_empty() {
            section {
                h2 { "Latency of the same queries" }
                table {
                    thead {
                        tr { th rowspan="2" { "Table" } th rowspan="2" class="words" { "Query" } th rowspan="2" { "Times" } th rowspan="2" { "Rows" }
                             th colspan="3" class="group" { "PostgreSQL, ms" } th colspan="3" class="group" { "DynamoDB, ms" }
                             th rowspan="2" class="words" { "DynamoDB is" } }
                        tr { @for _ in 0..2 { th { "p50" } th { "p95" } th { "p99" } } }
                    }
                    tbody { @for q in &report.latency { tr {
                        th scope="row" { (q.table) } td class="words" { (q.query) } td { (count(q.samples)) } td { (format!("{:.1}", q.rows_mean)) }
                        @for side in [&q.source, &q.target] {
                            @for ms in [side.p50_ms, side.p95_ms, side.p99_ms] { td { (milliseconds(ms)) } }
                        }
                        td class="words" { (q.improvement()) }
                    } } }
                }
                p class="note" { "One question at a time, answers decoded, from where the comparison ran." }
            }
        }
    }
}

pub(crate) fn timeline(moments: &[TimelineMoment]) -> Markup {
    let mut moments: Vec<&TimelineMoment> = moments.iter().collect();
    moments.sort_by_key(|moment| moment.at);
    let shown = &moments[moments.len().saturating_sub(MOMENTS_MAX)..];
    html! {
        @if !shown.is_empty() {
            section class="breaks" {
                h2 { "Timeline" }
                ol class="timeline" {
                    @for one in shown {
                        li class=(format!("k-{}", one.kind)) {
                            time { (moment(one.at)) } " "
                            span class="kind" { (one.kind) } " "
                            b { (one.step) }
                            @if !one.detail.is_empty() { " " (one.detail) }
                            span class="actor" { " " (one.actor) }
                        }
                    }
                }
                @if moments.len() > shown.len() { p class="note" { (moments.len() - shown.len()) " earlier entries are in the journal." } }
            }
        }
    }
}

pub(crate) fn lag(report: &Report) -> Markup {
    let mut series: BTreeMap<&str, Vec<(f64, f64)>> = BTreeMap::new();
    for sample in &report.lag {
        series.entry(&sample.table).or_default().push((sample.at_s, sample.pending as f64));
    }
    let series: Vec<(&str, Vec<(f64, f64)>)> = series.into_iter().collect();
    let oldest_s = report.lag.iter().map(|sample| sample.oldest_s).fold(0.0, f64::max);
    html! {
        @if report.lag.len() > report.tables.len() {
            section {
                h2 { "Lag while it was compared" }
                (chart::lines("Changes waiting for delivery during the comparison", &series, "keys"))
                p class="note" { "The oldest change waited for " (format!("{oldest_s:.1}")) " s." }
            }
        }
    }
}

pub(crate) fn manifest(report: &Report) -> Markup {
    let manifest = &report.manifest;
    html! {
        section class="breaks" {
            h2 { "Manifest" }
            p class="note" {
                "Scope of the comparison, so that it can be computed again. A digest is the sum, modulo 2¹²⁸, of the XXH3-128 hashes of all \
                 rows as items, under the seed; the order of reading does not matter. " code { "validate --digest-seed SEED" }
                " over the same rows gives the same digest."
            }
            dl class="facts" {
                div { dt { "Configuration (SHA-256, secrets masked)" }
                    dd class="code" { (manifest.configuration_sha256.as_deref().unwrap_or("not given")) } }
                div { dt { "Ended" } dd { (manifest.ended_at.map_or_else(|| "unknown".to_owned(), moment)) } }
            }
            @for t in &manifest.tables {
                h3 { (t.name) }
                dl class="manifest" {
                    dt { "Compared" } dd { code { (t.source) } " with " code { (t.target) } ", scanned in " (t.scan_segments) " segments" }
                    @if !t.layout.is_empty() { dt { "Layout" } dd class="code" { (t.layout) } }
                    dt { "Columns" } dd class="code" { (t.columns.join(", ")) }
                    @if let Some(d) = &t.digests {
                        dt { "Seed" } dd class="code" { (d.seed) }
                        dt { "PostgreSQL" } dd class="code" { (d.source) " (" (count(d.source_rows)) " rows)" }
                        dt { "DynamoDB" } dd class="code" { (d.target) " (" (count(d.target_rows)) " items)" }
                    } @else {
                        dt { "Digests" } dd { "none: the table was not read to the end" }
                    }
                }
            }
        }
    }
}
