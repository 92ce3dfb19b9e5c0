//! S3, by a server of its protocol over a folder: it checks each signature and each hash, and makes the
//! faults of the real one.
//!
//! `s3s` speaks the protocol, and `s3s-fs` keeps objects as files. What goes wrong goes wrong before them: a
//! request is refused, is cut off half way, arrives changed, or waits at a gate.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s_fs::FileSystem;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

use super::Gate;
use super::proxy::lock;
use super::upstream::BoxError;

/// Fault that is done to a request.
#[derive(Clone, Debug)]
pub enum ObjectFault {
    /// It is refused, with this status and code.
    Refused(u16, &'static str),
    /// The connection is cut once half of its body has come, or before the answer where it has none.
    Cut,
    /// One byte of its body is another one when it arrives.
    Garbled,
    /// It waits until the test lets it go on.
    Held(Gate),
    /// The answer has half of the object, and then the connection is cut.
    HalfAnAnswer,
}

/// Requests that a fault is done to.
#[derive(Debug)]
struct Rule {
    method: Method,
    /// Text in the path or the query; empty for any.
    of: String,
    times: usize,
    fault: ObjectFault,
}

/// The server.
#[derive(Debug)]
pub struct ObjectServer {
    shared: Arc<Shared>,
    address: SocketAddr,
    listener: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    service: S3Service,
    root: PathBuf,
    rules: Mutex<Vec<Rule>>,
    seen: Mutex<Vec<String>>,
}

impl ObjectServer {
    /// Listens on a free port; `root` has a folder for each bucket.
    ///
    /// # Errors
    /// If the folder is not there, or no port is free.
    pub async fn start(root: &Path) -> io::Result<Self> {
        let files = FileSystem::new(root).map_err(|e| io::Error::other(format!("{e:?}")))?;
        let mut service = S3ServiceBuilder::new(files);
        service.set_auth(SimpleAuth::from_single("lockstep", "lockstep"));
        let (service, root) = (service.build(), root.to_owned());
        let shared = Arc::new(Shared { service, root, rules: Mutex::default(), seen: Mutex::default() });
        let socket = TcpListener::bind("127.0.0.1:0").await?;
        let address = socket.local_addr()?;
        let listener = tokio::spawn(listen(socket, Arc::clone(&shared)));
        Ok(Self { shared, address, listener })
    }

    /// Returns the URL for `target.s3_endpoint_url`.
    pub fn endpoint_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Does this to the next requests of a method whose path or query has `of`.
    pub fn script(&self, method: &str, of: &str, times: usize, fault: ObjectFault) {
        let method = method.parse().expect("a method");
        lock(&self.shared.rules).push(Rule { method, of: of.to_owned(), times, fault });
    }

    /// Faults that have not happened yet.
    pub fn left(&self) -> usize {
        lock(&self.shared.rules).iter().map(|rule| rule.times).sum()
    }

    /// Returns every request so far, as method, path and query.
    pub fn seen(&self) -> Vec<String> {
        lock(&self.shared.seen).clone()
    }

    /// Returns names of the objects of a bucket, in order.
    pub fn objects(&self, bucket: &str) -> Vec<String> {
        let root = self.shared.root.join(bucket);
        let mut names = Vec::new();
        collect(&root, &root, &mut names);
        names.sort();
        names
    }
}

impl Drop for ObjectServer {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

fn collect(root: &Path, folder: &Path, names: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        match path.is_dir() {
            true => collect(root, &path, names),
            false => names.extend(path.strip_prefix(root).ok().map(|name| name.display().to_string())),
        }
    }
}

async fn listen(socket: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = socket.accept().await {
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            let service = service_fn(move |request| answer(Arc::clone(&shared), request));
            // An error is how a connection is cut.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

type Body = http_body_util::combinators::BoxBody<Bytes, BoxError>;

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Body>, BoxError> {
    let (parts, body) = request.into_parts();
    let asked = format!("{} {}", parts.method, parts.uri);
    lock(&shared.seen).push(asked.clone());
    let fault = {
        let mut rules = lock(&shared.rules);
        let mut matching = rules.iter_mut();
        let rule = matching
            .find(|rule| rule.times > 0 && parts.method == rule.method && asked.contains(rule.of.as_str()));
        rule.map(|rule| {
            rule.times -= 1;
            rule.fault.clone()
        })
    };
    if let Some(ObjectFault::Refused(status, code)) = fault {
        let said = format!("<Error><Code>{code}</Code><Message>as scripted</Message></Error>");
        let mut refused = Response::new(of(said.into()));
        *refused.status_mut() = StatusCode::from_u16(status)?;
        return Ok(refused);
    }
    if matches!(fault, Some(ObjectFault::Cut)) {
        let (mut body, mut left) = (body, 1);
        while left > 0 && body.frame().await.is_some() {
            left -= 1;
        }
        return Err("the connection is cut".into());
    }
    let mut body = body.collect().await?.to_bytes().to_vec();
    let middle = body.len() / 2;
    match &fault {
        Some(ObjectFault::Garbled) => {
            let byte = body.get_mut(middle).ok_or("nothing to garble")?;
            *byte ^= 1;
        }
        Some(ObjectFault::Held(gate)) => gate.pass().await,
        _ => {}
    }
    let request = Request::from_parts(parts, s3s::Body::from(Bytes::from(body)));
    let answered = shared.service.call(request).await.map_err(|e| format!("{e:?}"))?;
    if let Some(ObjectFault::Held(gate)) = &fault {
        gate.done();
    }
    let (parts, body) = answered.into_parts();
    let whole = body.collect().await.map_err(|e| e.to_string())?.to_bytes();
    if matches!(fault, Some(ObjectFault::HalfAnAnswer)) {
        let half = whole.slice(..whole.len() / 2);
        let frames = [Ok(hyper::body::Frame::data(half)), Err("the connection is cut".into())];
        let body = http_body_util::StreamBody::new(futures::stream::iter(frames));
        return Ok(Response::from_parts(parts, BodyExt::boxed(body)));
    }
    Ok(Response::from_parts(parts, of(whole)))
}

fn of(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed()
}
