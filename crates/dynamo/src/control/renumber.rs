//! Giving an item another version, its contents as they are.
//!
//! For items whose version another program chose: where the target is the truth their contents are the truth,
//! and no write of ours can follow on such a version. Only version and writers are changed, by an update, so
//! whatever the item says by then is kept.

use aws_sdk_dynamodb::types::{AttributeValue, TransactWriteItem, Update};
use lockstep_core::{
    Attributes, Epoch, Error, Kind, PK, Phase, Result, TargetKey, VERSION_ATTRIBUTE, Version,
    WRITERS_ATTRIBUTE,
};

use super::attributes::CONTROL;
use super::{TargetControl, key, number, text};
use crate::transact::cancelled;
use crate::{Target, fault};

/// Beginning of the name of such an update's writer: by it the stream tells a version that was put right
/// from one that went back.
const RENUMBERED: &str = "renumbered-";
/// Writers that stay named besides: a lost reply of one of them is still told right.
const EARLIER_KEPT: usize = 7;

/// Whether what was `old` was given the version that `new` has, its contents as they were.
pub(crate) fn is_renumbered(old: &Attributes, new: &Attributes) -> bool {
    let (before, now) = (first_writer(old), first_writer(new));
    now.is_some_and(|now| now.starts_with(RENUMBERED)) && before != now
}

fn writers(item: &Attributes) -> Option<&str> {
    item.get(WRITERS_ATTRIBUTE)?.as_s().ok().map(String::as_str)
}

fn first_writer(item: &Attributes) -> Option<&str> {
    writers(item)?.split(' ').next()
}

impl TargetControl {
    /// Gives the item that was read as `seen` the version `version`, while the target is the truth in `epoch`
    /// and lets writes go on: so that nothing lands once a pause was begun, and what a step has seen through
    /// is all there is. Says whether it was done; it is not where version, writers, or the record are others
    /// by now. Returns the item's attributes that it changes, as they are after it.
    ///
    /// # Errors
    /// [`Kind::Unknown`] when the answer was lost (I8): read the item again; the driver's.
    ///
    /// # Cancel safety
    /// A cancelled call is an unknown outcome; its repetition finds that `seen` is no more.
    #[crate::boxed]
    pub async fn renumber(
        &self,
        table: &str,
        seen: &Attributes,
        version: Version,
        epoch: Epoch,
    ) -> Result<Option<Attributes>> {
        let doing = || format!("giving an item of {table} a version of ours");
        let writer = format!("{RENUMBERED}{:012x}", rand::random::<u64>() >> 16);
        let earlier = writers(seen).into_iter().flat_map(|writers| writers.split(' ')).take(EARLIER_KEPT);
        let named = std::iter::once(writer.as_str()).chain(earlier).collect::<Vec<_>>().join(" ");
        let change = Attributes::from([
            (VERSION_ATTRIBUTE.to_owned(), AttributeValue::N(version.0.to_string())),
            (WRITERS_ATTRIBUTE.to_owned(), AttributeValue::S(named)),
        ]);
        let invalid = |why: String| Error::target(Kind::Invalid, doing(), why);
        let of_item = as_seen(table, seen, &change).ok_or_else(|| invalid("it has no key".to_owned()))?;
        // An update, though nothing is to be changed there: a mere condition would need a right of its own.
        let of_record = Update::builder()
            .table_name(&self.table)
            .set_key(Some(key(CONTROL, CONTROL)))
            .update_expression("SET renumbered_at = :at")
            .condition_expression(
                "epoch = :epoch AND writes = :writes AND phase = :truth AND attribute_not_exists(completed_at)",
            )
            .expression_attribute_values(":at", text(chrono::Utc::now().to_rfc3339()))
            .expression_attribute_values(":epoch", number(epoch))
            .expression_attribute_values(":writes", text("open"))
            .expression_attribute_values(":truth", text(Phase::DynamoOnly.name()));
        let of_record = of_record.build().map_err(|error| invalid(error.to_string()))?;
        let of_item = of_item.build().map_err(|error| invalid(error.to_string()))?;
        let items = [of_record, of_item].map(|update| TransactWriteItem::builder().update(update).build());
        let request = self.target.client.transact_write_items().set_transact_items(Some(items.to_vec()));
        match request.send().await {
            Ok(_) => Ok(Some(change)),
            Err(error) => match cancelled(&error) {
                Some(Kind::Refused) => Ok(None),
                Some(kind) => Err(Error::target(kind, doing(), "the transaction was cancelled")),
                None => Err(fault::error(doing(), error)),
            },
        }
    }
}

impl Target {
    /// Lets every version of ours outrank the item that was read as `seen`, where the source is the truth:
    /// it gets version 0. Says whether it was done; it is not where version or writers are others by now.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Cancel safety
    /// Repeat it.
    #[crate::boxed]
    pub async fn outrank(&self, table: &str, seen: &Attributes) -> Result<bool> {
        let doing = || format!("letting an item of {table} be outranked");
        let invalid = |why: String| Error::target(Kind::Invalid, doing(), why);
        let zero = AttributeValue::N(Version::INITIAL_LOAD.0.to_string());
        let change = Attributes::from([(VERSION_ATTRIBUTE.to_owned(), zero)]);
        let update = as_seen(table, seen, &change).ok_or_else(|| invalid("it has no key".to_owned()))?;
        let update = update.build().map_err(|error| invalid(error.to_string()))?;
        let request = self
            .client
            .update_item()
            .table_name(update.table_name)
            .set_key(Some(update.key))
            .update_expression(update.update_expression)
            .set_condition_expression(update.condition_expression)
            .set_expression_attribute_names(update.expression_attribute_names)
            .set_expression_attribute_values(update.expression_attribute_values);
        match request.send().await.map_err(|e| fault::error(doing(), e)) {
            Ok(_) => Ok(true),
            Err(error) if error.kind == Kind::Refused => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// An update of version and writers to `change`, on condition that both are as in `seen`.
fn as_seen(
    table: &str,
    seen: &Attributes,
    change: &Attributes,
) -> Option<aws_sdk_dynamodb::types::builders::UpdateBuilder> {
    let mut update = Update::builder()
        .table_name(table)
        .set_key(Some(TargetKey::of(seen)?.to_attributes()))
        .expression_attribute_names("#k", PK);
    let mut conditions = vec!["attribute_exists(#k)".to_owned()];
    let mut sets = Vec::new();
    for (name, as_name, old, new) in
        [(VERSION_ATTRIBUTE, "#v", ":v", ":nv"), (WRITERS_ATTRIBUTE, "#w", ":w", ":nw")]
    {
        update = update.expression_attribute_names(as_name, name);
        match seen.get(name) {
            Some(value) => {
                update = update.expression_attribute_values(old, value.clone());
                conditions.push(format!("{as_name} = {old}"));
            }
            None => conditions.push(format!("attribute_not_exists({as_name})")),
        }
        if let Some(value) = change.get(name) {
            update = update.expression_attribute_values(new, value.clone());
            sets.push(format!("{as_name} = {new}"));
        }
    }
    let sets = format!("SET {}", sets.join(", "));
    Some(update.update_expression(sets).condition_expression(conditions.join(" AND ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_that_was_put_right_is_told_from_one_that_went_back() {
        let by = |writers: Option<&str>| -> Attributes {
            let named =
                writers.map(|named| (WRITERS_ATTRIBUTE.to_owned(), AttributeValue::S(named.to_owned())));
            named.into_iter().collect()
        };
        for (old, new, expected) in [
            (None, Some("renumbered-1"), true),
            (Some("a b"), Some("renumbered-1 a b"), true),
            (Some("renumbered-1 a"), Some("renumbered-2 renumbered-1 a"), true),
            // Another program wrote over such an item, and left its writers as they were.
            (Some("renumbered-1 a"), Some("renumbered-1 a"), false),
            (Some("a"), Some("b renumbered-1"), false),
            (Some("a"), None, false),
        ] {
            assert_eq!(is_renumbered(&by(old), &by(new)), expected, "{old:?} {new:?}");
        }
    }
}
