//! `report`: the newest verdict again, as a page or as JSON.

use std::path::PathBuf;

use lockstep_validator::Report;

use crate::evidence::write_page;
use crate::exit::{Exit, Failure};
use crate::report::{exit_of_report, print, print_json, validation};
use crate::stores::Stores;
use crate::{Context, help};

/// Shows the newest recorded verdict, or writes it as a page to send
///
/// Nothing is compared: this is what the last `validate` saw, with the journal since. The page is one HTML
/// file that asks no network and runs no script: verdict, coverage and findings of each table, rows by day,
/// quality of the data, latency where it was measured, the timeline of the migration, and a manifest by which
/// the evidence can be computed again. Values are never recorded, so none are in it.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = help!(
    "  cargo xtask report                     the newest verdict, in the terminal\n  \
       cargo xtask report --html audit.html   as a page\n  \
       cargo xtask report --json              as JSON; docs/report.md says what each field means"
))]
pub struct Args {
    /// Write the page to this file
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

/// Runs it.
///
/// # Errors
/// When nothing was validated yet, a store does not answer, or the file cannot be written.
pub async fn run(context: Context, args: Args) -> anyhow::Result<Exit> {
    let stores = Stores::configured(&context.config, &context.ui).await?;
    let verdict = match stores.source.has_schema().await? {
        true => stores.source.latest_verdict().await?,
        false => None,
    };
    let Some(verdict) = verdict else {
        return Err(Failure::usage("nothing has been validated yet; run `validate` first"));
    };
    let report: Report = serde_json::from_value(verdict.report)?;
    if let Some(path) = &args.html {
        write_page(path, &report, &stores.source).await?;
    }
    if context.json {
        print_json(&report);
    } else if let Some(path) = &args.html {
        print(&format!(
            "{} written; the verdict is {:.0} s old: {}",
            path.display(),
            verdict.age_s,
            report.verdict
        ));
    } else {
        print(&validation(&report));
    }
    stores.close(false).await?;
    Ok(exit_of_report(&report))
}
