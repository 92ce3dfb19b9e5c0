//! One lease, as its item says it.
//!
//! An application may write any item of the control table, and so may another program with its rights. 1. One
//! puts an item beside the leases that says nothing of one. 2. What cannot be read is an error, so that no
//! lease is overlooked. 3. Each step of the truth lists the leases first: no command leads out of DynamoOnly.
//! So what no instance can hold is none, and is told of; what one may hold is waited for, however little its
//! item still says, and never for longer than the longest lease.

use std::hash::{DefaultHasher, Hash, Hasher};

use aws_sdk_dynamodb::types::AttributeValue;
use chrono::{DateTime, SecondsFormat, Utc};
use lockstep_core::{Attributes, InstanceRow, InstanceState, LEASE_MAX, PK, SK};

use super::{number_at, text_at};

/// Partition in which an earlier version keeps all leases.
pub(super) const TOGETHER: &str = "INSTANCES";
/// Partitions over which leases are spread. It may grow, never shrink: a lease is looked for in each.
pub(super) const PARTITIONS: i64 = 16;
/// Characters of a name, or of a key, that are told.
const TOLD_MAX: usize = 200;

pub(super) fn spread(partition: i64) -> String {
    format!("{TOGETHER}#{partition:02}")
}

/// The partition in which the lease of `id` is where leases are spread.
pub(super) fn spread_of(id: i64) -> String {
    spread(id.rem_euclid(PARTITIONS))
}

pub(super) fn stamp(at: DateTime<Utc>) -> AttributeValue {
    super::text(at.to_rfc3339_opts(SecondsFormat::Micros, true))
}

/// The lease in an item; `None` for an item that no instance holds its lease in: an instance renews the item
/// of its own number, in one of two partitions.
pub(super) fn parse(item: &Attributes) -> Option<InstanceRow> {
    let (partition, sort) = (text_at(item, PK)?, text_at(item, SK)?);
    let id: i64 = sort.parse().ok()?;
    if id.to_string() != sort || (partition != TOGETHER && partition != spread_of(id)) {
        return None;
    }
    let longest = i64::try_from(LEASE_MAX.as_millis()).unwrap_or(i64::MAX);
    let lease_ms = number_at(item, "lease_ms").filter(|ms| (1..=longest).contains(ms)).unwrap_or(longest);
    let renewed_at = at(item, "renewed_at");
    Some(InstanceRow {
        id,
        name: shortened(text_at(item, "name").unwrap_or("without a name")),
        // DynamoDB does not tell from where it was called.
        host: "unknown".to_owned(),
        pid: number_at(item, "pid").unwrap_or_default(),
        started_at: at(item, "started_at"),
        epoch: number_at(item, "epoch"),
        lease_ms,
        renewals: renewals(item),
        renewed_at,
        lease_left_ms: lease_ms.saturating_sub((Utc::now() - renewed_at).num_milliseconds()),
        // A renewal asks for the very word.
        state: match text_at(item, "state") {
            Some("live") => InstanceState::Live,
            _ => InstanceState::Expired,
        },
    })
}

/// The count of renewals, or for what is none a number that is another for another value: of more digits than
/// a count has it still grows with each renewal.
pub(super) fn renewals(item: &Attributes) -> i64 {
    let Some(AttributeValue::N(text)) = item.get("renewals") else { return 0 };
    text.parse().unwrap_or_else(|_| {
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        i64::from_ne_bytes(hasher.finish().to_ne_bytes())
    })
}

/// Returns the key of an item that is no lease, in words.
pub(super) fn told(item: &Attributes) -> String {
    let part = |name| shortened(text_at(item, name).unwrap_or("not a text"));
    format!("{} / {}", part(PK), part(SK))
}

fn at(item: &Attributes, name: &str) -> DateTime<Utc> {
    let parsed = text_at(item, name).and_then(|text| DateTime::parse_from_rfc3339(text).ok());
    parsed.map_or(DateTime::UNIX_EPOCH, |at| at.to_utc())
}

fn shortened(text: &str) -> String {
    text.chars().take(TOLD_MAX).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{key, number, text};
    use super::*;

    fn lease(partition: &str, sort: &str, attributes: &[(&str, AttributeValue)]) -> Attributes {
        let mut item = key(partition, sort);
        item.extend(attributes.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        item
    }

    #[test]
    fn what_no_instance_renews_is_no_lease() {
        let live = [("state", text("live"))];
        for (partition, sort) in [
            ("INSTANCES#03", "x"),
            ("INSTANCES#03", ""),
            ("INSTANCES#03", "03"),
            ("INSTANCES#03", "+3"),
            ("INSTANCES#03", "4"),
            ("INSTANCES#3", "3"),
            ("INSTANCES", "9223372036854775808"),
        ] {
            assert!(parse(&lease(partition, sort, &live)).is_none(), "{partition} {sort}");
        }
        for (partition, sort) in [("INSTANCES#03", "3"), ("INSTANCES", "3"), ("INSTANCES#13", "-3")] {
            assert!(parse(&lease(partition, sort, &live)).is_some(), "{partition} {sort}");
        }
    }

    #[test]
    fn a_lease_whose_item_says_little_is_waited_for_and_no_longer_than_the_longest() {
        let row = parse(&lease("INSTANCES", "7", &[("state", text("live"))])).expect("a lease");
        assert_eq!((row.state, row.lease(), row.epoch), (InstanceState::Live, LEASE_MAX, None));
        for absurd in [i64::MAX.to_string(), i64::MIN.to_string(), "0".to_owned(), "1e40".to_owned()] {
            let item = lease("INSTANCES", "7", &[("lease_ms", AttributeValue::N(absurd))]);
            assert_eq!(parse(&item).expect("a lease").lease(), LEASE_MAX);
        }
        let item = lease("INSTANCES", "7", &[("lease_ms", number(1_500)), ("renewed_at", text("when?"))]);
        let row = parse(&item).expect("a lease");
        assert_eq!((row.lease(), row.state), (Duration::from_millis(1_500), InstanceState::Expired));
        assert!(row.lease_left_ms < 0);
    }

    #[test]
    fn another_renewal_is_another_count_also_where_it_is_too_long_for_one() {
        let of = |value| renewals(&lease("INSTANCES", "7", &[("renewals", value)]));
        let long = |text: &str| of(AttributeValue::N(text.to_owned()));
        assert_eq!((of(number(5)), of(text("5"))), (5, 0));
        assert_ne!(long("10000000000000000000000"), long("10000000000000000000001"));
    }
}
