//! `seed`: the sample's schema and rows into the source.

use std::time::Instant;

use lockstep_postgres::Source;
use serde_json::json;

use crate::demo::{Filled, Rows};
use crate::exit::{Exit, Failure};
use crate::report::{print, print_json};
use crate::stores::Stores;
use crate::ui::{count, seconds};
use crate::{Context, help};

/// Puts the sample's schema and rows into the configured source
///
/// A small loan platform: seven tables, of which integration_logs and payments move. Rows are made from the
/// seed alone, the same on every machine and on the same day, with NULLs, Unicode, JSON of many sizes and
/// several currencies. Tables that exist are kept; if the two that move hold rows already, none are added.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = help!(
    "  cargo xtask seed                                    100,000 logs and 20,000 payments\n  \
       cargo xtask seed --logs 1000000 --payments 200000   ten times as many\n  \
       cargo xtask seed --seed 7                           other rows"
))]
pub struct Args {
    /// Rows to make.
    #[command(flatten)]
    pub rows: Rows,
}

/// Runs it.
///
/// # Errors
/// When the source does not answer or refuses.
pub async fn run(context: Context, args: Args) -> anyhow::Result<Exit> {
    let stores = Stores::configured(&context.config, &context.ui).await?;
    let begun = Instant::now();
    let filled = fill(&context, &stores.source, args.rows).await?;
    if context.json {
        let duration_s = begun.elapsed().as_secs_f64();
        print_json(
            &json!({ "seeded": filled.fresh, "logs": filled.logs, "payments": filled.payments, "duration_s": duration_s }),
        );
    } else {
        print(&describe(&filled));
    }
    stores.close(false).await?;
    Ok(Exit::Done)
}

/// Creates the sample in `source`, showing how far it is.
pub(super) async fn fill(context: &Context, source: &Source, rows: Rows) -> anyhow::Result<Filled> {
    let Some(demo) = context.demo() else {
        return Err(Failure::usage(
            "the sample's rows are for the sample's tables, and other tables move here; the prebuilt `lockstep`, without a file, has it",
        ));
    };
    let begun = Instant::now();
    let filled = demo.fill(context, source, rows).await?;
    context.ui.say(&format!("  {} in {}", describe(&filled), seconds(begun.elapsed().as_secs_f64())));
    Ok(filled)
}

fn describe(filled: &Filled) -> String {
    let what = format!("{} logs and {} payments", count(filled.logs), count(filled.payments));
    if filled.fresh {
        format!("Seeded {what}")
    } else {
        format!("The tables hold {what} already; nothing was added")
    }
}
