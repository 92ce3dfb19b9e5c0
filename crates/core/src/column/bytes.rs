//! `bytea`.

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use sqlx::postgres::PgArguments;

use super::text::hex;
use super::{Column, Unholdable, bind_value, key_text, present, wrong_attribute};
use crate::attribute::Attribute;

impl Column for Vec<u8> {
    const SQL_TYPE: &'static str = "bytea";

    fn from_field(field: Option<&[u8]>) -> Result<Self, Unholdable> {
        present(field).map(<[u8]>::to_vec)
    }

    fn to_attribute(&self) -> Result<Option<AttributeValue>, Unholdable> {
        self.clone().into_attribute()
    }

    fn into_attribute(self) -> Result<Option<AttributeValue>, Unholdable> {
        Ok(Some(AttributeValue::B(Blob::new(self))))
    }

    fn from_attribute(attribute: Option<Attribute<'_>>) -> Result<Self, Unholdable> {
        match attribute {
            Some(Attribute::Other(AttributeValue::B(blob))) => Ok(blob.as_ref().to_vec()),
            other => Err(wrong_attribute("bytes", other)),
        }
    }

    fn bind(&self, arguments: &mut PgArguments) {
        bind_value(arguments, self.as_slice());
    }

    fn bind_null(arguments: &mut PgArguments) {
        bind_value(arguments, None::<&[u8]>);
    }

    fn same(&self, other: &Self) -> bool {
        self == other
    }

    fn from_key(element: &serde_json::Value) -> Result<Self, Unholdable> {
        key_text(element).and_then(hex::read)
    }

    fn literal(&self) -> Result<String, Unholdable> {
        Ok(hex::printed(self))
    }

    fn key_expression(name: &str) -> String {
        // By itself it would print as `bytea_output` of the session says.
        format!("(E'\\\\x' || pg_catalog.encode({name}, 'hex'))")
    }
}
