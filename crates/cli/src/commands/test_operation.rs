//! `test-operation`: the way of a write, tried in both stores where no row can be.

use lockstep_coordinator::TestReport;

use crate::exit::{Exit, Failure};
use crate::report::{print, print_json, table};
use crate::stores::Stores;
use crate::{Context, help};

/// Tries the way of a write in both stores, for each table, and leaves nothing
///
/// In PostgreSQL the capture of each table is fired in a transaction that is rolled back, for a key that no
/// row can have. In DynamoDB a guarded write is made in a place that no row has, read back, made again (which
/// must be refused) and removed. No row is read, changed or locked, no trigger of an application fires, and
/// no id or counter is taken. Whether the application's own constraints and triggers accept a write is not
/// proven by it. The step to HybridRead runs it as a gate.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = help!("  cargo xtask test-operation\n  cargo xtask test-operation --json | jq '.checks'"))]
pub struct Args {}

/// Runs it.
///
/// # Errors
/// When the source does not answer, or Lockstep was never installed.
pub async fn run(context: Context, _args: Args) -> anyhow::Result<Exit> {
    let stores = Stores::configured(&context.config, &context.ui).await?;
    if !stores.source.has_schema().await? {
        return Err(Failure::usage(
            "Lockstep was never installed in this source, so there is nothing to test; run `backfill` first",
        ));
    }
    let migration = context.migration(&stores)?;
    // Not to be dropped half-way: it would leave its probe to the next run.
    let report = lockstep_coordinator::test_operation(&migration).await?;
    if context.json {
        print_json(&report);
    } else {
        print(&text(&report));
    }
    stores.close(false).await?;
    Ok(if report.passed { Exit::Done } else { Exit::NotConsistent })
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
        text += &format!("\nnot proven: {why}");
    }
    let verdict = if report.passed { "passed" } else { "FAILED" };
    format!("{text}\nTest operation in {}: {verdict}", report.phase)
}
