//! The streams' client has attribute types of its own; they mean the same.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_dynamodbstreams::types::AttributeValue as Streamed;

use lockstep_core::{Attributes, Error, Kind, Result};

/// An image as every other part of this crate knows it.
pub(super) fn attributes(image: HashMap<String, Streamed>) -> Result<Attributes> {
    image.into_iter().map(|(name, value)| Ok((name, attribute(value)?))).collect()
}

fn attribute(value: Streamed) -> Result<AttributeValue> {
    Ok(match value {
        Streamed::S(text) => AttributeValue::S(text),
        Streamed::N(text) => AttributeValue::N(text),
        Streamed::B(blob) => AttributeValue::B(blob),
        Streamed::Bool(value) => AttributeValue::Bool(value),
        Streamed::Null(value) => AttributeValue::Null(value),
        Streamed::Ss(set) => AttributeValue::Ss(set),
        Streamed::Ns(set) => AttributeValue::Ns(set),
        Streamed::Bs(set) => AttributeValue::Bs(set),
        Streamed::L(list) => AttributeValue::L(list.into_iter().map(attribute).collect::<Result<_>>()?),
        Streamed::M(map) => AttributeValue::M(attributes(map)?),
        _ => {
            let message = "an attribute is of a type that this version does not know; update Lockstep";
            return Err(Error::target(Kind::Unknown, "reading a stream record", message));
        }
    })
}
