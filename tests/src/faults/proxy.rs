//! The proxy: a listener, its connections, and the calls under way.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http_body_util::{BodyExt, Limited};
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};

use super::act;
use super::answers::Answer;
use super::call::Call;
use super::counts::{Counts, Recorded, Recorder};
use super::fault::FaultKind;
use super::rules::{Rule, Script};
use super::upstream::{BODY_BYTES_MAX, BoxError, Upstream};
use super::written::{Record, Written};

/// A proxy between the AWS SDK and an emulator. Without rules it forwards what it is sent.
///
/// Requests held at a gate when the proxy goes, stopped or dropped, are lost on the way: they are never
/// applied.
#[derive(Debug)]
pub struct FaultProxy {
    shared: Arc<Shared>,
    address: SocketAddr,
    // Dropped, it stops the listener.
    stop: Option<oneshot::Sender<()>>,
    listener: JoinHandle<()>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) upstream: Upstream,
    pub(super) script: Mutex<Script>,
    pub(super) recorder: Mutex<Recorder>,
    /// `None` while nothing is kept.
    pub(super) written: Mutex<Option<Record>>,
    pub(super) counts: watch::Sender<Counts>,
    // `None` once the proxy has gone: nothing is begun any more.
    calls: Mutex<Option<JoinSet<()>>>,
}

impl FaultProxy {
    /// Listens on a free port of 127.0.0.1 and forwards to the emulator at `upstream_url`
    /// (`http://127.0.0.1:8000`).
    ///
    /// # Errors
    ///
    /// If the address is not one of plain HTTP, or no port is free.
    pub async fn start(upstream_url: &str) -> io::Result<FaultProxy> {
        let upstream = Upstream::new(upstream_url)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let shared = Arc::new(Shared {
            upstream,
            script: Mutex::default(),
            recorder: Mutex::default(),
            written: Mutex::default(),
            counts: watch::Sender::default(),
            calls: Mutex::new(Some(JoinSet::new())),
        });
        let socket = TcpListener::bind("127.0.0.1:0").await?;
        let address = socket.local_addr()?;
        let (stop, stopped) = oneshot::channel();
        let listener = tokio::spawn(listen(socket, Arc::clone(&shared), stopped));
        Ok(FaultProxy { shared, address, stop: Some(stop), listener })
    }

    /// Returns the URL for the SDK.
    pub fn endpoint_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Adds a rule, after those in force.
    pub fn script(&self, rule: Rule) {
        lock(&self.shared.script).0.push(rule);
    }

    /// Takes all rules away: the network heals. Requests held at a gate stay there.
    pub fn clear(&self) {
        lock(&self.shared.script).0.clear();
    }

    /// Returns what was seen and done so far.
    pub fn counts(&self) -> Counts {
        self.shared.counts.borrow().clone()
    }

    /// Returns how many calls of this operation came in.
    pub fn seen(&self, operation: &str) -> u64 {
        self.shared.counts.borrow().seen(operation)
    }

    /// Waits until the counts are as `wanted`: how a test waits for something to have happened, instead of
    /// sleeping.
    pub async fn until(&self, wanted: impl FnMut(&Counts) -> bool) {
        // The sender lives in `self`, so it cannot be gone.
        let _ = self.shared.counts.subscribe().wait_for(wanted).await.map(drop);
    }

    /// Waits until the fault has happened `times` times in all.
    pub async fn until_injected(&self, kind: FaultKind, times: u64) {
        self.until(|counts| counts.injected(kind) >= times).await;
    }

    /// Keeps the next `limit` calls for [`FaultProxy::recorded`]; those kept before are forgotten.
    pub fn record(&self, limit: usize) {
        *lock(&self.shared.recorder) = Recorder { limit, kept: Vec::new() };
    }

    /// The calls kept so far, in the order they came in.
    pub fn recorded(&self) -> Vec<Recorded> {
        lock(&self.shared.recorder).kept.clone()
    }

    /// Keeps what happens to items from now on.
    pub fn record_writes(&self) {
        *lock(&self.shared.written) = Some(Record::default());
    }

    /// Returns what has happened to items since, in its order.
    pub fn writes(&self) -> Vec<Written> {
        lock(&self.shared.written).as_ref().map_or_else(Vec::new, |record| record.kept.clone())
    }

    /// Stops listening, cuts all connections, drops the calls under way, and returns when all of that is
    /// done.
    pub async fn stop(mut self) {
        self.stop.take();
        if let Err(error) = (&mut self.listener).await
            && error.is_panic()
        {
            std::panic::resume_unwind(error.into_panic());
        }
        let calls = lock(&self.shared.calls).take();
        if let Some(mut calls) = calls {
            calls.shutdown().await;
        }
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        // The listener's task owns the connections, so they go with it.
        self.listener.abort();
        lock(&self.shared.calls).take();
    }
}

async fn listen(socket: TcpListener, shared: Arc<Shared>, mut stopped: oneshot::Receiver<()>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            _ = &mut stopped => break,
            Some(ended) = connections.join_next() => no_panic(ended),
            accepted = socket.accept() => {
                // A connection that broke while it was accepted is its client's to open again.
                if let Ok((stream, _)) = accepted {
                    connections.spawn(converse(stream, Arc::clone(&shared)));
                }
            }
        }
    }
    connections.shutdown().await;
}

/// Serves one connection of a client, one call after the other.
async fn converse(stream: TcpStream, shared: Arc<Shared>) {
    // Without it, an answer in two segments may wait 40 ms for the client's delayed acknowledgement. Only
    // speed is at stake.
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| answer(Arc::clone(&shared), request));
    // An error is how a connection is cut: by us on purpose, or by the client.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

/// The answer to one call. An error cuts the connection without an answer.
async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Answer, BoxError> {
    let (parts, body) = request.into_parts();
    let body = Limited::new(body, BODY_BYTES_MAX).collect().await?.to_bytes();
    let call = Call::new(parts, body);
    let (reply, answer) = oneshot::channel();
    {
        let mut calls = lock(&shared.calls);
        let calls = calls.as_mut().ok_or("the proxy has gone")?;
        while let Some(ended) = calls.try_join_next() {
            no_panic(ended);
        }
        let shared = Arc::clone(&shared);
        calls.spawn(async move { act::handle(&shared, call, reply).await });
    }
    Ok(answer.await?)
}

/// A panic in a task is its owner's.
fn no_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        std::panic::resume_unwind(error.into_panic());
    }
}

/// No code panics while it holds one of these locks, and if it did, a half-done count is no reason to fail
/// another test.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
