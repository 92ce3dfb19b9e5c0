//! The data itself: daily counts, rules, references, sums.

use lockstep_validator::{Quality, Report, SumTotal};
use maud::{Markup, html};

use crate::chart;
use crate::text::count;

pub(crate) fn days(report: &Report) -> Markup {
    let with_days = report
        .tables
        .iter()
        .filter_map(|t| Some((&t.name, t.quality.as_ref().filter(|q| !q.days.is_empty())?)));
    let with_days: Vec<(&String, &Quality)> = with_days.collect();
    html! {
        @if !with_days.is_empty() {
            section {
                h2 { "Rows by day" }
                @for (name, quality) in with_days {
                    @let differing = quality.days.iter().filter(|day| day.source != day.target).count();
                    h3 { (name) }
                    (chart::paired(
                        &format!("Rows of {name} by day, in both stores"),
                        &quality.days.iter().map(|day| (day.day.as_str(), day.source, day.target)).collect::<Vec<_>>(),
                    ))
                    p class="note" {
                        (quality.days.len()) " days or months; "
                        @match (differing, quality.at_rest) {
                            (0, _) => "both stores have the same number of rows on each.",
                            (n, true) => { b { (n) " not with the same number of rows." } }
                            (n, false) => {
                                (n) " not with the same number of rows. Not every row was counted on both sides at rest, so this \
                                     is not counted as a finding."
                            }
                        }
                    }
                }
            }
        }
    }
}

pub(crate) fn quality(report: &Report) -> Markup {
    let rated: Vec<(&String, &Quality)> =
        report.tables.iter().filter_map(|t| Some((&t.name, t.quality.as_ref()?))).collect();
    html! {
        @if !rated.is_empty() {
            section class="breaks" {
                h2 { "Quality of the data" }
                p class="note" {
                    "Share of rows without a problem: Excellent from 99.99 %, Good from 99.9 %, Fair from 99 %, Poor from 95 %, else \
                     Critical; sums that differ at rest are Critical. What a row breaks in both stores was so before the migration."
                }
                @for (name, quality) in rated { (of_table(name, quality)) }
            }
        }
    }
}

fn of_table(name: &str, quality: &Quality) -> Markup {
    let rating = quality.rating.map_or_else(|| "not rated".to_owned(), |rating| rating.to_string());
    html! {
        h3 { (name) " " span class=(format!("rating r-{}", rating.to_lowercase())) { (rating) } }
        @if !quality.because.is_empty() { ul { @for why in &quality.because { li { (why) } } } }
        table class="rules" {
            thead { tr { th { "Rule" } th { "Broken in PostgreSQL" } th { "Broken in DynamoDB" } th { "For example" } } }
            tbody {
                @for rule in &quality.source.rules {
                    @let there = quality.target.rules.iter().find(|other| other.rule == rule.rule);
                    tr {
                        th scope="row" class="code" { (rule.rule) }
                        td { (count(rule.rows)) }
                        td { (count(there.map_or(0, |rule| rule.rows))) }
                        td class="code" { (rule.keys.iter().take(3).cloned().collect::<Vec<_>>().join(" ")) }
                    }
                }
                @for reference in &quality.references {
                    tr {
                        th scope="row" class="code" { (reference.column) " → " (reference.to) }
                        td { (reference.dangling.map_or_else(|| "not checked".to_owned(), count)) }
                        td { "–" }
                        td class="code" { (reference.keys.iter().take(3).cloned().collect::<Vec<_>>().join(" ")) }
                    }
                }
            }
        }
        @for sum in &quality.sums {
            p {
                b { (sum.name) } " by " (sum.by.join(", ")) ": " (count(sum.groups)) " groups, "
                @if sum.agrees() { "equal to the last digit in both stores. " }
                @else {
                    b { (count(sum.groups_differing)) " differ. " }
                    @if !quality.at_rest { "Not every row was added up on both sides at rest, so this is not counted as a finding. " }
                }
                "PostgreSQL " (total(&sum.source)) ", DynamoDB " (total(&sum.target)) "."
                @if sum.groups_cut { " There were too many groups to compare each." }
            }
            @if !sum.differing.is_empty() {
                table {
                    thead { tr { @for part in &sum.by { th class="words" { (part) } } th { "PostgreSQL" } th { "DynamoDB" } } }
                    tbody { @for group in sum.differing.iter().take(50) { tr {
                        @for part in &group.group { td class="code" { (part) } }
                        td { (total(&group.source)) } td { (total(&group.target)) }
                    } } }
                }
            }
        }
    }
}

fn total(total: &SumTotal) -> String {
    match &total.sum {
        Some(sum) => format!("{} rows, {sum}", count(total.rows)),
        None => format!("{} rows", count(total.rows)),
    }
}
