//! Items and values in DynamoDB's JSON, as requests and its import have them: `{"PK":{"S":"a"},…}`.
//!
//! The SDK's serialiser does the same through a tree of writers, each of which looks at its text byte by
//! byte; of a backfill's time it took a quarter.

use aws_sdk_dynamodb::types::AttributeValue;
use aws_smithy_types::base64;

/// An object of names and values.
pub(super) fn push_members<'a, N: AsRef<str> + 'a>(
    members: impl Iterator<Item = (N, &'a AttributeValue)>,
    json: &mut Vec<u8>,
) {
    json.push(b'{');
    for (place, (name, value)) in members.enumerate() {
        if place > 0 {
            json.push(b',');
        }
        push_text(name.as_ref(), json);
        json.push(b':');
        push_value(value, json);
    }
    json.push(b'}');
}

pub(super) fn push_value(value: &AttributeValue, json: &mut Vec<u8>) {
    let typed = |key: &str, json: &mut Vec<u8>| json.extend_from_slice(key.as_bytes());
    match value {
        AttributeValue::S(text) => {
            typed("{\"S\":", json);
            push_text(text, json);
        }
        AttributeValue::N(digits) => {
            typed("{\"N\":", json);
            push_text(digits, json);
        }
        AttributeValue::Bool(is) => {
            typed("{\"BOOL\":", json);
            json.extend_from_slice(if *is { b"true" } else { b"false" });
        }
        AttributeValue::B(bytes) => {
            typed("{\"B\":", json);
            push_text(&base64::encode(bytes.as_ref()), json);
        }
        AttributeValue::L(elements) => {
            typed("{\"L\":", json);
            push_list(elements, json, push_value);
        }
        AttributeValue::M(members) => {
            typed("{\"M\":", json);
            push_members(members.iter(), json);
        }
        AttributeValue::Ss(set) => {
            typed("{\"SS\":", json);
            push_list(set, json, |text, json| push_text(text, json));
        }
        AttributeValue::Ns(set) => {
            typed("{\"NS\":", json);
            push_list(set, json, |text, json| push_text(text, json));
        }
        AttributeValue::Bs(set) => {
            typed("{\"BS\":", json);
            push_list(set, json, |bytes, json| push_text(&base64::encode(bytes.as_ref()), json));
        }
        // No column makes a type that only a later SDK knows.
        _ => {
            typed("{\"NULL\":", json);
            json.extend_from_slice(b"true");
        }
    }
    json.push(b'}');
}

pub(super) fn push_list<T>(
    elements: impl IntoIterator<Item = T>,
    json: &mut Vec<u8>,
    mut push: impl FnMut(T, &mut Vec<u8>),
) {
    json.push(b'[');
    for (place, element) in elements.into_iter().enumerate() {
        if place > 0 {
            json.push(b',');
        }
        push(element, json);
    }
    json.push(b']');
}

/// A JSON string. It has no line break in it.
pub(super) fn push_text(text: &str, json: &mut Vec<u8>) {
    let escaped = |byte: u8| (byte < b' ') | (byte == b'"') | (byte == b'\\');
    // Every byte is looked at, without a branch: sixteen at once. Most text has nothing to escape, and is
    // copied whole.
    if text.bytes().fold(false, |any, byte| any | escaped(byte)) {
        return serde_json::to_writer(json, text).expect("text is JSON, and memory takes it");
    }
    json.reserve(text.len() + 2);
    json.push(b'"');
    json.extend_from_slice(text.as_bytes());
    json.push(b'"');
}
