//! Place of a payment in the target, and why it is there.
//!
//! **Partition** `customer_id`, a number: payments are asked for by customer first, and no customer pays so
//! often that one partition would be hot. A number needs no prefix, as nothing else shares the table.
//!
//! **Sort** `"{payment_date}#{payment_id}"`: date ranges and newest first are then one query. The id makes it
//! unique, because a customer may pay twice for one date; padded, so that within a date the order is that of
//! insertion.
//!
//! Customer and date are mutable columns, which is why they are part of [`PaymentKey`]: a payment whose
//! customer or date is corrected moves, and capture marks the place it left as well as the one it went to.
//!
//! **Indexes** sort by the table's own `SK`, which begins with the date: "by status and date" needs no
//! further attribute. `BY_ID` is the exception: its partition is the column `payment_id` itself and it has
//! one item in each. It answers "by id" once PostgreSQL, which knew customer and date for an id, is gone;
//! keys are all it needs.

use lockstep::{
    AttributeValue, Index, Item, KeyAttribute, KeyType, Projected, SK, TargetKey, TargetSchema, Unholdable,
    fixed_width, time_and_id,
};

use crate::row::{Payment, PaymentKey};

/// Index: the payments of a status, by date.
pub const BY_STATUS: Index = by("by_status", "GSI1PK");
/// Index: the payments of a loan, by date.
pub const BY_LOAN: Index = by("by_loan", "GSI2PK");
/// Index: the payments made in one way, by date.
pub const BY_METHOD: Index = by("by_method", "GSI3PK");
/// Index: the key of the payment with this id.
pub const BY_ID: Index = Index {
    name: "by_id",
    partition: KeyAttribute { name: "payment_id", key_type: KeyType::N },
    sort: None,
    projection: Projected::Keys,
};

/// The target's key schema.
pub(crate) const TARGET: TargetSchema = TargetSchema {
    partition: KeyType::N,
    sort: Some(KeyType::S),
    indexes: &[BY_STATUS, BY_LOAN, BY_METHOD, BY_ID],
};

const fn by(name: &'static str, partition: &'static str) -> Index {
    Index {
        name,
        partition: KeyAttribute { name: partition, key_type: KeyType::S },
        sort: Some(KeyAttribute { name: SK, key_type: KeyType::S }),
        projection: Projected::All,
    }
}

/// Returns the key of a payment.
pub(crate) fn target_key(key: &PaymentKey) -> Result<TargetKey, Unholdable> {
    let date = fixed_width(key.payment_date).map_err(|e| e.of("payment_date"))?;
    Ok(TargetKey {
        partition: AttributeValue::N(key.customer_id.to_string()),
        sort: Some(AttributeValue::S(time_and_id(&date, key.payment_id))),
    })
}

/// Returns the partition of a status in [`BY_STATUS`].
pub(crate) fn of_status(status: &str) -> String {
    ["STATUS#", status].concat()
}

/// Returns the partition of a loan in [`BY_LOAN`].
pub(crate) fn of_loan(loan_id: i64) -> String {
    ["LOAN#", &loan_id.to_string()].concat()
}

/// Returns the partition of a method in [`BY_METHOD`].
pub(crate) fn of_method(method: &str) -> String {
    ["METHOD#", method].concat()
}

/// Adds the index partitions that the payment belongs to.
pub(crate) fn index_attributes(payment: &Payment, item: &mut Item) {
    let mut push = |index: Index, value: String| item.push(index.partition.name, AttributeValue::S(value));
    push(BY_STATUS, of_status(&payment.payment_status));
    push(BY_LOAN, of_loan(payment.loan_id));
    push(BY_METHOD, of_method(&payment.payment_method));
}
