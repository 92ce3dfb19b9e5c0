//! Looking at an item wherever it is: decoded by the SDK, or still in the bytes of a page.
//!
//! Whatever reads items goes through here, so that there is one rule of what an item says, and not one for
//! each form of it.

use crate::attribute::{Attribute, Attributes, DELETED_ATTRIBUTE, PK, SK, VERSION_ATTRIBUTE};
use crate::key::TargetKey;
use crate::version::Version;

/// An item that can be asked for its attributes.
pub trait ItemView {
    /// Returns the attribute of that name.
    fn attribute(&self, name: &str) -> Option<Attribute<'_>>;

    /// Returns the version it carries, if it carries one. A number that no epoch could outrank is none.
    fn version(&self) -> Option<Version> {
        match self.attribute(VERSION_ATTRIBUTE)? {
            Attribute::N(digits) => {
                digits.parse().ok().map(Version).filter(|version| *version <= Version::MAX)
            }
            _ => None,
        }
    }

    /// Tells whether it is a tombstone.
    fn is_tombstone(&self) -> bool {
        self.attribute(DELETED_ATTRIBUTE).is_some()
    }

    /// Returns the item's place.
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

impl TargetKey {
    /// Returns the key of an item that was read.
    pub fn of(attributes: &Attributes) -> Option<Self> {
        attributes.place()
    }
}

/// Returns the version an item carries, if it carries one.
pub fn version_of(attributes: &Attributes) -> Option<Version> {
    attributes.version()
}

/// Tells whether an item is a tombstone.
pub fn is_tombstone(attributes: &Attributes) -> bool {
    attributes.is_tombstone()
}
