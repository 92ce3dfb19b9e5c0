//! The measured process: one full comparison and nothing else, so that its time and its memory are its own.

use std::time::Instant;

use anyhow::{Context, bail};
use lockstep_validator::{CancellationToken, ValidateOptions, ValidationProgress, validate};
use serde::{Deserialize, Serialize};

use crate::bench::subject::Subject;
use crate::bench::{process, worker};

/// Results of a comparison.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Compared {
    /// Rows read.
    pub rows: u64,
    /// Items read.
    pub items: u64,
    /// Rows that have an equal item.
    pub equal: u64,
    /// Keys on which the stores disagree.
    pub findings: u64,
    /// Buckets of the ledger.
    pub buckets: u64,
    /// Those whose entries were read again.
    pub buckets_differing: u64,
    /// Seconds from the first question to the verdict.
    pub seconds: f64,
    /// Greatest resident memory of the process in KiB, where the platform tells.
    pub peak_kib: Option<u64>,
}

impl Compared {
    /// Rows a second, each compared with its item.
    pub fn rows_per_s(&self) -> f64 {
        self.rows as f64 / self.seconds
    }

    /// The faster of this and the fastest so far, with the greater memory of both.
    pub fn better_than(self, best: Option<Self>) -> Self {
        let Some(best) = best else { return self };
        let peak_kib = self.peak_kib.max(best.peak_kib);
        let faster = if self.rows_per_s() > best.rows_per_s() { self } else { best };
        Self { peak_kib, ..faster }
    }
}

/// Starts the measured process and waits for what it says.
///
/// # Errors
/// When it cannot be started, or fails.
pub async fn spawn(source_url: &str, endpoint_url: &str, subject: Subject) -> anyhow::Result<Compared> {
    process::measured(&["bench", "compare", endpoint_url, subject.name()], source_url).await
}

/// The measured process itself: compares the table that is named and prints [`Compared`] as JSON.
///
/// # Errors
/// The stores'.
pub async fn run(endpoint_url: &str, subject: &str) -> anyhow::Result<()> {
    let compared = compare(&process::source_url()?, endpoint_url, Subject::of(subject)?).await?;
    println!("{}", serde_json::to_string(&compared)?);
    Ok(())
}

/// Compares a table of the source at `url` with whatever answers at `endpoint_url`.
///
/// # Errors
/// The source's; when not everything was compared.
pub async fn compare(url: &str, endpoint_url: &str, subject: Subject) -> anyhow::Result<Compared> {
    let source = worker::connect(url).await?;
    let (target, binding) = (worker::target(endpoint_url).await, subject.binding(&source).await?);
    source.migrate_schema().await?;
    if source.table_state(binding.name()).await?.is_none() {
        source.install_capture(&binding, &source.fingerprint(&binding).await?).await?;
    }
    let tables = [binding];
    let (options, progress) = (ValidateOptions::default(), ValidationProgress::new(&tables));
    let started = Instant::now();
    let report = validate(&source, &target, &tables, &options, &progress, &CancellationToken::new()).await;
    let seconds = started.elapsed().as_secs_f64();
    let table = report.tables.first().context("one table was compared")?;
    if let Some(failure) = &table.failure {
        bail!("not everything was compared: {failure}");
    }
    Ok(Compared {
        rows: progress.tables()[0].source_rows(),
        items: progress.tables()[0].target_items(),
        equal: table.equal,
        findings: table.findings_total(),
        buckets: table.buckets,
        buckets_differing: table.buckets_differing,
        seconds,
        peak_kib: process::peak_kib(),
    })
}
