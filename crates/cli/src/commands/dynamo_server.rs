//! `dynamo-server` (hidden): an embedded DynamoDB in a process of its own, for `--keep` and for tests.

use std::path::PathBuf;

use lockstep_embedded::{DynamoOptions, serve_dynamo};
use tokio_util::sync::CancellationToken;

use crate::exit::Exit;
use crate::help;
use crate::report::print;

/// Serves an embedded DynamoDB until it is ended
///
/// Prints its endpoint on a line of its own. For `migrate --keep` and for tests; it verifies no signature, so
/// it listens on this machine only.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = help!("  cargo xtask dynamo-server --port 8000"))]
pub struct Args {
    /// SQLite file that holds the items [default: in memory]
    #[arg(long, value_name = "FILE")]
    pub path: Option<PathBuf>,
    /// Port on 127.0.0.1 [default: a free one]
    #[arg(long, value_name = "N")]
    pub port: Option<u16>,
}

/// Runs it.
///
/// # Errors
/// When the port or the file cannot be had.
pub async fn run(args: Args, cancel: CancellationToken) -> anyhow::Result<Exit> {
    serve_dynamo(DynamoOptions { path: args.path, port: args.port }, print, cancel.cancelled_owned()).await?;
    Ok(Exit::Done)
}
