//! A measured process: this program once more, doing one thing and nothing else, so that its time and its
//! memory are its own.

use std::process::Stdio;

use anyhow::{Context, bail};
use serde::de::DeserializeOwned;

/// Carries the source's URL, which has a password and so must not be an argument.
const SOURCE_URL: &str = "LOCKSTEP_BENCH_SOURCE_URL";

/// This program once more, to be started.
///
/// # Errors
/// When it cannot be found.
pub fn again(arguments: &[&str], source_url: &str) -> anyhow::Result<tokio::process::Command> {
    let exe = std::env::current_exe().context("finding this program")?;
    let mut command = tokio::process::Command::new(exe);
    command
        .args(arguments)
        .env(SOURCE_URL, source_url)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .kill_on_drop(true);
    Ok(command)
}

/// Runs this program with `arguments` and reads the JSON that it prints.
///
/// # Errors
/// When it cannot be started, or fails.
pub async fn measured<T: DeserializeOwned>(arguments: &[&str], source_url: &str) -> anyhow::Result<T> {
    // Not `output()`, which takes stderr from us: what the process says of its end would be lost.
    let process = again(arguments, source_url)?.stdout(Stdio::piped()).spawn();
    let output = process.context("starting the measured process")?.wait_with_output().await?;
    if !output.status.success() {
        bail!("the measured process failed: {}", output.status);
    }
    serde_json::from_slice(&output.stdout).context("reading what the measured process printed")
}

/// The source that this process was given.
///
/// # Errors
/// When it was started by hand.
pub fn source_url() -> anyhow::Result<String> {
    std::env::var(SOURCE_URL)
        .with_context(|| format!("{SOURCE_URL} is not set; this command is part of `bench`"))
}

/// Greatest resident memory of this process so far in KiB (`VmHWM`), on Linux.
pub fn peak_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches(" kB").trim().parse().ok()
}
