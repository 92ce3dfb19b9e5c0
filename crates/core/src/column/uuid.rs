//! `uuid`.

use aws_sdk_dynamodb::types::AttributeValue;
use sqlx::postgres::PgArguments;
use uuid::Uuid;

use super::wire::{UUID, Wire};
use super::{Column, Unholdable, bind_value, exactly, key_text, string};
use crate::attribute::Attribute;

/// Reads the one form in which items and keys have it: small letters and hyphens.
fn read(text: &str) -> Result<Uuid, Unholdable> {
    let wrong = || Unholdable::because("does not read as a uuid in small letters");
    let read = Uuid::try_parse(text).map_err(|_| wrong())?;
    let is_ours = text.len() == 36 && !text.bytes().any(|byte| byte.is_ascii_uppercase());
    is_ours.then_some(read).ok_or_else(wrong)
}

impl Column for Uuid {
    const SQL_TYPE: &'static str = "uuid";

    fn from_field(field: Option<&[u8]>) -> Result<Self, Unholdable> {
        exactly::<16>(field).map(Self::from_bytes)
    }

    fn to_attribute(&self) -> Result<Option<AttributeValue>, Unholdable> {
        Ok(Some(AttributeValue::S(self.to_string())))
    }

    fn from_attribute(attribute: Option<Attribute<'_>>) -> Result<Self, Unholdable> {
        read(string(attribute)?)
    }

    fn bind(&self, arguments: &mut PgArguments) {
        bind_value(arguments, Wire { oid: UUID, bytes: Some(self.as_bytes()) });
    }

    fn bind_null(arguments: &mut PgArguments) {
        bind_value(arguments, Wire { oid: UUID, bytes: None });
    }

    fn same(&self, other: &Self) -> bool {
        self == other
    }

    fn from_key(element: &serde_json::Value) -> Result<Self, Unholdable> {
        key_text(element).and_then(read)
    }

    fn literal(&self) -> Result<String, Unholdable> {
        Ok(self.to_string())
    }
}
