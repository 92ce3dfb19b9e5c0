//! Rights that recorded calls ask of AWS, held against a policy as it is printed (R51).
//!
//! IAM allows by action and resource. A transaction asks for the action of each of its entries, a batch of
//! statements for those of PartiQL, and what names an index is of the index.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::faults::Recorded;

/// The account of the printed policies.
pub const ACCOUNT: &str = "123456789012";
/// Their region.
pub const REGION: &str = "eu-central-1";

/// An action without its prefix, and the resource after the account.
pub type Asked = (String, String);

/// Everything that these calls ask for.
///
/// # Panics
/// For a body that does not read.
pub fn asked(calls: &[Recorded]) -> BTreeSet<Asked> {
    calls.iter().flat_map(of_call).collect()
}

fn of_call(call: &Recorded) -> Vec<Asked> {
    let operation = call.operation.as_str();
    let body: Value = serde_json::from_slice(&call.body).expect("a body is JSON");
    let of = |action: &str, table: &str| (action.to_owned(), format!("table/{}", plain(table)));
    let text = |name: &str| body[name].as_str().unwrap_or_default();
    match operation {
        "ListStreams" | "ListImports" | "DescribeLimits" => vec![(operation.to_owned(), "*".to_owned())],
        // The stream of an iterator was asked for with it.
        "GetRecords" => vec![(operation.to_owned(), "stream".to_owned())],
        "DescribeStream" | "GetShardIterator" => {
            let (_, stream) = text("StreamArn").split_once(":table/").expect("the name of a stream");
            vec![(operation.to_owned(), format!("table/{stream}"))]
        }
        "TransactWriteItems" | "TransactGetItems" => {
            // One without anything in it asks whether transactions are known, and needs no right.
            let entries = body["TransactItems"].as_array().into_iter().flatten();
            let entries = entries.flat_map(|entry| entry.as_object().expect("an entry"));
            entries
                .map(|(kind, entry)| {
                    let action = if kind == "ConditionCheck" {
                        "ConditionCheckItem".to_owned()
                    } else {
                        format!("{kind}Item")
                    };
                    of(&action, entry["TableName"].as_str().expect("a table"))
                })
                .collect()
        }
        "BatchGetItem" | "BatchWriteItem" => body["RequestItems"]
            .as_object()
            .expect("tables")
            .keys()
            .map(|table| of(operation, table))
            .collect(),
        "BatchExecuteStatement" => {
            let statements = body["Statements"].as_array().expect("statements").iter();
            statements
                .map(|statement| of_statement(statement["Statement"].as_str().expect("a text")))
                .collect()
        }
        _ => match body["IndexName"].as_str() {
            Some(index) => {
                vec![(operation.to_owned(), format!("table/{}/index/{index}", plain(text("TableName"))))]
            }
            None => vec![of(operation, text("TableName"))],
        },
    }
}

fn of_statement(text: &str) -> Asked {
    let verb = text.split_whitespace().next().expect("a verb");
    let table = text.split('"').nth(1).expect("a table in quotes");
    let action = match verb.to_ascii_uppercase().as_str() {
        "SELECT" => "PartiQLSelect",
        "INSERT" => "PartiQLInsert",
        "UPDATE" => "PartiQLUpdate",
        _ => "PartiQLDelete",
    };
    (action.to_owned(), format!("table/{table}"))
}

/// A table may be named by its ARN.
fn plain(table: &str) -> &str {
    table.rsplit_once(":table/").map_or(table, |(_, name)| name)
}

/// Returns what a policy does not allow of it.
pub fn refused(policy: &Value, asked: &BTreeSet<Asked>) -> Vec<Asked> {
    asked
        .iter()
        .filter(|asked| !statements(policy).any(|statement| allows(statement, asked)))
        .cloned()
        .collect()
}

/// Returns what a policy allows and none of these asked for: the statement's name and the action, with a
/// space between.
pub fn unused(policy: &Value, asked: &BTreeSet<Asked>) -> BTreeSet<String> {
    let mut unused = BTreeSet::new();
    for statement in statements(policy) {
        for action in statement["Action"].as_array().expect("actions") {
            let action = action.as_str().expect("an action").trim_start_matches("dynamodb:");
            if !asked.iter().any(|asked| asked.0 == action && allows(statement, asked)) {
                unused.insert(format!("{} {action}", statement["Sid"].as_str().expect("a name")));
            }
        }
    }
    unused
}

fn statements(policy: &Value) -> impl Iterator<Item = &Value> {
    policy["Statement"].as_array().expect("statements").iter()
}

fn allows(statement: &Value, (action, resource): &Asked) -> bool {
    let has = |name: &str, is: &dyn Fn(&str) -> bool| {
        statement[name].as_array().expect("a list").iter().any(|one| is(one.as_str().expect("a text")))
    };
    let arn = format!("arn:aws:dynamodb:{REGION}:{ACCOUNT}:{resource}");
    let is_resource = |pattern: &str| match pattern.strip_suffix('*') {
        Some("") => resource == "*",
        Some(prefix) if resource == "stream" => prefix.ends_with("/stream/"),
        Some(prefix) => arn.starts_with(prefix),
        None => arn == pattern,
    };
    has("Action", &|one| one.strip_prefix("dynamodb:") == Some(action.as_str()))
        && has("Resource", &is_resource)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn call(operation: &str, body: &Value) -> Recorded {
        Recorded { operation: operation.to_owned(), table: None, fault: None, body: body.to_string().into() }
    }

    #[test]
    fn a_call_asks_for_each_action_that_is_in_it_and_a_policy_allows_by_action_and_resource() {
        let calls = [
            call("PutItem", &json!({ "TableName": "loans" })),
            call("Query", &json!({ "TableName": "loans", "IndexName": "by_day" })),
            call(
                "TransactWriteItems",
                &json!({ "TransactItems": [
                { "Put": { "TableName": "loans" } }, { "ConditionCheck": { "TableName": "control" } } ] }),
            ),
            call(
                "BatchExecuteStatement",
                &json!({ "Statements": [{ "Statement": "INSERT INTO \"loans\" VALUE {}" }] }),
            ),
            call("GetRecords", &json!({ "ShardIterator": "x" })),
        ];
        let asked = asked(&calls);
        let all: Vec<String> = asked.iter().map(|(action, on)| format!("{action} {on}")).collect();
        assert_eq!(
            all,
            [
                "ConditionCheckItem table/control",
                "GetRecords stream",
                "PartiQLInsert table/loans",
                "PutItem table/loans",
                "Query table/loans/index/by_day",
            ]
        );
        let arn = format!("arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/loans");
        let policy = json!({ "Statement": [
            { "Sid": "Tables", "Resource": [arn],
              "Action": ["dynamodb:PutItem", "dynamodb:PartiQLInsert", "dynamodb:Query"] },
            { "Sid": "Streams", "Action": ["dynamodb:GetRecords"], "Resource": [format!("{arn}/stream/*")] },
        ] });
        let refused: Vec<String> = refused(&policy, &asked).into_iter().map(|(action, _)| action).collect();
        assert_eq!(refused, ["ConditionCheckItem", "Query"]);
        assert_eq!(unused(&policy, &asked).into_iter().collect::<Vec<_>>(), ["Tables Query"]);
    }
}
