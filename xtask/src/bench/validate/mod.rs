//! `bench validate`: a full comparison against prepared scan pages, beside the limits of the same run.
//!
//! In reading order: this file (what is measured and printed), [`pages`] (what the target answers),
//! [`measured`] (the measured process).

pub mod measured;
pub mod pages;

use std::sync::Arc;

use anyhow::Context;
use lockstep_embedded::{Postgres, PostgresOptions};
use serde::Serialize;

use super::machine::{self, Ticks};
use super::null_target::NullTarget;
use super::replay::replay;
use super::served::Served;
use super::subject::Subject;
use super::{limits, rows};
use measured::Compared;

/// Items that are made to differ in a run of its own.
const SPOILED: [u64; 2] = [0, 10];
/// Connections of the raw download; the validator has as many requests in flight.
const CONNECTIONS: usize = 8;
/// Part of a raw `COPY` that a comparison should reach (R56).
const COPY_GOAL: f64 = 0.65;

/// One size of table, the best of some rounds.
#[derive(Debug, Serialize)]
pub struct SizeReport {
    /// Rows of the table.
    pub rows: u64,
    /// The comparison of equal sides, then the one with differences.
    pub compared: Vec<Compared>,
    /// Items that were made to differ in each of them.
    pub spoiled: Vec<u64>,
    /// The same table declared, and a declared one of 300 columns, both of equal sides.
    pub others: Vec<OtherReport>,
    /// Rows a second of a raw binary `COPY`.
    pub raw_copy_rows_per_s: f64,
    /// Items a second of downloading the same pages and forgetting them.
    pub raw_pages_rows_per_s: f64,
    /// The comparison of equal sides as a part of the raw `COPY`; at least 0.65 is wanted (R56).
    pub of_raw_copy: f64,
    /// The same of whichever limit is slower, the `COPY` or the pages.
    pub of_slower_limit: f64,
    /// Share of the processor time that the machine's host gave to others meanwhile, from 0 to 1, where the
    /// platform tells.
    pub stolen: Option<f64>,
}

/// A table of another kind, in the same run.
#[derive(Debug, Serialize)]
pub struct OtherReport {
    /// Name of the table.
    pub subject: &'static str,
    /// Number of its columns.
    pub columns: usize,
    /// The comparison.
    pub compared: Compared,
    /// Rows a second as a share of those of the table in Rust.
    pub of_typed: f64,
    /// Columns a second as a share of those of the table in Rust.
    pub columns_of_typed: f64,
}

/// Measures tables of `sizes` rows, each in `rounds` rounds, and prints what was seen, as text or as JSON.
///
/// # Errors
/// The stores'.
pub async fn run(sizes: &[u64], rounds: u32, json: bool) -> anyhow::Result<()> {
    let mut reports = Vec::new();
    for size in sizes {
        eprintln!("loading {size} rows");
        let postgres = Postgres::start(PostgresOptions::default()).await?;
        rows::create(postgres.url(), *size).await?;
        rows::add_others(postgres.url(), size.div_ceil(rows::WIDE_PART)).await?;
        reports.push(measure(postgres.url(), *size, rounds.max(1)).await?);
        postgres.stop().await?;
    }
    match json {
        true => println!(
            "{}",
            serde_json::to_string_pretty(&serde_json::json!({ "rounds": rounds, "sizes": reports }))?
        ),
        false => reports.iter().for_each(print),
    }
    Ok(())
}

async fn measure(url: &str, size: u64, rounds: u32) -> anyhow::Result<SizeReport> {
    let begun = Ticks::now();
    let (mut compared, mut raw_pages, mut raw_copy) = (Vec::new(), None, None);
    for spoiled in SPOILED {
        eprintln!("preparing pages of {size} items, {spoiled} of them different");
        let pages = Arc::new(pages::of_source(url, Subject::Typed, spoiled).await?);
        let (requests, per_page) = (pages.requests(), pages.items_per_page()?);
        let null = Served::start(NullTarget::new().replaying(pages)).await?;
        let mut best = None;
        for round in 1..=rounds {
            eprintln!("comparing, round {round}");
            let one = measured::spawn(url, &null.url, Subject::Typed).await?;
            anyhow::ensure!(
                one.rows == size && one.items == size,
                "{} rows and {} items were read",
                one.rows,
                one.items
            );
            anyhow::ensure!(one.findings == spoiled, "{} findings of {spoiled}", one.findings);
            best = Some(one.better_than(best));
            let raw = replay(null.address, &requests, CONNECTIONS, requests.len())
                .await
                .context("downloading pages")?;
            anyhow::ensure!(raw.refused == 0, "{} pages were refused", raw.refused);
            raw_pages = machine::better(raw_pages, raw.requests_per_s() * per_page);
            raw_copy =
                machine::better(raw_copy, limits::raw_copy(url, &Subject::Typed.relation(), size).await?);
        }
        compared.extend(best);
        null.stop().await?;
    }
    let typed: &Compared = compared.first().context("equal sides were compared")?;
    let rate = typed.rows_per_s();
    let others = others(url, rate, rounds).await?;
    let none = "a round was measured";
    let (raw_copy, raw_pages) = (raw_copy.context(none)?, raw_pages.context(none)?);
    Ok(SizeReport {
        rows: size,
        others,
        compared,
        spoiled: SPOILED.to_vec(),
        raw_copy_rows_per_s: raw_copy,
        raw_pages_rows_per_s: raw_pages,
        of_raw_copy: rate / raw_copy,
        of_slower_limit: rate / raw_copy.min(raw_pages),
        stolen: machine::stolen_since(begun),
    })
}

/// The tables of other kinds, beside `typed` rows a second of the table in Rust.
async fn others(url: &str, typed: f64, rounds: u32) -> anyhow::Result<Vec<OtherReport>> {
    let mut reports = Vec::new();
    for subject in Subject::OTHERS {
        let pages = Arc::new(pages::of_source(url, subject, 0).await?);
        let null = Served::start(NullTarget::new().replaying(pages)).await?;
        let mut best = None;
        for round in 1..=rounds {
            eprintln!("comparing {}, round {round}", subject.name());
            let one = measured::spawn(url, &null.url, subject).await?;
            anyhow::ensure!(one.findings == 0, "{} findings of none", one.findings);
            best = Some(one.better_than(best));
        }
        null.stop().await?;
        let compared = best.context("a round was measured")?;
        let of_typed = compared.rows_per_s() / typed;
        reports.push(OtherReport {
            subject: subject.name(),
            columns: subject.columns(),
            compared,
            of_typed,
            columns_of_typed: of_typed * subject.columns() as f64 / Subject::Typed.columns() as f64,
        });
    }
    Ok(reports)
}

fn print(size: &SizeReport) {
    println!(
        "\nfull comparison of {} rows with prepared pages, the best of some rounds, ratios of this one run",
        size.rows
    );
    let slower = size.raw_copy_rows_per_s.min(size.raw_pages_rows_per_s);
    for (one, spoiled) in size.compared.iter().zip(&size.spoiled) {
        let memory =
            one.peak_kib.map_or_else(|| "unknown".to_owned(), |kib| format!("{:.0} MB", kib as f64 / 1024.0));
        println!(
            "  {spoiled:>3} differences {:>9.0} rows/s   {:>5.2} of the slower limit   {} of {} buckets read again   peak memory {memory}",
            one.rows_per_s(),
            one.rows_per_s() / slower,
            one.buckets_differing,
            one.buckets,
        );
    }
    println!(
        "  raw COPY        {:>9.0} rows/s   (one connection, binary, discarded); \
         {:.2} of it is reached, {COPY_GOAL} is wanted",
        size.raw_copy_rows_per_s, size.of_raw_copy
    );
    println!(
        "  raw pages       {:>9.0} rows/s   (the same pages over plain connections, discarded)",
        size.raw_pages_rows_per_s
    );
    for other in &size.others {
        println!(
            "  {:<15} {:>9.0} rows/s   {:>5.2} of the table in Rust by rows, {:>5.2} by columns ({} of {})",
            other.subject,
            other.compared.rows_per_s(),
            other.of_typed,
            other.columns_of_typed,
            other.columns,
            other.compared.rows,
        );
    }
    machine::print(size.stolen);
}
