//! The measured process: a backfill and nothing else, so that its time and its memory are its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lockstep_coordinator::{
    BackfillOptions, Coordinator, LoadPathChoice, MigrationContext, Options, RangesChoice, Watch,
};
use lockstep_dynamo::{Target, TargetOptions};
use lockstep_integration_logs::IntegrationLogs;
use lockstep_postgres::{Source, SourceOptions, TableBinding};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::process;
use super::subject::Subject;

/// Results of a worker.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Measured {
    /// Rows put into the target.
    pub rows: u64,
    /// Bytes read from the source.
    pub bytes: u64,
    /// Seconds from the first read to the last acknowledgement.
    pub seconds: f64,
    /// Greatest resident memory of the process in KiB, where the platform tells.
    pub peak_kib: Option<u64>,
}

impl Measured {
    /// Rows a second.
    pub fn rows_per_s(&self) -> f64 {
        self.rows as f64 / self.seconds
    }

    /// The faster of this and the fastest so far, with the greater memory of both.
    pub fn better_than(self, best: Option<Self>) -> Self {
        let Some(best) = best else { return self };
        let faster = if self.rows_per_s() > best.rows_per_s() { self } else { best };
        Self { peak_kib: self.peak_kib.max(best.peak_kib), ..faster }
    }
}

/// Starts a worker and waits for what it measured.
///
/// # Errors
/// When it cannot be started, or fails.
pub async fn spawn(source_url: &str, endpoint_url: &str, subject: Subject) -> anyhow::Result<Measured> {
    spawn_by(source_url, endpoint_url, subject, RangesChoice::Auto).await
}

/// The same, with ranges of keys or of blocks.
///
/// # Errors
/// As [`spawn`].
pub async fn spawn_by(
    source_url: &str,
    endpoint_url: &str,
    subject: Subject,
    ranges: RangesChoice,
) -> anyhow::Result<Measured> {
    let ranges = match ranges {
        RangesChoice::Auto => "auto",
        RangesChoice::Key => "key",
        RangesChoice::Blocks => "blocks",
    };
    process::measured(&["bench", "worker", endpoint_url, ranges, subject.name()], source_url).await
}

/// The measured process itself: backfills the table that is named and prints [`Measured`] as JSON.
///
/// # Errors
/// The stores'.
pub async fn run(endpoint_url: &str, ranges: &str, subject: &str) -> anyhow::Result<()> {
    let source = connect(&process::source_url()?).await?;
    let ranges = match ranges {
        "auto" => RangesChoice::Auto,
        "key" => RangesChoice::Key,
        "blocks" => RangesChoice::Blocks,
        other => anyhow::bail!("no ranges are of `{other}`"),
    };
    let binding = Subject::of(subject)?.binding(&source).await?;
    let backfill =
        BackfillOptions { load_path: LoadPathChoice::Guarded, ranges, ..BackfillOptions::default() };
    let coordinator = coordinator(source, endpoint_url, binding, backfill).await?;
    coordinator.restart_backfill().await?;
    let started = Instant::now();
    let done = coordinator.backfill(&CancellationToken::new()).await?;
    let seconds = started.elapsed().as_secs_f64();
    coordinator.close().await;
    let rows = done.iter().map(|table| table.rows_written + table.rows_present).sum();
    let bytes = done.iter().map(|table| table.bytes_read).sum();
    println!("{}", serde_json::to_string(&Measured { rows, bytes, seconds, peak_kib: process::peak_kib() })?);
    Ok(())
}

/// A coordinator of that table and the null target, with capture on.
///
/// # Errors
/// The stores'.
pub async fn coordinator(
    source: Source,
    endpoint_url: &str,
    binding: TableBinding,
    backfill: BackfillOptions,
) -> anyhow::Result<Coordinator> {
    adopt(&source, &binding).await?;
    Ok(Coordinator::open(migration(source, endpoint_url, binding, backfill).await).await?)
}

/// Makes the table known as one that is captured, and whose target is there: the null target describes no
/// tables, so they are adopted without a look.
///
/// # Errors
/// The source's.
pub async fn adopt(source: &Source, binding: &TableBinding) -> anyhow::Result<()> {
    source.migrate_schema().await?;
    if source.table_state(binding.name()).await?.is_none() {
        source.install_capture(binding, &source.fingerprint(binding).await?).await?;
        source.adopt_target(binding.name(), &binding.target_name, None).await?;
    }
    Ok(())
}

/// A migration of that table into the null target.
pub async fn migration(
    source: Source,
    endpoint_url: &str,
    binding: TableBinding,
    backfill: BackfillOptions,
) -> MigrationContext {
    MigrationContext {
        source,
        target: target(endpoint_url).await,
        tables: vec![binding],
        unread: Vec::new(),
        actor: "bench".to_owned(),
        options: Options { backfill, ..Options::default() },
        watch: Watch::default(),
    }
}

/// The table of the benchmark.
pub fn binding() -> TableBinding {
    TableBinding {
        table: Arc::new(IntegrationLogs::default()),
        relation: "public.integration_logs".parse().expect("two names"),
        target_name: "integration_logs".to_owned(),
    }
}

/// The source of the benchmark.
///
/// # Errors
/// When it does not answer.
pub async fn connect(url: &str) -> lockstep_core::Result<Source> {
    Source::connect(&SourceOptions {
        url: url.to_owned(),
        password: lockstep_postgres::Password::InUrl,
        connections_max: 12,
        connect_timeout: Duration::from_secs(10),
        application_name: "lockstep-bench".to_owned(),
        control_schema: lockstep_postgres::CONTROL_SCHEMA.to_owned(),
    })
    .await
}

/// The null target through the real SDK.
pub async fn target(endpoint_url: &str) -> Target {
    Target::connect(TargetOptions {
        endpoint_url: Some(endpoint_url.to_owned()),
        region: Some("us-east-1".to_owned()),
        emulator_credentials: true,
        ..TargetOptions::default()
    })
    .await
}
