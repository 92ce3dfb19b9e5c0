//! Integers, booleans and text.

use aws_sdk_dynamodb::types::AttributeValue;
use sqlx::postgres::PgArguments;

use super::{
    Column, Unholdable, bind_value, exactly, fit, key_text, number, string, text_field, wrong_attribute,
};
use crate::attribute::Attribute;

macro_rules! integer {
    ($type:ty, $sql:literal, $bytes:literal) => {
        impl Column for $type {
            const SQL_TYPE: &'static str = $sql;

            fn from_field(field: Option<&[u8]>) -> Result<Self, Unholdable> {
                exactly::<$bytes>(field).map(<$type>::from_be_bytes)
            }

            fn to_attribute(&self) -> Result<Option<AttributeValue>, Unholdable> {
                Ok(Some(AttributeValue::N(self.to_string())))
            }

            fn from_attribute(attribute: Option<Attribute<'_>>) -> Result<Self, Unholdable> {
                let text = number(attribute)?;
                text.parse().map_err(|_| Unholdable::because(concat!("does not fit ", $sql)))
            }

            fn bind(&self, arguments: &mut PgArguments) {
                bind_value(arguments, *self);
            }

            fn bind_null(arguments: &mut PgArguments) {
                bind_value(arguments, None::<Self>);
            }

            fn same(&self, other: &Self) -> bool {
                self == other
            }

            fn from_key(element: &serde_json::Value) -> Result<Self, Unholdable> {
                element
                    .as_i64()
                    .and_then(|wide| <$type>::try_from(wide).ok())
                    .ok_or_else(|| Unholdable::because(concat!("key element does not fit ", $sql)))
            }

            fn literal(&self) -> Result<String, Unholdable> {
                Ok(self.to_string())
            }
        }
    };
}

integer!(i64, "bigint", 8);
integer!(i32, "integer", 4);
integer!(i16, "smallint", 2);

impl Column for bool {
    const SQL_TYPE: &'static str = "boolean";

    fn from_field(field: Option<&[u8]>) -> Result<Self, Unholdable> {
        exactly::<1>(field).map(|[byte]| byte != 0)
    }

    fn to_attribute(&self) -> Result<Option<AttributeValue>, Unholdable> {
        Ok(Some(AttributeValue::Bool(*self)))
    }

    fn from_attribute(attribute: Option<Attribute<'_>>) -> Result<Self, Unholdable> {
        match attribute {
            Some(Attribute::Bool(value)) => Ok(value),
            other => Err(wrong_attribute("a boolean", other)),
        }
    }

    fn bind(&self, arguments: &mut PgArguments) {
        bind_value(arguments, *self);
    }

    fn bind_null(arguments: &mut PgArguments) {
        bind_value(arguments, None::<Self>);
    }

    fn same(&self, other: &Self) -> bool {
        self == other
    }
}

impl Column for String {
    const SQL_TYPE: &'static str = "text";

    fn accepts(sql_type: &str) -> bool {
        // `character(n)` comes padded with blanks and is kept so: the round trip must not change a byte.
        // An array of them is printed alike, with brackets behind it.
        sql_type == "text" || (sql_type.starts_with("character") && !sql_type.ends_with("[]"))
    }

    fn from_field(field: Option<&[u8]>) -> Result<Self, Unholdable> {
        text_field(field).map(str::to_owned)
    }

    fn to_attribute(&self) -> Result<Option<AttributeValue>, Unholdable> {
        Ok(Some(AttributeValue::S(self.clone())))
    }

    fn into_attribute(self) -> Result<Option<AttributeValue>, Unholdable> {
        Ok(Some(AttributeValue::S(self)))
    }

    fn from_attribute(attribute: Option<Attribute<'_>>) -> Result<Self, Unholdable> {
        string(attribute).map(str::to_owned)
    }

    fn bind(&self, arguments: &mut PgArguments) {
        bind_value(arguments, self.clone());
    }

    fn bind_null(arguments: &mut PgArguments) {
        bind_value(arguments, None::<Self>);
    }

    fn same(&self, other: &Self) -> bool {
        self == other
    }

    fn fitted(self, sql_type: &str) -> Result<Self, Unholdable> {
        fit::text(self, sql_type)
    }

    fn from_key(element: &serde_json::Value) -> Result<Self, Unholdable> {
        key_text(element).map(str::to_owned)
    }

    fn literal(&self) -> Result<String, Unholdable> {
        Ok(self.clone())
    }
}
