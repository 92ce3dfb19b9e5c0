//! Place of a log in the target, and why it is there.
//!
//! **Partition** `"{service}#{day}"`: the question asked most is "what did this service do between then and
//! then". A day bounds the partition, so a range of days is a few queries of known number, and old days cool
//! down and expire together. One busy service still is one hot partition today (1,000 write units a second);
//! `write_shards` spreads it, at the price of as many queries per day. The shard comes from `log_id` and not
//! from chance: the same row must always have the same key, or a retry would write it twice.
//!
//! **Sort** `"{timestamp}#{id}"`: text order is time order because the timestamp has a fixed width. The id
//! comes after it because two logs of one service may share a microsecond; padded, so that within it the
//! order is that of insertion.
//!
//! **Indexes** sort by the table's own `SK`: newest first and time ranges then work on each of them, with no
//! further attribute to store and to bill. They hold keys only, and the items are then read from the table,
//! strongly consistent. A log carries two documents that may be long, is written once and looked up seldom: a
//! copy of it in each index would bill its size three times more for each write, and for as long as it is
//! kept. `BY_ID` has the column `log_id` itself as its partition, with one item in each: it answers "by id"
//! once PostgreSQL, which knew service and time for an id, is gone.

use chrono::NaiveDate;
use lockstep::{
    AttributeValue, Index, Item, KeyAttribute, KeyType, Projected, SK, TargetKey, TargetSchema, Unholdable,
    fixed_width, time_and_id,
};

use crate::row::{IntegrationLog, LogKey};

/// Index: the logs of an application.
pub const BY_APPLICATION: Index = by("by_application", "GSI1PK");
/// Index: the logs of one operation.
pub const BY_CORRELATION: Index = by("by_correlation", "GSI2PK");
/// Index: the errors of a day, and nothing else: a log that succeeded lacks the attribute.
pub const ERRORS_BY_DAY: Index = by("errors_by_day", "GSI3PK");
/// Index: the key of the log with this id.
pub const BY_ID: Index = Index {
    name: "by_id",
    partition: KeyAttribute { name: "log_id", key_type: KeyType::N },
    sort: None,
    projection: Projected::Keys,
};

/// The target's key schema.
pub(crate) const TARGET: TargetSchema = TargetSchema {
    partition: KeyType::S,
    sort: Some(KeyType::S),
    indexes: &[BY_APPLICATION, BY_CORRELATION, ERRORS_BY_DAY, BY_ID],
};

/// Length of `yyyy-mm-dd` at the front of a fixed-width timestamp.
const DAY_BYTES: usize = 10;

const fn by(name: &'static str, partition: &'static str) -> Index {
    Index {
        name,
        partition: KeyAttribute { name: partition, key_type: KeyType::S },
        sort: Some(KeyAttribute { name: SK, key_type: KeyType::S }),
        projection: Projected::Keys,
    }
}

/// Returns the key of a log, with its day spread over `write_shards` partitions.
pub(crate) fn target_key(key: &LogKey, write_shards: u32) -> Result<TargetKey, Unholdable> {
    let at = fixed_width(key.log_timestamp).map_err(|e| e.of("log_timestamp"))?;
    let shard = key.log_id.rem_euclid(i64::from(write_shards));
    Ok(TargetKey {
        partition: AttributeValue::S(partition(&key.service_name, &at[..DAY_BYTES], shard, write_shards)),
        sort: Some(AttributeValue::S(time_and_id(&at, key.log_id))),
    })
}

/// Returns the partition of a service, a day and a write shard.
fn partition(service_name: &str, day: &str, shard: i64, write_shards: u32) -> String {
    if write_shards > 1 { format!("{service_name}#{day}#{shard}") } else { [service_name, "#", day].concat() }
}

/// Returns every partition of a service and a day.
pub(crate) fn partitions(
    service_name: &str,
    day: NaiveDate,
    write_shards: u32,
) -> impl Iterator<Item = String> {
    let day = day.to_string();
    (0..i64::from(write_shards)).map(move |shard| partition(service_name, &day, shard, write_shards))
}

/// Returns the partition of an application's logs in [`BY_APPLICATION`].
pub(crate) fn of_application(application_id: i32) -> String {
    ["APP#", &application_id.to_string()].concat()
}

/// Returns the partition of an operation's logs in [`BY_CORRELATION`].
pub(crate) fn of_correlation(correlation_id: &str) -> String {
    ["CORR#", correlation_id].concat()
}

/// Returns the partition of a day's errors in [`ERRORS_BY_DAY`].
pub(crate) fn errors_of(day: &str) -> String {
    ["ERROR#", day].concat()
}

/// Adds the index partitions that the log belongs to.
pub(crate) fn index_attributes(log: &IntegrationLog, item: &mut Item) -> Result<(), Unholdable> {
    let mut push = |index: Index, value: String| item.push(index.partition.name, AttributeValue::S(value));
    if let Some(application) = log.application_id {
        push(BY_APPLICATION, of_application(application));
    }
    if let Some(correlation) = &log.correlation_id {
        push(BY_CORRELATION, of_correlation(correlation));
    }
    if !log.is_success {
        let at = fixed_width(log.log_timestamp).map_err(|e| e.of("log_timestamp"))?;
        push(ERRORS_BY_DAY, errors_of(&at[..DAY_BYTES]));
    }
    Ok(())
}
