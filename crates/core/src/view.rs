//! Looking at an item wherever it is: decoded by the SDK, or still in the bytes of a page.
//!
//! Whatever reads items goes through here, so that there is one rule of what an item says, and not one for
//! each form of it.

use aws_sdk_dynamodb::types::AttributeValue;

use crate::item::{Attributes, DELETED_ATTRIBUTE, VERSION_ATTRIBUTE};
use crate::key::{PK, SK, TargetKey};
use crate::version::Version;

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

/// An item that can be asked for its attributes.
pub trait ItemView {
    /// The attribute of that name.
    fn attribute(&self, name: &str) -> Option<Attribute<'_>>;

    /// The version it carries, if it carries one.
    fn version(&self) -> Option<Version> {
        match self.attribute(VERSION_ATTRIBUTE)? {
            Attribute::N(digits) => digits.parse().ok().map(Version),
            _ => None,
        }
    }

    /// Whether it is a tombstone.
    fn is_tombstone(&self) -> bool {
        self.attribute(DELETED_ATTRIBUTE).is_some()
    }

    /// Where it is.
    fn place(&self) -> Option<TargetKey> {
        Some(TargetKey { partition: self.attribute(PK)?.into(), sort: self.attribute(SK).map(Into::into) })
    }
}

impl ItemView for Attributes {
    fn attribute(&self, name: &str) -> Option<Attribute<'_>> {
        self.get(name).map(Attribute::from)
    }
}

impl<V: ItemView + ?Sized> ItemView for &V {
    fn attribute(&self, name: &str) -> Option<Attribute<'_>> {
        (**self).attribute(name)
    }
}
