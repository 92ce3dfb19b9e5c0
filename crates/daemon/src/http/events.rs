//! The event stream: the newest status to every client that listens, from one reading.
//!
//! A client that does not read is skipped to the newest status when it reads again: at most one event waits
//! for it, shared with all others. A slow client costs one connection's memory and delays no other client.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode};
use bytes::{BufMut, Bytes, BytesMut};
use futures::stream;

use super::answer::{Refusal, with_type};
use crate::shared::Shared;

/// Clients at once.
const CLIENTS_MAX: usize = 500;
/// After so long without news a line is sent that says nothing, so that proxies keep the connection.
const KEEP: Duration = Duration::from_secs(15);
/// Events of one client are no closer together than this.
const APART: Duration = Duration::from_millis(400);

/// One client, for as long as its stream lives.
struct Client(Arc<Shared>);

impl Client {
    /// `None` where there are too many.
    fn new(shared: Arc<Shared>) -> Option<Self> {
        let admitted = shared.clients.send_if_modified(|clients| {
            let admitted = *clients < CLIENTS_MAX;
            *clients += usize::from(admitted);
            admitted
        });
        admitted.then_some(Self(shared))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.0.clients.send_modify(|clients| *clients -= 1);
    }
}

/// Returns the stream of one client.
pub(crate) fn stream_to(shared: Arc<Shared>) -> Result<Response<Body>, Refusal> {
    let snapshots = shared.snapshot.subscribe();
    let client = Client::new(shared).ok_or_else(Refusal::rate_limited)?;
    let events = stream::unfold((client, snapshots, true), |(client, mut snapshots, is_first)| async move {
        let stop = client.0.stop.clone();
        if !is_first {
            let next = async {
                tokio::time::sleep(APART).await;
                tokio::time::timeout(KEEP, snapshots.changed()).await
            };
            match stop.run_until_cancelled(next).await {
                None | Some(Ok(Err(_))) => return None,
                Some(Err(_)) => {
                    return Some((
                        Ok::<_, std::io::Error>(Bytes::from_static(b": keep\n\n")),
                        (client, snapshots, false),
                    ));
                }
                Some(Ok(Ok(()))) => {}
            }
        }
        let snapshot = snapshots.borrow_and_update().clone();
        let mut event = BytesMut::with_capacity(snapshot.json.len() + 64);
        if is_first {
            event.put_slice(b"retry: 1000\n");
        }
        if snapshot.json.is_empty() {
            // Nothing has been read yet, and a status of nothing is none.
            event.put_slice(b": keep\n\n");
        } else {
            event.put_slice(format!("event: status\nid: {}\ndata: ", snapshot.number).as_bytes());
            event.put_slice(&snapshot.json);
            event.put_slice(b"\n\n");
        }
        Some((Ok(event.freeze()), (client, snapshots, false)))
    });
    let mut response =
        with_type(StatusCode::OK, HeaderValue::from_static("text/event-stream"), Body::from_stream(events));
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}
