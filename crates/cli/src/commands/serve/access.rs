//! Address at which the daemon listens, and the tokens of access to it.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::Context as _;
use lockstep_daemon::{LISTEN, MonitorOptions, Tls, Tokens, Webhook, random_token};
use tokio::net::TcpListener;

use super::args::Args;
use crate::Context;
use crate::exit::Failure;

/// The variables that tokens are read from. They are no keys of the configuration, so nothing that shows it
/// shows them.
const OPERATE_VARIABLE: &str = "LOCKSTEP_OPERATE_TOKEN";
const READ_VARIABLE: &str = "LOCKSTEP_READ_TOKEN";
const WEBHOOK_VARIABLE: &str = "LOCKSTEP_WEBHOOK_SECRET";

/// A socket that listens, and who may ask.
pub(super) struct Access {
    pub(super) listener: TcpListener,
    pub(super) address: SocketAddr,
    pub(super) tokens: Tokens,
    pub(super) monitor: MonitorOptions,
    /// Certificate and key by which it speaks TLS, if it does.
    pub(super) tls: Option<Tls>,
    /// The tokens to operate and to read, if they were made up just now and have to be shown.
    pub(super) shown: Option<(String, String)>,
}

impl Access {
    pub(super) async fn open(context: &Context, args: &Args) -> anyhow::Result<Self> {
        let section = &context.config.serve;
        let address: SocketAddr = section.listen.parse().context("reading serve.listen")?;
        let tls = match (&section.tls_cert, &section.tls_key) {
            (Some(cert), Some(key)) => Some(Tls::of_files(cert, key).await.map_err(Failure::usage)?),
            _ => None,
        };
        if !address.ip().is_loopback() && tls.is_none() && !args.i_know_that_tokens_travel_unencrypted {
            return Err(Failure::usage(format!(
                "{address} can be reached from other machines, and this daemon speaks plain HTTP: a program \
                 that listens on the network can read the tokens. Give the daemon a certificate \
                 (serve.tls_cert and serve.tls_key), listen on 127.0.0.1 and put a proxy with TLS before it, \
                 or say --i-know-that-tokens-travel-unencrypted"
            )));
        }
        let operate = token(OPERATE_VARIABLE, section.operate_token_file.as_deref()).await?;
        let read = token(READ_VARIABLE, section.read_token_file.as_deref()).await?;
        let (operate, read, shown) = match operate {
            Some(operate) => (operate, read, None),
            None if args.demo => {
                let (operate, read) = (random_token(), read.unwrap_or_else(random_token));
                (operate.clone(), Some(read.clone()), Some((operate, read)))
            }
            None => {
                return Err(Failure::usage(format!(
                    "there is no token to operate by: set {OPERATE_VARIABLE}, or serve.operate_token_file to a file with one \
                     (`openssl rand -hex 32` makes one); --demo makes up its own"
                )));
            }
        };
        let tokens = Tokens::new(&operate, read.as_deref()).map_err(Failure::usage)?;
        let monitor = monitor(context).await?;
        let listener = listen(context, address, args).await?;
        let address = listener.local_addr().context("asking where this daemon listens")?;
        Ok(Self { listener, address, tokens, monitor, tls, shown })
    }
}

/// Returns what is watched besides the status, and where alerts go.
pub(super) async fn monitor(context: &Context) -> anyhow::Result<MonitorOptions> {
    let section = &context.config.serve;
    let webhook = match &section.webhook_url {
        None => None,
        Some(url) => {
            let secret = token(WEBHOOK_VARIABLE, section.webhook_secret_file.as_deref()).await?;
            let secret = secret.ok_or_else(|| {
                Failure::usage(format!(
                    "serve.webhook_url is set and nothing signs it: set {WEBHOOK_VARIABLE} or serve.webhook_secret_file"
                ))
            })?;
            Some(Webhook::new(url, &secret).map_err(Failure::usage)?)
        }
    };
    Ok(MonitorOptions {
        serve: section.clone(),
        prices: context.config.plan.clone(),
        canary_percent: context.config.reads.canary_percent.into(),
        webhook,
    })
}

async fn listen(context: &Context, address: SocketAddr, args: &Args) -> anyhow::Result<TcpListener> {
    match TcpListener::bind(address).await {
        Ok(listener) => Ok(listener),
        Err(error)
            if error.kind() == ErrorKind::AddrInUse && args.demo && context.config.serve.listen == LISTEN =>
        {
            context
                .ui
                .warn(&format!("{address} is taken by another program; listening on a free port instead"));
            let free = SocketAddr::new(address.ip(), 0);
            TcpListener::bind(free).await.context("listening on a free port")
        }
        Err(error) if error.kind() == ErrorKind::AddrInUse => Err(Failure::usage(format!(
            "{address} is taken by another program: stop it, or say --listen ADDRESS:PORT (port 0 takes a free one)"
        ))),
        Err(error) => Err(Failure::usage(format!(
            "cannot listen on {address}: {error}; say another one with --listen ADDRESS:PORT"
        ))),
    }
}

/// Returns a token from the environment, or the first line of a file.
async fn token(variable: &str, file: Option<&Path>) -> anyhow::Result<Option<String>> {
    if let Ok(token) = std::env::var(variable) {
        return Ok(Some(token.trim().to_owned()));
    }
    let Some(path) = file else { return Ok(None) };
    let text = tokio::fs::read_to_string(path).await;
    let text = text
        .map_err(|error| Failure::usage(format!("cannot read the token in {}: {error}", path.display())))?;
    Ok(Some(text.lines().next().unwrap_or_default().trim().to_owned()))
}
