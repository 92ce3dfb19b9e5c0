//! R4: what goes in comes out, or is refused with a reason.

use std::num::NonZeroU32;

use lockstep::{AnyTable, AttributeValue, Attributes, Item, MigratableTable, Row, SourceKey, Version};
use proptest::prelude::*;

use super::hostile;
use crate::{IntegrationLog, IntegrationLogs, IntegrationLogsOptions, LogKey};

fn table(write_shards: u32) -> IntegrationLogs {
    let write_shards = NonZeroU32::new(write_shards).expect("at least one shard");
    IntegrationLogs { options: IntegrationLogsOptions { write_shards, ..Default::default() } }
}

/// The item as DynamoDB gives it back: numbers lose leading zeros and zeros after the point.
fn stored(item: Item) -> Attributes {
    let mut attributes = item.at(Version(7)).into_attributes();
    for value in attributes.values_mut() {
        if let AttributeValue::N(number) = value
            && number.contains('.')
        {
            let shortened = number.trim_end_matches('0').trim_end_matches('.').to_owned();
            *number = shortened;
        }
    }
    attributes
}

/// The source key of a log as `jsonb_build_array` prints it.
fn printed(log: &IntegrationLog) -> String {
    let seconds = log.log_timestamp.format("%Y-%m-%dT%H:%M:%S").to_string();
    let micros = format!("{:06}", log.log_timestamp.timestamp_subsec_micros());
    let at = match micros.trim_end_matches('0') {
        "" => seconds,
        fraction => format!("{seconds}.{fraction}"),
    };
    format!(
        "[{}, {}, \"{at}\"]",
        log.log_id,
        serde_json::to_string(&log.service_name).expect("a string serialises")
    )
}

proptest! {
    #[test]
    fn a_log_survives_the_target(log in hostile::log(), write_shards in 1..9_u32) {
        let item = MigratableTable::encode(&table(write_shards), &log).expect("small enough");
        let back = IntegrationLogs::decode(&stored(item)).expect("decodes");
        prop_assert_eq!(back.differing(&log), Vec::<&str>::new());
        prop_assert_eq!(back, log);
    }

    #[test]
    fn null_is_absence_and_empty_text_is_not(log in hostile::log()) {
        let item = MigratableTable::encode(&table(1), &log).expect("small enough");
        for (column, present) in [
            ("application_id", log.application_id.is_some()),
            ("request_data", log.request_data.is_some()),
            ("error_message", log.error_message.is_some()),
            ("user_id", log.user_id.is_some()),
        ] {
            prop_assert_eq!(item.get(column).is_some(), present, "{}", column);
        }
        prop_assert_eq!(item.get("GSI1PK").is_some(), log.application_id.is_some());
        prop_assert_eq!(item.get("GSI2PK").is_some(), log.correlation_id.is_some());
        prop_assert_eq!(item.get("GSI3PK").is_some(), !log.is_success);
    }

    #[test]
    fn the_key_postgresql_prints_is_the_key_of_the_row(log in hostile::log(), write_shards in 1..9_u32) {
        let table = table(write_shards);
        let source_key = SourceKey::parse(&printed(&log)).expect("a JSON array");
        prop_assert_eq!(LogKey::from_key(&source_key.0).expect("decodes"), IntegrationLogs::key(&log));
        let of_source = AnyTable::target_key(&table, &source_key).expect("a key");
        prop_assert_eq!(of_source, MigratableTable::target_key(&table, &IntegrationLogs::key(&log)).expect("a key"));
    }

    #[test]
    fn logs_with_different_ids_never_share_a_key(log in hostile::log(), other in hostile::id(), write_shards in 1..9_u32) {
        prop_assume!(log.log_id != other);
        let key = IntegrationLogs::key(&log);
        let twin = LogKey { log_id: other, ..key.clone() };
        let table = table(write_shards);
        let (a, b) = (MigratableTable::target_key(&table, &key), MigratableTable::target_key(&table, &twin));
        prop_assert_ne!(a.expect("a key"), b.expect("a key"));
    }

    #[test]
    fn sort_order_is_time_order_then_id_order(mut keys in prop::collection::vec((hostile::timestamp(), 0..=i64::MAX), 2..8)) {
        let sort = |(log_timestamp, log_id): &(_, i64)| {
            let key = LogKey { log_id: *log_id, service_name: "s".to_owned(), log_timestamp: *log_timestamp };
            let sort = MigratableTable::target_key(&table(1), &key).expect("a key").sort.expect("a sort key");
            sort.as_s().expect("text").clone()
        };
        keys.sort_unstable();
        let sorted: Vec<String> = keys.iter().map(sort).collect();
        prop_assert!(sorted.is_sorted(), "{:?}", sorted);
    }

    #[test]
    fn a_log_over_400_kb_is_refused_with_a_reason(log in hostile::log(), bytes in 300_000..500_000_usize) {
        let log = IntegrationLog { error_message: Some("é".repeat(bytes / 2)), ..log };
        match MigratableTable::encode(&table(1), &log) {
            Ok(item) => prop_assert!(item.bytes() <= lockstep::ITEM_BYTES_MAX),
            Err(refusal) => {
                prop_assert!(bytes > 380_000, "{refusal}");
                prop_assert!(refusal.reason.contains("bytes"), "{refusal}");
            }
        }
        if bytes > lockstep::ITEM_BYTES_MAX {
            prop_assert!(MigratableTable::encode(&table(1), &log).is_err());
        }
    }
}
