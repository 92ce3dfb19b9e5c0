//! Values that break converters: what PostgreSQL can hold, at its edges.

use chrono::{DateTime, Utc};
use lockstep::Json;
use proptest::option;
use proptest::prelude::*;

use crate::IntegrationLog;

/// First microsecond of the year 1, where timestamps of our era begin, and last one of the year 9999.
const ERA_US: std::ops::RangeInclusive<i64> = -62_135_596_800_000_000..=253_402_300_799_999_999;

/// Text as PostgreSQL can hold it: anything but NUL.
pub(super) fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => "[^\\x00]{0,24}",
        1 => prop::sample::select(vec!["", " ", "\u{feff}", "a\tb\\n\r\n", "#", "مرحبا", "שלום", "👩‍👩‍👧‍👦", "e\u{301}", "\u{10ffff}", "NULL", "\"", "'"])
            .prop_map(str::to_owned),
    ]
}

pub(super) fn timestamp() -> impl Strategy<Value = DateTime<Utc>> {
    let edge = prop::sample::select(vec![
        *ERA_US.start(),
        *ERA_US.end(),
        -1,
        0,
        1,
        946_684_800_000_000,
        951_782_400_000_000,
    ]);
    prop_oneof![4 => ERA_US, 1 => edge]
        .prop_map(|us| DateTime::from_timestamp_micros(us).expect("within chrono's range"))
}

pub(super) fn id() -> impl Strategy<Value = i64> {
    prop_oneof![2 => any::<i64>(), 1 => prop::sample::select(vec![i64::MIN, -1, 0, 1, i64::MAX]), 2 => 1..1_000_000_i64]
}

/// A document as text, so that numbers keep digits which no Rust number has.
pub(super) fn json() -> impl Strategy<Value = Json> {
    let number = prop_oneof![
        any::<i64>().prop_map(|n| n.to_string()),
        prop::sample::select(vec![
            "1.0",
            "1.00",
            "-0",
            "0.0",
            "1e400",
            "-1E-400",
            "123456789012345678901234567890.12345678901234567890"
        ])
        .prop_map(str::to_owned),
        "-?[1-9][0-9]{30,60}\\.[0-9]{1,40}",
    ];
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|b| b.to_string()),
        number,
        text().prop_map(|text| quoted(&text)),
    ];
    let document = leaf.prop_recursive(24, 64, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(", "))),
            prop::collection::vec((text(), inner.clone()), 0..4).prop_map(|members| {
                let members: Vec<_> =
                    members.iter().map(|(name, value)| format!("{}: {value}", quoted(name))).collect();
                format!("{{{}}}", members.join(", "))
            }),
            (1..90_usize, inner).prop_map(|(depth, value)| format!(
                "{}{value}{}",
                "[".repeat(depth),
                "]".repeat(depth)
            )),
        ]
    });
    // serde_json reads 128 levels; deeper documents are refused when they are read, before any table sees
    // them.
    document.prop_filter_map("nested too deep to be read", |text| Json::parse(&text).ok())
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a string serialises")
}

/// A row whose every column is hostile.
pub(super) fn log() -> impl Strategy<Value = IntegrationLog> {
    let who = (id(), option::of(any::<i32>()), text(), text(), option::of(text()), option::of(text()));
    let what =
        (option::of(json()), option::of(json()), option::of(text()), any::<bool>(), option::of(text()));
    (who, what, option::of(any::<i32>()), timestamp()).prop_map(
        |(who, what, processing_time_ms, log_timestamp)| {
            let (log_id, application_id, log_type, service_name, correlation_id, user_id) = who;
            let (request_data, response_data, status_code, is_success, error_message) = what;
            IntegrationLog {
                log_id,
                application_id,
                log_type,
                service_name,
                request_data,
                response_data,
                status_code,
                is_success,
                error_message,
                processing_time_ms,
                log_timestamp,
                correlation_id,
                user_id,
            }
        },
    )
}
