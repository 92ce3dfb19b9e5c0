//! The routes. There is no word of phases in here, nor of which store is asked.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use chrono::{NaiveDate, SubsecRound, Utc};
use lockstep::{Cursor, Error, Kind, MigratableTable, Migration, Operation, Scaled, Selection, Store};
use lockstep_integration_logs::{IntegrationLog, IntegrationLogs, LogQueries, OperationLogs};
use lockstep_payments::{Payment, PaymentQueries, Payments};
use rust_decimal::Decimal;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::view;

/// Most rows of a page.
const PAGE_ROWS_MAX: usize = 100;

#[derive(Clone)]
struct App {
    migration: Migration,
    logs: Store<IntegrationLogs>,
    payments: Store<Payments>,
    sink: Arc<OperationLogs>,
    operations: Arc<AtomicU64>,
}

/// The service on the stores of `migration`.
pub(crate) fn router(migration: &Migration) -> Router {
    let app = App {
        migration: migration.clone(),
        logs: migration.store(),
        payments: migration.store(),
        sink: Arc::new(OperationLogs::of("loan-app")),
        operations: Arc::default(),
    };
    Router::new()
        .route("/applications/{id}/events", post(record_event))
        .route("/applications/{id}/logs", get(logs_of_application))
        .route("/payments", post(take_payment))
        .route("/customers/{id}/payments", get(payments_of_customer))
        .route("/errors/{day}", get(errors_of_day))
        .with_state(app)
}

/// Something that happened to an application.
#[derive(Deserialize)]
struct Event {
    #[serde(rename = "type")]
    log_type: String,
    service: String,
    /// Message of what went wrong, if anything did.
    error: Option<String>,
}

async fn record_event(
    State(app): State<App>,
    Path(id): Path<i32>,
    Json(event): Json<Event>,
) -> Result<Response, Failed> {
    let row = IntegrationLog {
        // PostgreSQL's to give.
        log_id: 0,
        application_id: Some(id),
        log_type: event.log_type,
        service_name: event.service,
        request_data: None,
        response_data: None,
        status_code: None,
        is_success: event.error.is_none(),
        error_message: event.error,
        processing_time_ms: None,
        log_timestamp: Utc::now().trunc_subsecs(6),
        correlation_id: None,
        user_id: None,
    };
    let written = app.logs.insert(&row).await?.row;
    Ok((StatusCode::CREATED, Json(written.as_ref().map(view::log))).into_response())
}

/// A payment to take.
#[derive(Deserialize)]
struct Order {
    customer_id: i64,
    loan_id: i64,
    amount: Decimal,
    currency: String,
    method: String,
}

/// The payment and the log of its success become visible together, or neither does.
async fn take_payment(State(app): State<App>, Json(order): Json<Order>) -> Result<Response, Failed> {
    let now = Utc::now().trunc_subsecs(6);
    let amount =
        Scaled::new(order.amount).map_err(|reason| Failed(StatusCode::BAD_REQUEST, reason.to_string()))?;
    let row = Payment {
        payment_id: 0,
        customer_id: order.customer_id,
        loan_id: order.loan_id,
        payment_amount: amount,
        currency: order.currency,
        payment_date: now,
        payment_method: order.method,
        payment_status: "Pending".to_owned(),
        transaction_reference: None,
        processed_date: None,
        created_date: now,
        updated_date: None,
    };
    let number = app.operations.fetch_add(1, Ordering::Relaxed);
    let correlation_id = format!("payment-{}-{number}", now.timestamp_micros());
    let payments = app.payments.clone();
    let (payment, _outcome) = Operation::run(
        &app.migration,
        app.sink.clone(),
        "take payment",
        &correlation_id,
        async |operation| operation.insert(&payments, &row).await,
    )
    .await?;
    let body = json!({ "payment": view::payment(&payment), "correlation_id": correlation_id });
    Ok((StatusCode::CREATED, Json(body)).into_response())
}

/// Page that is asked for.
#[derive(Deserialize)]
struct Paging {
    limit: Option<usize>,
    cursor: Option<String>,
}

async fn payments_of_customer(
    State(app): State<App>,
    Path(id): Path<i64>,
    Query(paging): Query<Paging>,
) -> Result<Json<Value>, Failed> {
    page(app.payments.by_customer(id, ..), &paging, view::payment).await
}

async fn logs_of_application(
    State(app): State<App>,
    Path(id): Path<i32>,
    Query(paging): Query<Paging>,
) -> Result<Json<Value>, Failed> {
    page(app.logs.by_application(id), &paging, view::log).await
}

async fn errors_of_day(
    State(app): State<App>,
    Path(day): Path<NaiveDate>,
    Query(paging): Query<Paging>,
) -> Result<Json<Value>, Failed> {
    page(app.logs.errors_of_day(day), &paging, view::log).await
}

async fn page<T: MigratableTable>(
    selection: Selection<T>,
    paging: &Paging,
    view: impl Fn(&T::Row) -> Value,
) -> Result<Json<Value>, Failed> {
    let limit = paging.limit.unwrap_or(20).clamp(1, PAGE_ROWS_MAX);
    // A cursor of another query is refused when the page is asked for.
    let Ok(cursor) = paging.cursor.as_deref().map(str::parse::<Cursor>).transpose();
    let limit = NonZeroUsize::new(limit).unwrap_or(NonZeroUsize::MIN);
    Ok(Json(view::page(&selection.page(limit, cursor.as_ref()).await?, view)))
}

/// An answer that is none.
struct Failed(StatusCode, String);

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        let status = match error.kind {
            Kind::Invalid | Kind::Refused => StatusCode::BAD_REQUEST,
            // It may have happened: the caller must look before it tries again (I8).
            Kind::Unknown => StatusCode::GATEWAY_TIMEOUT,
            Kind::Throttled | Kind::Unavailable | Kind::Busy | Kind::Fenced => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Kind::Denied | Kind::Misconfigured => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self(status, error.to_string())
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        tracing::warn!(status = self.0.as_u16(), "{}", self.1);
        (self.0, Json(json!({ "error": self.1 }))).into_response()
    }
}
