//! The daemon: one process that keeps a migration going, and shows it (R44–R48).
//!
//! Words: a *part* is what the daemon keeps running (the relay, the reverse feed, …); a *reading* is what
//! it knows of the migration at a moment; the *leader* is the one of several daemons that acts. In reading
//! order: [`ServeOptions`] and `monitor_options` (what can be set), [`Operator`] (what the program around
//! it does for it), `operations` (what was asked), `part` (what a part is doing), `stores` (whether they
//! answer), `measure`, `counted`, `spend`, `latencies` and `eta` (percentages, dollars and times),
//! `alerts` (what is wrong), `webhook` and `told` (telling of it), `snapshot` (one reading), `view` (the
//! same as JSON), `shared` (what all parts have), `gauges` and `alone` (metrics), `report`, `poll`
//! (reading), `lead` (who leads), `supervise`, `monitor`, `whole`, `ramp`, `counting` and `parts` (what
//! runs), `http`, this file.
//!
//! This crate names no concrete table, and no value of a row leaves it.

mod alerts;
mod alone;
mod counted;
mod counting;
mod eta;
mod gauges;
mod http;
mod latencies;
mod lead;
mod measure;
mod monitor;
mod monitor_options;
mod operations;
mod operator;
mod part;
mod parts;
mod poll;
mod ramp;
mod report;
mod serve_options;
mod shared;
mod snapshot;
mod spend;
mod stores;
mod supervise;
mod told;
mod view;
mod webhook;
mod whole;

pub use monitor_options::MonitorOptions;
pub use serve_options::{LISTEN, ServeOptions};
pub use webhook::Webhook;

pub use alerts::{HealthState, health_of};
pub use alone::serve_metrics;
pub use http::{Right, TOKEN_CHARS_MIN, Tls, Tokens, random_token};
pub use operator::{Act, Compare, Operator, Unsuccessful, Walk};
pub use report::summary;
pub use spend::{Spend, TableSpend};

use std::sync::Arc;
use std::time::Duration;

use lockstep_coordinator::MigrationContext;
use lockstep_core::KeptBy;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use http::Guard;
use shared::Shared;

/// Options of a daemon.
#[derive(Debug)]
pub struct DaemonOptions {
    /// Tokens of those that may ask.
    pub tokens: Tokens,
    /// Names that it goes by besides its addresses.
    pub hosts: Vec<String>,
    /// Options of what it watches besides, and where alerts go.
    pub monitor: MonitorOptions,
    /// Certificate and key by which it speaks TLS; plain HTTP where it is `None`.
    pub tls: Option<Tls>,
    /// Whether its stores are throw-away ones.
    pub demo: bool,
}

/// Longest wait for operations and parts when it ends; the next start finishes or undoes what is not through
/// then.
const DRAIN_WITHIN: Duration = Duration::from_secs(30);

/// Longest wait for the leader's lock to be given back.
const RELEASE_WITHIN: Duration = Duration::from_secs(5);

/// A daemon at work.
pub struct Daemon {
    shared: Arc<Shared>,
    tasks: JoinSet<&'static str>,
    leading: tokio::task::JoinHandle<()>,
    release: CancellationToken,
}

impl Daemon {
    /// Starts everything on a socket that listens already. Nothing of it fails for a store that does not
    /// answer.
    ///
    /// # Errors
    /// When the socket has no address.
    pub fn start(
        migration: MigrationContext,
        operator: Arc<dyn Operator>,
        listener: TcpListener,
        options: DaemonOptions,
        stop: CancellationToken,
    ) -> std::io::Result<Self> {
        // Before anything is counted.
        let _ = gauges::install(KeptBy::Daemon);
        let guard = Guard::new(options.tokens, listener.local_addr()?.ip().is_loopback(), &options.hosts);
        let shared = Arc::new(Shared::new(migration, operator, options.monitor, options.demo, stop));
        let mut tasks = JoinSet::new();
        supervise::begin(&mut tasks, "reading", poll::run(shared.clone()));
        supervise::begin(&mut tasks, "http", http::serve(shared.clone(), listener, options.tls, guard));
        parts::start(&shared, &mut tasks);
        let release = CancellationToken::new();
        let leading = tokio::spawn(lead::run(shared.clone(), release.clone()));
        Ok(Self { shared, tasks, leading, release })
    }

    /// Waits until it has read the migration once and knows whether it leads, but at most for `at_most`.
    ///
    /// # Cancel safety
    /// It only looks.
    pub async fn ready(&self, at_most: Duration) {
        let (mut snapshot, mut role) = (self.shared.snapshot.subscribe(), self.shared.role.subscribe());
        let ready = async {
            // The senders live in `shared`.
            let _ = role.wait_for(|role| *role == part::Role::Leader).await;
            let _ = snapshot.wait_for(|snapshot| snapshot.read_at.is_some()).await;
        };
        let _ = tokio::time::timeout(at_most, ready).await;
    }

    /// Waits until it is told to stop, and has drained: the operation under way is undone or finished, parts
    /// have ended, and the leader's lock is given back, in that order.
    ///
    /// # Errors
    /// Where a task of it ended before that, by a bug: 1. The task that reads panics. 2. The page
    /// shows for ever what was so then, and no alert is raised. So the process ends, to be started again.
    pub async fn run(mut self) -> Result<(), String> {
        let shared = self.shared.clone();
        let fault = tokio::select! {
            () = shared.stop.cancelled() => None,
            why = supervise::first_end(&mut self.tasks) => Some(why),
            _ = &mut self.leading => Some(format!("leading has ended: {}", lockstep_core::PANICKED)),
        };
        let fault = fault.filter(|_| !shared.stop.is_cancelled());
        if let Some(why) = &fault {
            tracing::error!("the daemon ends: {why}");
            shared.stop.cancel();
        }
        let drained = async {
            if let Some(id) = shared.operations.running() {
                shared.operations.ended(&id).await;
            }
            while self.tasks.join_next().await.is_some() {}
        };
        if tokio::time::timeout(DRAIN_WITHIN, drained).await.is_err() {
            tracing::warn!(
                "not everything has ended within {DRAIN_WITHIN:?}; the next start finishes or undoes it"
            );
        }
        self.release.cancel();
        // A server that says nothing is not asked for the lock back for ever: it ends the session by itself.
        if !self.leading.is_finished() {
            let _ = tokio::time::timeout(RELEASE_WITHIN, self.leading).await;
        }
        fault.map_or(Ok(()), Err)
    }
}
