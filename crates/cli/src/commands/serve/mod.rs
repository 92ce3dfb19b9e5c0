//! `serve`: the daemon.
//!
//! In reading order: this file (flags, start, end), `access` (where it listens, and its tokens), `operator`
//! (what it has done by the commands), `demo` (stores of its own, moved to DualWrite).

mod access;
mod demo;
mod operator;

use std::sync::Arc;
use std::time::Duration;

use lockstep_daemon::{Daemon, DaemonOptions};
use serde_json::json;

use crate::config::Setting;
use crate::exit::Exit;
use crate::report::print;
use crate::stores::Stores;
use crate::ui::Ui;
use crate::{Context, help};
use access::Access;
use operator::Commands;

/// Keeps a migration going, and shows it: one process for relay, reverse feed, API, page and metrics
///
/// It delivers changes, feeds PostgreSQL from DynamoDB where the phase needs it, settles strict writes, marks
/// history, and watches. Each part begins again by itself when it ends; a store that is away is waited for,
/// for as long as it takes. Several may run: one leads, the others answer what reads, and take over within
/// seconds. Ctrl-C or SIGTERM ends it: what is in flight is finished.
///
/// `GET /v1/status` and the page at `/` show everything; `POST /v1/advance`, `/v1/rollback` and others act.
/// Both need a token: LOCKSTEP_OPERATE_TOKEN and LOCKSTEP_READ_TOKEN, or files named in
/// serve.operate_token_file and serve.read_token_file. `/healthz`, `/readyz` and `/metrics` need none.
/// docs/operate.md has every route.
///
/// --demo starts stores of its own, fills them, writes on, goes to DualWrite, and makes up tokens; nothing of
/// it is left at the end.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = help!(
    "  cargo xtask serve --demo                         try it: open the address that it prints\n  \
       cargo xtask serve --demo --listen 127.0.0.1:0    on a free port\n  \
       LOCKSTEP_OPERATE_TOKEN=$(openssl rand -hex 32) cargo xtask serve --config prod.toml"
))]
pub struct Args {
    /// Start stores of its own, fill them, write on, and go to DualWrite; they are removed at the end
    #[arg(long)]
    pub demo: bool,
    /// Address and port to listen on; port 0 takes a free one [default: serve.listen, 127.0.0.1:7420]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<String>,
    /// Listen on an address that other machines reach, although the tokens travel unencrypted; put TLS before
    /// it
    #[arg(long)]
    pub i_know_that_tokens_travel_unencrypted: bool,
    /// With --demo: rows of integration_logs; a fifth as many of payments
    #[arg(long, value_name = "N", default_value_t = 2_000, requires = "demo")]
    pub logs: u64,
    /// With --demo: writes a second that go on
    #[arg(long, value_name = "N", default_value_t = 20, requires = "demo")]
    pub live_writes: u32,
}

impl Args {
    /// The flags that set a key.
    pub fn settings(&self) -> Vec<Setting> {
        Setting::of("serve.listen", self.listen.clone()).into_iter().collect()
    }
}

/// Longest wait for the first reading before the address is printed; a daemon whose stores are away starts
/// all the same.
const SETTLED_WITHIN: Duration = Duration::from_secs(10);

/// Runs it.
///
/// # Errors
/// For an address that is taken or not allowed, tokens that are missing, and, with --demo, stores that do not
/// start.
pub async fn run(context: Context, args: Args) -> anyhow::Result<Exit> {
    // First what a person has to mend, before anything is started.
    let access = Access::open(&context, &args).await?;
    let demo = match args.demo {
        true => Some(demo::Demo::start(&context, &args).await?),
        false => None,
    };
    let ended = match &demo {
        Some(demo) => serve(&context, &demo.stores, access, true).await,
        None => {
            let stores = Stores::configured_lazily(&context.config).await?;
            let ended = serve(&context, &stores, access, false).await;
            stores.close(false).await?;
            ended
        }
    };
    if let Some(demo) = demo {
        demo.end(&context).await?;
    }
    ended.map(|()| Exit::Consistent)
}

async fn serve(context: &Context, stores: &Stores, access: Access, demo: bool) -> anyhow::Result<()> {
    // What the commands say is in the operations that asked for it.
    let quiet = Context { ui: Ui::stderr(true), json: false, ..context.clone() };
    let operator = Arc::new(Commands::new(quiet, stores.share()));
    let hosts = context.config.serve.hosts.clone();
    let options = DaemonOptions { tokens: access.tokens, hosts, monitor: access.monitor, demo };
    let migration = context.migration(stores)?;
    let daemon = Daemon::start(migration, operator, access.listener, options, context.cancel.clone())?;
    context.unless_cancelled(daemon.settled(SETTLED_WITHIN)).await.ok();
    let address = format!("http://{}", access.address);
    match (access.shown, context.json) {
        (Some((operate, read)), false) => {
            print(&format!("Address: {address}\nToken: {operate}\nRead token: {read}\nPage: {address}/#token={operate}"));
        }
        (Some((operate, read)), true) => {
            let page = format!("{address}/#token={operate}");
            print(&json!({ "address": address, "token": operate, "read_token": read, "page": page }).to_string());
        }
        (None, false) => print(&format!("Address: {address}")),
        (None, true) => print(&json!({ "address": address }).to_string()),
    }
    daemon.run().await;
    Ok(())
}
