//! One column, four forms: PostgreSQL's binary field, a Rust value, a DynamoDB attribute, a bound parameter.
//!
//! [`Column`] is implemented by the Rust types a row struct may use. The [`row!`](crate::row) macro composes
//! them, so a table crate names types and gets both conversions.

mod array;
mod bytes;
mod dates;
mod decimal;
mod document;
mod fit;
mod float;
mod held;
mod json;
pub mod label;
#[cfg(test)]
mod laws;
mod scalar;
pub mod text;
mod time;
mod uuid;
mod wire;

pub use array::Element;
pub use decimal::Scaled;
pub(crate) use document::normal_number;
pub use fit::ColumnTypes;
#[doc(hidden)]
pub use held::Member;
pub use held::{Document, FloatText, Number, UuidBytes};
pub use json::Json;
pub use label::Labelled;
pub use time::{fixed_width, parse_fixed_width};

use aws_sdk_dynamodb::types::AttributeValue;
use sqlx::postgres::PgArguments;

use crate::attribute::Attribute;
use crate::difference::Difference;
use crate::unholdable::Unholdable;

/// A Rust type that can stand for a column.
///
/// Laws, checked by property tests: `from_field(binary(v)) == v` for what PostgreSQL sends for `v`, and
/// `from_attribute(to_attribute(v)) == v` for every `v` that `to_attribute` accepts (R4).
pub trait Column: Sized + Clone + Send + Sync + std::fmt::Debug + 'static {
    /// The type as `format_type()` prints it, for messages and for the schema check.
    const SQL_TYPE: &'static str;
    /// Whether the column may be NULL.
    const NULLABLE: bool = false;
    /// The labels of an enum, which are held against those of PostgreSQL; of other types none.
    const LABELS: &'static [&'static str] = &[];
    /// Choice of what its attribute is, in the word of a declaration's `held_as`; `None` where its type alone
    /// decides. It is part of a table's layout.
    const HELD_AS: Option<&'static str> = None;

    /// Tells whether a source column of this type (as `format_type()` prints it) can be read as `Self`.
    fn accepts(sql_type: &str) -> bool {
        sql_type == Self::SQL_TYPE
    }

    /// Reads PostgreSQL's binary field; `None` is NULL.
    ///
    /// # Errors
    /// When the value has no counterpart in Rust (`NaN`, `infinity`) or the bytes are not of this type.
    fn from_field(field: Option<&[u8]>) -> Result<Self, Unholdable>;

    /// Returns the DynamoDB attribute, `None` for NULL: NULL is absence, so that it stays distinct from the
    /// empty string.
    ///
    /// # Errors
    /// When DynamoDB cannot hold the value.
    fn to_attribute(&self) -> Result<Option<AttributeValue>, Unholdable>;

    /// [`Column::to_attribute`] of a value that the caller does not need any more, so that texts can be
    /// moved.
    ///
    /// # Errors
    /// The same.
    fn into_attribute(self) -> Result<Option<AttributeValue>, Unholdable> {
        self.to_attribute()
    }

    /// Reads the attribute back; `None` is absence.
    ///
    /// # Errors
    /// When the attribute is of another type or does not parse.
    fn from_attribute(attribute: Option<Attribute<'_>>) -> Result<Self, Unholdable>;

    /// Adds the value as the next parameter of a statement.
    fn bind(&self, arguments: &mut PgArguments);

    /// Adds a NULL of this type as the next parameter of a statement.
    fn bind_null(arguments: &mut PgArguments);

    /// Tells whether two values mean the same: decimals by value and scale, documents by meaning.
    fn same(&self, other: &Self) -> bool;

    /// Returns how two values differ: `self` is the source's and `other` the target's. `None` if they mean
    /// the same.
    fn difference(&self, other: &Self) -> Option<Difference> {
        (!self.same(other)).then(|| as_texts(self, other))
    }

    /// Returns the value as a column of this type, as `format_type()` prints it, would hold it:
    /// `character(3)` pads with blanks. Where DynamoDB is the truth and PostgreSQL follows, a write is held
    /// to that before anything of it is sent (I16).
    ///
    /// # Errors
    /// When PostgreSQL would refuse the value.
    fn fitted(self, _sql_type: &str) -> Result<Self, Unholdable> {
        Ok(self)
    }

    /// Reads the value from one element of a source key's JSON array.
    ///
    /// # Errors
    /// When the type cannot be part of a key, or the element does not parse.
    fn from_key(_element: &serde_json::Value) -> Result<Self, Unholdable> {
        Err(Unholdable::because(format!("{} columns cannot be part of a key", Self::SQL_TYPE)))
    }

    /// Returns the value as the text of an SQL literal, for primary keys that border a range.
    ///
    /// # Errors
    /// When the type cannot be part of a primary key here.
    fn literal(&self) -> Result<String, Unholdable> {
        Err(Unholdable::because(format!("{} columns cannot be part of a primary key", Self::SQL_TYPE)))
    }

    /// Returns the same of a field, also of one whose value no item can hold where PostgreSQL reads it back:
    /// 1. The last row of a chunk has a key of 44 BC. 2. The row is set aside; what follows it begins past
    /// its key.
    ///
    /// # Errors
    /// When the field is none of this type, or the type cannot be part of a primary key here.
    fn literal_of_field(field: Option<&[u8]>) -> Result<String, Unholdable> {
        Self::from_field(field)?.literal()
    }

    /// Returns the SQL expression that puts column `name` (already qualified and quoted) into a source key,
    /// the same in every session whatever its settings.
    fn key_expression(name: &str) -> String {
        name.to_owned()
    }
}

impl<T: Column> Column for Option<T> {
    const SQL_TYPE: &'static str = T::SQL_TYPE;
    const NULLABLE: bool = true;
    const LABELS: &'static [&'static str] = T::LABELS;
    const HELD_AS: Option<&'static str> = T::HELD_AS;

    fn accepts(sql_type: &str) -> bool {
        T::accepts(sql_type)
    }

    fn from_field(field: Option<&[u8]>) -> Result<Self, Unholdable> {
        field.map(|bytes| T::from_field(Some(bytes))).transpose()
    }

    fn to_attribute(&self) -> Result<Option<AttributeValue>, Unholdable> {
        self.as_ref().map_or(Ok(None), T::to_attribute)
    }

    fn into_attribute(self) -> Result<Option<AttributeValue>, Unholdable> {
        self.map_or(Ok(None), T::into_attribute)
    }

    fn from_attribute(attribute: Option<Attribute<'_>>) -> Result<Self, Unholdable> {
        attribute.map(|value| T::from_attribute(Some(value))).transpose()
    }

    fn bind(&self, arguments: &mut PgArguments) {
        match self {
            Some(value) => value.bind(arguments),
            // PostgreSQL wants to know which type is NULL.
            None => T::bind_null(arguments),
        }
    }

    fn bind_null(arguments: &mut PgArguments) {
        T::bind_null(arguments);
    }

    fn fitted(self, sql_type: &str) -> Result<Self, Unholdable> {
        match self {
            Some(value) => value.fitted(sql_type).map(Some),
            None if sql_type.ends_with(fit::NOT_NULL) => {
                Err(Unholdable::because("is NULL, and the column of PostgreSQL is NOT NULL"))
            }
            None => Ok(None),
        }
    }

    fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Some(a), Some(b)) => a.same(b),
            (None, None) => true,
            _ => false,
        }
    }

    fn difference(&self, other: &Self) -> Option<Difference> {
        match (self, other) {
            (Some(a), Some(b)) => a.difference(b),
            (None, None) => None,
            _ => Some(as_texts(self, other)),
        }
    }

    fn from_key(element: &serde_json::Value) -> Result<Self, Unholdable> {
        if element.is_null() { Ok(None) } else { T::from_key(element).map(Some) }
    }

    fn key_expression(name: &str) -> String {
        T::key_expression(name)
    }
}

/// Two values that differ, as texts.
fn as_texts<C: Column>(source: &C, target: &C) -> Difference {
    let text = |value: &C| value.to_attribute().ok().flatten().map(|attribute| text_of(&attribute));
    Difference::of(text(source).as_deref(), text(target).as_deref())
}

/// Returns an attribute as text, for people.
pub(crate) fn text_of(attribute: &AttributeValue) -> String {
    match attribute {
        AttributeValue::S(text) | AttributeValue::N(text) => text.clone(),
        AttributeValue::Bool(is) => is.to_string(),
        AttributeValue::Null(_) => "NULL".to_owned(),
        AttributeValue::B(blob) => text::hex::printed(blob.as_ref()),
        AttributeValue::Ss(members) | AttributeValue::Ns(members) => {
            text::array::printed(members.iter().map(|member| Some(member.as_str().into())))
        }
        _ => "a list, map or set".to_owned(),
    }
}

/// Returns the bytes of a field that may not be NULL.
fn present(field: Option<&[u8]>) -> Result<&[u8], Unholdable> {
    field.ok_or_else(|| Unholdable::because("is NULL in the source, but the row type says it cannot be"))
}

/// Returns a field that is a text.
fn text_field(field: Option<&[u8]>) -> Result<&str, Unholdable> {
    std::str::from_utf8(present(field)?)
        .map_err(|_| Unholdable::because("is not UTF-8, which every text of DynamoDB is"))
}

/// Returns an element of a key that is a text.
fn key_text(element: &serde_json::Value) -> Result<&str, Unholdable> {
    element.as_str().ok_or_else(|| Unholdable::because("key element is not a string"))
}

/// Returns a field of exactly `N` bytes.
fn exactly<const N: usize>(field: Option<&[u8]>) -> Result<[u8; N], Unholdable> {
    let bytes = present(field)?;
    bytes
        .try_into()
        .map_err(|_| Unholdable::because(format!("expected {N} bytes from PostgreSQL, got {}", bytes.len())))
}

fn wrong_attribute(expected: &str, got: Option<Attribute<'_>>) -> Unholdable {
    let got = match got {
        None => "nothing",
        Some(Attribute::S(_)) => "a string",
        Some(Attribute::N(_)) => "a number",
        Some(Attribute::Bool(_)) => "a boolean",
        Some(Attribute::Other(AttributeValue::Null(_))) => "NULL",
        Some(Attribute::Other(_)) => "another type",
    };
    Unholdable::because(format!("expected {expected} in DynamoDB, found {got}"))
}

fn string(attribute: Option<Attribute<'_>>) -> Result<&str, Unholdable> {
    match attribute {
        Some(Attribute::S(text)) => Ok(text),
        other => Err(wrong_attribute("a string", other)),
    }
}

fn number(attribute: Option<Attribute<'_>>) -> Result<&str, Unholdable> {
    match attribute {
        Some(Attribute::N(digits)) => Ok(digits),
        other => Err(wrong_attribute("a number", other)),
    }
}

/// Adds a text, or NULL, as the next parameter of a statement. For columns that travel as PostgreSQL's own
/// text.
pub fn bind_text(arguments: &mut PgArguments, text: Option<String>) {
    bind_value(arguments, text);
}

fn bind_value<'q, V>(arguments: &mut PgArguments, value: V)
where
    V: sqlx::Encode<'q, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
{
    use sqlx::Arguments;
    arguments.add(value).expect("encoding a scalar into memory cannot fail");
}
