//! Arguments of `serve`.

use crate::config::Setting;
use crate::help;

/// Keeps a migration going, and shows it: one process for relay, reverse feed, API, page and metrics
///
/// It delivers changes, feeds PostgreSQL from DynamoDB where the phase needs it, resolves strict writes,
/// makes the marks of history, and watches. Each part begins again by itself when it ends; a store that is
/// away is waited for, for as long as it takes. Several may run: one leads, the others answer what reads, and
/// take over within seconds. Ctrl-C or SIGTERM ends it: what is in flight is finished.
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
    /// Listen on an address that other machines reach without a certificate, although the tokens travel
    /// unencrypted; put TLS before it
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
    /// Returns the flags that set a key.
    pub fn settings(&self) -> Vec<Setting> {
        Setting::of("serve.listen", self.listen.clone()).into_iter().collect()
    }
}
