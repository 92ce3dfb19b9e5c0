//! Routes without a token: whether the daemon lives and is ready. None of them tells of a row
//! or a secret.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
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
    let mut reasons = Vec::new();
    if shared.stop.is_cancelled() {
        reasons.push("it is ending");
    }
    match snapshot.read_at {
        None => reasons.push("the stores have not been read yet"),
        Some((at, _)) if at.elapsed() > OLD_AFTER => reasons.push("the newest reading is a minute old"),
        Some(_) => {}
    }
    if StoresView::is_down(snapshot.stores.postgresql.as_ref()) {
        reasons.push("PostgreSQL does not answer");
    }
    if StoresView::is_down(snapshot.stores.dynamodb.as_ref()) {
        reasons.push("DynamoDB does not answer");
    }
    let ready = reasons.is_empty();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let role = shared.role.borrow().name();
    ok_json(status, &json!({ "ready": ready, "role": role, "reasons": reasons }))
}

/// Returns the metrics, as Prometheus reads them.
pub(super) async fn metrics(State(shared): State<Arc<Shared>>) -> Response<Body> {
    gauges::of_now(&shared);
    let text = gauges::install().map(|handle| {
        handle.run_upkeep();
        handle.render()
    });
    let content_type = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    with_type(StatusCode::OK, content_type, text.unwrap_or_default())
}
