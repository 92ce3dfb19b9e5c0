//! Routes of the reference application, for scripts that know them. Each does what a route of `/v1` does,
//! under the same tokens.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Extension, Path, State};
use axum::http::{HeaderMap, StatusCode};
use lockstep_core::Phase;
use serde_json::json;

use super::acts::{alias, of_key};
use super::answer::{Refusal, ok_json};
use super::perform::{Answer, What};
use super::tokens::Right;
use crate::operator::{Compare, Walk};
use crate::shared::Shared;

type Asking = (State<Arc<Shared>>, Extension<Right>);

fn to(phase: Phase) -> What {
    What::Walk(Walk { forward: true, to: Some(phase), force: None, decided_in: None })
}

pub(super) async fn enable_dual_write(
    (State(shared), Extension(right)): Asking,
    headers: HeaderMap,
) -> Answer {
    alias(shared, right, &headers, "enable-dual-write", to(Phase::DualWrite)).await
}

pub(super) async fn switch_to_dynamo_reads(
    (State(shared), Extension(right)): Asking,
    headers: HeaderMap,
) -> Answer {
    alias(shared, right, &headers, "switch-to-dynamo-reads", to(Phase::HybridRead)).await
}

pub(super) async fn disable_sql_writes(
    (State(shared), Extension(right)): Asking,
    headers: HeaderMap,
) -> Answer {
    alias(shared, right, &headers, "disable-sql-writes", to(Phase::DynamoOnly)).await
}

pub(super) async fn test_dual_write((State(shared), Extension(right)): Asking, headers: HeaderMap) -> Answer {
    alias(shared, right, &headers, "test-dual-write", What::TestOperation).await
}

/// Compares everything: a window of days would be a verdict that no gate takes.
pub(super) async fn validate_consistency(
    (State(shared), Extension(right)): Asking,
    headers: HeaderMap,
) -> Answer {
    alias(shared, right, &headers, "validate-consistency", What::Validate(Compare::Full)).await
}

/// Compares the row of the path with its item.
pub(super) async fn validate_sync(
    (State(shared), Extension(right)): Asking,
    place: Result<Path<(String, String)>, PathRejection>,
    headers: HeaderMap,
) -> Answer {
    let Path((table, key)) = place.map_err(|_| Refusal::bad_request("the table or the key does not read"))?;
    if right != Right::Operate {
        return Err(Refusal::forbidden());
    }
    let what = of_key(&shared, &table, &key)?;
    alias(shared, right, &headers, "validate-sync", what).await
}

pub(super) async fn metrics(
    State(shared): State<Arc<Shared>>,
) -> Result<axum::http::Response<Body>, Refusal> {
    let snapshot = shared.snapshot.borrow().clone();
    let tables = snapshot.status.as_ref().map(|status| &status.tables);
    Ok(ok_json(
        StatusCode::OK,
        &json!({ "tables": tables, "rates": snapshot.rates, "health": snapshot.health }),
    ))
}
