//! Items as DynamoDB's import from S3 takes them: one JSON object a line, `{"Item":{"PK":{"S":"a"},…}}`.

use lockstep_core::{Item, Naming, Unholdable, Version};

use super::wire_json::push_members;

/// Adds one row of the initial load to `lines`, exactly as the guarded write would put it: at version 0. So
/// each later write of a change has a higher version, and wins (I2). No text in JSON has a line break, so a
/// line is one item. DynamoDB would refuse a value that no column can produce, and a comparison would find
/// the item missing.
///
/// # Errors
/// As [`Naming::send_item`]; nothing was added.
pub fn push_initial_load_line(item: Item, naming: &Naming, lines: &mut Vec<u8>) -> Result<(), Unholdable> {
    let item = naming.send_item(item.at(Version::INITIAL_LOAD))?;
    lines.extend_from_slice(b"{\"Item\":");
    push_members(item.iter().map(|(name, value)| (*name, value)), lines);
    lines.extend_from_slice(b"}\n");
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use aws_sdk_dynamodb::types::AttributeValue;
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
        push_initial_load_line(item.clone(), &Naming::USUAL, &mut lines).expect("held");
        push_initial_load_line(item, &Naming::USUAL, &mut lines).expect("held");
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
