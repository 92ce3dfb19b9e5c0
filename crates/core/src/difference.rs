//! Differences of a row and its item, field by field (R22).
//!
//! Masking is here as well, because it must not be forgotten anywhere: code that shows a difference to others
//! calls [`FieldDiff::masked`] first. It leaves the column, the path inside a document, and whether a side is
//! NULL, absent or empty; never a value, unless the table says that the column holds nothing to hide.

use serde::{Deserialize, Serialize};

/// Most characters of a value that are kept: enough to see what differs, too few to copy a document into
/// every report.
const SHOWN_CHARS_MAX: usize = 160;
/// Characters before the first difference of two long values that are kept, to see where it is.
const CONTEXT_CHARS: usize = 24;
/// Most bytes of a path.
const PATH_BYTES_MAX: usize = 300;
/// Longest member name that is taken for part of a document's shape.
const NAME_BYTES_MAX: usize = 40;
/// Most digits in such a name: one with more may well be an account number.
const NAME_DIGITS_MAX: usize = 3;

/// The value of one side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", content = "value", rename_all = "snake_case")]
pub enum FieldValue {
    /// NULL, in a column or inside a document.
    Null,
    /// Nothing: no such attribute, member or element.
    Absent,
    /// The empty string.
    Empty,
    /// A value as text: decimals with their scale, timestamps to the microsecond.
    Value(String),
    /// A value that is not shown.
    Masked,
    /// Something that does not decode, and why.
    Unreadable(String),
}

/// One field that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldDiff {
    /// The column, or an attribute that is derived from columns.
    pub column: String,
    /// Path of the first difference inside a document, for example `$.customer.address[2].zip`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Value in the source; of a derived attribute, the value that follows from the row.
    pub source: FieldValue,
    /// Value in the target.
    pub target: FieldValue,
}

/// A difference of two values whose column is not known yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Path inside a document.
    pub path: Option<String>,
    /// Value in the source.
    pub source: FieldValue,
    /// Value in the target.
    pub target: FieldValue,
}

impl Difference {
    /// Makes the difference of two values as texts. `None` is NULL on the side of the source, and on the side
    /// of the target an attribute that is not there: NULL is stored as absence.
    pub fn of(source: Option<&str>, target: Option<&str>) -> Self {
        let (source, target) = match (source, target) {
            (Some(source), Some(target)) => shown(source, target),
            (source, target) => (
                source.map_or(FieldValue::Null, FieldValue::of),
                target.map_or(FieldValue::Absent, FieldValue::of),
            ),
        };
        Self { path: None, source, target }
    }

    /// Returns the same, of a column.
    pub fn in_column(self, column: &str) -> FieldDiff {
        FieldDiff { column: column.to_owned(), path: self.path, source: self.source, target: self.target }
    }
}

impl FieldValue {
    /// Makes a text, cut where it is long.
    pub fn of(text: &str) -> Self {
        if text.is_empty() { Self::Empty } else { Self::Value(cut(text, 0)) }
    }

    fn masked(self) -> Self {
        if matches!(self, Self::Value(_)) { Self::Masked } else { self }
    }
}

impl std::fmt::Display for FieldValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Null => f.write_str("NULL"),
            Self::Absent => f.write_str("absent"),
            Self::Empty => f.write_str("empty"),
            Self::Value(text) => write!(f, "`{text}`"),
            Self::Masked => f.write_str("masked"),
            Self::Unreadable(why) => write!(f, "unreadable: {why}"),
        }
    }
}

impl FieldDiff {
    /// Returns the place of the difference: column and path.
    pub fn place(&self) -> String {
        match &self.path {
            Some(path) => format!("{} at {path}", self.column),
            None => self.column.clone(),
        }
    }

    /// Without values. Names of members stay where they look like names; others may be data, and are masked
    /// as well.
    #[must_use]
    pub fn masked(self) -> Self {
        Self {
            path: self.path.map(|path| mask_path(&path)),
            source: self.source.masked(),
            target: self.target.masked(),
            column: self.column,
        }
    }
}

/// Two texts that differ, cut to where they begin to.
pub(crate) fn shown(source: &str, target: &str) -> (FieldValue, FieldValue) {
    let same = source.chars().zip(target.chars()).take_while(|(a, b)| a == b).count();
    let from = if same + CONTEXT_CHARS > SHOWN_CHARS_MAX { same - CONTEXT_CHARS } else { 0 };
    let one =
        |text: &str| if text.is_empty() { FieldValue::Empty } else { FieldValue::Value(cut(text, from)) };
    (one(source), one(target))
}

fn cut(text: &str, from: usize) -> String {
    let mut rest = text.chars().skip(from);
    let kept: String = rest.by_ref().take(SHOWN_CHARS_MAX).collect();
    let (before, after) = (if from > 0 { "…" } else { "" }, if rest.next().is_some() { "…" } else { "" });
    format!("{before}{kept}{after}")
}

/// A path inside a document, as it is walked.
#[derive(Debug, Default)]
pub(crate) struct Path(String);

impl Path {
    pub(crate) fn root() -> Self {
        Self("$".to_owned())
    }

    pub(crate) fn enter_member(&mut self, name: &str) {
        if is_name(name) {
            self.0.push('.');
            self.0.push_str(name);
        } else {
            self.0.push('[');
            self.0.push_str(&serde_json::Value::from(name).to_string());
            self.0.push(']');
        }
    }

    pub(crate) fn enter_element(&mut self, index: usize) {
        self.0.push_str(&format!("[{index}]"));
    }

    /// A path that has become too long to read is masked whole from there: half a quoted name could not be
    /// told from data.
    pub(crate) fn into_text(self) -> String {
        if self.0.len() <= PATH_BYTES_MAX {
            self.0
        } else {
            format!("{}…", mask_path(&self.0).chars().take(PATH_BYTES_MAX).collect::<String>())
        }
    }
}

/// Tells whether a member is called something that a person would call a field, so that it can be shown and
/// needs no quotes.
fn is_name(text: &str) -> bool {
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && text.len() <= NAME_BYTES_MAX
        && digits <= NAME_DIGITS_MAX
}

/// Replaces every quoted member.
fn mask_path(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find("[\"") {
        out.push_str(&rest[..at]);
        out.push_str("[…]");
        let quoted = &rest[at + 2..];
        let mut escaped = false;
        let end = quoted.char_indices().find(|(_, c)| match (escaped, c) {
            (true, _) => {
                escaped = false;
                false
            }
            (false, '\\') => {
                escaped = true;
                false
            }
            (false, c) => *c == '"',
        });
        rest = end.map_or("", |(end, _)| quoted[end + 1..].strip_prefix(']').unwrap_or(&quoted[end + 1..]));
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_values_are_cut_to_where_they_begin_to_differ() {
        let (a, b) = (format!("{}A", "x".repeat(500)), format!("{}B", "x".repeat(500)));
        let (FieldValue::Value(a), FieldValue::Value(b)) = shown(&a, &b) else { panic!("values") };
        assert_ne!(a, b);
        assert!(a.starts_with('…') && a.ends_with('A') && b.ends_with('B') && a.chars().count() < 40, "{a}");
    }

    #[test]
    fn names_that_may_be_data_are_masked_in_a_path() {
        let mut path = Path::root();
        for name in ["customer", "DE02 1203", r#"a"]b\"#, "card4929"] {
            path.enter_member(name);
        }
        path.enter_element(2);
        let path = path.into_text();
        assert!(path.contains("DE02 1203") && path.contains("card4929"), "{path}");
        assert_eq!(mask_path(&path), "$.customer[…][…][…][2]");
    }

    #[test]
    fn a_path_too_long_to_read_keeps_no_half_of_a_quoted_name() {
        let mut path = Path::root();
        path.enter_member(&format!("{} secret", "x".repeat(PATH_BYTES_MAX)));
        assert_eq!(path.into_text(), "$[…]…");
    }
}
