//! Meaning of the operations, on rows. The raw executor says the same in SQL.

use chrono::{DateTime, Utc};
use lockstep_integration_logs::IntegrationLog;
use lockstep_payments::Payment;

/// [`TouchLog`](super::Operation::TouchLog): no column of the target's primary key, but some of its indexes'.
pub fn touch_log(log: &mut IntegrationLog, to: &IntegrationLog) {
    log.application_id = to.application_id;
    log.response_data.clone_from(&to.response_data);
    log.status_code.clone_from(&to.status_code);
    log.is_success = to.is_success;
    log.error_message.clone_from(&to.error_message);
    log.processing_time_ms = to.processing_time_ms;
    log.correlation_id.clone_from(&to.correlation_id);
    log.user_id.clone_from(&to.user_id);
}

/// [`MoveLog`](super::Operation::MoveLog).
pub fn move_log(log: &mut IntegrationLog, service_name: Option<&str>, log_timestamp: Option<DateTime<Utc>>) {
    if let Some(service_name) = service_name {
        service_name.clone_into(&mut log.service_name);
    }
    log.log_timestamp = log_timestamp.unwrap_or(log.log_timestamp);
}

/// [`ReinsertLog`](super::Operation::ReinsertLog): what is inserted after `gone` was deleted.
pub fn reinsert_log(gone: &IntegrationLog, to: &IntegrationLog) -> IntegrationLog {
    IntegrationLog {
        log_id: gone.log_id,
        service_name: gone.service_name.clone(),
        log_timestamp: gone.log_timestamp,
        ..to.clone()
    }
}

/// [`TouchPayment`](super::Operation::TouchPayment). Whatever happens to a payment happens after it was
/// created.
pub fn touch_payment(payment: &mut Payment, to: &Payment) {
    let created_date = payment.created_date;
    payment.payment_amount = to.payment_amount;
    payment.payment_method.clone_from(&to.payment_method);
    payment.payment_status.clone_from(&to.payment_status);
    payment.transaction_reference.clone_from(&to.transaction_reference);
    payment.processed_date = to.processed_date.map(|at| at.max(created_date));
    payment.updated_date = to.updated_date.map(|at| at.max(created_date));
}

/// [`MovePayment`](super::Operation::MovePayment).
pub fn move_payment(payment: &mut Payment, customer_id: Option<i64>, payment_date: Option<DateTime<Utc>>) {
    payment.customer_id = customer_id.unwrap_or(payment.customer_id);
    payment.payment_date = payment_date.unwrap_or(payment.payment_date);
}

/// [`ReinsertPayment`](super::Operation::ReinsertPayment): what is inserted after `gone` was deleted.
pub fn reinsert_payment(gone: &Payment, to: &Payment) -> Payment {
    Payment {
        payment_id: gone.payment_id,
        customer_id: gone.customer_id,
        payment_date: gone.payment_date,
        ..to.clone()
    }
}
