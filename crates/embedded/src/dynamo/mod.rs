//! The embedded DynamoDB: `dynoxide`, which keeps its items in SQLite, served over HTTP, so that all traffic
//! goes through the real SDK.

mod detached;
mod front;

#[cfg(test)]
mod tests;

pub use detached::DetachedDynamo;

use std::{
    future::Future,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use dynoxide::{Database, server::serve_with_shutdown};
use tokio::{
    net::TcpListener,
    runtime::{Builder, Runtime},
    sync::{oneshot, watch},
    task::JoinHandle,
};

use crate::{Error, blocking};

/// Requests run one at a time in the store itself; the second thread parses the next one meanwhile, and the
/// third hands bytes to and fro.
const THREADS: usize = 3;
/// Time that a stop waits for requests under way. Each takes milliseconds, so what is left then is a client
/// that stalls.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// Options with which an embedded DynamoDB is started. The default is one in memory on a free port.
#[derive(Debug, Clone, Default)]
pub struct DynamoOptions {
    /// The SQLite file that holds the items, made if it does not exist; in memory by default.
    ///
    /// What was answered survives a SIGKILL of the process that serves it, not a crash of the machine:
    /// nothing waits for the disk.
    pub path: Option<PathBuf>,
    /// The port on 127.0.0.1; a free one by default.
    pub port: Option<u16>,
}

/// A running embedded DynamoDB.
///
/// Any access key, secret and region will do: signatures must be there, and are not verified.
///
/// It answers programs of this machine, and no web page: see `front`.
///
/// It runs on three threads of its own. A request occupies a thread until the store has answered, so on the
/// runtime of the migration it would hold up the migration. Dropped, it breaks off at once, connections and
/// all, and does not wait.
#[derive(Debug)]
pub struct Dynamo {
    endpoint_url: String,
    address: SocketAddr,
    /// `None` only while being stopped or dropped.
    server: Option<Server>,
}

#[derive(Debug)]
struct Server {
    runtime: Runtime,
    shutdown: oneshot::Sender<()>,
    task: JoinHandle<Result<(), String>>,
    stop: watch::Sender<bool>,
    front: JoinHandle<()>,
}

impl Dynamo {
    /// Starts an empty one that leaves nothing behind, on a free port.
    ///
    /// # Errors
    ///
    /// When the system refuses a port or a thread.
    ///
    /// # Cancel safety
    ///
    /// Dropped before its end, what had come up goes in the background.
    pub async fn start() -> Result<Dynamo, Error> {
        Dynamo::start_with(DynamoOptions::default()).await
    }

    /// Starts one whose items are in the file at `path`, on a free port; with the items that are there
    /// already.
    ///
    /// # Errors
    ///
    /// As [`start`](Dynamo::start), and [`Error::DynamoOpen`] if the file is not one of its own.
    ///
    /// # Cancel safety
    ///
    /// As [`start`](Dynamo::start).
    pub async fn start_at(path: impl Into<PathBuf>) -> Result<Dynamo, Error> {
        Dynamo::start_with(DynamoOptions { path: Some(path.into()), port: None }).await
    }

    /// Starts one as `options` say.
    ///
    /// # Errors
    ///
    /// As [`start_at`](Dynamo::start_at), and [`Error::DynamoBind`] if the port is taken.
    ///
    /// # Cancel safety
    ///
    /// As [`start`](Dynamo::start).
    pub async fn start_with(options: DynamoOptions) -> Result<Dynamo, Error> {
        blocking(move || Dynamo::start_blocking(&options)).await
    }

    fn start_blocking(options: &DynamoOptions) -> Result<Dynamo, Error> {
        let begun = Instant::now();
        let port = options.port.unwrap_or(0);
        let bind_failed = |source| Error::DynamoBind { port, source };
        let database = open(options)?;
        let runtime = Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("embedded-dynamo")
            .enable_all()
            .build()
            .map_err(Error::spawn("the threads of the embedded DynamoDB"))?;
        let listener =
            runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, port))).map_err(bind_failed)?;
        let address = listener.local_addr().map_err(bind_failed)?;
        let (stop, stopped) = watch::channel(false);
        let store = runtime.block_on(front::bind_behind()).map_err(bind_failed)?;
        let behind = store.local_addr().map_err(bind_failed)?;
        let front = runtime.spawn(front::serve(listener, behind, stopped));
        let (shutdown, shut_down) = oneshot::channel();
        let task = runtime.spawn(serve_with_shutdown(store, database, async move {
            // An error says that the sender is gone, and with it the owner of the server.
            let _ = shut_down.await;
        }));
        tracing::debug!(%address, path = ?options.path, started_ms = begun.elapsed().as_millis(), "an embedded DynamoDB runs");
        let server = Some(Server { runtime, shutdown, task, stop, front });
        Ok(Dynamo { endpoint_url: format!("http://{address}"), address, server })
    }

    /// Returns the endpoint for the SDK.
    pub fn endpoint_url(&self) -> &str {
        &self.endpoint_url
    }

    /// Returns the port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Takes no more connections, lets requests under way end (for at most five seconds), and closes the
    /// store; a file can be opened by another one afterwards.
    ///
    /// # Errors
    ///
    /// [`Error::DynamoServer`] if the server had ended by itself before.
    ///
    /// # Cancel safety
    ///
    /// Dropped before its end, the stop goes on in the background.
    pub async fn stop(mut self) -> Result<(), Error> {
        let Some(server) = self.server.take() else { return Ok(()) };
        blocking(move || server.stop()).await
    }
}

impl Server {
    fn stop(self) -> Result<(), Error> {
        let Server { runtime, shutdown, task, stop, front } = self;
        // An error says that the server has ended already, which the task tells.
        let _ = shutdown.send(());
        let _ = stop.send(true);
        let ended = runtime.block_on(async {
            let ended = tokio::time::timeout(STOP_WITHIN, task).await;
            // Answers of requests that were under way are still on their way through it.
            let _ = tokio::time::timeout(STOP_WITHIN, front).await;
            ended
        });
        // Ends the tasks of connections, which hold the store open.
        runtime.shutdown_timeout(STOP_WITHIN);
        let failed = |reason: String| Error::DynamoServer { what: "had ended before it was stopped", reason };
        match ended {
            Err(_stalled) => {
                tracing::debug!(within_s = STOP_WITHIN.as_secs(), "broke off requests that did not end");
                Ok(())
            }
            Ok(Ok(served)) => served.map_err(failed),
            Ok(Err(join)) => Err(failed(join.to_string())),
        }
    }
}

impl Drop for Dynamo {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            // A runtime that is merely dropped waits, which panics in async code.
            server.runtime.shutdown_background();
        }
    }
}

/// Serves an embedded DynamoDB until `shutdown` is ready: the body of a process of its own, for stores that
/// must outlive the process that migrates. `started` is told the endpoint as soon as it answers.
///
/// A process that [`DetachedDynamo::spawn`] starts prints that endpoint on a line of its own, and nothing
/// after it: by then its reader may be gone.
///
/// ```no_run
/// # use lockstep_embedded::{DynamoOptions, Error, serve_dynamo};
/// # async fn example(options: DynamoOptions) -> Result<(), Error> {
/// let interrupted = async { drop(tokio::signal::ctrl_c().await) };
/// serve_dynamo(options, |endpoint_url| println!("{endpoint_url}"), interrupted).await
/// # }
/// ```
///
/// # Errors
///
/// As [`Dynamo::start_with`] and [`Dynamo::stop`].
///
/// # Cancel safety
///
/// Dropped before its end, the server breaks off.
pub async fn serve_dynamo(
    options: DynamoOptions,
    started: impl FnOnce(&str),
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    let dynamo = Dynamo::start_with(options).await?;
    started(dynamo.endpoint_url());
    shutdown.await;
    dynamo.stop().await
}

fn open(options: &DynamoOptions) -> Result<Database, Error> {
    let Some(path) = &options.path else { return open_nameless() };
    let database = open_file(path)?;
    let failed = |reason: String| Error::DynamoOpen { place: path.display().to_string(), reason };
    // SQLite would wait for the disk at each write: nearly twice the time on a fast disk, many times that on
    // a slow one. The operating system keeps what a killed process had written; only a crash of the machine
    // loses it.
    database.enable_bulk_loading().map_err(|error| failed(error.to_string()))?;
    Ok(database)
}

/// Opens a database in memory, in a file system of SQLite's own: nothing is left behind however we end, and
/// no write is a system call. SQLite's better-known memory store would do, but its page cache is then the
/// whole store and is walked at each commit: at 30,000 items a fifth of the time went there.
fn open_nameless() -> Result<Database, Error> {
    // The slash makes it one store for all connections of this process, so each has a name of its own.
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let name = format!("file:/lockstep-{}?vfs=memdb", NEXT.fetch_add(1, Ordering::Relaxed));
    open_file(std::path::Path::new(&name))
}

fn open_file(path: &std::path::Path) -> Result<Database, Error> {
    let failed = |reason: String| Error::DynamoOpen { place: path.display().to_string(), reason };
    let text = path.to_str().ok_or_else(|| failed("the path is not UTF-8".to_owned()))?;
    let database = Database::new(text).map_err(|error| failed(error.to_string()))?;
    index_streams(text).map_err(|error| failed(error.to_string()))?;
    Ok(database)
}

/// Each write to a table with a stream asks for the newest record of that stream, and each reader for those
/// after one. Without an index every one of them goes through all records that there are: after 20,000, a
/// write took a millisecond, and a relay beside it could not keep up with the writers.
const STREAM_INDEX: &str = "CREATE INDEX IF NOT EXISTS lockstep_stream_order
    ON _stream_records (table_name, CAST(sequence_number AS INTEGER), shard_id)";

fn index_streams(path: &str) -> rusqlite::Result<()> {
    rusqlite::Connection::open(path)?.execute_batch(STREAM_INDEX)
}
