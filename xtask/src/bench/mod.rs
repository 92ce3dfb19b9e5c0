//! Benchmarks: ratios against limits measured in the same run, never absolute claims.
//!
//! In reading order: [`machine`] (why everything is measured in rounds), [`backfill`] (what is measured and
//! printed), [`rows`], [`subject`] (which table), [`process`] and [`worker`] (the measured process),
//! [`limits`] (what the machine can do at best, and a plain loop at worst), [`capture_cost`],
//! [`null_target`], [`replay`] and the same through the SDK; [`writes`] and its bare twins; [`validate`] and
//! its prepared pages; [`relay`], [`reverse`], [`units`] (what users pay) and [`scale`].

pub mod backfill;
mod bare;
pub mod batch_writer;
pub mod capture_cost;
pub mod limits;
pub mod machine;
pub mod null_target;
pub mod process;
pub mod relay;
pub mod replay;
pub mod reverse;
pub mod rows;
pub mod scale;
mod sdk_replay;
mod served;
mod stage;
pub mod subject;
pub mod units;
pub mod validate;
pub mod worker;
pub mod writes;

use std::process::ExitCode;

/// Whether this build is one whose numbers mean anything.
pub const OPTIMISED: bool = !cfg!(debug_assertions);

/// Runs this same command in a release build: numbers of a debug build would only mislead.
///
/// # Errors
/// When cargo cannot be started.
pub fn run_again_in_release() -> anyhow::Result<ExitCode> {
    use anyhow::Context;
    eprintln!("building in release first (numbers of a debug build mean nothing)");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = std::process::Command::new(cargo)
        .args(["run", "--quiet", "--release", "--package", "xtask", "--"])
        .args(std::env::args_os().skip(1))
        .status()
        .context("starting cargo for a release build; run `cargo run --release -p xtask -- bench backfill` yourself")?;
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(5)))
}
