//! The service on real stores, while they are migrated there and back.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use http_body_util::BodyExt;
use lockstep_coordinator::{Coordinator, MigrationContext, Options, RelayUntil, Watch};
use lockstep_core::{MigratableTable, Phase, TableHandle};
use lockstep_dynamo::Target;
use lockstep_integration_logs::IntegrationLogs;
use lockstep_payments::Payments;
use lockstep_postgres::{Source, TableBinding};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::{app, stores, throwaway};

fn bind(table: TableHandle, name: &str) -> TableBinding {
    TableBinding { table, relation: name.parse().expect("a plain name"), target_name: name.to_owned() }
}

async fn ask(router: &Router, request: Request<Body>) -> (StatusCode, Value) {
    let response = router.clone().oneshot(request).await.expect("the router answers");
    let status = response.status();
    let body = response.into_body().collect().await.expect("a body").to_bytes();
    (status, serde_json::from_slice(&body).expect("JSON"))
}

async fn post(router: &Router, path: &str, body: &str) -> Value {
    let request =
        Request::post(path).header("content-type", "application/json").body(Body::from(body.to_owned()));
    let (status, body) = ask(router, request.expect("a request")).await;
    assert_eq!(status, StatusCode::CREATED, "{path}: {body}");
    body
}

async fn rows(router: &Router, path: &str) -> Vec<Value> {
    let (status, body) = ask(router, Request::get(path).body(Body::empty()).expect("a request")).await;
    assert_eq!(status, StatusCode::OK, "{path}: {body}");
    body["rows"].as_array().expect("rows").clone()
}

#[tokio::test]
async fn the_service_answers_the_same_in_every_phase_there_and_back() {
    let embedded = throwaway::start_embedded().await.expect("both stores start");
    let endpoint_url = embedded.dynamo.endpoint_url().to_owned();
    let migration =
        stores::connect(embedded.postgres.url(), Some(endpoint_url)).await.expect("the app connects");
    let router = app::router(&migration);
    let source = Source::connect(&stores::source_options(embedded.postgres.url()))
        .await
        .expect("the operator connects");
    let target =
        Target::connect(stores::target_options(Some(embedded.dynamo.endpoint_url().to_owned()))).await;
    let tables = vec![
        bind(Arc::new(IntegrationLogs::default()), IntegrationLogs::NAME),
        bind(Arc::new(Payments::default()), Payments::NAME),
    ];
    let operator = MigrationContext {
        source,
        target,
        tables,
        unread: Vec::new(),
        actor: "test".to_owned(),
        options: Options::default(),
        watch: Watch::default(),
    };
    let coordinator = Coordinator::open(operator).await.expect("the coordinator opens");
    coordinator.prepare(&()).await.expect("nothing refuses");
    coordinator.backfill(&CancellationToken::new()).await.expect("copied");

    let today = chrono::Utc::now().date_naive();
    for (round, phase) in
        [Phase::PostgresOnly, Phase::DualWrite, Phase::HybridRead, Phase::DualWrite, Phase::PostgresOnly]
            .into_iter()
            .enumerate()
    {
        if round > 0 {
            coordinator.relay(RelayUntil::Empty, &CancellationToken::new()).await.expect("delivered");
            coordinator.step(phase, Some("the gates are tested elsewhere"), &()).await.expect("a step");
        }
        post(
            &router,
            "/applications/7/events",
            r#"{"type":"Request","service":"bureau","error":"no answer"}"#,
        )
        .await;
        let order = r#"{"customer_id":8,"loan_id":7,"amount":"12.50","currency":"EUR","method":"Card"}"#;
        let taken = post(&router, "/payments", order).await;
        assert_eq!(taken["payment"]["amount"], "12.50", "{phase}: the scale is kept");
        let payments = rows(&router, "/customers/8/payments").await;
        assert_eq!(payments.len(), round + 1, "{phase}");
        assert_eq!(payments[0]["payment_id"], taken["payment"]["payment_id"], "{phase}: the newest first");
        assert_eq!(rows(&router, "/applications/7/logs").await.len(), round + 1, "{phase}");
        assert_eq!(rows(&router, &format!("/errors/{today}")).await.len(), round + 1, "{phase}");
    }
    let (status, body) = ask(
        &router,
        Request::get("/customers/8/payments?cursor=nonsense").body(Body::empty()).expect("a request"),
    )
    .await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");

    coordinator.close().await;
    migration.shutdown().await;
    embedded.stop().await.expect("both stop");
}
