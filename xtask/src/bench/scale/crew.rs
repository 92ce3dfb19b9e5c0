//! Workers of `bench scale`, each a process of its own: all of them ready first, then all at once.

use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use lockstep_coordinator::{Progress, WorkOptions, split, work};
use lockstep_core::Window;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio_util::sync::CancellationToken;

use super::{RANGES, options};
use crate::bench::{process, worker};

/// Longest that one number of workers may take: one that hangs must not hang the benchmark.
const LIMIT: Duration = Duration::from_secs(600);
const READY: &str = "ready";

/// Work that one worker moved.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Share {
    /// Rows put into the target.
    pub rows: u64,
    /// Seconds from the word to begin until its last range was done.
    pub seconds: f64,
}

/// One process that waits for the word.
struct Waiting {
    child: Child,
    word: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

/// Makes a new plan, and moves it with that number of processes. Says what each of them moved.
///
/// # Errors
/// The stores', and those of a process.
pub(super) async fn measure(
    source_url: &str,
    endpoint_url: &str,
    workers: usize,
) -> anyhow::Result<Vec<Share>> {
    let rows = plan(source_url).await?;
    let crew = tokio::time::timeout(LIMIT, moved(source_url, endpoint_url, workers)).await;
    let shares = crew.context("the workers did not come to an end")??;
    let moved: u64 = shares.iter().map(|share| share.rows).sum();
    ensure!(moved == rows, "{workers} workers moved {moved} of {rows} rows");
    Ok(shares)
}

/// Cuts the table into ranges; says how many rows it has.
async fn plan(source_url: &str) -> anyhow::Result<u64> {
    let (source, binding) = (worker::connect(source_url).await?, worker::binding());
    worker::adopt(&source, &binding).await?;
    let rows = source.describe(&binding).await?.rows_estimate;
    source.forget_ranges(binding.name()).await?;
    let bounds = source.sample_bounds(&binding, RANGES, rows).await?;
    source
        .plan_ranges(binding.name(), &Window::default(), &lockstep_postgres::RangePlan::Keys(split(&bounds)))
        .await?;
    let counted = source.count(&binding, &Window::default()).await?;
    source.close().await;
    Ok(counted.unsigned_abs())
}

async fn moved(source_url: &str, endpoint_url: &str, workers: usize) -> anyhow::Result<Vec<Share>> {
    let mut crew = Vec::with_capacity(workers);
    for _ in 0..workers {
        crew.push(Waiting::start(source_url, endpoint_url)?);
    }
    for one in &mut crew {
        let said = one.lines.next_line().await?;
        ensure!(said.as_deref() == Some(READY), "a worker did not get ready; what it said is above");
    }
    for one in &mut crew {
        one.word.write_all(b"go\n").await.context("giving a worker the word")?;
    }
    let mut shares = Vec::with_capacity(workers);
    for mut one in crew {
        let said = one.lines.next_line().await?;
        let status = one.child.wait().await?;
        let Some(said) = said.filter(|_| status.success()) else { bail!("a worker failed: {status}") };
        shares.push(serde_json::from_str(&said).context("reading what a worker measured")?);
    }
    Ok(shares)
}

impl Waiting {
    fn start(source_url: &str, endpoint_url: &str) -> anyhow::Result<Self> {
        let mut command = process::again(&["bench", "shift", endpoint_url], source_url)?;
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting a worker's process")?;
        let word = child.stdin.take().context("a worker has an input")?;
        let lines = BufReader::new(child.stdout.take().context("a worker has an output")?).lines();
        Ok(Self { child, word, lines })
    }
}

/// A worker's process itself: gets ready, waits for the word, works, and prints `Share` as JSON.
///
/// # Errors
/// The stores'.
pub async fn run(endpoint_url: &str) -> anyhow::Result<()> {
    let source = worker::connect(&process::source_url()?).await?;
    let migration = worker::migration(source, endpoint_url, worker::binding(), options()).await;
    let progress = Arc::new(Progress::new(&migration.tables));
    let name = format!("bench {}", std::process::id());
    println!("{READY}");
    let mut word = String::new();
    BufReader::new(tokio::io::stdin()).read_line(&mut word).await.context("waiting for the word")?;
    let begun = Instant::now();
    let options = WorkOptions { name, stay: false };
    work(migration, &options, &progress, &(), &CancellationToken::new()).await?;
    let rows = progress.tables.iter().map(|table| table.rows_written() + table.rows_present()).sum();
    // Not until it ended: at the end it looks whether others have left a range, with pauses.
    let last = progress.tables.iter().filter_map(|table| table.last_range_at()).max();
    let seconds = last.map_or(0.0, |last| (last - begun).as_secs_f64());
    println!("{}", serde_json::to_string(&Share { rows, seconds })?);
    Ok(())
}
