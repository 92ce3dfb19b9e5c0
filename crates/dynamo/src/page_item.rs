//! An item in the bytes of a page.

use std::borrow::Cow;

use lockstep_core::{Attribute, Attributes, ItemView};

use super::attribute_json::Held;

/// An item of a page: what has no escapes is borrowed from the page.
#[derive(Clone, Debug, Default)]
pub struct PageItem<'a> {
    attributes: Vec<(Cow<'a, str>, Held<'a>)>,
    /// A bit for each name that is there, by its first byte and length: where it is not set, the name is new.
    names: u64,
}

impl<'a> PageItem<'a> {
    /// Names and values, in the order in which they came.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Attribute<'_>)> {
        self.attributes.iter().map(|(name, value)| (name.as_ref(), value.view()))
    }

    /// Returns the item as the SDK would have decoded it.
    pub fn to_attributes(&self) -> Attributes {
        self.iter().map(|(name, value)| (name.to_owned(), value.into())).collect()
    }

    pub(super) fn clear(&mut self) {
        self.attributes.clear();
        self.names = 0;
    }

    /// Puts an attribute; of a name that comes twice the last one counts.
    pub(super) fn put(&mut self, name: Cow<'a, str>, value: Held<'a>) {
        let bit = bit_of(&name);
        let known = if self.names & bit == 0 {
            None
        } else {
            self.attributes.iter_mut().find(|(known, _)| *known == name)
        };
        match known {
            Some((_, known)) => *known = value,
            None => {
                self.names |= bit;
                self.attributes.push((name, value));
            }
        }
    }
}

fn bit_of(name: &str) -> u64 {
    let first = name.bytes().next().unwrap_or_default();
    1 << ((usize::from(first) + 5 * name.len()) % 64)
}

impl ItemView for PageItem<'_> {
    fn attribute(&self, name: &str) -> Option<Attribute<'_>> {
        if self.names & bit_of(name) == 0 {
            return None;
        }
        self.attributes.iter().find(|(known, _)| known == name).map(|(_, value)| value.view())
    }
}
