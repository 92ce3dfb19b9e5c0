//! `validate --help-out`, and what `worker --stay` does beside it: a part of a comparison that another
//! process leads.

use std::time::Duration;

use lockstep_validator::{Helped, Sharing, ValidateOptions, ValidationProgress, help};

use tokio_util::sync::CancellationToken;

use super::shared::validation_sample;
use crate::Context;
use crate::config::actor;
use crate::exit::Exit;
use crate::report::{print, print_json, table};
use crate::stores::Stores;
use crate::ui::count;

/// Time for which a worker that could not take part looks for another comparison.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// Returns how this process is known to those that it shares a comparison with.
pub(super) fn sharing(context: &Context, name: Option<String>) -> Sharing {
    let lease = context.config.options().backfill.lease;
    Sharing { name: name.unwrap_or_else(actor), lease }
}

/// Takes part until what is under way has ended, or, if it stays, until it is stopped.
pub(super) async fn help_out(
    context: &Context,
    stores: Stores,
    options: &ValidateOptions,
    stay: bool,
) -> anyhow::Result<Exit> {
    let sharing = sharing(context, None);
    let helped = take_part(context, &stores, options, (&sharing, stay), &context.cancel).await?;
    if context.json {
        print_json(&helped);
    } else {
        print(&text(&helped));
    }
    stores.close(false).await?;
    if !stay {
        context.check_cancelled()?;
    }
    Ok(Exit::Done)
}

/// The same beside other work, for as long as that lasts. A reason that keeps this process from taking part
/// is said, and does not end the other work.
pub(super) async fn help_beside(context: &Context, stores: &Stores, name: String, stop: &CancellationToken) {
    let (spending, sharing) = (Some(context.config.spending()), sharing(context, Some(name)));
    let options = ValidateOptions { spending, ..context.config.validate_options() };
    while let Err(error) = take_part(context, stores, &options, (&sharing, true), stop).await {
        context.ui.say(&format!("  this process takes no part in a comparison: {error}"));
        if stop.run_until_cancelled(tokio::time::sleep(LOOK_AGAIN)).await.is_none() {
            return;
        }
    }
}

async fn take_part(
    context: &Context,
    stores: &Stores,
    options: &ValidateOptions,
    (sharing, stay): (&Sharing, bool),
    stop: &CancellationToken,
) -> anyhow::Result<Helped> {
    let tables = context.tables()?;
    let progress = ValidationProgress::new(&tables);
    let board = context.ui.board("compare", {
        let progress = progress.clone();
        move || progress.snapshot().iter().map(validation_sample).collect()
    });
    let helping = (options, sharing, stay);
    let helped = help(&stores.source, &stores.target, &tables, helping, &progress, stop).await;
    board.close().await;
    Ok(helped?)
}

fn text(helped: &Helped) -> String {
    let rows = helped.tables.iter().map(|t| vec![t.table.clone(), count(t.rows), count(t.items)]);
    let mut text = table(&["table", "rows read", "items read"], rows);
    text +=
        &format!("\ntook part in {} comparisons; the process that leads has the verdict", helped.comparisons);
    if helped.leases_ended > 0 {
        text += &format!("\nits lease ended early {} times; it went on with new pieces", helped.leases_ended);
    }
    text
}
