//! `bench scale`: what more workers bring where waiting is the limit, as it is on a real network, and not the
//! two cores.
//!
//! A worker is a process of its own, as `lockstep worker` is, with one request in flight: it waits for the
//! target most of the time, so that one machine has processors enough for four of them, also in a build that
//! is not optimised. What is seen is whether they hold each other up at the source: its connections, the
//! leases, the watermarks.

mod crew;

use std::time::Duration;

use anyhow::Context;
use lockstep_coordinator::BackfillOptions;
use lockstep_embedded::{Postgres, PostgresOptions};
use serde::Serialize;

use super::machine::{self, Ticks};
use super::null_target::NullTarget;
use super::served::Served;
use super::{OPTIMISED, rows};
use crew::Share;
pub use crew::run as run_worker;

/// Numbers of workers that are measured.
const WORKERS: [usize; 3] = [1, 2, 4];
/// Requests that one worker has in flight, and rows of one request.
const IN_FLIGHT: usize = 1;
const ROWS_PER_REQUEST: usize = 25;
/// Ranges that one worker has at once: one is read while the other is written.
const READERS: usize = 2;
/// Ranges that the table is cut into: the last one to end is a small part of what four workers do.
const RANGES: usize = 160;

/// One number of workers, the best of some rounds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Lanes {
    /// Number of workers.
    pub workers: usize,
    /// Rows a second, all of them together.
    pub rows_per_s: f64,
    /// Rows a second that the target's latency allows that number of requests in flight.
    pub latency_limit_rows_per_s: f64,
    /// The one as a part of the other.
    pub of_latency_limit: f64,
}

/// Everything measured.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Description of what a worker is here.
    pub workers_are: &'static str,
    /// Rows of the table.
    pub rows: u64,
    /// Time that the target takes before each answer, in milliseconds.
    pub latency_ms: u64,
    /// Requests that one worker has in flight.
    pub requests_in_flight_per_worker: usize,
    /// Number of times that each thing was measured; the best counts.
    pub rounds: u32,
    /// Whether this build's numbers mean anything.
    pub optimised: bool,
    /// Each number of workers.
    pub lanes: Vec<Lanes>,
    /// Two workers as a multiple of one.
    pub speedup_2: f64,
    /// Four workers as a multiple of one.
    pub speedup_4: f64,
    /// Share of the processor time that the machine's host gave to others meanwhile, from 0 to 1, where the
    /// platform tells.
    pub stolen: Option<f64>,
}

/// Measures, and prints what was seen, as text or as JSON.
///
/// # Errors
/// The stores', and those of a worker's process.
pub async fn run(rows: u64, latency_ms: u64, rounds: u32, json: bool) -> anyhow::Result<()> {
    let begun = Ticks::now();
    let latency = Duration::from_millis(latency_ms.max(1));
    let null = Served::start(NullTarget::new().answering_after(latency)).await?;
    eprintln!("loading {rows} rows");
    let postgres = Postgres::start(PostgresOptions::default()).await?;
    rows::create(postgres.url(), rows).await?;
    let mut best = [None::<f64>; WORKERS.len()];
    for round in 1..=rounds.max(1) {
        for (workers, best) in WORKERS.iter().zip(&mut best) {
            eprintln!("measuring {workers} workers, round {round}");
            let shares = crew::measure(postgres.url(), &null.url, *workers).await?;
            *best = machine::better(*best, rows_per_s(&shares));
        }
    }
    postgres.stop().await?;
    null.stop().await?;
    let mut lanes = Vec::new();
    for (workers, best) in WORKERS.into_iter().zip(best) {
        let rows_per_s = best.context("a round was measured")?;
        let limit = (workers * IN_FLIGHT * ROWS_PER_REQUEST) as f64 / latency.as_secs_f64();
        lanes.push(Lanes {
            workers,
            rows_per_s,
            latency_limit_rows_per_s: limit,
            of_latency_limit: rows_per_s / limit,
        });
    }
    let report = Report {
        workers_are: "processes",
        rows,
        latency_ms: latency.as_millis() as u64,
        requests_in_flight_per_worker: IN_FLIGHT,
        rounds: rounds.max(1),
        optimised: OPTIMISED,
        speedup_2: lanes[1].rows_per_s / lanes[0].rows_per_s,
        speedup_4: lanes[2].rows_per_s / lanes[0].rows_per_s,
        lanes,
        stolen: machine::stolen_since(begun),
    };
    match json {
        true => println!("{}", serde_json::to_string_pretty(&report)?),
        false => print(&report),
    }
    Ok(())
}

/// Rows a second of all of them together, until the last one was done.
fn rows_per_s(shares: &[Share]) -> f64 {
    let rows: u64 = shares.iter().map(|share| share.rows).sum();
    let seconds = shares.iter().map(|share| share.seconds).fold(f64::MIN_POSITIVE, f64::max);
    rows as f64 / seconds
}

/// Returns what one worker may have at once.
fn options() -> BackfillOptions {
    BackfillOptions { readers: READERS, requests_in_flight: IN_FLIGHT, ..BackfillOptions::default() }
}

fn print(report: &Report) {
    println!(
        "backfill of {} rows into a null target that answers after {} ms; workers are {}",
        report.rows, report.latency_ms, report.workers_are
    );
    for one in &report.lanes {
        println!(
            "  {} workers   {:>9.0} rows/s   {:>5.2} of the {:.0} that waiting allows",
            one.workers, one.rows_per_s, one.of_latency_limit, one.latency_limit_rows_per_s
        );
    }
    println!(
        "  two are {:.2} x one, four are {:.2} x one (goal: at least 3.50)",
        report.speedup_2, report.speedup_4
    );
    machine::print(report.stolen);
}
