//! Findings of a command, for people (tables) and for programs (JSON).
//!
//! JSON goes to stdout as one document and nothing else does; fields are added, never renamed.

mod migrate;
mod table;

pub(crate) use migrate::{Leg, LiveWrites, MigrateReport, MigrateTable, Stage};
pub(crate) use table::{key_values, table};

use std::io::Write;

use chrono::{DateTime, Utc};
use lockstep_validator::{CountReport, Report, TableReport, Verdict};
use serde::Serialize;

use crate::ui::{printable, printable_json};
use serde_json::{Value, json};

use crate::config::mask_passwords;
use crate::exit::Exit;
use crate::program::spoken;
use crate::ui::{count, seconds};

/// Most findings and reasons shown to people; the JSON report has all that were listed.
const SHOWN_MAX: usize = 10;

/// Prints `report` as JSON, alone on stdout.
pub fn print_json(report: &impl Serialize) {
    match serde_json::to_string_pretty(report) {
        Ok(text) => write(&printable_json(&text)),
        Err(error) => tracing::error!("a report could not be written as JSON: {error}"),
    }
}

/// Prints to stdout. A reader who went away is no reason to fail: the work is done.
pub fn print(text: &str) {
    write(&printable(&spoken(text)));
}

fn write(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Returns an error and what caused it, as one line, without passwords and without saying anything twice.
pub fn sentence(error: &anyhow::Error) -> String {
    let mut sentence = String::new();
    for cause in error.chain() {
        let part = cause.to_string();
        if sentence.is_empty() {
            sentence = part;
        } else if !sentence.contains(&part) {
            sentence = format!("{sentence}: {part}");
        }
        if let Some(of_store) = of_store(cause) {
            // It says already what the driver said, and less of it: a driver adds places in the store's own
            // source, and may add values.
            if of_store.sqlstate().as_deref() == Some("42501") {
                sentence +=
                    "; `grants --role operator`, `application` or `read-only` prints what a role needs";
            }
            break;
        }
    }
    mask_passwords(&sentence)
}

fn of_store<'a>(cause: &'a (dyn std::error::Error + 'static)) -> Option<&'a lockstep_core::Error> {
    match cause.downcast_ref() {
        Some(lockstep_coordinator::CoordinatorError::Store(error)) => Some(error),
        _ => cause.downcast_ref(),
    }
}

/// Returns an error as a report.
pub(crate) fn error(error: &anyhow::Error, exit: Exit) -> Value {
    let gates = error.chain().find_map(|cause| {
        match cause.downcast_ref::<lockstep_coordinator::CoordinatorError>() {
            Some(lockstep_coordinator::CoordinatorError::Refused(report)) => Some(json!(report.results)),
            _ => None,
        }
    });
    json!({ "error": sentence(error), "exit_code": exit as u8, "gates": gates })
}

/// Returns the exit code of a comparison. A store that could not be reached ends every command alike: a
/// script that waits for it and tries again must not take this for rows that differ.
pub(crate) fn exit_of_report(report: &Report) -> Exit {
    exit_of_verdict(&report.verdict, report.is_cut_short())
}

/// The same of a verdict, and of whether a store kept the comparison from its end.
pub(crate) fn exit_of_verdict(verdict: &Verdict, is_cut_short: bool) -> Exit {
    match verdict.is_consistent() {
        true => Exit::Done,
        false if is_cut_short => Exit::Infrastructure,
        false => Exit::NotConsistent,
    }
}

/// Returns the one line that everything comes to.
pub(crate) fn verdict_line(verdict: &Verdict, incremental: bool) -> String {
    let word = match verdict {
        Verdict::Consistent if incremental => {
            "CONSISTENT: every row of both sides was compared, then every key that changed since, and they agree"
        }
        Verdict::Consistent => "CONSISTENT: every row of both sides was compared, and they agree",
        Verdict::Inconsistent { .. } => "NOT CONSISTENT",
        Verdict::Incomplete { .. } => "NOT SHOWN TO BE CONSISTENT: not everything was compared",
    };
    let mut line = format!("Verdict: {word}");
    for reason in verdict.reasons().iter().take(SHOWN_MAX) {
        line += &format!("\n  - {reason}");
    }
    if let Some(more) = verdict.reasons().len().checked_sub(SHOWN_MAX).filter(|more| *more > 0) {
        line += &format!("\n  - and {more} more (--json has all of them)");
    }
    line
}

/// Returns a validation, for people.
pub(crate) fn validation(report: &Report) -> String {
    let headers = [
        "table",
        "source",
        "target",
        "equal",
        "missing",
        "different",
        "extra",
        "expired",
        "other",
        "pending",
        "dead letters",
    ];
    let rows = report.tables.iter().map(|t| {
        let other = t.undecodable + t.unsettled;
        let numbers = [
            t.source_count,
            t.target_count,
            t.equal,
            t.missing,
            t.different,
            t.extra,
            t.expired,
            other,
            t.pending,
            t.dead_letters,
        ];
        let mut cells: Vec<String> = std::iter::once(t.name.clone()).chain(numbers.map(count)).collect();
        cells[2] = target_count(report, t).map_or_else(not_counted, count);
        cells
    });
    let mut text = table(&headers, rows);
    text += &findings(report);
    text += &quality(report);
    if !report.latency.is_empty() {
        text = format!("{text}\n{}", latency(report));
    }
    let resumed: u64 = report.tables.iter().map(|t| t.rows_resumed).sum();
    let as_of = report.as_of().map(|at| format!(", as of {}", at.format("%F %T UTC"))).unwrap_or_default();
    let resumed = if resumed > 0 {
        format!(", {} rows of them read by an earlier part", count(resumed))
    } else {
        String::new()
    };
    let line = match scope(report) {
        None => verdict_line(&report.verdict, report.incremental),
        Some(scope) if report.verdict.is_consistent() => {
            format!("Verdict: CONSISTENT as far as it was compared: {scope}")
        }
        Some(scope) => format!("{}\n  ({scope})", verdict_line(&report.verdict, report.incremental)),
    };
    let line = match report.accepted() {
        0 => line,
        accepted => format!(
            "{line}\n  (but for {} dead letters: PostgreSQL stays without that state of these items, as was \
             accepted)",
            count(accepted)
        ),
    };
    let letters = report.tables.iter().map(|table| table.dead_letters).sum::<u64>() - report.accepted();
    let line = match report.verdict.is_consistent() && letters > 0 {
        true => format!(
            "{line}\n  (but for {} dead letters: no item can hold these rows, as was acknowledged)",
            count(letters)
        ),
        false => line,
    };
    format!("{text}\n{line}, in {}{as_of}{}{resumed}", seconds(report.duration_s), carried_on(report))
}

/// Writes what was found of each table, and where the two sides differ.
fn findings(report: &Report) -> String {
    let mut text = String::new();
    for t in &report.tables {
        for finding in t.findings.iter().take(SHOWN_MAX) {
            let columns = if finding.columns.is_empty() {
                String::new()
            } else {
                format!(" ({})", finding.columns.join(", "))
            };
            let shares = match &finding.shares_place_with {
                Some(other) => format!(", one item for this row and that of {other}"),
                None => String::new(),
            };
            text += &format!("\n  {} {} {}{columns}{shares}", t.name, finding.class, finding.key);
            for field in &finding.fields {
                text += &format!(
                    "\n      {}: {} in PostgreSQL, {} in DynamoDB",
                    field.place(),
                    field.source,
                    field.target
                );
            }
        }
    }
    text
}

fn quality(report: &Report) -> String {
    let mut text = String::new();
    for (name, quality) in report.tables.iter().filter_map(|t| Some((&t.name, t.quality.as_ref()?))) {
        let rating = quality.rating.map_or_else(|| "not rated".to_owned(), |rating| rating.to_string());
        text += &format!("\n  {name}: quality {rating}");
        for why in quality.because.iter().take(SHOWN_MAX) {
            text += &format!("\n      {why}");
        }
    }
    text
}

/// Writes what each query took on both sides.
fn latency(report: &Report) -> String {
    let headers = [
        "table",
        "query",
        "times",
        "PostgreSQL p50",
        "p95",
        "p99",
        "DynamoDB p50",
        "p95",
        "p99",
        "DynamoDB is",
    ];
    let rows = report.latency.iter().map(|q| {
        let both = [
            q.source.p50_ms,
            q.source.p95_ms,
            q.source.p99_ms,
            q.target.p50_ms,
            q.target.p95_ms,
            q.target.p99_ms,
        ];
        let first = [q.table.clone(), q.query.clone(), count(q.samples)];
        first.into_iter().chain(both.map(|ms| format!("{ms:.2} ms"))).chain([q.improvement()]).collect()
    });
    table(&headers, rows)
}

/// Counts, for people: every table, and the days that differ.
pub(crate) fn counts(report: &CountReport) -> String {
    let headers = ["table", "day", "source", "target", "pending", "dead letters", "read units"];
    let mut rows = Vec::new();
    for t in &report.tables {
        let numbers = [t.source_count, t.target_count, t.pending, t.dead_letters].map(count);
        let all = [t.name.clone(), "all".to_owned()]
            .into_iter()
            .chain(numbers)
            .chain([format!("{:.1}", t.read_units)]);
        rows.push(all.collect());
        for day in t.days.iter().filter(|day| day.source_count != day.target_count).take(SHOWN_MAX) {
            let numbers = [day.source_count, day.target_count].map(count);
            rows.push(
                [String::new(), day.day.clone()]
                    .into_iter()
                    .chain(numbers)
                    .chain([(); 3].map(|()| String::new()))
                    .collect(),
            );
        }
    }
    let line = if report.agrees { "The counts agree" } else { "THE COUNTS DIFFER; `validate` says where" };
    let percent = match report.tolerance_percent {
        0.0 => String::new(),
        percent => format!(", or {percent} % of the rows where that is more"),
    };
    format!("{}\n{line}, with a tolerance of {}{percent}", table(&headers, rows), report.tolerance)
}

/// Live items of the target, where they were counted: an incremental pass does so only while no application
/// writes.
pub(crate) fn target_count(report: &Report, table: &TableReport) -> Option<u64> {
    (!report.incremental || table.target_count > 0).then_some(table.target_count)
}

/// Stands where nothing was counted.
pub(crate) fn not_counted() -> String {
    "-".to_owned()
}

/// Writes how old the full pass is, and how far it was carried on.
fn carried_on(report: &Report) -> String {
    let until = report.tables.iter().filter_map(|t| t.verified_as_of).min().filter(|_| report.incremental);
    let keys: u64 = report.tables.iter().map(|t| t.keys_changed).sum();
    until.map_or_else(String::new, |until| {
        format!("; {} keys that changed since, until {}", count(keys), until.format("%F %T UTC"))
    })
}

/// Writes the days of a window; `None` where it leaves nothing out.
pub(crate) fn days(start: Option<DateTime<Utc>>, end: Option<DateTime<Utc>>) -> Option<String> {
    let at = |at: DateTime<Utc>| at.format("%F %T UTC").to_string();
    let bounds = [start.map(|from| format!("from {}", at(from))), end.map(|to| format!("before {}", at(to)))];
    let bounds: Vec<String> = bounds.into_iter().flatten().collect();
    (!bounds.is_empty()).then(|| bounds.join(", "))
}

/// Writes which days were searched, where the backfill leaves some out. 1. It copies the days of a window. 2.
/// A search compares those, says that there is nothing to repair, and is taken for one of everything.
pub(crate) fn searched(start: Option<DateTime<Utc>>, end: Option<DateTime<Utc>>) -> Option<String> {
    let days = days(start, end)?;
    Some(format!("only rows and items {days} were compared, as the window of the backfill says"))
}

/// Writes what was compared, where that is not everything; `None` where it is.
fn scope(report: &Report) -> Option<String> {
    let mut parts = Vec::new();
    if let Some(sample) = report.sample {
        let (rows, items) =
            report.tables.iter().fold((0, 0), |(r, i), t| (r + t.rows_sampled, i + t.items_sampled));
        let equal: u64 = report.tables.iter().map(|t| t.equal).sum();
        let rate = 100.0 * equal as f64 / rows.max(1) as f64;
        let extra: u64 = report.tables.iter().map(|t| t.extra).sum();
        let (rows, items, seed) = (count(rows), count(items), sample.seed);
        let without =
            if extra > 0 { format!(", {} of the items without a row", count(extra)) } else { String::new() };
        parts.push(format!(
            "{rows} rows and {items} items, chosen by seed {seed} ({rate:.2} % of the rows equal{without})"
        ));
    }
    parts.extend(days(report.window_start, report.window_end));
    parts.extend(
        report.seed_given.then(|| "under a seed that was given, so that no gate takes it".to_owned()),
    );
    parts.extend(
        report.from_export.then(|| "exports of the target, and each key that differs from them".to_owned()),
    );
    (!parts.is_empty()).then(|| format!("only {}", parts.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_a_store_is_said_once_and_without_the_places_that_its_driver_names() {
        let mut of_store = lockstep_core::Error::source(
            lockstep_core::Kind::Denied,
            "reading payments",
            "permission denied",
        );
        of_store.cause = Some(Box::new(std::io::Error::other("permission denied, at line 3655 of acl.c")));
        let said = of_store.to_string();
        let coordinator = lockstep_coordinator::CoordinatorError::Store(of_store);
        let error = anyhow::Error::from(coordinator).context("while comparing");
        assert_eq!(sentence(&error), format!("while comparing: {said}"));
    }
}
