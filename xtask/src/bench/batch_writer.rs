//! The loop that people write today: Python, a cursor over the table, and boto3's `batch_writer`.

use std::process::Stdio;

use anyhow::{Context, bail};
use tokio::process::Command;

const SCRIPT: &str = include_str!("batch_writer.py");

/// Carries the source's URL, which has a password and so must not be an argument.
const SOURCE_URL: &str = "LOCKSTEP_BENCH_SOURCE_URL";

/// Rows a second of the first `rows` of the logs; `None` where Python does not have what that takes.
///
/// # Errors
/// When the script fails.
pub async fn measure(source_url: &str, endpoint_url: &str, rows: usize) -> anyhow::Result<Option<f64>> {
    let has_all = Command::new("python3")
        .args(["-c", "import boto3, psycopg2"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .await;
    if !has_all.is_ok_and(|status| status.success()) {
        return Ok(None);
    }
    let ran = Command::new("python3")
        .args(["-c", SCRIPT, endpoint_url, &rows.to_string()])
        .env(SOURCE_URL, source_url)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .output()
        .await
        .context("starting Python")?;
    if !ran.status.success() {
        bail!("the script with boto3 failed: {}", ran.status);
    }
    let seconds: f64 =
        String::from_utf8(ran.stdout)?.trim().parse().context("reading what Python printed")?;
    Ok(Some(rows as f64 / seconds))
}
