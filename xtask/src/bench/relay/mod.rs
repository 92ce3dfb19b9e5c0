//! `bench relay`: changes a second into a target that accepts and discards, and how far behind it is while
//! others write.

mod measured;

pub use measured::{Delivered, run as run_measured};

use anyhow::Context;
use bytes::Bytes;
use lockstep_embedded::{Postgres, PostgresOptions};
use serde::Serialize;

use super::machine::{self, Ticks};
use super::null_target::NullTarget;
use super::replay::replay;
use super::served::Served;
use super::subject::Subject;
use super::{OPTIMISED, limits, rows};

/// Requests kept for the replay.
const CAPTURED_REQUESTS: usize = 2_000;
/// Connections of the replay: as many as the relay has requests in flight.
const CONNECTIONS: usize = 32;

/// Options that were asked for.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// Rows inserted, and then updated.
    pub rows: u64,
    /// Writes a second while the lag is measured.
    pub writes_per_s: u64,
    /// For how long.
    pub lag_seconds: u64,
    /// Number of times that each thing is measured; the best counts.
    pub rounds: u32,
}

/// Everything measured.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Rows inserted, and then updated, in each round.
    pub rows: u64,
    /// Number of times that each thing was measured; the best counts.
    pub rounds: u32,
    /// Whether this build's numbers mean anything.
    pub optimised: bool,
    /// New rows delivered a second.
    pub inserts_per_s: f64,
    /// Changed rows delivered a second.
    pub updates_per_s: f64,
    /// Puts a second of replaying the relay's own requests, nothing computed.
    pub raw_replay_per_s: f64,
    /// Rows a second of a raw binary `COPY` of the same table.
    pub raw_copy_rows_per_s: f64,
    /// The inserts as a part of the raw `COPY`: 25 of them are one request, so the replay of puts is no limit
    /// of theirs.
    pub inserts_of_raw_copy: f64,
    /// The updates as a part of the replay.
    pub updates_of_replay: f64,
    /// The age of the oldest undelivered change, sampled while others wrote: what 99 of 100 samples do not
    /// exceed.
    pub lag_p99_ms: f64,
    /// The greatest of those samples.
    pub lag_max_ms: f64,
    /// Writes a second that were really made meanwhile.
    pub lag_writes_per_s: f64,
    /// Share of the processor time that the machine's host gave to others meanwhile, from 0 to 1, where the
    /// platform tells.
    pub stolen: Option<f64>,
}

/// Measures, and prints what was seen, as text or as JSON.
///
/// # Errors
/// The stores'.
pub async fn run(asked: Asked, json: bool) -> anyhow::Result<()> {
    let begun = Ticks::now();
    let (mut best, mut raw, mut copy) = (None::<Delivered>, None, None);
    for round in 1..=asked.rounds.max(1) {
        eprintln!("delivering {} rows, round {round}", asked.rows);
        let null = Served::start(NullTarget::new().capture(CAPTURED_REQUESTS)).await?;
        let postgres = Postgres::start(PostgresOptions::default()).await?;
        rows::create(postgres.url(), 0).await?;
        let one = measured::spawn(postgres.url(), &null.url, &asked).await?;
        best = Some(one.better_than(best));
        let puts = puts_of_rows(null.captured.take());
        let replayed = replay(null.address, &puts, CONNECTIONS, asked.rows.max(1) as usize)
            .await
            .context("replaying puts")?;
        anyhow::ensure!(replayed.refused == 0, "{} puts were refused", replayed.refused);
        raw = machine::better(raw, replayed.requests_per_s());
        copy = machine::better(
            copy,
            limits::raw_copy(postgres.url(), &Subject::Typed.relation(), asked.rows).await?,
        );
        postgres.stop().await?;
        null.stop().await?;
    }
    let none = "a round was measured";
    let (best, raw, copy) = (best.context(none)?, raw.context(none)?, copy.context(none)?);
    let report = Report {
        rows: asked.rows,
        rounds: asked.rounds.max(1),
        optimised: OPTIMISED,
        inserts_per_s: best.inserts_per_s,
        updates_per_s: best.updates_per_s,
        raw_replay_per_s: raw,
        raw_copy_rows_per_s: copy,
        inserts_of_raw_copy: best.inserts_per_s / copy,
        updates_of_replay: best.updates_per_s / raw,
        lag_p99_ms: best.lag_p99_ms,
        lag_max_ms: best.lag_max_ms,
        lag_writes_per_s: best.lag_writes_per_s,
        stolen: machine::stolen_since(begun),
    };
    match json {
        true => println!("{}", serde_json::to_string_pretty(&report)?),
        false => print(&report),
    }
    Ok(())
}

/// Picks the puts of rows from what was captured: the relay puts marks and probes as well, which are smaller.
fn puts_of_rows(captured: Vec<Bytes>) -> Vec<Bytes> {
    let has = |request: &Bytes, needle: &[u8]| memchr::memmem::find(request, needle).is_some();
    captured
        .into_iter()
        .filter(|r| has(r, b".PutItem") && has(r, br#""TableName":"integration_logs""#))
        .collect()
}

fn print(report: &Report) {
    println!("relay into a null target, the best of {} rounds, ratios of this one run", report.rounds);
    println!(
        "  inserts      {:>9.0} changes/s   {:>5.2} of raw COPY",
        report.inserts_per_s, report.inserts_of_raw_copy
    );
    println!(
        "  updates      {:>9.0} changes/s   {:>5.2} of raw replay",
        report.updates_per_s, report.updates_of_replay
    );
    println!(
        "  raw replay   {:>9.0} puts/s      (the relay's own requests, nothing computed)",
        report.raw_replay_per_s
    );
    println!(
        "  raw COPY     {:>9.0} rows/s      (one connection, binary, discarded)",
        report.raw_copy_rows_per_s
    );
    println!(
        "  lag at {:.0} writes/s: p99 {:.0} ms, at most {:.0} ms (age of the oldest change not yet delivered)",
        report.lag_writes_per_s, report.lag_p99_ms, report.lag_max_ms
    );
    machine::print(report.stolen);
}
