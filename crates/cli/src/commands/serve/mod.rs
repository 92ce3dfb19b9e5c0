//! `serve`: the daemon.
//!
//! In reading order: `args` (flags), this file (start and end), `access` (where it listens, and its tokens),
//! `operator` (what it has done by the commands), `demo` (stores of its own, moved to DualWrite).

mod access;
mod args;
mod demo;
mod operator;

use std::sync::Arc;
use std::time::Duration;

use lockstep_daemon::{Daemon, DaemonOptions};
use serde_json::json;

use crate::Context;
use crate::exit::Exit;
use crate::report::print;
use crate::stores::Stores;
use crate::ui::Ui;
use access::Access;
pub use args::Args;
use operator::Commands;

/// Longest wait for the first reading before the address is printed; a daemon whose stores are away starts
/// all the same.
const READY_WITHIN: Duration = Duration::from_secs(10);

/// Runs it.
///
/// # Errors
/// For an address that is taken or not allowed, tokens that are missing, and, with --demo, stores that do not
/// start.
pub async fn run(context: Context, args: Args) -> anyhow::Result<Exit> {
    // First what a person has to repair, before anything is started.
    let access = Access::open(&context, &args).await?;
    let demo = match args.demo {
        true => Some(demo::Demo::start(&context, &args).await?),
        false => None,
    };
    let ended = match &demo {
        Some(demo) => serve(&context, &demo.stores, access, true).await,
        None => {
            let stores = Stores::configured_lazily(&context.config, &context.ui).await?;
            let ended = serve(&context, &stores, access, false).await;
            stores.close(false).await?;
            ended
        }
    };
    if let Some(demo) = demo {
        demo.end(&context).await?;
    }
    ended.map(|()| Exit::Done)
}

async fn serve(context: &Context, stores: &Stores, access: Access, demo: bool) -> anyhow::Result<()> {
    // The output of the commands is in the operations that asked for it.
    let quiet = Context { ui: Ui::stderr(true), json: false, ..context.clone() };
    let operator = Arc::new(Commands::new(quiet, stores.share()));
    let hosts = context.config.serve.hosts.clone();
    let options =
        DaemonOptions { tokens: access.tokens, hosts, monitor: access.monitor, tls: access.tls, demo };
    let scheme = if options.tls.is_some() { "https" } else { "http" };
    let migration = context.migration(stores)?;
    let daemon = Daemon::start(migration, operator, access.listener, options, context.cancel.clone())?;
    context.unless_cancelled(daemon.ready(READY_WITHIN)).await.ok();
    let address = format!("{scheme}://{}", access.address);
    match (access.shown, context.json) {
        (Some((operate, read)), false) => {
            print(&format!(
                "Address: {address}\nToken: {operate}\nRead token: {read}\nPage: {address}/#token={operate}"
            ));
        }
        (Some((operate, read)), true) => {
            let page = format!("{address}/#token={operate}");
            print(
                &json!({ "address": address, "token": operate, "read_token": read, "page": page })
                    .to_string(),
            );
        }
        (None, false) => print(&format!("Address: {address}")),
        (None, true) => print(&json!({ "address": address }).to_string()),
    }
    daemon.run().await.map_err(|why| anyhow::anyhow!("{why}; start it again"))
}
