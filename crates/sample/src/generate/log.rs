//! A log at a time.

use chrono::{DateTime, Utc};
use lockstep_integration_logs::IntegrationLog;
use rand::{Rng, RngExt};

use super::words::{FAILURES, SERVICES, chance, pick, weighted};
use super::{APPLICATIONS, documents};

/// Returns a log made at `at`. About six in a hundred are errors, and those have a message.
pub fn log(rng: &mut impl Rng, log_id: i64, at: DateTime<Utc>) -> IntegrationLog {
    let service_name = weighted(rng, &SERVICES);
    let log_type = type_of(rng, service_name);
    let failure = chance(rng, 6).then(|| pick(rng, &FAILURES));
    let response_status = if failure.is_some() { "rejected" } else { "ok" };
    let status_code = failure.map_or("200", |(code, _)| code);
    IntegrationLog {
        log_id,
        application_id: chance(rng, 85).then(|| rng.random_range(1..=APPLICATIONS as i32)),
        log_type: log_type.to_owned(),
        service_name: service_name.to_owned(),
        request_data: chance(rng, 96).then(|| documents::request(rng, log_type)),
        // A service that timed out did not answer.
        response_data: chance(rng, if failure.is_some() { 40 } else { 95 })
            .then(|| documents::response(rng, response_status)),
        status_code: chance(rng, 92).then(|| status_code.to_owned()),
        is_success: failure.is_none(),
        error_message: match failure {
            Some((_, message)) => Some(message.to_owned()),
            // Some programs write "no error" as an empty text, which is not NULL.
            None => chance(rng, 3).then(String::new),
        },
        processing_time_ms: chance(rng, 95).then(|| processing_time_ms(rng)),
        log_timestamp: at,
        correlation_id: chance(rng, 75).then(|| correlation_id(rng, at)),
        user_id: chance(rng, 60).then(|| user_id(rng)),
    }
}

fn type_of(rng: &mut impl Rng, service_name: &str) -> &'static str {
    match service_name {
        "credit-bureau" => pick(rng, &["CreditCheck", "CreditReport"]),
        "payment-gateway" => pick(rng, &["Capture", "Refund", "Callback"]),
        "kyc-provider" => "IdentityCheck",
        "notifications" => pick(rng, &["Email", "Sms"]),
        "core-banking" => "LedgerPosting",
        "fraud-screening" => "FraudCheck",
        _ => "Archive",
    }
}

/// Mostly quick, with a long tail.
fn processing_time_ms(rng: &mut impl Rng) -> i32 {
    let tail = rng.random::<f64>().powi(6);
    8 + (tail * 30_000.0) as i32
}

/// The calls of one operation fall into one minute.
fn correlation_id(rng: &mut impl Rng, at: DateTime<Utc>) -> String {
    format!("op-{:x}-{}", at.timestamp().div_euclid(60), rng.random_range(0..4))
}

fn user_id(rng: &mut impl Rng) -> String {
    match rng.random_range(0..40) {
        0 => pick(rng, &["système", "نظام", "管理者", ""]).to_owned(),
        _ => format!("user-{}", rng.random_range(1..500)),
    }
}
