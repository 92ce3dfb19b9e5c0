//! Items as DynamoDB's import from S3 takes them: one JSON object a line, `{"Item":{"PK":{"S":"a"},…}}`.

use aws_sdk_dynamodb::types::AttributeValue;
use aws_smithy_types::base64;
use lockstep_core::{Item, Version};

/// Adds one row of history to `lines`, exactly as the guarded write would put it: at version 0. So whichever
/// write of a change comes later has a higher version, and wins (I2).
pub fn push_history_line(item: Item, lines: &mut Vec<u8>) {
    lines.extend_from_slice(b"{\"Item\":");
    push_members(item.at(Version::HISTORY).iter().map(|(name, value)| (*name, value)), lines);
    lines.extend_from_slice(b"}\n");
}

/// An object of names and values.
fn push_members<'a, N: AsRef<str> + 'a>(
    members: impl Iterator<Item = (N, &'a AttributeValue)>,
    lines: &mut Vec<u8>,
) {
    lines.push(b'{');
    for (place, (name, value)) in members.enumerate() {
        if place > 0 {
            lines.push(b',');
        }
        push_text(name.as_ref(), lines);
        lines.push(b':');
        push_value(value, lines);
    }
    lines.push(b'}');
}

fn push_value(value: &AttributeValue, lines: &mut Vec<u8>) {
    let typed = |kind: &str, lines: &mut Vec<u8>| {
        lines.extend_from_slice(format!("{{\"{kind}\":").as_bytes());
    };
    match value {
        AttributeValue::S(text) => {
            typed("S", lines);
            push_text(text, lines);
        }
        AttributeValue::N(digits) => {
            typed("N", lines);
            push_text(digits, lines);
        }
        AttributeValue::Bool(is) => {
            typed("BOOL", lines);
            lines.extend_from_slice(if *is { b"true" } else { b"false" });
        }
        AttributeValue::B(bytes) => {
            typed("B", lines);
            push_text(&base64::encode(bytes.as_ref()), lines);
        }
        AttributeValue::L(elements) => {
            typed("L", lines);
            push_list(elements, lines, push_value);
        }
        AttributeValue::M(members) => {
            typed("M", lines);
            push_members(members.iter(), lines);
        }
        AttributeValue::Ss(set) => {
            typed("SS", lines);
            push_list(set, lines, |text, lines| push_text(text, lines));
        }
        AttributeValue::Ns(set) => {
            typed("NS", lines);
            push_list(set, lines, |text, lines| push_text(text, lines));
        }
        AttributeValue::Bs(set) => {
            typed("BS", lines);
            push_list(set, lines, |bytes, lines| push_text(&base64::encode(bytes.as_ref()), lines));
        }
        // What a later SDK may know, no column makes. DynamoDB would refuse the line, and it would be found
        // missing afterwards.
        _ => {
            typed("NULL", lines);
            lines.extend_from_slice(b"true");
        }
    }
    lines.push(b'}');
}

fn push_list<T>(elements: &[T], lines: &mut Vec<u8>, push: impl Fn(&T, &mut Vec<u8>)) {
    lines.push(b'[');
    for (place, element) in elements.iter().enumerate() {
        if place > 0 {
            lines.push(b',');
        }
        push(element, lines);
    }
    lines.push(b']');
}

/// A JSON string: it has no line break in it, so a line is one item.
fn push_text(text: &str, lines: &mut Vec<u8>) {
    serde_json::to_writer(lines, text).expect("text is JSON, and memory takes it");
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use aws_smithy_types::Blob;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_line_is_the_item_of_a_guarded_write_in_dynamodbs_json() {
        let mut item = Item::default();
        item.push("PK", AttributeValue::S("a \"b\"\n\u{1F600}".to_owned()));
        item.push("n", AttributeValue::N("-1.50".to_owned()));
        item.push("yes", AttributeValue::Bool(true));
        item.push("none", AttributeValue::Null(true));
        item.push("bytes", AttributeValue::B(Blob::new([0_u8, 255])));
        let members = HashMap::from([("deep".to_owned(), AttributeValue::Ns(vec!["1".to_owned()]))]);
        item.push("list", AttributeValue::L(vec![AttributeValue::M(members), AttributeValue::Bool(false)]));
        let mut lines = Vec::new();
        push_history_line(item.clone(), &mut lines);
        push_history_line(item, &mut lines);
        let text = String::from_utf8(lines).expect("UTF-8");
        let parsed: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!(parsed.len(), 2, "a line break in a value is no line");
        assert_eq!(
            parsed[0],
            json!({ "Item": {
                "PK": { "S": "a \"b\"\n\u{1F600}" }, "n": { "N": "-1.50" }, "yes": { "BOOL": true },
                "none": { "NULL": true }, "bytes": { "B": "AP8=" },
                "list": { "L": [{ "M": { "deep": { "NS": ["1"] } } }, { "BOOL": false }] },
                "_v": { "N": "0" }
            }})
        );
    }
}
