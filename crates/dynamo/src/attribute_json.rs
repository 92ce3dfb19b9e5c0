//! Reading the JSON of one attribute: `{"S":"text"}`, `{"N":"1.5"}`, `{"L":[{"BOOL":true}]}`.
//!
//! See `page_json` for what it is held to. An attribute that a column can have is borrowed; the rest, which
//! only items that another program wrote can have, is read into the SDK's own type.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use aws_sdk_dynamodb::types::AttributeValue;
use aws_smithy_types::{Blob, base64};
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};

use lockstep_core::Attribute;

/// A value, borrowed where it can be.
#[derive(Clone, Debug)]
pub(super) enum Held<'a> {
    S(Cow<'a, str>),
    N(Cow<'a, str>),
    Bool(bool),
    Other(AttributeValue),
}

impl Held<'_> {
    pub(super) fn view(&self) -> Attribute<'_> {
        match self {
            Self::S(text) => Attribute::S(text),
            Self::N(digits) => Attribute::N(digits),
            Self::Bool(is) => Attribute::Bool(*is),
            Self::Other(value) => Attribute::Other(value),
        }
    }

    fn into_value(self) -> AttributeValue {
        match self {
            Self::S(text) => AttributeValue::S(text.into_owned()),
            Self::N(digits) => AttributeValue::N(digits.into_owned()),
            Self::Bool(is) => AttributeValue::Bool(is),
            Self::Other(value) => value,
        }
    }
}

/// One attribute: an object with one member, named by the type.
pub(super) struct OneValue;

impl<'de> DeserializeSeed<'de> for OneValue {
    type Value = Held<'de>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Held<'de>, D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for OneValue {
    type Value = Held<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an attribute")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Held<'de>, A::Error> {
        let mut found = None;
        while let Some(kind) = map.next_key_seed(Text)? {
            // Members that are null, and a name for the type of the whole, say nothing.
            let value = match kind.as_ref() {
                "S" => map.next_value_seed(TextOrNull)?.map(Held::S),
                "N" => map.next_value_seed(TextOrNull)?.map(Held::N),
                "BOOL" => map.next_value::<Option<bool>>()?.map(Held::Bool),
                "NULL" => map.next_value::<Option<bool>>()?.map(|is| Held::Other(AttributeValue::Null(is))),
                "B" => {
                    map.next_value::<Option<Bytes>>()?.map(|Bytes(blob)| Held::Other(AttributeValue::B(blob)))
                }
                "M" => map.next_value::<Option<HashMap<String, Whole>>>()?.map(|members| {
                    Held::Other(AttributeValue::M(
                        members.into_iter().map(|(name, Whole(value))| (name, value)).collect(),
                    ))
                }),
                "L" => map.next_value::<Option<Vec<Whole>>>()?.map(|elements| {
                    Held::Other(AttributeValue::L(elements.into_iter().map(|Whole(value)| value).collect()))
                }),
                "SS" => {
                    map.next_value::<Option<Vec<String>>>()?.map(|set| Held::Other(AttributeValue::Ss(set)))
                }
                "NS" => {
                    map.next_value::<Option<Vec<String>>>()?.map(|set| Held::Other(AttributeValue::Ns(set)))
                }
                "BS" => map.next_value::<Option<Vec<Bytes>>>()?.map(|set| {
                    Held::Other(AttributeValue::Bs(set.into_iter().map(|Bytes(blob)| blob).collect()))
                }),
                "__type" => {
                    map.next_value::<IgnoredAny>()?;
                    None
                }
                // DynamoDB has no other. To pass over it would be to call two items equal that may not be.
                _ => {
                    return Err(A::Error::custom(
                        "an attribute is of a type that this program does not know",
                    ));
                }
            };
            if value.is_some() && found.is_some() {
                return Err(A::Error::custom("an attribute has two types"));
            }
            found = found.or(value);
        }
        found.ok_or_else(|| A::Error::custom("an attribute has no type"))
    }
}

/// A value inside of another one.
struct Whole(AttributeValue);

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        OneValue.deserialize(json).map(|value| Self(value.into_value()))
    }
}

/// Base 64. Nothing in it needs an escape, and the SDK understands none there.
struct Bytes(Blob);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        let text = <&str>::deserialize(json)?;
        base64::decode(text).map(|bytes| Self(Blob::new(bytes))).map_err(D::Error::custom)
    }
}

/// Text, borrowed where it has no escapes.
pub(super) struct Text;

impl<'de> DeserializeSeed<'de> for Text {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Cow<'de, str>, D::Error> {
        json.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Text {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E>(self, text: &str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
}

struct TextOrNull;

impl<'de> DeserializeSeed<'de> for TextOrNull {
    type Value = Option<Cow<'de, str>>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for TextOrNull {
    type Value = Option<Cow<'de, str>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Some(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Some(Cow::Owned(text.to_owned())))
    }
}
