//! `ci`: the checks of this checkout, as the workflow runs them.

use std::path::Path;

use anyhow::Context as _;
use lockstep_cli::exit::Exit;
use lockstep_cli::{Context, help};
use tokio::process::Command;

/// Runs every check of this checkout, as the workflow does: formatting, tidy, clippy, documentation, tests
///
/// The checks are in `.ci/run`, which needs nothing but cargo; tools that are not installed are named and
/// left out. Takes about half an hour on two cores when nothing is built yet.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = help!(
    "  cargo xtask ci                all of them\n  \
       cargo xtask ci fmt clippy     only these\n  \
       cargo xtask ci --list         their names"
))]
pub struct Args {
    /// Only these
    #[arg(value_name = "CHECK")]
    pub checks: Vec<String>,
    /// Print the names of the checks
    #[arg(long)]
    pub list: bool,
}

/// Runs it.
///
/// # Errors
/// When the script cannot be started.
pub async fn run(context: Context, args: Args) -> anyhow::Result<Exit> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut script = Command::new(root.join(".ci/run"));
    script.args(args.list.then_some("--list")).args(&args.checks).current_dir(&root).kill_on_drop(true);
    let ended = context.unless_cancelled(script.status()).await?.context("starting .ci/run")?;
    Ok(if ended.success() { Exit::Done } else { Exit::NotConsistent })
}
