//! `seed`: the sample's schema and rows into the source.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use lockstep_postgres::Source;
use serde_json::json;
use sqlx::postgres::PgConnectOptions;

use crate::exit::Exit;
use crate::report::{print, print_json};
use crate::stores::Stores;
use crate::ui::{Counter, Sample, count, seconds};
use crate::{Context, help};
use lockstep_sample::generate::History;
use lockstep_sample::load::{Loaded, load};

/// Connections that rows are loaded over: generating them keeps a processor busy for each.
const CONNECTIONS: NonZeroUsize = NonZeroUsize::new(2).expect("two is not zero");

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
    /// What to make.
    #[command(flatten)]
    pub rows: Rows,
}

/// How many rows, and which.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Rows {
    /// Rows of integration_logs
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    pub logs: u64,
    /// Rows of payments
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    pub payments: u64,
    /// Seed of everything that is made up
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
}

/// Runs it.
///
/// # Errors
/// When the source does not answer or refuses.
pub async fn run(context: Context, args: Args) -> anyhow::Result<Exit> {
    let stores = Stores::configured(&context.config, &context.ui).await?;
    let begun = Instant::now();
    let loaded = fill(&context, &stores.source, args.rows).await?;
    let (fresh, rows) = (matches!(loaded, Loaded::Fresh(_)), loaded.rows());
    if context.json {
        let duration_s = begun.elapsed().as_secs_f64();
        print_json(
            &json!({ "seeded": fresh, "logs": rows.logs, "payments": rows.payments, "duration_s": duration_s }),
        );
    } else {
        print(&describe(&loaded));
    }
    stores.close(false).await?;
    Ok(Exit::Consistent)
}

/// Creates the sample in `source`, showing how far it is.
pub(super) async fn fill(context: &Context, source: &Source, rows: Rows) -> anyhow::Result<Loaded> {
    let base_day = chrono::Utc::now().date_naive();
    let history = History { seed: rows.seed, base_day, logs: rows.logs, payments: rows.payments };
    let loaded = Arc::new(AtomicU64::new(0));
    let board = context.ui.board("seed", {
        let loaded = loaded.clone();
        move || {
            let done = Counter { now: loaded.load(Relaxed), end: rows.logs + rows.payments, before: 0 };
            vec![Sample { name: "sample rows".to_owned(), done, ..Sample::default() }]
        }
    });
    let count = |rows| {
        loaded.fetch_add(rows, Relaxed);
    };
    let begun = Instant::now();
    let result = context.unless_cancelled(load(&connection(source), &history, CONNECTIONS, count)).await;
    board.close().await;
    let result = result??;
    context.ui.say(&format!("  {} in {}", describe(&result), seconds(begun.elapsed().as_secs_f64())));
    Ok(result)
}

/// How the sample's own loaders and writers connect to `source`.
///
/// They name tables as any script would, without a schema. 1. The role is called lockstep, as on the embedded
/// stores, and schema lockstep has been created. 2. The default search path begins with the schema of the
/// role's name. 3. A second `seed` would find no integration_logs there and fill new tables that are not
/// migrated. So the schema is said here.
pub(super) fn connection(source: &Source) -> PgConnectOptions {
    (*source.pool().connect_options()).clone().options([("search_path", "public")])
}

fn describe(loaded: &Loaded) -> String {
    let rows = loaded.rows();
    let what = format!("{} logs and {} payments", count(rows.logs), count(rows.payments));
    match loaded {
        Loaded::Fresh(_) => format!("Seeded {what}"),
        Loaded::Present(_) => format!("The tables hold {what} already; nothing was added"),
    }
}
