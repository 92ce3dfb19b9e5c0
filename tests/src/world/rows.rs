//! Rows: as SQL that writes them, as a stranger would, and as the stores take them.

use lockstep_core::{Scaled, parse_fixed_width};
use lockstep_integration_logs::IntegrationLog;
use lockstep_payments::Payment;
use rust_decimal::Decimal;

/// Time at which every row of [`log`] and [`payment`] happened: far away, so that none of them is ever past
/// its expiry.
pub const AT: &str = "2099-03-04 05:06:07.000008+00";
/// The same inside a source key.
pub const AT_IN_KEY: &str = "2099-03-04T05:06:07.000008";

/// Inserts a log.
pub fn log(log_id: i64, service_name: &str) -> String {
    format!(
        "INSERT INTO integration_logs (log_id, log_type, service_name, is_success, log_timestamp, request_data) \
         VALUES ({log_id}, 'Check', '{service_name}', {log_id} % 5 <> 0, '{AT}', '{{\"n\": {log_id}}}')"
    )
}

/// Inserts logs with the ids from `first` to `last`, of five services.
pub fn logs(first: i64, last: i64) -> String {
    format!(
        "INSERT INTO integration_logs (log_id, log_type, service_name, is_success, log_timestamp, request_data, correlation_id) \
         SELECT i, 'Check', 'service-' || i % 5, i % 7 <> 0, '{AT}', jsonb_build_object('n', i, 'text', repeat('x', (i % 90)::int)), \
         'op-' || i / 10 FROM generate_series({first}, {last}) AS i"
    )
}

/// Inserts a payment of a customer.
pub fn payment(payment_id: i64, customer_id: i64) -> String {
    format!(
        "INSERT INTO payments (payment_id, customer_id, loan_id, payment_amount, currency, payment_date, payment_method, \
         payment_status, created_date) \
         VALUES ({payment_id}, {customer_id}, 1, {payment_id}.50, 'EUR', '{AT}', 'Card', 'Pending', '{AT}')"
    )
}

/// Inserts payments with the ids from `first` to `last`, of fifty customers.
pub fn payments(first: i64, last: i64) -> String {
    format!(
        "INSERT INTO payments (payment_id, customer_id, loan_id, payment_amount, currency, payment_date, payment_method, \
         payment_status, created_date) \
         SELECT i, 1 + i % 50, 1 + i % 40, i + 0.25, 'EUR', '{AT}', 'Card', 'Pending', '{AT}' \
         FROM generate_series({first}, {last}) AS i"
    )
}

/// Makes a log too large for any item.
pub fn outgrow(log_id: i64) -> String {
    format!("UPDATE integration_logs SET error_message = repeat('x', 420000) WHERE log_id = {log_id}")
}

/// The source key of a row of [`log`], as PostgreSQL prints it.
pub fn log_key(log_id: i64, service_name: &str) -> String {
    format!("[{log_id}, \"{service_name}\", \"{AT_IN_KEY}\"]")
}

/// The source key of a row of [`payment`], as PostgreSQL prints it.
pub fn payment_key(payment_id: i64, customer_id: i64) -> String {
    format!("[{payment_id}, {customer_id}, \"{AT_IN_KEY}\"]")
}

/// A log of service `a`, with as little in it as there can be.
pub fn log_row(log_id: i64, user_id: &str) -> IntegrationLog {
    IntegrationLog {
        log_id,
        application_id: None,
        log_type: "Check".to_owned(),
        service_name: "a".to_owned(),
        request_data: None,
        response_data: None,
        status_code: None,
        is_success: true,
        error_message: None,
        processing_time_ms: None,
        log_timestamp: parse_fixed_width(&format!("{AT_IN_KEY}Z")).expect("a time"),
        correlation_id: None,
        user_id: Some(user_id.to_owned()),
    }
}

/// The row of [`payment`], with a reference.
pub fn payment_row(payment_id: i64, customer_id: i64, reference: &str) -> Payment {
    let at = parse_fixed_width(&format!("{AT_IN_KEY}Z")).expect("a time");
    Payment {
        payment_id,
        customer_id,
        loan_id: 1,
        payment_amount: Scaled::new(Decimal::new(payment_id * 100 + 50, 2)).expect("fits"),
        currency: "EUR".to_owned(),
        payment_date: at,
        payment_method: "Card".to_owned(),
        payment_status: "Pending".to_owned(),
        transaction_reference: Some(reference.to_owned()),
        processed_date: None,
        created_date: at,
        updated_date: None,
    }
}
