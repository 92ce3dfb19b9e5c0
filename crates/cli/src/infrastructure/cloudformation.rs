//! A template of CloudFormation, in JSON.

use serde_json::{Map, Value, json};

use super::Blueprint;
use super::aws_cli::request;

/// Returns the template.
pub(crate) fn cloudformation(tables: &[Blueprint]) -> Value {
    let mut resources = Map::new();
    for table in tables {
        resources.insert(logical_id(&table.name, &resources), resource(table));
    }
    json!({ "AWSTemplateFormatVersion": "2010-09-09", "Resources": resources })
}

fn resource(table: &Blueprint) -> Value {
    let mut properties = request(table);
    if table.stream {
        // CloudFormation takes a stream to be wanted where its view is named.
        properties["StreamSpecification"] = json!({ "StreamViewType": "NEW_AND_OLD_IMAGES" });
    }
    properties["PointInTimeRecoverySpecification"] = json!({ "PointInTimeRecoveryEnabled": true });
    if let Some(attribute) = table.expiry() {
        properties["TimeToLiveSpecification"] = json!({ "AttributeName": attribute, "Enabled": true });
    }
    // A stack that is deleted must not take the rows with it.
    json!({ "Type": "AWS::DynamoDB::Table", "DeletionPolicy": "Retain", "UpdateReplacePolicy": "Retain", "Properties": properties })
}

/// Letters and digits of the name, each word with a capital; unlike every id that is taken.
fn logical_id(name: &str, taken: &Map<String, Value>) -> String {
    let words = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let id: String = words.map(|word| word[..1].to_ascii_uppercase() + &word[1..]).collect();
    let id = format!("{id}Table");
    let numbered = (2..).map(|nth| format!("{id}{nth}"));
    std::iter::once(id.clone()).chain(numbered).find(|id| !taken.contains_key(id)).unwrap_or(id)
}
