//! `bench backfill`: end to end into a target that accepts and discards, beside the limits of the same run.

use anyhow::Context;
use bytes::Bytes;
use lockstep_coordinator::RangesChoice;
use lockstep_embedded::{Postgres, PostgresOptions};
use serde::Serialize;

use super::batch_writer;
use super::capture_cost::{self, CaptureCost, INSERT_GOAL, UPDATE_GOAL};
use super::machine::{self, Ticks};
use super::null_target::NullTarget;
use super::sdk_replay::sdk_replay;
use super::served::Served;
use super::subject::Subject;
use super::worker::{self, Measured};
use super::{limits, rows};
use lockstep_sample::generate::History;

/// Requests kept for the replay.
const CAPTURED_REQUESTS: usize = 400;
/// Rows of the plain loop, and requests of the replay: enough for some seconds of either, or else the best of
/// them would be the best moment of the machine, and that of the backfill its average.
const LOOP_ROWS: usize = 20_000;
const REPLAYED: u64 = 20_000;
/// The same through the SDK, which is slower; each is in memory before.
const SDK_REPLAYED: usize = 4_000;
/// Writes of each kind that capture is judged by.
const WRITES: usize = 4_000;

/// One size of table, the best of some rounds.
#[derive(Debug, Serialize)]
pub struct SizeReport {
    /// Rows of the table.
    pub rows: u64,
    /// Bytes of a row in PostgreSQL's binary form, on average.
    pub bytes_per_row: f64,
    /// The guarded path.
    pub guarded: Measured,
    /// Rows a second of a raw binary `COPY`.
    pub raw_copy_rows_per_s: f64,
    /// Rows a second of replaying prepared guarded requests.
    pub raw_replay_rows_per_s: f64,
    /// Rows a second of sending the same requests through the SDK: serialised and signed, and nothing else.
    pub sdk_replay_rows_per_s: f64,
    /// Rows a second of one `PutItem` after the other.
    pub sdk_loop_rows_per_s: f64,
    /// Rows a second of what is written in Python today: a cursor, and boto3's `batch_writer`. `None` where
    /// Python does not have both.
    pub batch_writer_rows_per_s: Option<f64>,
    /// The guarded path as a part of the raw `COPY`.
    pub of_raw_copy: f64,
    /// Share of the replay's rate.
    pub of_raw_replay: f64,
    /// Share of the rate of the replay through the SDK.
    pub of_sdk_replay: f64,
    /// Multiple of the plain loop's rate.
    pub times_sdk_loop: f64,
    /// Multiple of the rate of boto3's `batch_writer`.
    pub times_batch_writer: Option<f64>,
    /// The same table declared, and a declared one of 300 columns.
    pub others: Vec<OtherReport>,
    /// The logs by a random UUID.
    pub random: RandomReport,
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
    /// The guarded path.
    pub guarded: Measured,
    /// Rows a second of a raw binary `COPY` of it.
    pub raw_copy_rows_per_s: f64,
    /// The guarded path as a part of that.
    pub of_raw_copy: f64,
    /// Rows a second as a share of those of the table in Rust.
    pub of_typed: f64,
    /// Columns a second as a share of those of the table in Rust.
    pub columns_of_typed: f64,
}

/// A table whose keys have no order, in the same run.
#[derive(Debug, Serialize)]
pub struct RandomReport {
    /// Read in the order of its keys.
    pub by_keys: Measured,
    /// Read in the order in which its rows lie.
    pub by_blocks: Measured,
    /// Rows a second by blocks as a multiple of those by keys.
    pub times_by_keys: f64,
}

/// Everything measured.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Number of times that each thing was measured; the best counts.
    pub rounds: u32,
    /// Each size, in the order asked for.
    pub sizes: Vec<SizeReport>,
    /// Cost of capture for a writer.
    pub capture: CaptureCost,
}

/// Measures tables of `sizes` rows, each in `rounds` rounds, and prints what was seen, as text or as JSON.
///
/// # Errors
/// The stores'.
pub async fn run(sizes: &[u64], rounds: u32, seed: u64, json: bool) -> anyhow::Result<()> {
    let null = Served::start(NullTarget::new().capture(CAPTURED_REQUESTS)).await?;
    let history =
        History { seed, base_day: chrono::Utc::now().date_naive(), logs: LOOP_ROWS as u64, payments: 0 };
    let (mut reports, mut capture) = (Vec::new(), None);
    let mut prepared = Prepared::default();
    for (place, rows) in sizes.iter().enumerate() {
        eprintln!("loading {rows} rows");
        let postgres = Postgres::start(PostgresOptions::default()).await?;
        let url = postgres.url();
        rows::create(url, *rows).await?;
        rows::add_others(url, rows.div_ceil(rows::WIDE_PART)).await?;
        if place == 0 {
            // Its rows are then part of the first size.
            capture = Some(capture_cost::measure(&worker::connect(url).await?, WRITES).await?);
        }
        reports.push(measure(url, &null, &mut prepared, &history, rounds).await?);
        postgres.stop().await?;
    }
    let report = Report { rounds, sizes: reports, capture: capture.context("no size was asked for")? };
    if json {
        println!("{}", serde_json::to_string_pretty(&report)?)
    } else {
        print(&report)
    }
    null.stop().await?;
    Ok(())
}

async fn measure(
    url: &str,
    null: &Served,
    prepared: &mut Prepared,
    history: &History,
    rounds: u32,
) -> anyhow::Result<SizeReport> {
    let begun = Ticks::now();
    let mut guarded: Option<Measured> = None;
    let (mut copy, mut replay, mut through_sdk, mut sdk_loop) = (None, None, None, None);
    let mut in_python = None;
    for round in 1..=rounds.max(1) {
        eprintln!("measuring, round {round}");
        let one = worker::spawn(url, &null.url, Subject::Typed).await?;
        guarded = Some(one.better_than(guarded));
        copy = machine::better(copy, limits::raw_copy(url, &Subject::Typed.relation(), one.rows).await?);
        prepared.add(null.captured.take());
        replay = machine::better(
            replay,
            limits::raw_replay(null.address, &prepared.requests, prepared.per_request(), REPLAYED).await?,
        );
        let requests = &prepared.requests;
        through_sdk = machine::better(
            through_sdk,
            sdk_replay(&null.url, requests, prepared.per_request(), SDK_REPLAYED).await?,
        );
        sdk_loop = machine::better(sdk_loop, limits::sdk_loop(&null.url, history, LOOP_ROWS).await?);
        if let Some(rate) = batch_writer::measure(url, &null.url, LOOP_ROWS).await? {
            in_python = machine::better(in_python, rate);
        }
    }
    let none = "a round was measured";
    let guarded = guarded.context(none)?;
    let (copy, replay) = (copy.context(none)?, replay.context(none)?);
    let (through_sdk, sdk_loop) = (through_sdk.context(none)?, sdk_loop.context(none)?);
    let rate = guarded.rows_per_s();
    Ok(SizeReport {
        rows: guarded.rows,
        bytes_per_row: guarded.bytes as f64 / guarded.rows as f64,
        guarded,
        raw_copy_rows_per_s: copy,
        raw_replay_rows_per_s: replay,
        sdk_replay_rows_per_s: through_sdk,
        sdk_loop_rows_per_s: sdk_loop,
        batch_writer_rows_per_s: in_python,
        of_raw_copy: rate / copy,
        of_raw_replay: rate / replay,
        of_sdk_replay: rate / through_sdk,
        times_sdk_loop: rate / sdk_loop,
        times_batch_writer: in_python.map(|in_python| rate / in_python),
        others: others(url, null, rate, rounds).await?,
        random: random(url, null, rounds).await?,
        stolen: machine::stolen_since(begun),
    })
}

/// The tables of other kinds, beside `typed` rows a second of the table in Rust.
async fn others(url: &str, null: &Served, typed: f64, rounds: u32) -> anyhow::Result<Vec<OtherReport>> {
    let mut reports = Vec::new();
    for subject in Subject::OTHERS {
        let (mut guarded, mut copy): (Option<Measured>, _) = (None, None);
        for round in 1..=rounds.max(1) {
            eprintln!("measuring {}, round {round}", subject.name());
            let one = worker::spawn(url, &null.url, subject).await?;
            guarded = Some(one.better_than(guarded));
            copy = machine::better(copy, limits::raw_copy(url, &subject.relation(), one.rows).await?);
            // They are not of the table that is replayed.
            null.captured.take();
        }
        let (guarded, copy) = (guarded.context("a round")?, copy.context("a round")?);
        let of_typed = guarded.rows_per_s() / typed;
        reports.push(OtherReport {
            subject: subject.name(),
            columns: subject.columns(),
            guarded,
            raw_copy_rows_per_s: copy,
            of_raw_copy: guarded.rows_per_s() / copy,
            of_typed,
            columns_of_typed: of_typed * subject.columns() as f64 / Subject::Typed.columns() as f64,
        });
    }
    Ok(reports)
}

async fn random(url: &str, null: &Served, rounds: u32) -> anyhow::Result<RandomReport> {
    let (mut by_keys, mut by_blocks): (Option<Measured>, Option<Measured>) = (None, None);
    for round in 1..=rounds.max(1) {
        eprintln!("measuring random keys, round {round}");
        for (best, ranges) in [(&mut by_keys, RangesChoice::Key), (&mut by_blocks, RangesChoice::Blocks)] {
            let one = worker::spawn_by(url, &null.url, Subject::Random, ranges).await?;
            *best = Some(one.better_than(*best));
            null.captured.take();
        }
    }
    let (by_keys, by_blocks) = (by_keys.context("a round")?, by_blocks.context("a round")?);
    Ok(RandomReport { by_keys, by_blocks, times_by_keys: by_blocks.rows_per_s() / by_keys.rows_per_s() })
}

/// Guarded requests as the SDK sent them.
#[derive(Default)]
struct Prepared {
    requests: Vec<Bytes>,
}

impl Prepared {
    fn add(&mut self, captured: Vec<Bytes>) {
        self.requests.extend(
            captured.into_iter().filter(|r| memchr::memmem::find(r, b"BatchExecuteStatement").is_some()),
        );
    }

    /// Rows that each carries, on average.
    fn per_request(&self) -> f64 {
        let items = self
            .requests
            .iter()
            .map(|r| memchr::memmem::find_iter(r, b"\"Statement\":\"").count())
            .sum::<usize>();
        items as f64 / self.requests.len().max(1) as f64
    }
}

fn print(report: &Report) {
    println!(
        "backfill into a null target, rows a second, the best of {} rounds, ratios of this one run",
        report.rounds
    );
    for size in &report.sizes {
        println!("\n{} rows of {:.0} bytes", size.rows, size.bytes_per_row);
        let (name, measured) = ("guarded batch", size.guarded);
        let memory = measured
            .peak_kib
            .map_or_else(|| "unknown".to_owned(), |kib| format!("{:.0} MB", kib as f64 / 1024.0));
        let rate = measured.rows_per_s();
        println!(
            "  {name:<14} {rate:>9.0} rows/s   {:>5.2} of raw COPY   {:>5.2} of the SDK's replay   {:>6.1} x the plain loop   peak memory {memory}",
            size.of_raw_copy, size.of_sdk_replay, size.times_sdk_loop,
        );
        println!(
            "  raw COPY       {:>9.0} rows/s   (one connection, binary, discarded)",
            size.raw_copy_rows_per_s
        );
        println!(
            "  raw replay     {:>9.0} rows/s   (prepared guarded requests, nothing computed)",
            size.raw_replay_rows_per_s
        );
        println!(
            "  SDK's replay   {:>9.0} rows/s   (the same requests, serialised and signed by the SDK)",
            size.sdk_replay_rows_per_s
        );
        println!("  plain SDK loop {:>9.0} rows/s   (one PutItem after the other)", size.sdk_loop_rows_per_s);
        match (size.batch_writer_rows_per_s, size.times_batch_writer) {
            (Some(rate), Some(times)) => {
                println!("  batch_writer   {rate:>9.0} rows/s   (Python, boto3), we are {times:.1} x it");
            }
            _ => println!("  batch_writer   not measured: python3 has no boto3, or no psycopg2"),
        }
        for other in &size.others {
            println!(
                "  {:<14} {:>9.0} rows/s   {:>5.2} of raw COPY   {:>5.2} of the table in Rust by rows, \
                 {:>5.2} by columns ({} of {})",
                other.subject,
                other.guarded.rows_per_s(),
                other.of_raw_copy,
                other.of_typed,
                other.columns_of_typed,
                other.columns,
                other.guarded.rows,
            );
        }
        println!(
            "  random keys    {:>9.0} rows/s   by blocks, {:>5.2} x by keys ({:.0} rows/s)",
            size.random.by_blocks.rows_per_s(),
            size.random.times_by_keys,
            size.random.by_keys.rows_per_s(),
        );
        machine::print(size.stolen);
    }
    let capture = report.capture;
    println!(
        "\ncapture          {:>9.2} x a plain insert, at most {INSERT_GOAL} is wanted \
         (median {:.0} µs instead of {:.0} µs, one row, one commit)",
        capture.insert_ratio, capture.captured_us, capture.plain_us
    );
    println!(
        "                 {:>9.2} x a plain update, at most {UPDATE_GOAL} is wanted \
         (median {:.0} µs instead of {:.0} µs)",
        capture.update_ratio, capture.captured_update_us, capture.plain_update_us
    );
}
