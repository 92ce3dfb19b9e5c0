//! Commands of AWS's own tool.

use serde_json::{Value, json};

use super::{Blueprint, letter, listed, projection, roles};

/// Writes one shell command a line.
pub(crate) fn aws_cli(tables: &[Blueprint]) -> String {
    tables.iter().map(commands).collect::<Vec<_>>().join("\n")
}

fn commands(table: &Blueprint) -> String {
    let name = quoted(&table.name);
    let mut lines = vec![
        format!("aws dynamodb create-table --cli-input-json {}", quoted(&request(table).to_string())),
        format!("aws dynamodb wait table-exists --table-name {name}"),
    ];
    if let Some(attribute) = table.expiry() {
        let specification = quoted(&format!("Enabled=true,AttributeName={attribute}"));
        lines.push(format!("aws dynamodb update-time-to-live --table-name {name} --time-to-live-specification {specification}"));
    }
    let specification = "--point-in-time-recovery-specification PointInTimeRecoveryEnabled=true";
    // The backups of a new table are being set up for a while, and the command is refused until then.
    lines.push(format!(
        "for try in $(seq 30); do aws dynamodb update-continuous-backups --table-name {name} \
         {specification} && break; sleep 10; done"
    ));
    lines.join("\n")
}

/// Returns the request of CreateTable; CloudFormation's properties have the same names.
pub(super) fn request(table: &Blueprint) -> Value {
    let key = |key: &mut dyn Iterator<Item = lockstep_core::KeyAttribute>| -> Value {
        roles(key).map(|(of, role)| json!({ "AttributeName": of.name, "KeyType": role })).collect()
    };
    let attributes = table.naming.key_attributes(&table.schema);
    let mut request = json!({
        "TableName": table.name,
        "BillingMode": "PAY_PER_REQUEST",
        "DeletionProtectionEnabled": true,
        "AttributeDefinitions": attributes.iter().map(|of| {
            json!({ "AttributeName": of.name, "AttributeType": letter(of.key_type) })
        }).collect::<Value>(),
        "KeySchema": key(&mut table.naming.table_key(&table.schema)),
    });
    if !table.schema.indexes.is_empty() {
        let indexes = table.schema.indexes.iter().map(|index| {
            let mut projected = json!({ "ProjectionType": projection(index) });
            if let Some(names) = listed(index) {
                projected["NonKeyAttributes"] = json!(names);
            }
            json!({
                "IndexName": index.name,
                "KeySchema": key(&mut table.naming.index_key(index)),
                "Projection": projected,
            })
        });
        request["GlobalSecondaryIndexes"] = indexes.collect();
    }
    if table.stream {
        request["StreamSpecification"] =
            json!({ "StreamEnabled": true, "StreamViewType": "NEW_AND_OLD_IMAGES" });
    }
    request
}

/// Returns a word for a POSIX shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}
