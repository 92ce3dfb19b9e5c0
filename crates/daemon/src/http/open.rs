//! Routes without a token: whether the daemon lives and is ready. None of them tells of a row
//! or a secret.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderValue, Response, StatusCode};
use serde_json::json;

use super::answer::{ok_json, with_type};
use crate::gauges;
use crate::shared::Shared;
use crate::stores::StoresView;

/// Age of the newest reading from which it is not ready: one is made every few seconds, and takes no longer
/// than its bound ([`crate::poll::READ_WITHIN`]).
const OLD_AFTER: Duration = Duration::from_secs(60);

/// It answers, so it lives.
pub(super) async fn healthz() -> Response<Body> {
    ok_json(StatusCode::OK, &json!({ "alive": true }))
}

/// Checks whether it can do its work now. A standby is ready: it answers what reads, and takes over.
pub(super) async fn readyz(State(shared): State<Arc<Shared>>) -> Response<Body> {
    let snapshot = shared.snapshot.borrow().clone();
    let age = snapshot.read_at.map(|(at, _)| at.elapsed());
    let reasons = reasons(shared.stop.is_cancelled(), age, &snapshot.stores);
    let ready = reasons.is_empty();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let role = shared.role.borrow().name();
    ok_json(status, &json!({ "ready": ready, "role": role, "reasons": reasons }))
}

/// Returns what keeps it from being ready, by the age of its newest reading and what that found.
fn reasons(is_ending: bool, age: Option<Duration>, stores: &StoresView) -> Vec<&'static str> {
    let of = [
        (is_ending, "it is ending"),
        (age.is_none(), "the stores have not been read yet"),
        // 1. The reading hangs. 2. What it found before would be the answer for ever.
        (age.is_some_and(|age| age > OLD_AFTER), "the newest reading is more than a minute old"),
        (StoresView::is_down(stores.postgresql.as_ref()), "PostgreSQL does not answer"),
        (StoresView::is_down(stores.dynamodb.as_ref()), "DynamoDB does not answer"),
    ];
    of.into_iter().filter_map(|(is_so, reason)| is_so.then_some(reason)).collect()
}

/// Age up to which metrics are shown again.
const METRICS_FOR: Duration = Duration::from_millis(100);

/// Returns the metrics, as Prometheus reads them. One renders them for all: 1. A client without a token asks
/// a thousand times a second. 2. Each time every gauge was rendered, and nothing else had a turn.
pub(super) async fn metrics(State(shared): State<Arc<Shared>>) -> Response<Body> {
    let mut rendered = shared.rendered.lock().await;
    let text = match rendered.as_ref().filter(|(at, _)| at.elapsed() < METRICS_FOR) {
        Some((_, text)) => text.clone(),
        None => {
            gauges::of_now(&shared);
            let text = Bytes::from(gauges::render());
            *rendered = Some((Instant::now(), text.clone()));
            text
        }
    };
    drop(rendered);
    let content_type = HeaderValue::from_static(gauges::METRICS_TYPE);
    with_type(StatusCode::OK, content_type, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_that_is_old_is_no_sign_that_it_is_ready() {
        let stores = StoresView::default();
        let of = |age_s: Option<u64>| reasons(false, age_s.map(Duration::from_secs), &stores);
        assert_eq!(of(Some(60)), Vec::<&str>::new());
        assert_eq!(of(Some(61)), ["the newest reading is more than a minute old"]);
        assert_eq!(of(None), ["the stores have not been read yet"]);
        assert_eq!(reasons(true, Some(Duration::ZERO), &stores), ["it is ending"]);
    }
}
