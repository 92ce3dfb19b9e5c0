//! Rows as the service's JSON.

use lockstep::Page;
use lockstep_integration_logs::IntegrationLog;
use lockstep_payments::Payment;
use serde_json::{Value, json};

pub(crate) fn log(log: &IntegrationLog) -> Value {
    json!({
        "log_id": log.log_id,
        "application_id": log.application_id,
        "type": log.log_type,
        "service": log.service_name,
        "success": log.is_success,
        "error": log.error_message,
        "at": log.log_timestamp,
        "correlation_id": log.correlation_id,
    })
}

pub(crate) fn payment(payment: &Payment) -> Value {
    json!({
        "payment_id": payment.payment_id,
        "customer_id": payment.customer_id,
        "loan_id": payment.loan_id,
        "amount": payment.payment_amount.get(),
        "currency": payment.currency,
        "date": payment.payment_date,
        "method": payment.payment_method,
        "status": payment.payment_status,
    })
}

/// A page, and the cursor that the next one is asked for with.
pub(crate) fn page<R>(page: &Page<R>, row: impl Fn(&R) -> Value) -> Value {
    json!({ "rows": page.rows.iter().map(row).collect::<Vec<_>>(), "next": page.next.as_ref().map(ToString::to_string) })
}
