//! Metrics of a process that is no daemon: of a command that runs for hours (R47).

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, Request, Response, StatusCode};
use hyper::Method;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use lockstep_core::KeptBy;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::gauges::{self, METRICS_TYPE};

/// Connections at once: Prometheus needs one.
const CONNECTIONS_MAX: usize = 16;
/// Time that a connection has, from its beginning to its end.
const WITHIN: Duration = Duration::from_secs(5);
/// Pause after the system gave no connection: it has none to give.
const PAUSE: Duration = Duration::from_millis(100);

/// Keeps the metrics of this process, and serves them as a daemon does its own, for as long as it is polled.
/// `before` is called before each answer, and sets what is so at that moment. Nothing else is served, and
/// no client is asked for a token: the listener is to be one of this machine.
///
/// # Cancel safety
/// Dropped, it hangs up.
pub async fn serve_metrics(listener: TcpListener, before: impl Fn() + Send + Sync + 'static) {
    // Where the program that embeds this one has an exporter of its own, nothing is kept here.
    let _ = gauges::install(KeptBy::Command);
    let (before, places) = (Arc::new(before), Arc::new(Semaphore::new(CONNECTIONS_MAX)));
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let accepted = listener.accept().await;
        while connections.try_join_next().is_some() {}
        let (Ok((stream, _)), Ok(place)) = (accepted, places.clone().try_acquire_owned()) else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let before = before.clone();
        connections.spawn(async move {
            let service = service_fn(|request| std::future::ready(answer(&request, &*before)));
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), service);
            // That a client went away, or takes its time, is no error.
            let _ = tokio::time::timeout(WITHIN, connection).await;
            drop(place);
        });
    }
}

fn answer(request: &Request<Incoming>, before: &impl Fn()) -> Result<Response<Body>, Infallible> {
    let mut response = Response::new(Body::empty());
    if request.uri().path() != "/metrics" {
        *response.status_mut() = StatusCode::NOT_FOUND;
    } else if request.method() != Method::GET {
        *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    } else {
        before();
        *response.body_mut() = Body::from(gauges::render());
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(METRICS_TYPE));
    }
    Ok(response)
}
