//! Key attributes and indexes of a target table.

use serde::{Deserialize, Serialize};

/// Type of a key attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyType {
    /// A string.
    S,
    /// A number.
    N,
}

/// One key attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyAttribute {
    /// Attribute name.
    pub name: &'static str,
    /// Attribute type.
    pub key_type: KeyType,
}

/// A global secondary index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Index {
    /// Index name.
    pub name: &'static str,
    /// Partition key of the index; an item without it is not in the index.
    pub partition: KeyAttribute,
    /// Sort key of the index, if any.
    pub sort: Option<KeyAttribute>,
    /// Attributes that the index carries beside keys.
    pub projection: Projected,
}

/// Attributes that an index carries beside keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Projected {
    /// None: a new version of a row does not rewrite the index.
    #[default]
    Keys,
    /// These.
    List(&'static [&'static str]),
    /// Whole items.
    All,
}
