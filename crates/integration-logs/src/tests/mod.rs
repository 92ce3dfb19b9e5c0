//! Claims about the table; the properties are in [`lossless`].

mod hostile;
mod lossless;

use lockstep::{Item, Json, MigratableTable, TTL_ATTRIBUTE, parse_fixed_width};

use crate::{IntegrationLog, IntegrationLogs, IntegrationLogsOptions};

fn log() -> IntegrationLog {
    IntegrationLog {
        log_id: 42,
        application_id: Some(7),
        log_type: "CreditCheck".to_owned(),
        service_name: "credit-bureau".to_owned(),
        request_data: Some(Json::parse(r#"{"amount": 1.00}"#).expect("JSON")),
        response_data: None,
        status_code: Some("503".to_owned()),
        is_success: false,
        error_message: Some("unavailable".to_owned()),
        processing_time_ms: Some(12),
        log_timestamp: parse_fixed_width("2026-01-31T23:59:59.000001Z").expect("a timestamp"),
        correlation_id: Some("c-1".to_owned()),
        user_id: None,
    }
}

fn options(json: &str) -> IntegrationLogs {
    IntegrationLogs { options: serde_json::from_str(json).expect("valid options") }
}

fn encode(table: &IntegrationLogs, log: &IntegrationLog) -> Item {
    MigratableTable::encode(table, log).expect("fits")
}

#[track_caller]
fn check(item: &Item, attribute: &str, expected: &str) {
    let value = item.get(attribute).unwrap_or_else(|| panic!("no {attribute}"));
    let text = value.as_s().or_else(|_| value.as_n()).expect("a string or a number");
    assert_eq!(text, expected, "{attribute}");
}

#[test]
fn keys_are_as_required() {
    let item = encode(&IntegrationLogs::default(), &log());
    check(&item, "PK", "credit-bureau#2026-01-31");
    check(&item, "SK", "2026-01-31T23:59:59.000001Z#0000000000000000042");
    check(&item, "GSI1PK", "APP#7");
    check(&item, "GSI2PK", "CORR#c-1");
    check(&item, "GSI3PK", "ERROR#2026-01-31");
    check(&item, "log_id", "42");
    check(&item, TTL_ATTRIBUTE, "1777679999");
    // 90 days after 2026-01-31 is 2026-05-01.
    assert_eq!(
        chrono::DateTime::from_timestamp(1_777_679_999, 0).expect("in range").to_rfc3339(),
        "2026-05-01T23:59:59+00:00"
    );
}

#[test]
fn a_success_is_not_among_the_errors_of_its_day() {
    let item = encode(&IntegrationLogs::default(), &IntegrationLog { is_success: true, ..log() });
    assert_eq!(item.get("GSI3PK"), None);
}

#[test]
fn shards_are_named_only_when_there_are_several() {
    check(&encode(&options(r#"{"write_shards": 4}"#), &log()), "PK", "credit-bureau#2026-01-31#2");
    let negative = IntegrationLog { log_id: -1, ..log() };
    check(&encode(&options(r#"{"write_shards": 4}"#), &negative), "PK", "credit-bureau#2026-01-31#3");
    check(&encode(&options(r#"{"write_shards": 1}"#), &log()), "PK", "credit-bureau#2026-01-31");
    assert_eq!(options(r#"{"write_shards": 4}"#).layout(), "write_shards=4");
    assert_eq!(options("{}").layout(), "write_shards=1");
}

#[test]
fn expiry_may_be_moved_and_may_be_off() {
    check(&encode(&options(r#"{"ttl_days": 1}"#), &log()), TTL_ATTRIBUTE, "1769990399");
    for off in [r#"{"ttl_days": null}"#, r#"{"ttl_days": 0}"#] {
        assert_eq!(encode(&options(off), &log()).get(TTL_ATTRIBUTE), None, "{off}");
    }
    // The date would be beyond what a timestamp holds; keeping the item is the safe reading.
    let last = IntegrationLog {
        log_timestamp: parse_fixed_width("9999-12-31T23:59:59.999999Z").expect("a timestamp"),
        ..log()
    };
    assert!(MigratableTable::encode(&options(r#"{"ttl_days": 4294967295}"#), &last).is_ok());
}

#[test]
fn options_that_mean_nothing_are_refused() {
    for bad in [r#"{"write_shards": 0}"#, r#"{"write_shard": 2}"#, r#"{"ttl_days": -1}"#] {
        assert!(serde_json::from_str::<IntegrationLogsOptions>(bad).is_err(), "{bad}");
    }
}

#[test]
fn key_parts_too_long_for_dynamodb_are_named() {
    let long = IntegrationLog { correlation_id: Some("x".repeat(2_044)), ..log() };
    let refusal = MigratableTable::encode(&IntegrationLogs::default(), &long).expect_err("too long");
    assert_eq!(refusal.column, "GSI2PK");
}

#[test]
fn rules_name_what_is_wrong() {
    let broken = |log: &IntegrationLog| -> Vec<&str> {
        IntegrationLogs::default()
            .rules()
            .iter()
            .filter(|rule| !(rule.holds)(log))
            .map(|rule| rule.name)
            .collect()
    };
    assert_eq!(broken(&log()), Vec::<&str>::new());
    assert_eq!(
        broken(&IntegrationLog { error_message: Some(String::new()), ..log() }),
        ["error_has_a_message"]
    );
    assert_eq!(
        broken(&IntegrationLog { error_message: None, is_success: true, ..log() }),
        Vec::<&str>::new()
    );
    assert_eq!(
        broken(&IntegrationLog { processing_time_ms: Some(-1), ..log() }),
        ["processing_time_is_not_negative"]
    );
    assert_eq!(broken(&IntegrationLog { service_name: " ".to_owned(), ..log() }), ["service_is_named"]);
}
