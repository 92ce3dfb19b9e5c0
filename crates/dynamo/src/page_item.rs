//! An item in the bytes of a page.

use std::borrow::Cow;

use lockstep_core::{Attribute, Attributes, DELETED_ATTRIBUTE, ItemView, Naming};

use super::attribute_json::Held;

/// An item of a page: what has no escapes is borrowed from the page.
#[derive(Clone, Debug, Default)]
pub struct PageItem<'a> {
    attributes: Vec<(Cow<'a, str>, Held<'a>)>,
    /// A bit for each name that is there, by its first byte and length: where it is not set, the name is new.
    names: u64,
    naming: Naming,
}

impl<'a> PageItem<'a> {
    /// An empty one, of a table in which attributes are called so.
    pub(super) fn of(naming: Naming) -> Self {
        Self { naming, ..Self::default() }
    }

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

    /// Puts an attribute, by what the table calls it; of a name that comes twice the last one counts.
    pub(super) fn put(&mut self, name: Cow<'a, str>, value: Held<'a>) {
        let name = if self.naming.is_usual() { name } else { self.naming.read(name) };
        self.put_named(name, value);
    }

    /// Says that the item has come whole: a key that is a column is both from now on.
    pub(super) fn end(&mut self) {
        if self.naming.is_usual() || self.attribute(DELETED_ATTRIBUTE).is_some() {
            return;
        }
        for (key, column) in self.naming.columns_beside_key() {
            let there = self.attributes.iter().find(|(name, _)| name == key);
            if let Some(value) = there.map(|(_, value)| value.clone()) {
                self.put_named(Cow::Borrowed(column), value);
            }
        }
    }

    fn put_named(&mut self, name: Cow<'a, str>, value: Held<'a>) {
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
