//! A loan platform's service that lives through a migration: it writes and asks its stores, and never learns
//! the phase.
//!
//! Modules in reading order: `stores` (what embedding Lockstep costs), `app` (routes), `view` (rows as JSON).

mod app;
mod stores;
mod throwaway;
mod view;

#[cfg(test)]
mod tests;

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Context;
use clap::Parser;
use tokio::net::TcpListener;
use tracing_subscriber::Layer as _;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// A small loan service on Lockstep's stores
///
/// Without settings it starts a throw-away PostgreSQL and an embedded DynamoDB, and prints how to migrate
/// them while it runs. With LOCKSTEP_SOURCE__URL (and LOCKSTEP_TARGET__ENDPOINT_URL for an emulator) it works
/// on those.
#[derive(Debug, Parser)]
struct Args {
    /// Port on 127.0.0.1
    #[arg(long, default_value_t = 8088)]
    port: u16,
    /// PostgreSQL
    #[arg(long, env = "LOCKSTEP_SOURCE__URL", hide_env_values = true)]
    source_url: Option<String>,
    /// DynamoDB, where it is not AWS
    #[arg(long, env = "LOCKSTEP_TARGET__ENDPOINT_URL")]
    endpoint_url: Option<String>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    // A guarded put that is refused is success here, and a warning to the embedded server.
    let said = std::env::var("RUST_LOG").unwrap_or_else(|_| "warn,dynoxide=error".to_owned());
    let filter: tracing_subscriber::filter::Targets = said.parse().context("reading RUST_LOG")?;
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    tracing_subscriber::registry().with(lines.with_filter(filter)).init();
    let (migration, embedded) = match args.source_url {
        Some(url) => (stores::connect(&url, args.endpoint_url).await?, None),
        None => {
            let embedded = throwaway::start_embedded().await?;
            let endpoint_url = Some(embedded.dynamo.endpoint_url().to_owned());
            (stores::connect(embedded.postgres.url(), endpoint_url).await?, Some(embedded))
        }
    };
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, args.port));
    let listener = TcpListener::bind(address).await.with_context(|| format!("listening on {address}"))?;
    println!("The loan service listens on http://{}", listener.local_addr()?);
    if let Some(embedded) = &embedded {
        println!("{}", throwaway::how_to_migrate(embedded));
    }
    axum::serve(listener, app::router(&migration))
        .with_graceful_shutdown(async {
            // An error means that there is no Ctrl-C on this system: it is stopped in some other way.
            let _ = tokio::signal::ctrl_c().await;
        })
        .await?;
    migration.shutdown().await;
    if let Some(embedded) = embedded {
        embedded.stop().await?;
    }
    Ok(())
}
