//! `test-operation`: one marked row a table, through the real path into both stores, and out again.

use lockstep_coordinator::TestReport;

use crate::exit::{Exit, Failure};
use crate::probes::marked::marked_rows;
use crate::report::{print, print_json, table};
use crate::stores::Stores;
use crate::{Context, help};

/// Writes a marked row into each table, looks for it in both stores, and removes it
///
/// The write goes the way that an application's goes, under the phase of the moment, and is looked for past every cache and
/// fallback. Ids are reserved (the greatest there are), the log is of service lockstep-test-operation, the payment is of one
/// hundredth on some loan; both are gone again after some milliseconds, and a run that was broken off is cleaned up by the
/// next. Phases that write one store only say what was not checked. The step to HybridRead runs it as a gate.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = help!("  cargo xtask test-operation\n  cargo xtask test-operation --json | jq '.checks'"))]
pub struct Args {}

/// Runs it.
///
/// # Errors
/// When the source does not answer, or Lockstep was never installed.
pub async fn run(context: Context, _args: Args) -> anyhow::Result<Exit> {
    let stores = Stores::configured(&context.config).await?;
    if !stores.source.has_schema().await? {
        return Err(Failure::usage(
            "Lockstep was never installed in this source, so there is nothing to test; run `backfill` first",
        ));
    }
    let migration = context.migration(&stores)?;
    let (rows, left_out) =
        marked_rows(&context.config.tables, &migration.tables, (&stores.source, &stores.target), &context.writer(&stores))
            .await?;
    // Not to be dropped half-way: it would leave the marked rows to the next run.
    let report = lockstep_coordinator::test_operation(&migration, &rows, &left_out).await?;
    if context.json {
        print_json(&report);
    } else {
        print(&text(&report));
    }
    stores.close(false).await?;
    Ok(if report.passed { Exit::Consistent } else { Exit::NotConsistent })
}

fn text(report: &TestReport) -> String {
    let rows = report.checks.iter().map(|check| {
        let word = match check.passed {
            Some(true) => "ok",
            Some(false) => "FAILED",
            None => "not checked",
        };
        vec![check.table.clone(), check.what.clone(), word.to_owned(), check.detail.clone()]
    });
    let mut text = table(&["table", "check", "result", "found"], rows);
    for why in &report.not_checked {
        text += &format!("\nnot checked: {why}");
    }
    let verdict = if report.passed { "passed" } else { "FAILED" };
    format!("{text}\nTest operation in {}: {verdict}", report.phase)
}
