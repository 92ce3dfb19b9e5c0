//! `worker`: one of many processes that move one migration.

use std::sync::Arc;

use lockstep_coordinator::{Progress, RelaySummary, WorkOptions, WorkSummary, work};
use serde::Serialize;

use super::relay::relay_beside;
use super::shared::board;
use super::validate_shared::help_beside;
use crate::config::{Setting, actor};
use crate::exit::Exit;
use crate::report::{print, print_json, table};
use crate::stores::Stores;
use crate::ui::count;
use crate::{Context, help};

/// Takes work of the migration, beside any number of other workers on any number of machines
///
/// A worker takes ranges of the backfill, and, with --stay, pieces of each comparison that `validate
/// --with-workers` leads, and its share of the changes, as a `relay` beside others does. Start as many as you
/// like, whenever you like, with the same configuration: the first one checks and prepares everything as
/// `backfill` does and makes the plan, and each then takes ranges until none is left. `backfill` and
/// `migrate` take theirs the same way, and may run beside them.
///
/// A worker has a lease in the source (backfill.lease_ms). One that dies, is stopped or is cut off loses its
/// ranges to others, who go on from where they are acknowledged: what it had under way is read again, and no
/// more. One that wakes up later is refused its acknowledgements, and takes new ranges. All of them together
/// keep to backfill.write_units_per_s_max, or to what `tune` says. `status` shows them.
///
/// Ends with 0 once the whole initial load has been moved, by this worker or by others.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = help!(
    "  cargo xtask worker                     until everything has been moved\n  \
       cargo xtask worker --stay              until it is stopped: for a Deployment that scales\n  \
       cargo xtask worker --name pod-7 --json"
))]
pub struct Args {
    /// Name that `status` shows for it [default: user and process]
    #[arg(long, value_name = "NAME", env = "LOCKSTEP_WORKER_NAME")]
    pub name: Option<String>,
    /// Wait for more once everything is done; to be stopped is then how it ends, with 0
    #[arg(long)]
    pub stay: bool,
    /// Most write units a second of all workers together; 0 takes what the target gives. Give each the same
    #[arg(long, value_name = "N")]
    pub write_units_per_s_max: Option<u64>,
}

impl Args {
    /// Returns the flags that set a key.
    pub fn settings(&self) -> Vec<Setting> {
        Setting::of("backfill.write_units_per_s_max", self.write_units_per_s_max).into_iter().collect()
    }
}

/// Runs it.
///
/// # Errors
/// When a gate refuses, a store fails for good, or it is stopped before everything was done.
pub async fn run(context: Context, args: Args) -> anyhow::Result<Exit> {
    let stores = Stores::configured(&context.config, &context.ui).await?;
    let migration = context.migration(&stores)?;
    let options = WorkOptions { name: args.name.unwrap_or_else(actor), stay: args.stay };
    let until =
        if args.stay { "as it comes, until it is stopped" } else { "until everything has been moved" };
    context.ui.say(&format!("Taking work, {until}"));
    let progress = Arc::new(Progress::new(&migration.tables));
    let board = board(&context.ui, "work", progress.clone(), false);
    let working = work(migration.clone(), &options, &progress, &context.ui, &context.cancel);
    let (worked, relayed) = if options.stay {
        let stop = context.cancel.child_token();
        let ends = async {
            let worked = working.await;
            stop.cancel();
            worked
        };
        let helping = help_beside(&context, &stores, options.name.clone(), &stop);
        let (worked, (), relayed) = tokio::join!(ends, helping, relay_beside(&context, &migration, &stop));
        (worked, Some(relayed))
    } else {
        (working.await, None)
    };
    board.close().await;
    let done = Done { work: worked?, relayed };
    if context.json {
        print_json(&done);
    } else {
        print(&text(&done));
    }
    stores.close(false).await?;
    Ok(Exit::Done)
}

/// Work that a worker did.
#[derive(Serialize)]
struct Done {
    #[serde(flatten)]
    work: WorkSummary,
    /// Changes that it delivered beside that; `None` for one that does not stay.
    #[serde(skip_serializing_if = "Option::is_none")]
    relayed: Option<RelaySummary>,
}

fn text(Done { work: summary, relayed }: &Done) -> String {
    let headers = ["table", "ranges", "written", "present", "dead letters"];
    let rows = summary.tables.iter().map(|t| {
        vec![
            t.table.clone(),
            count(t.ranges),
            count(t.rows_written),
            count(t.rows_present),
            count(t.dead_letters),
        ]
    });
    let mut text = table(&headers, rows);
    if summary.leases_ended > 0 {
        text +=
            &format!("\nits lease ended early {} times; it went on with new ranges", summary.leases_ended);
    }
    if let Some(relayed) = relayed {
        text += &format!(
            "\n{} changes delivered, {} rows set aside",
            count(relayed.delivered),
            count(relayed.dead_letters)
        );
    }
    text
}
