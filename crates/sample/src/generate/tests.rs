//! Claims about generated rows.

use lockstep_core::MigratableTable;
use lockstep_integration_logs::IntegrationLogs;
use lockstep_payments::Payments;

use super::*;

fn history() -> History {
    History {
        seed: 7,
        base_day: NaiveDate::from_ymd_opt(2026, 3, 31).expect("a day"),
        logs: 4_500,
        payments: 2_500,
    }
}

fn logs(history: &History) -> Vec<IntegrationLog> {
    (0..history.log_chunks()).flat_map(|chunk| history.chunk_of_logs(chunk)).collect()
}

fn payments(history: &History) -> Vec<Payment> {
    (0..history.payment_chunks()).flat_map(|chunk| history.chunk_of_payments(chunk)).collect()
}

#[test]
fn the_same_seed_makes_the_same_rows_and_another_does_not() {
    assert_eq!(logs(&history()), logs(&history()));
    assert_eq!(payments(&history()), payments(&history()));
    assert_ne!(logs(&history())[0], logs(&History { seed: 8, ..history() })[0]);
}

#[test]
fn ids_run_from_one_without_gaps() {
    assert!(logs(&history()).iter().map(|log| log.log_id).eq(1..=4_500));
    assert!(payments(&history()).iter().map(|payment| payment.payment_id).eq(1..=2_500));
}

#[test]
fn every_row_keeps_the_rules_and_fits_the_target() {
    for log in logs(&history()) {
        for rule in IntegrationLogs::default().rules() {
            assert!((rule.holds)(&log), "{}: {log:?}", rule.name);
        }
        MigratableTable::encode(&IntegrationLogs::default(), &log).expect("fits");
    }
    for payment in payments(&history()) {
        for rule in Payments::default().rules() {
            assert!((rule.holds)(&payment), "{}: {payment:?}", rule.name);
        }
        MigratableTable::encode(&Payments::default(), &payment).expect("fits");
    }
}

#[test]
fn history_covers_its_days_and_ends_before_the_base_day() {
    let end = history().base_day.and_time(NaiveTime::MIN).and_utc();
    let logs = logs(&history());
    assert!(
        logs.iter()
            .all(|log| log.log_timestamp < end && log.log_timestamp >= end - TimeDelta::days(HISTORY_DAYS))
    );
    let days: std::collections::BTreeSet<_> = logs.iter().map(|log| log.log_timestamp.date_naive()).collect();
    assert_eq!(days.len(), HISTORY_DAYS as usize);
    assert!(
        logs.iter().all(|log| log.log_timestamp.timestamp_subsec_nanos() % 1_000 == 0),
        "finer than a microsecond"
    );
}

#[test]
fn logs_are_shaped_like_logs() {
    let logs = logs(&history());
    let share = |test: &dyn Fn(&IntegrationLog) -> bool| {
        logs.iter().filter(|log| test(log)).count() * 100 / logs.len()
    };
    assert!((4..9).contains(&share(&|log| !log.is_success)), "errors");
    assert!((45..60).contains(&share(&|log| log.service_name == "credit-bureau")), "the hot service");
    assert!(
        share(&|log| log.request_data.is_none()) > 0 && share(&|log| log.user_id.is_none()) > 20,
        "NULLs"
    );
    assert!(logs.iter().any(|log| log.error_message.as_deref() == Some("")), "empty texts");

    let mut sizes: Vec<usize> = logs.iter().map(bytes).collect();
    sizes.sort_unstable();
    let median = sizes[sizes.len() / 2];
    assert!((500..700).contains(&median), "the median row has {median} bytes");
    assert!(sizes[sizes.len() - 1] > 10_000, "the largest row has {} bytes", sizes[sizes.len() - 1]);
}

/// Names are not counted: a source row has none.
fn bytes(log: &IntegrationLog) -> usize {
    let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let json = |json: &Option<lockstep_core::Json>| json.as_ref().map_or(0, |json| json.as_str().len());
    json(&log.request_data)
        + json(&log.response_data)
        + [&log.status_code, &log.error_message, &log.correlation_id, &log.user_id]
            .map(text)
            .iter()
            .sum::<usize>()
        + log.service_name.len()
        + log.log_type.len()
        + 25
}

#[test]
fn documents_hold_numbers_no_machine_number_holds() {
    #[derive(serde::Deserialize)]
    struct Request {
        amount: Amount,
    }
    #[derive(serde::Deserialize)]
    struct Amount {
        value: Box<serde_json::value::RawValue>,
    }
    let value_of =
        |json: &lockstep_core::Json| json.to::<Request>().expect("a request").amount.value.get().to_owned();
    let values: Vec<String> =
        logs(&history()).iter().filter_map(|log| log.request_data.as_ref()).map(value_of).collect();
    assert!(values.iter().any(|value| value.len() > 35), "more digits than a machine number has");
    assert!(values.iter().any(|value| value.ends_with(".00")), "zeros at the end");
    assert!(values.iter().any(|value| value.contains('e')), "an exponent");
}

#[test]
fn payments_are_in_several_currencies_and_belong_to_their_loans() {
    let payments = payments(&history());
    let currencies: std::collections::BTreeSet<_> =
        payments.iter().map(|payment| payment.currency.as_str()).collect();
    assert!(currencies.is_superset(&["EUR", "USD", "GBP", "JPY"].into()), "{currencies:?}");
    assert!(payments.iter().all(|payment| payment.customer_id == customer_of_loan(payment.loan_id)));
    assert!(payments.iter().all(|payment| (1..=LOANS).contains(&payment.loan_id)));
}
