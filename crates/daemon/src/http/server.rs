//! Connections: how long one may take to say what it wants, and to hear it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tower::ServiceExt as _;
use tracing::Instrument as _;

use super::answer::Refusal;
use super::body::discard;
use super::guard::Guard;
use super::places::{Place, Places};
use super::stalled::{Stalled, TAKE_WITHIN};
use super::table;
use super::tls::Tls;
use crate::shared::Shared;

/// Paths of probes, for which there are places when there are no others, and of what alerts by them.
const PROBES: [&str; 3] = ["/healthz", "/readyz", "/metrics"];
/// Time that a connection in a place of probes has, from its beginning to its end.
const PROBE_WITHIN: Duration = Duration::from_secs(2);
/// A client that takes longer for its head is hung up on.
const HEAD_WITHIN: Duration = Duration::from_secs(10);
/// Bytes of a head, and of what waits to be sent to one client.
const BUFFER_BYTES_MAX: usize = 64 * 1024;
/// Pause after the system gave no connection: it has none to give.
const PAUSE: Duration = Duration::from_millis(100);
/// Time that answers under way may take when the daemon ends.
const END_WITHIN: Duration = Duration::from_secs(5);

/// Serves until the daemon ends, then sees answers under way through.
pub(crate) async fn serve(shared: Arc<Shared>, listener: TcpListener, tls: Option<Tls>, guard: Guard) {
    let (router, guard) = (table::router(shared.clone()), Arc::new(guard));
    let places = Places::default();
    let mut connections = JoinSet::new();
    while let Some(accepted) = shared.stop.run_until_cancelled(listener.accept()).await {
        while connections.try_join_next().is_some() {}
        let Ok((stream, peer)) = accepted else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        // Where there is none at all, it is hung up on.
        let Some(place) = places.take(peer.ip()) else { continue };
        // Given back when the connection ends.
        let place = Arc::new(place);
        let served = Served {
            shared: shared.clone(),
            router: router.clone(),
            guard: guard.clone(),
            place: place.clone(),
        };
        let tls = tls.clone();
        connections.spawn(async move {
            // Answers are small, and a person waits for each.
            let _ = stream.set_nodelay(true);
            let stream = Stalled::new(stream, TAKE_WITHIN);
            let within = if place.is_of_probes() { PROBE_WITHIN } else { Duration::MAX };
            tokio::select! {
                _ = tokio::time::timeout(within, served.connection(stream, tls)) => {}
                () = place.hung_up() => {}
            }
        });
    }
    drop(listener);
    let ended = async { while connections.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(END_WITHIN, ended).await;
}

/// Everything that serves one connection.
struct Served {
    shared: Arc<Shared>,
    router: axum::Router,
    guard: Arc<Guard>,
    place: Arc<Place>,
}

impl Served {
    async fn connection<S>(self, stream: S, tls: Option<Tls>)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let Some(Tls(acceptor)) = tls else { return self.talk(stream).await };
        // One that does not come to an agreement, or takes its time, is hung up on.
        if let Ok(Ok(stream)) = tokio::time::timeout(HEAD_WITHIN, acceptor.accept(stream)).await {
            self.talk(stream).await;
        }
    }

    async fn talk<S>(self, stream: S)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let Self { shared, router, guard, place } = self;
        let only_probes = place.is_of_probes();
        let service = service_fn(move |request: Request<Incoming>| {
            let (router, guard) = (router.clone(), guard.clone());
            let may_stay = place.spoke();
            async move {
                if !may_stay || (only_probes && !PROBES.contains(&request.uri().path())) {
                    return Ok::<_, Infallible>(Refusal::rate_limited().into_response());
                }
                Ok(answer(request, router, &guard).await)
            }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_WITHIN)
            .max_buf_size(BUFFER_BYTES_MAX)
            // A place of probes is for one answer.
            .keep_alive(!only_probes)
            .serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        tokio::select! {
            // That a client went away is no error.
            _ = &mut connection => {}
            () = shared.stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                let _ = connection.await;
            }
        }
    }
}

/// The name of what a request is called by, in answers and in log lines.
const REQUEST_ID: &str = "x-request-id";
/// Longest name that a client may give its request.
const REQUEST_ID_CHARS_MAX: usize = 64;

/// Returns the id of a request: the one its client gave, so that its log and ours can be read together.
fn request_id(request: &Request<Incoming>) -> String {
    let given = request.headers().get(REQUEST_ID).and_then(|value| value.to_str().ok());
    let is_name = |id: &&str| {
        (1..=REQUEST_ID_CHARS_MAX).contains(&id.len())
            && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:".contains(&b))
    };
    given.filter(is_name).map_or_else(|| format!("{:016x}", rand::random::<u64>()), str::to_owned)
}

async fn answer(request: Request<Incoming>, router: axum::Router, guard: &Guard) -> Response<Body> {
    let id = request_id(&request);
    // Of the level of errors, so that each line that is shown says to which request it belongs.
    let span = tracing::error_span!("request", correlation_id = %id, method = %request.method(), path = request.uri().path());
    let mut response = answer_within(request, router, guard).instrument(span).await;
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
}

async fn answer_within(
    mut request: Request<Incoming>,
    router: axum::Router,
    guard: &Guard,
) -> Response<Body> {
    let response = match guard.admit(request.method(), request.uri(), request.headers()) {
        Err(refusal) => {
            discard(Body::new(request.into_body())).await;
            refusal.into_response()
        }
        Ok(right) => {
            if let Some(right) = right {
                request.extensions_mut().insert(right);
            }
            match router.oneshot(request.map(Body::new)).await {
                Ok(response) => response,
                Err(never) => match never {},
            }
        }
    };
    metrics::counter!("lockstep_http_requests_total", "status" => response.status().as_u16().to_string())
        .increment(1);
    response
}
