//! `bench backfill`: end to end into a target that accepts and discards, beside the limits of the same run.

use std::net::SocketAddr;

use anyhow::Context;
use lockstep_embedded::{Postgres, PostgresOptions};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::capture_cost::{self, CaptureCost};
use super::null_target::NullTarget;
use super::worker::{self, Measured};
use super::{limits, rows};
use crate::sample::generate::History;

/// Requests kept for the replay.
const CAPTURED_REQUESTS: usize = 400;
/// Rows of the plain loop: enough for a second of it.
const LOOP_ROWS: usize = 5_000;
/// Inserts of each kind that capture is judged by.
const INSERTS: usize = 4_000;

/// One size of table.
#[derive(Debug, Serialize)]
pub struct SizeReport {
    /// Rows of the table.
    pub rows: u64,
    /// Bytes of a row in PostgreSQL's binary form, on average.
    pub bytes_per_row: f64,
    /// The guarded path.
    pub guarded: Measured,
    /// The cold path.
    pub cold: Measured,
    /// Rows a second of a raw binary `COPY`.
    pub raw_copy_rows_per_s: f64,
}

/// Everything measured.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Each size, in the order asked for.
    pub sizes: Vec<SizeReport>,
    /// Rows a second of replaying prepared guarded requests.
    pub raw_replay_rows_per_s: f64,
    /// Rows a second of one `PutItem` after the other.
    pub sdk_loop_rows_per_s: f64,
    /// What capture costs a writer.
    pub capture: CaptureCost,
}

/// Measures tables of `sizes` rows and prints what was seen, as text or as JSON.
///
/// # Errors
/// The stores'.
pub async fn run(sizes: &[u64], seed: u64, json: bool) -> anyhow::Result<()> {
    let null = Null::start(CAPTURED_REQUESTS).await?;
    let base_day = chrono::Utc::now().date_naive();
    let history = |logs| History { seed, base_day, logs, payments: 0 };
    let (mut reports, mut capture) = (Vec::new(), None);
    for (place, rows) in sizes.iter().enumerate() {
        eprintln!("loading {rows} rows");
        let postgres = Postgres::start(PostgresOptions::default()).await?;
        let url = postgres.url();
        rows::create(url, *rows).await?;
        if place == 0 {
            // On a table that nobody has captured yet, and its rows are then part of the first size.
            capture = Some(capture_cost::measure(&worker::connect(url).await?, INSERTS).await?);
        }
        eprintln!("measuring {rows} rows");
        let cold = worker::spawn(url, &null.url, true).await?;
        let guarded = worker::spawn(url, &null.url, false).await?;
        let raw_copy_rows_per_s = limits::raw_copy(url, guarded.rows).await?;
        let bytes_per_row = guarded.bytes as f64 / guarded.rows as f64;
        reports.push(SizeReport { rows: guarded.rows, bytes_per_row, guarded, cold, raw_copy_rows_per_s });
        postgres.stop().await?;
    }
    let prepared: Vec<_> =
        null.captured.take().into_iter().filter(|r| memchr::memmem::find(r, b"BatchExecuteStatement").is_some()).collect();
    let items = prepared.iter().map(|r| memchr::memmem::find_iter(r, b"\"Statement\":\"").count()).sum::<usize>() as f64;
    let per_request = items / prepared.len().max(1) as f64;
    let report = Report {
        sizes: reports,
        raw_replay_rows_per_s: limits::raw_replay(null.address, &prepared, per_request, 20_000).await?,
        sdk_loop_rows_per_s: limits::sdk_loop(&null.url, &history(LOOP_ROWS as u64), LOOP_ROWS).await?,
        capture: capture.context("no size was asked for")?,
    };
    if json {
        println!("{}", serde_json::to_string_pretty(&report)?)
    } else {
        print(&report)
    }
    null.stop().await;
    Ok(())
}

fn print(report: &Report) {
    println!("backfill into a null target, rows a second, ratios of this one run");
    for size in &report.sizes {
        println!("\n{} rows of {:.0} bytes", size.rows, size.bytes_per_row);
        for (name, measured) in [("guarded batch", size.guarded), ("cold batch", size.cold)] {
            let memory = measured.peak_kib.map_or_else(|| "unknown".to_owned(), |kib| format!("{:.0} MB", kib as f64 / 1024.0));
            let rate = measured.rows_per_s();
            println!(
                "  {name:<14} {rate:>9.0} rows/s   {:>5.2} of raw COPY   {:>5.2} of raw replay   {:>6.1} x the plain loop   peak memory {memory}",
                rate / size.raw_copy_rows_per_s,
                rate / report.raw_replay_rows_per_s,
                rate / report.sdk_loop_rows_per_s,
            );
        }
        println!("  raw COPY       {:>9.0} rows/s   (one connection, binary, discarded)", size.raw_copy_rows_per_s);
    }
    println!("\nraw replay       {:>9.0} rows/s   (prepared guarded requests, nothing computed)", report.raw_replay_rows_per_s);
    println!("plain SDK loop   {:>9.0} rows/s   (one PutItem after the other)", report.sdk_loop_rows_per_s);
    let capture = report.capture;
    println!(
        "capture          {:>9.2} x a plain insert (median {:.0} µs instead of {:.0} µs, one row, one commit)",
        capture.ratio(),
        capture.captured_us,
        capture.plain_us
    );
}

/// The null target, served by this process, which is not the measured one.
struct Null {
    url: String,
    address: SocketAddr,
    captured: std::sync::Arc<super::null_target::Captured>,
    stop: oneshot::Sender<()>,
    serving: tokio::task::JoinHandle<super::null_target::NullTotals>,
}

impl Null {
    async fn start(capture: usize) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("opening a port for the null target")?;
        let address = listener.local_addr()?;
        let target = NullTarget::new().capture(capture);
        let captured = target.captured();
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(target.serve(listener, async move {
            // Dropping the sender stops it as well.
            let _ = stopped.await;
        }));
        Ok(Self { url: format!("http://{address}"), address, captured, stop, serving })
    }

    async fn stop(self) {
        let _ = self.stop.send(());
        let _ = self.serving.await;
    }
}
