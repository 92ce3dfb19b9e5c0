//! `advance --dry-run` and `rollback --dry-run`: what the gates of the next step say, without the step.

use lockstep_coordinator::{Observer as _, ready};
use lockstep_core::Phase;
use serde_json::json;

use super::direction::{Direction, path};
use crate::Context;
use crate::exit::{Exit, Failure};
use crate::report::{print, print_json};
use crate::stores::Stores;

/// Runs it.
pub(super) async fn run(context: Context, way: Direction, to: Option<Phase>) -> anyhow::Result<Exit> {
    let stores = Stores::configured(&context.config, &context.ui).await?;
    let exit = asked(&context, &stores, way, to).await;
    stores.close(false).await?;
    exit
}

/// Asks the gates of the next step, and takes none.
async fn asked(
    context: &Context,
    stores: &Stores,
    way: Direction,
    to: Option<Phase>,
) -> anyhow::Result<Exit> {
    let from = stores.source.control().await?.phase;
    let to = match to {
        Some(to) => next_to(way, from, to)?,
        None => way.next(from).ok_or_else(|| Failure::usage(format!("{from} is the last phase that way")))?,
    };
    let migration = context.migration(stores)?;
    let report = context.unless_cancelled(ready(&migration, to)).await??;
    if context.json {
        print_json(&json!({
            "dry_run": true, "from": from, "to": to, "passed": report.passed(), "gates": report.results
        }));
    } else {
        report.results.iter().for_each(|gate| context.ui.gate(gate));
        context.ui.show_gates();
        print(&match report.passed() {
            true => format!(
                "The gates of {from} → {to} pass. No step was taken, and the writes that a step tries out \
                 were not made"
            ),
            false => format!("{from} → {to} would be refused: {}. No step was taken", report.refusals()),
        });
    }
    Ok(if report.passed() { Exit::Done } else { Exit::Refused })
}

/// Returns the phase after `from` on the way to `to`.
fn next_to(way: Direction, from: Phase, to: Phase) -> anyhow::Result<Phase> {
    let next = path(way, from, to)?.first().copied();
    next.ok_or_else(|| Failure::usage(format!("the phase is {from} already")))
}
