//! `bench reverse`: records a second that the reverse feed brings from the target's stream into PostgreSQL,
//! beside reading the same stream and forgetting it, and beside inserting as many rows by hand.
//!
//! The pace that DynamoDB sets (five requests a second for a shard) is taken off: what is measured is ours.
//! The stream is the embedded endpoint's, which shares the machine with us, and so is a part of every number
//! here.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use futures::{TryStreamExt, stream};
use lockstep_coordinator::{FeedProgress, FeedUntil, ReverseFeedOptions, reverse_feed};
use lockstep_core::Phase;
use lockstep_dynamo::streams::StreamApi as _;
use lockstep_embedded::{Dynamo, Postgres, PostgresOptions};
use serde::Serialize;
use sqlx::Connection;
use sqlx::postgres::PgConnection;
use tokio_util::sync::CancellationToken;

use super::OPTIMISED;
use super::machine::{self, Ticks};
use super::stage::Stage;

/// Rows of a page of the stream, and of a commit by hand.
const PAGE: usize = 1_000;
/// Longest wait for the feed; a feed that puts rows off for ever is a failure to be seen.
const WITHIN: Duration = Duration::from_secs(600);
const TABLE: &str = "integration_logs";

/// Everything measured.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Rows written in DynamoOnly in each round.
    pub rows: u64,
    /// Number of times that each thing was measured; the best counts.
    pub rounds: u32,
    /// Whether this build's numbers mean anything.
    pub optimised: bool,
    /// Records a second that came into PostgreSQL.
    pub records_per_s: f64,
    /// Records a second of reading the stream and forgetting it.
    pub raw_stream_records_per_s: f64,
    /// Rows a second of inserting the same rows into a table of the same shape, 1,000 a commit.
    pub raw_insert_rows_per_s: f64,
    /// The feed as a part of the one.
    pub of_raw_stream: f64,
    /// Share of the other's rate.
    pub of_raw_insert: f64,
    /// Share of the processor time that the machine's host gave to others meanwhile, from 0 to 1, where the
    /// platform tells.
    pub stolen: Option<f64>,
}

/// Measures, and prints what was seen, as text or as JSON.
///
/// # Errors
/// The stores'; when the feed does not bring every row.
pub async fn run(rows: u64, rounds: u32, json: bool) -> anyhow::Result<()> {
    let begun = Ticks::now();
    let postgres = Postgres::start(PostgresOptions::default()).await?;
    let dynamo = Dynamo::start().await?;
    let stage = Stage::prepare(postgres.url(), dynamo.endpoint_url()).await?;
    for phase in [Phase::DualWrite, Phase::HybridRead, Phase::DynamoOnly] {
        stage.step(phase).await?;
    }
    let (mut feed, mut raw_stream, mut raw_insert) = (None, None, None);
    for round in 1..=rounds.max(1) {
        eprintln!("writing {rows} rows, and feeding them, round {round}");
        write(&stage, rows).await?;
        feed = machine::better(feed, fed(&stage, rows).await?);
        raw_stream = machine::better(raw_stream, read(&stage).await?);
        raw_insert = machine::better(raw_insert, insert(postgres.url(), rows).await?);
    }
    stage.migration.shutdown().await;
    let none = "a round was measured";
    let (feed, raw_stream, raw_insert) =
        (feed.context(none)?, raw_stream.context(none)?, raw_insert.context(none)?);
    let report = Report {
        rows,
        rounds: rounds.max(1),
        optimised: OPTIMISED,
        records_per_s: feed,
        raw_stream_records_per_s: raw_stream,
        raw_insert_rows_per_s: raw_insert,
        of_raw_stream: feed / raw_stream,
        of_raw_insert: feed / raw_insert,
        stolen: machine::stolen_since(begun),
    };
    match json {
        true => println!("{}", serde_json::to_string_pretty(&report)?),
        false => print(&report),
    }
    dynamo.stop().await?;
    postgres.stop().await?;
    Ok(())
}

/// Writes as an application does in DynamoOnly.
async fn write(stage: &Stage, rows: u64) -> anyhow::Result<()> {
    let inserts = stream::iter((0..rows).map(|_| Ok(stage.logs.insert(&stage.log))));
    Ok(inserts.try_buffer_unordered(8).try_for_each(|_| async { Ok(()) }).await?)
}

/// Feeds what was written, and returns how many records a second.
async fn fed(stage: &Stage, rows: u64) -> anyhow::Result<f64> {
    let migration = stage.coordinator.migration();
    let mut options = ReverseFeedOptions::default();
    (options.follow.page_every, options.follow.idle_pause) = (Duration::ZERO, Duration::from_millis(5));
    let progress = Arc::new(FeedProgress::new(&migration.tables));
    let (stop, started) = (CancellationToken::new(), Instant::now());
    let feeding = async {
        Ok(reverse_feed(migration, &options, FeedUntil::Cancelled, &progress, &stop).await.map(drop)?)
    };
    let watching = async {
        let table = progress.tables.iter().find(|table| table.name == TABLE).context("the table is fed")?;
        let mut ticks = tokio::time::interval(Duration::from_millis(5));
        while table.applied() < rows {
            ticks.tick().await;
            let (applied, put_off) = (table.applied(), table.put_off());
            anyhow::ensure!(
                started.elapsed() < WITHIN,
                "{applied} of {rows} rows came, {put_off} were put off"
            );
        }
        let seconds = started.elapsed().as_secs_f64();
        stop.cancel();
        Ok(seconds)
    };
    let ((), seconds) = tokio::try_join!(feeding, watching)?;
    Ok(rows as f64 / seconds)
}

/// Reads the whole stream and forgets it; returns records a second.
async fn read(stage: &Stage) -> anyhow::Result<f64> {
    let stream = stage.coordinator.migration().target.enable_stream(TABLE).await?;
    let (started, mut records) = (Instant::now(), 0_usize);
    for shard in stream.shards().await? {
        let mut iterator = Some(stream.iterator(&shard.id, None).await?);
        while let Some(at) = iterator {
            let page = stream.records(&at, PAGE).await?;
            records += page.records.len();
            // An open shard never ends; an empty page is where it is now.
            iterator = page.next.filter(|_| !page.records.is_empty());
        }
    }
    anyhow::ensure!(records > 0, "the stream has no records");
    Ok(records as f64 / started.elapsed().as_secs_f64())
}

/// Inserts as many rows into a table of the same shape and indexes, without triggers; returns rows a second.
async fn insert(url: &str, rows: u64) -> anyhow::Result<f64> {
    let mut connection = PgConnection::connect(url).await?;
    let twin = "DROP TABLE IF EXISTS public.not_fed; CREATE TABLE public.not_fed (LIKE public.integration_logs INCLUDING ALL)";
    sqlx::raw_sql(twin).execute(&mut connection).await?;
    let (started, mut inserted) = (Instant::now(), 0);
    while inserted < rows {
        let done = sqlx::query(
            "INSERT INTO public.not_fed OVERRIDING SYSTEM VALUE
             SELECT * FROM public.integration_logs WHERE log_id > coalesce((SELECT max(log_id) FROM public.not_fed), 0)
             ORDER BY log_id LIMIT $1",
        )
        .bind(PAGE as i64)
        .execute(&mut connection)
        .await?;
        anyhow::ensure!(done.rows_affected() > 0, "the feed brought fewer rows than were written");
        inserted += done.rows_affected();
    }
    let rate = inserted as f64 / started.elapsed().as_secs_f64();
    connection.close().await?;
    Ok(rate)
}

fn print(report: &Report) {
    println!(
        "reverse feed of {} records, the best of {} rounds, ratios of this one run",
        report.rows, report.rounds
    );
    println!(
        "  feed           {:>9.0} records/s   {:>5.2} of reading the stream   {:>5.2} of inserting by hand",
        report.records_per_s, report.of_raw_stream, report.of_raw_insert
    );
    println!(
        "  raw stream     {:>9.0} records/s   (the same pages, forgotten)",
        report.raw_stream_records_per_s
    );
    println!(
        "  raw inserts    {:>9.0} rows/s      (the same rows, 1,000 a commit, without triggers)",
        report.raw_insert_rows_per_s
    );
    machine::print(report.stolen);
}
