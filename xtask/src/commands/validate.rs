//! `validate`: compare every row of both sides.

use std::path::PathBuf;

use lockstep_validator::ValidateOptions;

use crate::evidence::write_page;
use crate::exit::{Exit, Failure};
use crate::report::{exit_of_verdict, print, print_json, validation};
use crate::stores::Stores;
use crate::{Context, help};

/// Compares every row of both sides, field by field
///
/// Writers may go on: a difference is looked at again until it has settled, so lag is not drift. Changes that wait for
/// delivery are delivered by a relay, which must be running beside this, or the verdict cannot be consistent; with --no-relay
/// what is pending is counted at once instead of waited for. The verdict is recorded, and the step to HybridRead asks for a
/// fresh one. For each field that differs the report says where: the column, the path inside a document, and whether a side is
/// NULL, absent or empty. Values are masked, except those the table's crate says hold nothing to hide; --unmasked shows all.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = help!(
    "  cargo xtask validate              while a relay runs\n  \
       cargo xtask validate --no-relay   nobody delivers: what is pending is a finding\n  \
       cargo xtask validate --quiescent  nobody writes: counts must agree as well, nothing may be pending\n  \
       cargo xtask validate --html audit.html --latency   a page, with latencies of both stores\n  \
       cargo xtask validate --json | jq '.verdict, .reasons'"
))]
pub struct Args {
    /// All writers are stopped: compare counts too, and let nothing be pending
    #[arg(long)]
    pub quiescent: bool,
    /// No relay is running: do not wait for what is pending
    #[arg(long)]
    pub no_relay: bool,
    /// Do not judge the data itself: no business rules, sums, daily counts or references
    #[arg(long)]
    pub no_quality: bool,
    /// Also write the report as a page of its own, to be sent
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Also time the same queries on both stores, this often each
    #[arg(long, value_name = "TIMES", num_args = 0..=1, default_missing_value = "100", default_value_t = 0, hide_default_value = true)]
    pub latency: usize,
    /// Compute the digests under this seed, that of an earlier report's manifest
    #[arg(long, value_name = "HEX", value_parser = seed)]
    pub digest_seed: Option<u64>,
    /// Show the values of fields that differ; for who may read the rows anyway, never stored
    #[arg(long)]
    pub unmasked: bool,
}

fn seed(text: &str) -> Result<u64, String> {
    u64::from_str_radix(text, 16).map_err(|_| "a seed is up to 16 hexadecimal digits".to_owned())
}

/// Runs it.
///
/// # Errors
/// When a store does not answer, or it is told to stop.
pub async fn run(context: Context, args: Args) -> anyhow::Result<Exit> {
    let stores = Stores::configured(&context.config).await?;
    if !stores.source.has_schema().await? {
        return Err(Failure::usage(
            "Lockstep was never installed in this source, so there is nothing to compare; run `backfill` first",
        ));
    }
    let options = ValidateOptions {
        quiescent: args.quiescent,
        wait_for_pending: !args.no_relay,
        unmasked: args.unmasked,
        quality: !args.no_quality,
        digest_seed: args.digest_seed,
        ..context.config.validate_options()
    };
    let report = context.validate_and_time(&stores, &options, args.latency, &context.cancel).await?;
    if let Some(path) = &args.html {
        write_page(path, &report, &stores.source).await?;
        context.ui.say(&format!("The page is in {}", path.display()));
    }
    if context.json {
        print_json(&report);
    } else {
        print(&validation(&report));
    }
    stores.close(false).await?;
    context.check_cancelled()?;
    Ok(exit_of_verdict(&report.verdict))
}
