//! Enums: a type of the application whose values are labels.

use aws_sdk_dynamodb::types::AttributeValue;
use sqlx::postgres::PgArguments;

use super::wire::{BY_PLACE, Wire};
use super::{Unholdable, bind_value, fit, key_text, string, text_field};
use crate::attribute::Attribute;

/// An enum of Rust that is one of PostgreSQL. Written by `#[derive(Label)]`.
pub trait Labelled: Copy + 'static {
    /// Every label.
    const LABELS: &'static [&'static str];

    /// Returns the label of the variant.
    fn label(self) -> &'static str;

    /// Returns the value with that label.
    fn of_label(label: &str) -> Option<Self>;
}

fn known<T: Labelled>(label: &str) -> Result<T, Unholdable> {
    // The label is the value, and values are not told.
    T::of_label(label).ok_or_else(|| Unholdable::because("has a label that the type in Rust does not have"))
}

/// [`Column::accepts`](super::Column::accepts) of an enum that is called `sql_type`. A session that has its
/// schema on the path prints it without.
pub fn accepts(sql_type: &str, found: &str) -> bool {
    found == sql_type || sql_type.rsplit_once('.').is_some_and(|(_, name)| found == name)
}

/// [`Column::from_field`](super::Column::from_field) of an enum.
///
/// # Errors
/// For a label that Rust does not have.
pub fn from_field<T: Labelled>(field: Option<&[u8]>) -> Result<T, Unholdable> {
    text_field(field).and_then(known)
}

/// [`Column::literal_of_field`](super::Column::literal_of_field) of an enum, also of a label that Rust does
/// not have: the rows that follow it are read on.
///
/// # Errors
/// For a field that is no text.
pub fn literal_of_field(field: Option<&[u8]>) -> Result<String, Unholdable> {
    text_field(field).map(str::to_owned)
}

/// [`Column::to_attribute`](super::Column::to_attribute) of an enum.
pub fn to_attribute<T: Labelled>(value: T) -> AttributeValue {
    AttributeValue::S(value.label().to_owned())
}

/// [`Column::from_attribute`](super::Column::from_attribute) of an enum.
///
/// # Errors
/// For what is no string, or a label that Rust does not have.
pub fn from_attribute<T: Labelled>(attribute: Option<Attribute<'_>>) -> Result<T, Unholdable> {
    known(string(attribute)?)
}

/// [`Column::bind`](super::Column::bind) and [`Column::bind_null`](super::Column::bind_null) of an enum.
pub fn bind<T: Labelled>(value: Option<T>, arguments: &mut PgArguments) {
    let bytes = value.map(|value| value.label().as_bytes());
    bind_value(arguments, Wire { oid: BY_PLACE, bytes });
}

/// [`Column::from_key`](super::Column::from_key) of an enum.
///
/// # Errors
/// For what is no string, or a label that Rust does not have.
pub fn from_key<T: Labelled>(element: &serde_json::Value) -> Result<T, Unholdable> {
    key_text(element).and_then(known)
}

/// [`Column::fitted`](super::Column::fitted) of an enum: a label may have been renamed in PostgreSQL since
/// the program was compiled.
///
/// # Errors
/// For a label that PostgreSQL did not have when its types were recorded.
pub fn fitted<T: Labelled>(value: T, sql_type: &str) -> Result<T, Unholdable> {
    match fit::labels(sql_type) {
        Some(labels) if !labels.iter().any(|label| label == value.label()) => {
            Err(Unholdable::because("has a label that the type in PostgreSQL does not have (SQLSTATE 22P02)"))
        }
        _ => Ok(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Only;

    impl Labelled for Only {
        const LABELS: &'static [&'static str] = &["on\"ly"];

        fn label(self) -> &'static str {
            Self::LABELS[0]
        }

        fn of_label(label: &str) -> Option<Self> {
            (label == Self::LABELS[0]).then_some(Self)
        }
    }

    #[test]
    fn a_label_that_one_side_does_not_have_is_told_and_not_shown() {
        let told = from_field::<Only>(Some(b"other")).expect_err("Rust does not have it");
        assert!(!told.reason.contains("other"), "{told}");
        assert_eq!(literal_of_field(Some(b"other")).as_deref(), Ok("other"), "what follows it is read on");
        for (sql_type, fits) in [
            ("shop.status enum [\"a\", \"on\\\"ly\"] not null", true),
            ("shop.status enum [\"a\"]", false),
            ("shop.status", true),
        ] {
            assert_eq!(fitted(Only, sql_type).is_ok(), fits, "{sql_type}");
        }
    }

    #[test]
    fn a_type_is_known_with_and_without_its_schema() {
        assert!(accepts("shop.status", "shop.status") && accepts("shop.status", "status"));
        assert!(!accepts("shop.status", "other.status") && !accepts("shop.status", "shop.status[]"));
    }
}
