//! `orphans`: what is in one store only, and putting it right.

use lockstep_coordinator::{OnlyIn, Orphan, find_orphans, repair_orphans};
use lockstep_validator::ValidateOptions;
use serde_json::json;

use crate::exit::{Exit, Failure};
use crate::report::{print, print_json, searched, table};
use crate::stores::Stores;
use crate::{Context, help};

/// Lists rows without an item and items without a row, or repairs them
///
/// Crashes and lost replies are undone by themselves; this finds what a program did to a store behind
/// Lockstep's back. Both sides are compared whole, while writers go on. With --repair each is handed to the
/// relay, which makes DynamoDB say what PostgreSQL says: a missing item is put, an extra one gives way to a
/// tombstone. PostgreSQL is never changed. Where the backfill has a window of days, these are compared, and
/// that is said.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = help!(
    "  cargo xtask orphans            list them\n  \
       cargo xtask orphans --repair   hand them to the relay; one must run"
))]
pub struct Args {
    /// Hand them to the relay
    #[arg(long)]
    pub repair: bool,
}

/// Most that are printed.
const LISTED_MAX: usize = 100;

/// Runs it.
///
/// # Errors
/// When a store does not answer, or Lockstep was never installed.
pub async fn run(context: Context, args: Args) -> anyhow::Result<Exit> {
    let stores = Stores::configured(&context.config, &context.ui).await?;
    context.tell_of_pause(&stores.source).await;
    if !stores.source.has_schema().await? {
        return Err(Failure::usage(
            "Lockstep was never installed in this source, so there are no orphans; run `backfill` first",
        ));
    }
    let migration = context.migration(&stores)?;
    let options =
        ValidateOptions { wait_for_pending: false, quality: false, ..context.config.validate_options() };
    let orphans = find_orphans(&migration, &options, &context.cancel).await?;
    let marked = if args.repair { repair_orphans(&migration, &orphans.found).await? } else { 0 };
    if context.json {
        print_json(&json!({ "orphans": orphans, "marked": marked }));
    } else {
        let others = orphans.only_in_source + orphans.only_in_target;
        print(&text(&orphans.found, others > orphans.found.len() as u64));
        print(&format!(
            "{} only in PostgreSQL, {} only in DynamoDB",
            orphans.only_in_source, orphans.only_in_target
        ));
        if let Some(days) = searched(orphans.window_start, orphans.window_end) {
            print(&days);
        }
        for failure in &orphans.failures {
            print(&format!("not compared: {failure}"));
        }
        if args.repair {
            print(&format!("{marked} handed to the relay; `cargo xtask relay --until-empty` delivers them"));
        }
    }
    stores.close(false).await?;
    context.check_cancelled()?;
    let none = orphans.only_in_source + orphans.only_in_target == 0 && orphans.failures.is_empty();
    Ok(if none { Exit::Done } else { Exit::NotConsistent })
}

fn text(orphans: &[Orphan], others: bool) -> String {
    if orphans.is_empty() && others {
        // Of items that Lockstep did not write, no row can be named.
        let text = "There is nothing that the relay could repair; `cargo xtask repair` says what there is.";
        return text.to_owned();
    }
    if orphans.is_empty() {
        return "There are no orphans.".to_owned();
    }
    let rows = orphans.iter().take(LISTED_MAX).map(|orphan| {
        let only_in = match orphan.only_in {
            OnlyIn::Source => "PostgreSQL",
            OnlyIn::Target => "DynamoDB",
        };
        vec![orphan.table.clone(), orphan.key.join(", "), only_in.to_owned()]
    });
    table(&["table", "key", "only in"], rows)
}
