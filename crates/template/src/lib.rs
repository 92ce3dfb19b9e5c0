//! Key templates: how the columns of a row become a DynamoDB key, and the proof that two rows never share
//! one.
//!
//! ```text
//! LOAN#{loan_id}                        literals and columns
//! {created_at:date}#{id:020}            the day of a time; a number padded to 20 digits
//! {service:esc}#{name}                  punctuation escaped, so that `#` can only be the separator
//! {region:upper}  {region:lower}        letters of one case
//! S{hash(id) % 16}                      one of 16 write shards
//! {{literal braces}}
//! ```
//!
//! Read the modules in this order: [`Template`] (what is written), `parse`, `render` (from values to text),
//! [`check`] (the rule that refuses templates under which two rows could share a place), [`Expiry`]
//! (`created_at + 90d`), `reserved` (names that no column may have). Nothing here knows DynamoDB or
//! PostgreSQL, so that the derive and the configuration share it.

mod check;
mod expiry;
mod parse;
mod render;
mod reserved;

use std::num::NonZeroU32;

pub use check::{Alphabet, Ambiguity, check};
pub use expiry::{BadExpiry, Expiry};
pub use parse::ParseError;
pub use render::{Unfit, Value};
pub use reserved::RESERVED_ATTRIBUTES;

/// A parsed template.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Template {
    text: String,
    parts: Vec<Part>,
}

/// A piece of a template.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// Text as it stands.
    Literal(String),
    /// A column.
    Column {
        /// Name of the column.
        name: String,
        /// Form in which it is written.
        form: Form,
    },
    /// One of a number of write shards, chosen by a column.
    Shard {
        /// The column.
        name: String,
        /// Number of shards.
        of: NonZeroU32,
    },
}

/// Form in which a column is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// The column as it is.
    Plain,
    /// The first ten characters of a date or a time: `yyyy-mm-dd`.
    Date,
    /// A whole number, padded with zeros to this number of characters, the sign included.
    Padded(u8),
    /// Form in capitals.
    Upper,
    /// Form in small letters.
    Lower,
    /// Every ASCII punctuation character but `-`, `_`, `.` and `~` as `%` and two hexadecimal digits.
    Escaped,
}

impl Template {
    /// Returns the template as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns its pieces, in order. No two literals follow each other.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Returns the columns it names, each once, in the order of their first appearance.
    pub fn columns(&self) -> Vec<&str> {
        let mut columns = Vec::new();
        for part in &self.parts {
            if let Part::Column { name, .. } | Part::Shard { name, .. } = part
                && !columns.contains(&name.as_str())
            {
                columns.push(name);
            }
        }
        columns
    }

    /// Returns the column that the template is nothing but, written as it is. Such a key may keep the
    /// column's own type.
    pub fn bare_column(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [Part::Column { name, form: Form::Plain }] => Some(name),
            _ => None,
        }
    }
}

impl std::fmt::Display for Template {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}
