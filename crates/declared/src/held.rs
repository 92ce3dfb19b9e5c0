//! Words by which a declaration says what a column is held as, where its type leaves a choice (`held_as`).
//!
//! A choice gives something up, or refuses some rows, so it is never taken by itself: a number keeps no zeros
//! at its end, a document no order of its members, a set no order of its elements.

use serde::{Deserialize, Serialize};

/// Choice of what a column is held as, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeldAs {
    /// `uuid`: B of 16 bytes.
    Binary,
    /// `numeric` without a scale: N, where zeros at the end mean nothing.
    Number,
    /// `real`, `double precision`: S, so that NaN and infinities are held as well.
    Text,
    /// `json`, `jsonb`: M, L, or what else the document is.
    Document,
    /// An array: SS, NS or BS. Only one whose elements ascend comes back as it was; others are set aside.
    Set,
    /// The same, of elements in whatever order: it means nothing, and is given up.
    UnorderedSet,
    /// `interval`: S, ISO 8601.
    Iso8601,
}

impl HeldAs {
    pub(crate) const ALL: [Self; 7] = [
        Self::Binary,
        Self::Number,
        Self::Text,
        Self::Document,
        Self::Set,
        Self::UnorderedSet,
        Self::Iso8601,
    ];

    /// Returns the word, as it is written in a declaration.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Binary => "binary",
            Self::Number => "number",
            Self::Text => "text",
            Self::Document => "document",
            Self::Set => "set",
            Self::UnorderedSet => "unordered_set",
            Self::Iso8601 => "iso8601",
        }
    }
}
