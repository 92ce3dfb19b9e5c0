//! One pair of stores, and what a test does with it.
//!
//! In reading order: this file (the stores), `app` (an application's handle), `cluster` (the one PostgreSQL
//! of the process), `rows` (SQL that writes rows), `look` (what is in the stores), `work` (backfill, relay,
//! steps), `truth` (moved past every gate), `fleet` (applications that write and check without end), `backup`
//! (stores set back), `dump` (a source that is moved), `dynamo_only` (items as applications write them there,
//! the reverse feed), `wait` (bounded waiting), `naive` (the independent checker).

mod app;
mod backup;
mod cluster;
mod dump;
mod dynamo_only;
mod fleet;
mod look;
mod naive;
pub mod rows;
mod truth;
mod wait;
mod work;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use lockstep::store::Store;
use lockstep_dynamo::{Target, TargetOptions};
use lockstep_embedded::Dynamo;
use lockstep_integration_logs::IntegrationLogs;
use lockstep_payments::Payments;
use lockstep_postgres::{Source, SourceOptions, TableBinding};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection};

pub use app::{CutShort, sweeping_never};
pub use backup::{SourceBackup, TableBackup};
pub use dump::SourceDump;
pub use fleet::Fleet;
pub use look::acknowledge;
pub use truth::{LOCK_TIMEOUT, nowhere};
pub use wait::{eventually, within};
pub use work::{Notes, backfill};

use crate::faults::source::SourceProxy;
use crate::faults::{FaultProxy, Written};

/// Name of the logs' table, on both sides.
pub const LOGS: &str = "integration_logs";
/// Name of the payments' table, on both sides.
pub const PAYMENTS: &str = "payments";

/// Options with which a world is made.
#[derive(Clone, Debug)]
pub struct WorldOptions {
    /// Whether the product reaches the target through a [`FaultProxy`]. The checkers never do.
    pub proxied: bool,
    /// Whether the product reaches the source through a [`SourceProxy`]. Strangers and checkers never do.
    pub source_proxied: bool,
    /// Whether every request to the target, the checkers' and other processes' among them, is recorded right
    /// before the emulator: see [`World::record_writes`].
    pub recorded: bool,
    /// Endpoint of another emulator; the one that is built in where there is none.
    pub emulator: Option<String>,
    /// Time that the product waits for a connection to the source.
    pub connect_timeout: Duration,
    /// Longest wait of the product for one answer of the target.
    pub request_timeout: Duration,
    /// Time in which a lost request could still arrive, as the product knows it.
    pub request_lifetime: Duration,
    /// Connections of the product's pool.
    pub connections_max: u32,
}

impl Default for WorldOptions {
    fn default() -> Self {
        Self {
            proxied: false,
            source_proxied: false,
            recorded: false,
            emulator: None,
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(3),
            request_lifetime: Duration::from_secs(2),
            connections_max: 12,
        }
    }
}

/// A database and an emulator that no other test uses.
pub struct World {
    /// The source, as the product has it.
    pub source: Source,
    /// The target, as the product has it: through the proxy, if there is one.
    pub target: Target,
    /// The target, past every proxy.
    pub plain_target: Target,
    /// The emulator. Taken out and dropped, the target is gone.
    pub dynamo: Option<Dynamo>,
    url: String,
    proxy: Option<FaultProxy>,
    source_proxy: Option<SourceProxy>,
    recorder: Option<FaultProxy>,
    strangers: PgPool,
    options: WorldOptions,
}

impl World {
    /// A world without a proxy.
    pub async fn start() -> Self {
        Self::with(WorldOptions::default()).await
    }

    /// A world whose product talks to the target through a proxy.
    pub async fn behind_proxy() -> Self {
        Self::with(WorldOptions { proxied: true, ..WorldOptions::default() }).await
    }

    /// A world whose product talks to both stores through proxies.
    pub async fn behind_both_proxies() -> Self {
        Self::with(WorldOptions { proxied: true, source_proxied: true, ..WorldOptions::default() }).await
    }

    /// A world of your own making.
    pub async fn with(options: WorldOptions) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(1);
        let name = format!("world_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        Self::at(cluster::database(&name).await, options).await
    }

    /// A world whose source is the database at `url`, as on a server that the test changes for itself.
    pub async fn at(url: String, options: WorldOptions) -> Self {
        let (dynamo, emulator) = match &options.emulator {
            Some(endpoint) => (None, endpoint.clone()),
            None => {
                let dynamo = Dynamo::start().await.expect("the emulator starts");
                let endpoint = dynamo.endpoint_url().to_owned();
                (Some(dynamo), endpoint)
            }
        };
        let recorder = proxy_if(options.recorded, &emulator).await;
        let emulator = recorder.as_ref().map_or(emulator, FaultProxy::endpoint_url);
        let proxy = proxy_if(options.proxied, &emulator).await;
        let endpoint = proxy.as_ref().map_or_else(|| emulator.clone(), FaultProxy::endpoint_url);
        let source_proxy = match options.source_proxied {
            true => Some(SourceProxy::start(address_of(&url)).await.expect("the proxy starts")),
            false => None,
        };
        let product_url =
            source_proxy.as_ref().map_or_else(|| url.clone(), |proxy| at_address(&url, proxy.address()));
        let source = connect_source(product_url, &options).await;
        let target = Target::connect(target_options(endpoint, &options)).await;
        // Checkers are no product: what they ask of a busy machine may take its time.
        let patient = WorldOptions { request_timeout: Duration::from_secs(30), ..options.clone() };
        let plain_target = Target::connect(target_options(emulator, &patient)).await;
        let strangers =
            PgPoolOptions::new().max_connections(12).connect(&url).await.expect("strangers connect");
        Self { source, target, plain_target, dynamo, url, proxy, source_proxy, recorder, strangers, options }
    }

    /// The URL of the source, with its password.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The same as the driver takes it.
    pub fn connect_options(&self) -> PgConnectOptions {
        self.url.parse().expect("our own URL parses")
    }

    /// The proxy.
    ///
    /// # Panics
    /// In a world without one.
    #[track_caller]
    pub fn proxy(&self) -> &FaultProxy {
        self.proxy.as_ref().expect("this world was made without a proxy")
    }

    /// The proxy before the source.
    ///
    /// # Panics
    /// In a world without one.
    #[track_caller]
    pub fn source_proxy(&self) -> &SourceProxy {
        self.source_proxy.as_ref().expect("this world was made without a proxy before the source")
    }

    /// Records from now on what reaches the target and what it answers. Nothing leads past it: 1. An instance
    /// in a process of its own has no faults on its way, and asks the emulator itself. 2. What it puts and
    /// acknowledges would be an acknowledgement of nothing.
    ///
    /// # Panics
    /// In a world that is not [recorded](WorldOptions::recorded).
    #[track_caller]
    pub fn record_writes(&self) {
        self.recorder().record_writes();
    }

    /// Returns what was recorded.
    ///
    /// # Panics
    /// As [`World::record_writes`].
    #[track_caller]
    pub fn writes(&self) -> Vec<Written> {
        self.recorder().writes()
    }

    #[track_caller]
    fn recorder(&self) -> &FaultProxy {
        self.recorder.as_ref().expect("this world was made without a recorder")
    }

    /// Returns how the product reaches the source: through the proxy, if there is one.
    pub fn source_options(&self) -> SourceOptions {
        let url = self
            .source_proxy
            .as_ref()
            .map_or_else(|| self.url.clone(), |proxy| at_address(&self.url, proxy.address()));
        source_options(url, &self.options)
    }

    /// Returns how the product reaches the target: through the proxy, if there is one.
    pub fn target_options(&self) -> TargetOptions {
        target_options(self.target.address().to_owned(), &self.options)
    }

    /// Another handle on the source, with a pool of its own: another process, as far as the product can tell.
    pub async fn another_source(&self) -> Source {
        connect_source(self.source_options().url, &self.options).await
    }

    /// Both tables, bound to both sides.
    pub fn tables(&self) -> Vec<TableBinding> {
        vec![self.logs_table(), self.payments_table()]
    }

    /// The logs.
    pub fn logs_table(&self) -> TableBinding {
        bind(Arc::new(IntegrationLogs::default()), LOGS)
    }

    /// The payments.
    pub fn payments_table(&self) -> TableBinding {
        bind(Arc::new(Payments::default()), PAYMENTS)
    }

    /// An application's handle on the logs.
    pub fn log_store(&self) -> Store<IntegrationLogs> {
        Store::new(self.source.clone(), self.target.clone(), Arc::default(), self.logs_table())
    }

    /// An application's handle on the payments.
    pub fn payment_store(&self) -> Store<Payments> {
        Store::new(self.source.clone(), self.target.clone(), Arc::default(), self.payments_table())
    }

    /// A stranger's connection.
    pub async fn stranger(&self) -> PgConnection {
        PgConnection::connect_with(&self.connect_options()).await.expect("a stranger connects")
    }

    /// Runs SQL as a stranger; says how many rows it changed.
    ///
    /// # Panics
    /// When PostgreSQL refuses it.
    pub async fn sql(&self, sql: &str) -> u64 {
        self.try_sql(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// Runs SQL as a stranger.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub async fn try_sql(&self, sql: &str) -> Result<u64, sqlx::Error> {
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
            .execute(&self.strangers)
            .await
            .map(|done| done.rows_affected())
    }

    /// The strangers' pool, for queries that return something.
    pub fn strangers(&self) -> &PgPool {
        &self.strangers
    }
}

/// Runs SQL on one connection.
///
/// # Panics
/// When PostgreSQL refuses it.
pub async fn run(connection: &mut PgConnection, sql: &str) {
    let done = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(connection).await;
    done.unwrap_or_else(|error| panic!("{sql}: {error}"));
}

async fn proxy_if(wanted: bool, endpoint: &str) -> Option<FaultProxy> {
    match wanted {
        true => Some(FaultProxy::start(endpoint).await.expect("the proxy starts")),
        false => None,
    }
}

fn bind(table: lockstep_core::TableHandle, name: &str) -> TableBinding {
    TableBinding { table, relation: name.parse().expect("a plain name"), target_name: name.to_owned() }
}

/// Returns where the server of a URL listens: the cluster of the tests is on 127.0.0.1.
fn address_of(url: &str) -> SocketAddr {
    let options: PgConnectOptions = url.parse().expect("our own URL parses");
    SocketAddr::from(([127, 0, 0, 1], options.get_port()))
}

/// The same URL with another server in it.
fn at_address(url: &str, address: SocketAddr) -> String {
    let (account, place) = url.split_once('@').expect("a URL with a password");
    let (_, database) = place.split_once('/').expect("a URL ends in its database");
    format!("{account}@{address}/{database}")
}

fn source_options(url: String, options: &WorldOptions) -> SourceOptions {
    SourceOptions {
        url,
        password: lockstep_postgres::Password::InUrl,
        connections_max: options.connections_max,
        connect_timeout: options.connect_timeout,
        application_name: "lockstep under test".to_owned(),
        control_schema: lockstep_postgres::CONTROL_SCHEMA.to_owned(),
    }
}

fn target_options(endpoint_url: String, options: &WorldOptions) -> TargetOptions {
    TargetOptions {
        endpoint_url: Some(endpoint_url),
        region: Some("eu-central-1".to_owned()),
        emulator_credentials: true,
        connect_timeout: Duration::from_secs(2),
        request_timeout: options.request_timeout,
        request_lifetime: options.request_lifetime,
        ..TargetOptions::default()
    }
}

async fn connect_source(url: String, options: &WorldOptions) -> Source {
    Source::connect(&source_options(url, options)).await.expect("the source answers")
}
