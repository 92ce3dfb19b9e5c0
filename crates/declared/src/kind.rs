//! Kind that a column of a declared table becomes, by its type: the form of its attribute, and how it is read
//! and written.
//!
//! A value has one form here: its attribute, spelled in one way ([`Kind::of_text`], [`Kind::of_attribute`]).
//! A type that has no kind of its own travels as PostgreSQL's own text, and goes back through its type's
//! input function; so no type is refused.

use std::borrow::Cow;

use lockstep_core::text::{array, decimal, document, float, hex, interval, time};
use lockstep_core::{Attribute, AttributeValue, Column, Json, Unholdable};
use lockstep_postgres::CatalogColumn;
use lockstep_template::Alphabet;

use crate::sets;

#[cfg(test)]
mod laws;

/// The kind of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `smallint`, `integer`, `bigint`: N.
    Integer,
    /// `numeric(p,s)` of at most 38 digits: N, with this many digits after the point.
    Scaled(u32),
    /// Any other `numeric`: S, exact, because a number of DynamoDB keeps neither more digits nor trailing
    /// zeros.
    Numeric,
    /// `real`: N.
    Real,
    /// `double precision`: N.
    Double,
    /// `boolean`: BOOL.
    Boolean,
    /// Text that is what it is, enums and `json` included: S.
    Text,
    /// `uuid`: S in small letters.
    Uuid,
    /// `jsonb`: S, compared by meaning.
    Jsonb,
    /// `bytea`: B.
    Bytes,
    /// `date`: S.
    Date,
    /// `time`: S of fixed width.
    Time,
    /// `timestamp`: S of fixed width.
    Timestamp,
    /// `timestamp with time zone`: S of fixed width, in UTC.
    Instant,
    /// Anything else: S, as PostgreSQL prints it.
    Other,
    /// An array that is asked to be a list: L of what its elements are, with NULL for NULL.
    List(&'static Self),
    /// `uuid` that is asked to be bytes: B.
    UuidBytes,
    /// `numeric` that is asked to be a number: N.
    Number,
    /// `real` or `double precision` that is asked to be text: S.
    FloatText {
        /// Whether it is `real`.
        single: bool,
    },
    /// `json` or `jsonb` that is asked to be what it says: M, L, S, N, BOOL or NULL.
    Document,
    /// An array that is asked to be a set: SS, NS or BS.
    Set {
        /// Kind of its elements.
        element: &'static Self,
        /// Whether an array whose elements do not ascend is refused.
        ascends: bool,
    },
    /// `interval` that is asked to be ISO 8601: S.
    Interval,
}

/// Form in which a column comes from PostgreSQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Read {
    /// Binary field of its type.
    Binary,
    /// Text, by a cast in the statement.
    Printed,
}

/// Most digits that a number of DynamoDB keeps.
const NUMBER_DIGITS_MAX: u32 = 38;
/// Most digits after the point: the least number of DynamoDB is 1E-130, and 38 digits begin well above it.
const SCALE_MAX: u32 = 90;

impl Kind {
    /// Returns the kind of a column, and how it is read.
    pub(crate) fn of(column: &CatalogColumn) -> (Self, Read) {
        let kind = match column.builtin.as_str() {
            "int2" | "int4" | "int8" => Self::Integer,
            "numeric" => scaled(column.modifier).map_or(Self::Numeric, Self::Scaled),
            "float4" => Self::Real,
            "float8" => Self::Double,
            "bool" => Self::Boolean,
            "text" | "varchar" | "bpchar" | "name" | "json" => Self::Text,
            "uuid" => Self::Uuid,
            "jsonb" => Self::Jsonb,
            "bytea" => Self::Bytes,
            "date" => Self::Date,
            "time" => Self::Time,
            "timestamp" => Self::Timestamp,
            "timestamptz" => Self::Instant,
            _ if column.is_enum => Self::Text,
            _ => Self::Other,
        };
        let read = match column.builtin.as_str() {
            "int2" | "int4" | "int8" | "bool" | "text" | "varchar" | "json" | "jsonb" | "bytea"
            | "timestamptz"
                if !column.is_domain =>
            {
                Read::Binary
            }
            _ => Read::Printed,
        };
        (kind, read)
    }

    /// Returns the kind of the elements of an array; `None` where it is none, or one whose text is divided
    /// otherwise.
    pub(crate) fn of_elements(column: &CatalogColumn) -> Option<Self> {
        let divided_otherwise = column.builtin == "_box";
        let builtin = column.builtin.strip_prefix('_').unwrap_or_default().to_owned();
        let element = CatalogColumn { builtin, is_domain: false, is_enum: false, ..column.clone() };
        (column.base_type.ends_with("[]") && !divided_otherwise).then(|| Self::of(&element).0)
    }

    /// Returns the characters of which its text in a key consists.
    pub(crate) fn alphabet(self) -> Alphabet {
        match self {
            Self::Integer => Alphabet::Integer,
            Self::Boolean => Alphabet::Boolean,
            Self::Date => Alphabet::Fixed(10),
            Self::Time => Alphabet::Fixed(15),
            Self::Timestamp => Alphabet::Fixed(26),
            Self::Instant => Alphabet::Fixed(27),
            Self::Uuid | Self::UuidBytes => Alphabet::Fixed(36),
            _ => Alphabet::Text,
        }
    }

    /// Tells whether its attribute has no text that a key could be made of.
    pub(crate) fn has_no_text(self) -> bool {
        matches!(self, Self::List(_) | Self::Document | Self::Set { .. })
    }

    /// Tells whether the attribute of a column can be the key of an index as it is.
    pub(crate) fn can_be_key(self) -> bool {
        matches!(
            self,
            Self::Integer
                | Self::Text
                | Self::Uuid
                | Self::Date
                | Self::Time
                | Self::Timestamp
                | Self::Instant
        )
    }

    /// Returns the value of a field.
    pub(crate) fn of_field(self, read: Read, field: &[u8]) -> Result<AttributeValue, Unholdable> {
        match (self, read) {
            (_, Read::Printed) => self.of_text(utf8(field)?),
            (Self::Integer, _) => integer(field).map(|number| AttributeValue::N(number.to_string())),
            (Self::Boolean, _) => Ok(AttributeValue::Bool(field == [1])),
            (Self::Bytes, _) => Ok(bytes(field.to_vec())),
            (Self::Instant, _) => {
                chrono::DateTime::from_field(Some(field)).and_then(|at| present(at.into_attribute()?))
            }
            (Self::Jsonb, _) => {
                Json::from_field(Some(field)).and_then(|json| present(json.into_attribute()?))
            }
            _ => Ok(AttributeValue::S(utf8(field)?.to_owned())),
        }
    }

    /// Returns the value that PostgreSQL prints as `text`.
    pub(crate) fn of_text(self, text: &str) -> Result<AttributeValue, Unholdable> {
        let s = |text: String| Ok(AttributeValue::S(text));
        match self {
            Self::Integer => number(text.parse::<i64>().map_err(|_| wrong("a whole number"))?.to_string()),
            Self::Scaled(scale) => decimal::at_scale(text, scale).and_then(number),
            Self::Numeric => decimal::plain(text).and_then(s),
            Self::Real | Self::Double => float::attribute(text, self == Self::Real).and_then(number),
            Self::Boolean => match text {
                "true" | "t" => Ok(AttributeValue::Bool(true)),
                "false" | "f" => Ok(AttributeValue::Bool(false)),
                _ => Err(wrong("a boolean")),
            },
            Self::Bytes => hex::read(text).map(bytes),
            Self::Date => time::date(text).and_then(s),
            Self::Time => time::time(text).and_then(s),
            Self::Timestamp => time::timestamp(text).and_then(s),
            Self::Instant => time::instant(text).and_then(s),
            Self::Uuid => uuid(text).and_then(s),
            Self::Text | Self::Jsonb | Self::Other => s(text.to_owned()),
            Self::List(element) => list(array::elements(text)?, |text| element.of_text(&text)),
            Self::UuidBytes => uuid(text).and_then(|text| sets::uuid_bytes(&text)).map(bytes),
            Self::Number => decimal::number(text).and_then(number),
            Self::FloatText { single } => float::spelled(text, single).and_then(s),
            Self::Document => document::attribute(text),
            Self::Set { element, ascends } => {
                let elements = array::elements(text)?.into_iter();
                let one = |text: Option<String>| text.map(|text| element.of_text(&text)).transpose();
                sets::set(elements.map(one).collect::<Result<_, _>>()?, ascends)
            }
            Self::Interval => interval::iso(text).and_then(s),
        }
    }

    /// Returns the value that an attribute holds, spelled as [`Kind::of_text`] spells it.
    pub(crate) fn of_attribute(self, attribute: Attribute<'_>) -> Result<AttributeValue, Unholdable> {
        match (self, attribute) {
            (Self::Boolean, Attribute::Bool(is)) => Ok(AttributeValue::Bool(is)),
            (Self::Bytes, Attribute::Other(AttributeValue::B(blob))) => Ok(AttributeValue::B(blob.clone())),
            (Self::Integer, Attribute::N(digits)) => {
                let whole = digits
                    .parse::<i64>()
                    .map(|number| number.to_string())
                    .or_else(|_| decimal::at_scale(digits, 0));
                whole.and_then(number)
            }
            (Self::Scaled(_) | Self::Real | Self::Double | Self::Number, Attribute::N(digits)) => {
                self.of_text(digits)
            }
            (Self::UuidBytes, Attribute::Other(AttributeValue::B(blob))) if blob.as_ref().len() == 16 => {
                Ok(AttributeValue::B(blob.clone()))
            }
            (Self::Document, found) => document::canonical(&owned(found)),
            (Self::Interval, Attribute::S(text)) => interval::spelled(text).map(AttributeValue::S),
            (Self::Set { element, .. }, Attribute::Other(found)) => {
                let elements = sets::elements(found).ok_or_else(|| not_there("a set", attribute))?;
                let one = |item: AttributeValue| element.of_attribute(Attribute::from(&item)).map(Some);
                // Whatever order it comes in: it has none.
                sets::set(elements.into_iter().map(one).collect::<Result<_, _>>()?, false)
            }
            (Self::List(element), Attribute::Other(AttributeValue::L(items))) => {
                let one = |item: &AttributeValue| match item {
                    AttributeValue::Null(_) => None,
                    item => Some(item.clone()),
                };
                list(items.iter().map(one).collect(), |item| element.of_attribute(Attribute::from(&item)))
            }
            (Self::List(_), _) => Err(not_there("a list", attribute)),
            (Self::Set { .. }, _) => Err(not_there("a set", attribute)),
            (Self::UuidBytes, _) => Err(not_there("16 bytes", attribute)),
            (Self::Integer | Self::Scaled(_) | Self::Real | Self::Double | Self::Number, _) => {
                Err(not_there("a number", attribute))
            }
            (Self::Boolean, _) => Err(not_there("a boolean", attribute)),
            (Self::Bytes, _) => Err(not_there("bytes", attribute)),
            (_, Attribute::S(text)) => self.of_text(text),
            _ => Err(not_there("a string", attribute)),
        }
    }

    /// Returns the text that PostgreSQL's input function takes.
    pub(crate) fn to_input(self, value: &AttributeValue) -> String {
        match (self, value) {
            (Self::Document, value) => return document::printed(value),
            (Self::Interval, AttributeValue::S(text)) => return interval::input(text),
            (Self::UuidBytes, AttributeValue::B(blob)) => return sets::uuid_text(blob.as_ref()),
            (Self::Set { element, .. }, set) => {
                let elements = sets::elements(set).unwrap_or_default();
                let texts = elements.iter().map(|item| Some(Cow::Owned(element.to_input(item))));
                return array::printed(texts);
            }
            _ => {}
        }
        match value {
            AttributeValue::S(text) | AttributeValue::N(text) => text.clone(),
            AttributeValue::Bool(is) => is.to_string(),
            AttributeValue::B(blob) => hex::printed(blob.as_ref()),
            AttributeValue::L(items) => {
                let Self::List(element) = self else { return String::new() };
                let one = |item: &AttributeValue| match item {
                    AttributeValue::Null(_) => None,
                    item => Some(Cow::Owned(element.to_input(item))),
                };
                array::printed(items.iter().map(one))
            }
            // No other is made here.
            _ => String::new(),
        }
    }

    /// Returns a value inside a source key, as one text: the same for a row, an item, and a key that capture
    /// wrote.
    pub(crate) fn literal(self, value: &AttributeValue) -> String {
        match (self, value) {
            (
                Self::Numeric | Self::Scaled(_) | Self::Number,
                AttributeValue::S(text) | AttributeValue::N(text),
            ) => decimal::trimmed(text).to_owned(),
            (Self::Real | Self::Double, AttributeValue::N(text)) => float::printed(text, self == Self::Real),
            _ => self.to_input(value),
        }
    }

    /// Returns the value of one element of a source key.
    pub(crate) fn of_key(self, element: &serde_json::Value) -> Result<AttributeValue, Unholdable> {
        match element {
            serde_json::Value::String(text) => self.of_text(text),
            serde_json::Value::Bool(is) => self.of_text(if *is { "true" } else { "false" }),
            serde_json::Value::Number(number) => self.of_text(&number.to_string()),
            _ => Err(Unholdable::because("is NULL or a document inside a source key")),
        }
    }

    /// Tells whether two values mean the same to PostgreSQL.
    pub(crate) fn same(self, a: &AttributeValue, b: &AttributeValue) -> bool {
        match (self, a, b) {
            (Self::Jsonb, AttributeValue::S(a), AttributeValue::S(b)) if a != b => {
                matches!((Json::parse(a), Json::parse(b)), (Ok(a), Ok(b)) if a.same(&b))
            }
            (Self::Real | Self::Double, AttributeValue::N(a), AttributeValue::N(b)) => {
                a == b || float::same(a, b)
            }
            (Self::List(element), AttributeValue::L(a), AttributeValue::L(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| element.same(a, b))
            }
            _ => a == b,
        }
    }
}

/// Returns a list of what `value` makes of each element.
fn list<T>(
    elements: Vec<Option<T>>,
    value: impl Fn(T) -> Result<AttributeValue, Unholdable>,
) -> Result<AttributeValue, Unholdable> {
    let one = |element: Option<T>| element.map_or(Ok(AttributeValue::Null(true)), &value);
    elements.into_iter().map(one).collect::<Result<_, _>>().map(AttributeValue::L)
}

/// Returns the digits after the point of a `numeric` with this modifier, where DynamoDB keeps all its digits.
/// The modifier is that of PostgreSQL's `numeric.c`: precision in the upper half, scale in the lower eleven
/// bits, as two's complement.
fn scaled(modifier: i32) -> Option<u32> {
    let packed = modifier.checked_sub(4).filter(|packed| *packed >= 0)?;
    let precision = u32::try_from(packed >> 16).ok()?;
    let scale = ((packed & 0x7FF) ^ 1024) - 1024;
    let scale = u32::try_from(scale).ok()?;
    (precision <= NUMBER_DIGITS_MAX && scale <= SCALE_MAX).then_some(scale)
}

fn number(digits: String) -> Result<AttributeValue, Unholdable> {
    Ok(AttributeValue::N(digits))
}

fn owned(attribute: Attribute<'_>) -> AttributeValue {
    match attribute {
        Attribute::S(text) => AttributeValue::S(text.to_owned()),
        Attribute::N(digits) => AttributeValue::N(digits.to_owned()),
        Attribute::Bool(is) => AttributeValue::Bool(is),
        Attribute::Other(value) => value.clone(),
    }
}

fn bytes(bytes: Vec<u8>) -> AttributeValue {
    AttributeValue::B(aws_smithy_types::Blob::new(bytes))
}

fn present(attribute: Option<AttributeValue>) -> Result<AttributeValue, Unholdable> {
    attribute.ok_or_else(|| Unholdable::because("is nothing"))
}

fn utf8(field: &[u8]) -> Result<&str, Unholdable> {
    std::str::from_utf8(field)
        .map_err(|_| Unholdable::because("is not UTF-8, which every text of DynamoDB is"))
}

fn integer(field: &[u8]) -> Result<i64, Unholdable> {
    match *field {
        [a, b] => Ok(i16::from_be_bytes([a, b]).into()),
        [a, b, c, d] => Ok(i32::from_be_bytes([a, b, c, d]).into()),
        [a, b, c, d, e, f, g, h] => Ok(i64::from_be_bytes([a, b, c, d, e, f, g, h])),
        _ => Err(Unholdable::because(format!(
            "expected a whole number from PostgreSQL, got {} bytes",
            field.len()
        ))),
    }
}

fn uuid(text: &str) -> Result<String, Unholdable> {
    let right = |(at, byte): (usize, u8)| match at {
        8 | 13 | 18 | 23 => byte == b'-',
        _ => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
    };
    let is = text.len() == 36 && text.bytes().enumerate().all(right);
    if is { Ok(text.to_owned()) } else { Err(wrong("a uuid in small letters")) }
}

fn wrong(what: &str) -> Unholdable {
    Unholdable::because(format!("does not read as {what}"))
}

fn not_there(expected: &str, got: Attribute<'_>) -> Unholdable {
    let got = match got {
        Attribute::S(_) => "a string",
        Attribute::N(_) => "a number",
        Attribute::Bool(_) => "a boolean",
        Attribute::Other(_) => "another type",
    };
    Unholdable::because(format!("expected {expected} in DynamoDB, found {got}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_modifier_of_a_numeric_says_how_many_digits_it_has() {
        let of = |precision: i32, scale: i32| scaled(((precision << 16) | (scale & 0x7FF)) + 4);
        assert_eq!(
            (of(18, 2), of(38, 0), of(39, 2), of(5, -2), scaled(-1)),
            (Some(2), Some(0), None, None, None)
        );
    }
}
