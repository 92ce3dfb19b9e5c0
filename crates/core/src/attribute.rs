//! Attributes: what DynamoDB returns of an item, the value of one, and the names that Lockstep gives.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;

/// Carries the version of the state that an item holds (I2).
pub const VERSION_ATTRIBUTE: &str = "_v";
/// Present on a tombstone: the row was deleted at the item's version (I3).
pub const DELETED_ATTRIBUTE: &str = "_deleted";
/// Names the last writers of an item while the target is the truth, so that a lost reply can be looked up
/// (I8). It is no part of the row.
pub const WRITERS_ATTRIBUTE: &str = "_w";
/// Carries the expiry in seconds since 1970, where the table has one.
pub const TTL_ATTRIBUTE: &str = "ttl";
/// Partition key attribute of every target table.
pub const PK: &str = "PK";
/// Sort key attribute of a target table that has one.
pub const SK: &str = "SK";

/// The number of the mark of history; marks and probes have it.
pub const MARK_ATTRIBUTE: &str = "_mark";
/// Names the round that a marker of the reverse feed belongs to.
pub const MARKER_ATTRIBUTE: &str = "_marker";
/// Names the run that a probe belongs to.
pub const PROBE_ATTRIBUTE: &str = "_probe";

/// Every attribute that Lockstep names: no column is called so. An item with two of one name would hold
/// whichever comes last.
pub const RESERVED_ATTRIBUTES: [&str; 9] = [
    PK,
    SK,
    TTL_ATTRIBUTE,
    VERSION_ATTRIBUTE,
    WRITERS_ATTRIBUTE,
    DELETED_ATTRIBUTE,
    MARK_ATTRIBUTE,
    MARKER_ATTRIBUTE,
    PROBE_ATTRIBUTE,
];

/// Attributes of an item, as DynamoDB returns them.
pub type Attributes = HashMap<String, AttributeValue>;

/// Tells whether an attribute is Lockstep's own and no part of the row.
pub fn is_bookkeeping(name: &str) -> bool {
    name == VERSION_ATTRIBUTE || name == WRITERS_ATTRIBUTE
}

/// The value of one attribute, borrowed from its item.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Attribute<'a> {
    /// A string.
    S(&'a str),
    /// A number, in the digits in which it came.
    N(&'a str),
    /// A boolean.
    Bool(bool),
    /// Any other type: no column is written as one.
    Other(&'a AttributeValue),
}

impl<'a> From<&'a AttributeValue> for Attribute<'a> {
    fn from(value: &'a AttributeValue) -> Self {
        match value {
            AttributeValue::S(text) => Self::S(text),
            AttributeValue::N(digits) => Self::N(digits),
            AttributeValue::Bool(is) => Self::Bool(*is),
            other => Self::Other(other),
        }
    }
}

impl From<Attribute<'_>> for AttributeValue {
    fn from(attribute: Attribute<'_>) -> Self {
        match attribute {
            Attribute::S(text) => Self::S(text.to_owned()),
            Attribute::N(digits) => Self::N(digits.to_owned()),
            Attribute::Bool(is) => Self::Bool(is),
            Attribute::Other(value) => value.clone(),
        }
    }
}
