//! The sample's schema and rows.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use lockstep_postgres::Source;
use lockstep_sample::generate::History;
use lockstep_sample::load::{Loaded, load};
use sqlx::postgres::PgConnectOptions;

use crate::Context;
use crate::demo::{Filled, Rows};
use crate::ui::{Counter, Sample};

/// Connections that rows are loaded over: generating them keeps a processor busy for each.
const CONNECTIONS: NonZeroUsize = NonZeroUsize::new(2).expect("two is not zero");

/// Creates the sample in `source`, showing how far it is.
pub(super) async fn fill(context: &Context, source: &Source, rows: Rows) -> anyhow::Result<Filled> {
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
    let result = context.unless_cancelled(load(&connection(source), &history, CONNECTIONS, count)).await;
    board.close().await;
    let loaded = result??;
    let rows = loaded.rows();
    Ok(Filled { fresh: matches!(loaded, Loaded::Fresh(_)), logs: rows.logs, payments: rows.payments })
}

/// Returns how the sample's own loaders and writers connect to `source`.
///
/// They name tables as any script would, without a schema. 1. The role is called lockstep, as on the embedded
/// stores, and schema lockstep has been created. 2. The default search path begins with the schema of the
/// role's name. 3. A second `seed` would find no integration_logs there and fill new tables that are not
/// migrated. So the schema is said here.
pub(super) fn connection(source: &Source) -> PgConnectOptions {
    (*source.pool().connect_options()).clone().options([("search_path", "public")])
}
