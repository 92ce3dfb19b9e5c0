//! `jsonb`, kept as text: every number and every depth survives.

use aws_sdk_dynamodb::types::AttributeValue;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArgumentBuffer, PgArguments, PgTypeInfo};

use super::document::{Document, Documents, Parts};
use super::{Column, Unholdable, bind_value, fit, present, string};
use crate::attribute::Attribute;
use crate::difference::{Difference, FieldValue, Path, shown};

/// A JSON document.
///
/// In DynamoDB it is a string, not a map: a map could not hold numbers over 38 digits, more than 32 levels,
/// or the difference between `1.0` and `1.00`, all of which `jsonb` allows; and it costs more bytes and time.
/// Equality (`==`) is of the text; [`Column::same`] is of the meaning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Json(String);

impl Json {
    /// Makes a document of anything that serialises.
    ///
    /// # Errors
    /// When serialisation fails, for example for a map whose keys are not strings.
    pub fn of(value: &impl Serialize) -> Result<Self, serde_json::Error> {
        serde_json::to_string(value).map(Self)
    }

    /// Parses a document.
    ///
    /// # Errors
    /// When the text is not one JSON value.
    pub fn parse(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str::<&RawValue>(text).map(|_| Self(text.to_owned()))
    }

    /// Reads the document into a type.
    ///
    /// # Errors
    /// When the document has another shape.
    pub fn to<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(&self.0)
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Column for Json {
    const SQL_TYPE: &'static str = "jsonb";

    fn from_field(field: Option<&[u8]>) -> Result<Self, Unholdable> {
        // `jsonb_send` puts a version byte, 1, before the text.
        let Some((1, text)) = present(field)?.split_first().map(|(version, text)| (*version, text)) else {
            return Err(Unholdable::because("jsonb in an unknown binary version"));
        };
        // Not parsed again: PostgreSQL printed it from its parsed form, and parsing cost a twentieth of a
        // backfill.
        std::str::from_utf8(text)
            .map(|text| Self(text.to_owned()))
            .map_err(|_| Unholdable::because("jsonb is not UTF-8"))
    }

    fn to_attribute(&self) -> Result<Option<AttributeValue>, Unholdable> {
        Ok(Some(AttributeValue::S(self.0.clone())))
    }

    fn into_attribute(self) -> Result<Option<AttributeValue>, Unholdable> {
        Ok(Some(AttributeValue::S(self.0)))
    }

    fn from_attribute(attribute: Option<Attribute<'_>>) -> Result<Self, Unholdable> {
        Self::parse(string(attribute)?).map_err(|_| Unholdable::because("is not valid JSON"))
    }

    fn bind(&self, arguments: &mut PgArguments) {
        bind_value(arguments, Text(self.0.clone()));
    }

    fn bind_null(arguments: &mut PgArguments) {
        bind_value(arguments, None::<Text>);
    }

    fn fitted(self, _sql_type: &str) -> Result<Self, Unholdable> {
        fit::document(&self.0).map(|()| self)
    }

    fn same(&self, other: &Self) -> bool {
        self.0 == other.0 || same_meaning(&self.0, &other.0)
    }

    fn difference(&self, other: &Self) -> Option<Difference> {
        if self.same(other) {
            return None;
        }
        let mut path = Path::root();
        let (source, target) = first_difference(&self.0, &other.0, &mut path);
        Some(Difference { path: Some(path.into_text()), source, target })
    }
}

/// The text as a `jsonb` parameter: `jsonb_recv` takes a version byte, 1, and the text, and parses it.
struct Text(String);

impl sqlx::Type<sqlx::Postgres> for Text {
    fn type_info() -> PgTypeInfo {
        // The oid of `jsonb` is the same in every PostgreSQL (pg_type.dat).
        PgTypeInfo::with_oid(Oid(3802))
    }
}

impl sqlx::Encode<'_, sqlx::Postgres> for Text {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        buffer.push(1);
        buffer.extend_from_slice(self.0.as_bytes());
        Ok(IsNull::No)
    }
}

/// Both documents, read together; `None` where one of them is none.
fn read<'a>(a: &'a str, b: &'a str) -> Option<(Document<'a>, Document<'a>)> {
    let mut documents = Documents::default();
    Some((documents.read(a)?, documents.read(b)?))
}

/// Walks to the first difference of two documents that differ: in order of names inside an object, of places
/// in an array.
fn first_difference(a: &str, b: &str, path: &mut Path) -> (FieldValue, FieldValue) {
    let Some((a, b)) = read(a, b) else { return shown_in(a.trim(), b.trim()) };
    let (mut at_a, mut at_b) = (a.root(), b.root());
    let differ = |in_a: Option<usize>, in_b: Option<usize>| match (in_a, in_b) {
        (Some(in_a), Some(in_b)) => a.meaning(in_a) != b.meaning(in_b),
        (in_a, in_b) => in_a.is_some() || in_b.is_some(),
    };
    loop {
        let (in_a, in_b) = match (a.parts(at_a), b.parts(at_b)) {
            (Parts::Object(of_a), Parts::Object(of_b)) => {
                let mut names = of_a.keys().chain(of_b.keys().filter(|name| !of_a.contains_key(*name)));
                let Some(name) =
                    names.find(|name| differ(of_a.get(*name).copied(), of_b.get(*name).copied()))
                else {
                    return shown_in(a.text(at_a), b.text(at_b));
                };
                path.enter_member(name);
                (of_a.get(name).copied(), of_b.get(name).copied())
            }
            (Parts::Array(of_a), Parts::Array(of_b)) => {
                let mut places = 0..of_a.len().max(of_b.len());
                let Some(index) =
                    places.find(|index| differ(of_a.get(*index).copied(), of_b.get(*index).copied()))
                else {
                    return shown_in(a.text(at_a), b.text(at_b));
                };
                path.enter_element(index);
                (of_a.get(index).copied(), of_b.get(index).copied())
            }
            _ => return shown_in(a.text(at_a), b.text(at_b)),
        };
        match (in_a, in_b) {
            (Some(in_a), Some(in_b)) => (at_a, at_b) = (in_a, in_b),
            // A member or an element that one side does not have.
            (in_a, in_b) => {
                let value = |place: Option<&str>| place.map_or(FieldValue::Absent, value_in);
                return (value(in_a.map(|place| a.text(place))), value(in_b.map(|place| b.text(place))));
            }
        }
    }
}

/// Returns a value inside a document. Strings keep their quotes, so that `"1"` is not taken for `1`.
fn value_in(raw: &str) -> FieldValue {
    match raw.trim() {
        "null" => FieldValue::Null,
        "\"\"" => FieldValue::Empty,
        text => FieldValue::of(text),
    }
}

fn shown_in(a: &str, b: &str) -> (FieldValue, FieldValue) {
    match (value_in(a), value_in(b)) {
        (FieldValue::Value(_), FieldValue::Value(_)) => shown(a, b),
        other => other,
    }
}

/// Equality as `jsonb` sees it: order of members and white space do not matter, numbers compare by value and
/// to any precision, a repeated member counts once, the last.
fn same_meaning(a: &str, b: &str) -> bool {
    match read(a, b) {
        Some((a, b)) => a.meaning(a.root()) == b.meaning(b.root()),
        None => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(a: &str, b: &str, same: bool) {
        let (a, b) = (Json::parse(a).expect("json"), Json::parse(b).expect("json"));
        assert_eq!(a.same(&b), same, "{} / {}", a.as_str(), b.as_str());
    }

    #[test]
    fn documents_compare_by_meaning() {
        check(r#"{"a":1,"b":[1,2]}"#, r#"{ "b": [1, 2], "a": 1.0 }"#, true);
        check(r#"{"a":1}"#, r#"{"a":1,"b":null}"#, false);
        check("[1,2]", "[2,1]", false);
        check(r#""\u0041""#, r#""A""#, true);
        check("1e2", "100.00", true);
        check("0", "-0.0", true);
        check("123456789012345678901234567890.1", "123456789012345678901234567890.2", false);
        check("null", "0", false);
        check("true", "false", false);
    }

    #[track_caller]
    fn differ(a: &str, b: &str, path: &str, source: FieldValue, target: FieldValue) {
        let (a, b) = (Json::parse(a).expect("json"), Json::parse(b).expect("json"));
        assert_eq!(a.difference(&b), Some(Difference { path: Some(path.to_owned()), source, target }));
    }

    fn value(text: &str) -> FieldValue {
        FieldValue::Value(text.to_owned())
    }

    #[test]
    fn the_first_difference_of_two_documents_has_a_path() {
        let deep = |zip: &str| format!(r#"{{"customer":{{"address":[1,2,{{"zip":{zip},"x":1.0}}]}}}}"#);
        differ(
            &deep("\"10115\""),
            &deep("\"10117\""),
            "$.customer.address[2].zip",
            value("\"10115\""),
            value("\"10117\""),
        );
        differ(&deep("1.50"), &deep("1.51"), "$.customer.address[2].zip", value("1.50"), value("1.51"));
        differ(r#"{"a":1}"#, r#"{"a":1.0,"b":null}"#, "$.b", FieldValue::Absent, FieldValue::Null);
        differ(r#"{"a":null}"#, r#"{"a":""}"#, "$.a", FieldValue::Null, FieldValue::Empty);
        differ("[1,2,3]", "[1,2]", "$[2]", value("3"), FieldValue::Absent);
        differ("1", "[1]", "$", value("1"), value("[1]"));
        differ(r#"{"a":"1"}"#, r#"{"a":1}"#, "$.a", value("\"1\""), value("1"));
    }

    #[test]
    fn documents_of_one_meaning_have_no_difference() {
        let json = |text| Json::parse(text).expect("json");
        assert_eq!(json(r#"{"a":1,"b":[]}"#).difference(&json(r#"{"b":[ ],"a":1.0}"#)), None);
        assert_eq!(Some(json("1")).difference(&Some(json("1e0"))), None);
        let nothing: Option<Json> = None;
        let found = nothing.difference(&Some(json("null"))).expect("NULL is not the document null");
        assert_eq!((found.source, found.target), (FieldValue::Null, value("null")));
    }
}
