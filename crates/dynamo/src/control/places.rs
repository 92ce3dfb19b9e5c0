//! Places: where the row of a primary key lives, written in one transaction with the item itself.
//!
//! The target key of a row may contain more than its primary key, and the index that finds it by primary key
//! is eventually consistent. 1. Two writers put the same id under two dates. 2. Neither finds the other's
//! row. 3. The target holds two rows of one id. So whatever makes a row, or moves one, writes its place as
//! well, under the condition that the place is as it was read: of two, one is cancelled and looks again. The
//! place is also how a row is found that the index does not show yet.
//!
//! A place stays when its row is deleted, so that its id is not handed out again. It may be out of date once
//! the source was written again; then its item is dead or gone, and the index says where the row went.
//!
//! The place of a row that expires goes [`KEPT_AFTER_EXPIRY_S`] after it: a table of logs would leave one for
//! each row it ever had. A row whose expiry was extended, or that predates DynamoOnly, has no place; the
//! index finds it, for the row has not moved for longer than an index was ever behind.

use aws_sdk_dynamodb::types::AttributeValue;
use lockstep_core::{Attributes, PK, Result, SK, TTL_ATTRIBUTE, TargetKey};

use super::{TargetControl, key, number, text};
use crate::{ConditionalPut, Expected};

const SORT: &str = "PLACE";
const KEY: &str = "key";
const MADE_BY: &str = "made_by";
/// Time for which a place outlives its row.
const KEPT_AFTER_EXPIRY_S: i64 = 30 * 24 * 3_600;

/// Record of a place, as it was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    /// Place where the row was put last while the target was the truth; `None` where what stands there says
    /// no key. Then the index has the row, as that of a row without a place: an error would have kept its
    /// writers out for as long as the item stands there.
    pub key: Option<TargetKey>,
    made_by: Option<AttributeValue>,
}

impl TargetControl {
    /// Returns where the row of `id` was put last; `None` if never while the target was the truth.
    #[crate::boxed]
    pub async fn place(&self, table: &str, id: &str) -> Result<Option<Place>> {
        Ok(self.read(&partition(table, id), SORT).await?.map(|item| self.parse_place(&item)))
    }

    /// The key of a place, for reading it together with items.
    pub fn place_key(&self, table: &str, id: &str) -> Attributes {
        key(&partition(table, id), SORT)
    }

    /// Reads a place from its item.
    pub fn parse_place(&self, item: &Attributes) -> Place {
        let key = item.get(KEY).and_then(|value| value.as_m().ok()).and_then(TargetKey::of);
        Place { key, made_by: item.get(MADE_BY).cloned() }
    }

    /// The put that says that the row of `id` is at `key` now, if the place is still as it was `read`.
    /// `writer` must differ from write to write. `expires_at_s` is when the row expires, in seconds since
    /// 1970.
    pub fn put_place(
        &self,
        table: &str,
        id: &str,
        (key, expires_at_s): (&TargetKey, Option<i64>),
        read: Option<&Place>,
        writer: &str,
    ) -> ConditionalPut {
        let mut place = self.place_key(table, id);
        let mut parts = Attributes::from([(PK.to_owned(), key.partition.clone())]);
        parts.extend(key.sort.clone().map(|sort| (SK.to_owned(), sort)));
        place.insert(KEY.to_owned(), AttributeValue::M(parts));
        place.insert(MADE_BY.to_owned(), text(writer));
        if let Some(at_s) = expires_at_s {
            place.insert(TTL_ATTRIBUTE.to_owned(), number(at_s.saturating_add(KEPT_AFTER_EXPIRY_S)));
        }
        let expected = match read.map(|read| read.made_by.clone()) {
            None => Expected::Absent,
            Some(Some(made_by)) => Expected::With(MADE_BY, made_by),
            Some(None) => Expected::Without(MADE_BY),
        };
        ConditionalPut { table: self.table.clone(), item: place, expected }
    }
}

/// Returns the partition of one id: ids of one table must not share one.
fn partition(table: &str, id: &str) -> String {
    format!("ID#{table}#{id}")
}
