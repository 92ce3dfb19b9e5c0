//! Record of puts that the target was asked for and of its answers, each with its time: a trace of a run is
//! held against it.

use std::collections::BTreeSet;

use aws_sdk_dynamodb::types::AttributeValue;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use hyper::StatusCode;
use lockstep_core::{Attributes, PK, SK, TargetKey, VERSION_ATTRIBUTE, place};
use serde_json::Value;

use super::call::Call;

/// One item of a call that is about a row: it has a version, and its place is none of Lockstep's own.
#[derive(Clone, Debug)]
pub struct Written {
    /// Time at which it happened. An answer was there before any client heard of it.
    pub at: DateTime<Utc>,
    /// Number of the call.
    pub call: u64,
    /// Table and key of the item; the key as one text, as the reverse feed remembers it.
    pub place: String,
    /// Event of the item.
    pub what: What,
}

/// Event of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A put was passed on: if it is applied at all, then after this.
    Left,
    /// The emulator has applied a put of this version.
    Applied(i64),
    /// The emulator has shown the item at this version.
    Seen(i64),
    /// The emulator has removed the item.
    Removed,
    /// A call has written items in a way that is not read here: what is recorded is not all.
    Unread,
}

/// Events of items, in their order.
#[derive(Debug, Default)]
pub(super) struct Record {
    calls: u64,
    /// Tokens of the transactions that were passed on.
    tokens: BTreeSet<String>,
    pub(super) kept: Vec<Written>,
}

impl Record {
    /// Keeps the puts of a call that is about to be passed on; returns its number. A transaction that is
    /// repeated under its token is answered as before, and not applied again: none of its puts leaves.
    pub(super) fn leaving(&mut self, call: &Call, sent: &Bytes) -> u64 {
        self.calls += 1;
        let token = read(sent)["ClientRequestToken"].as_str().map(str::to_owned);
        if token.is_none_or(|token| self.tokens.insert(token)) {
            self.keep(self.calls, leaving(call, sent));
        }
        self.calls
    }

    /// Keeps what the answer to a call says.
    pub(super) fn answered(&mut self, number: u64, call: &Call, sent: &Bytes, said: (StatusCode, &Bytes)) {
        self.keep(number, answered(call, sent, said.0, said.1));
    }

    fn keep(&mut self, call: u64, happened: Vec<(String, What)>) {
        let at = Utc::now();
        let kept = happened.into_iter().map(|(place, what)| Written { at, call, place, what });
        self.kept.extend(kept);
    }
}

/// Reads the puts of a call that is about to be passed on.
fn leaving(call: &Call, sent: &Bytes) -> Vec<(String, What)> {
    let left = |(place, _)| (place, What::Left);
    puts(call, &read(sent)).into_iter().flatten().map(left).collect()
}

/// Reads what an answer says of the items of its call. A batch tells it of each by itself, a refused
/// transaction of none.
fn answered(call: &Call, sent: &Bytes, status: StatusCode, said: &Bytes) -> Vec<(String, What)> {
    let (sent, said) = match call.operation.as_str() {
        // Long, and no put is known by them.
        "Query" | "Scan" | "GetRecords" => return Vec::new(),
        _ => (read(sent), read(said)),
    };
    let mut found: Vec<(String, What)> = match (call.operation.as_str(), status) {
        ("BatchGetItem", _) => {
            let tables = said["Responses"].as_object().into_iter().flatten();
            let items =
                tables.flat_map(|(table, items)| list(items).filter_map(move |item| versioned(table, item)));
            items.map(seen).collect()
        }
        (_, StatusCode::OK) => {
            let is_refused = |at: usize| said["Responses"][at].get("Error").is_some();
            let applied = puts(call, &sent).into_iter().enumerate().filter(|(at, _)| !is_refused(*at));
            applied
                .filter_map(|(_, put)| put)
                .map(|(place, version)| (place, What::Applied(version)))
                .collect()
        }
        _ => Vec::new(),
    };
    // What was asked for, or what the condition of a put has failed on.
    found.extend(versioned(table(&sent), &said["Item"]).map(seen));
    if status == StatusCode::OK {
        found.extend(removed(call, &sent).map(|place| (place, What::Removed)));
        if is_unread(call, &sent) {
            found.push((call.operation.clone(), What::Unread));
        }
    }
    found
}

fn seen((place, version): (String, i64)) -> (String, What) {
    (place, What::Seen(version))
}

/// Each put of a call in its place; `None` for what is none of a row.
fn puts(call: &Call, sent: &Value) -> Vec<Option<(String, i64)>> {
    let put = |put: &Value| versioned(table(put), &put["Item"]);
    match call.operation.as_str() {
        "PutItem" => vec![put(sent)],
        "TransactWriteItems" => list(&sent["TransactItems"]).map(|part| put(&part["Put"])).collect(),
        "BatchExecuteStatement" => list(&sent["Statements"]).map(inserted).collect(),
        _ => Vec::new(),
    }
}

/// The item of `INSERT INTO "t" VALUE {'PK':?,…}`.
fn inserted(statement: &Value) -> Option<(String, i64)> {
    let text = statement["Statement"].as_str()?;
    let (_, names) = text.split_once(" VALUE {")?;
    let names = names.split("':?").map(|name| name.trim_start_matches([',', '\'']));
    let item =
        names.zip(list(&statement["Parameters"])).map(|(name, value)| (name.to_owned(), value.clone()));
    versioned(text.split('"').nth(1)?, &Value::Object(item.collect()))
}

fn removed(call: &Call, sent: &Value) -> impl Iterator<Item = String> {
    let deletes: Vec<&Value> = match call.operation.as_str() {
        "DeleteItem" => vec![sent],
        "TransactWriteItems" => list(&sent["TransactItems"]).map(|part| &part["Delete"]).collect(),
        _ => Vec::new(),
    };
    deletes
        .into_iter()
        .filter_map(|delete| place_of(table(delete), &delete["Key"]))
        .collect::<Vec<_>>()
        .into_iter()
}

/// Whether a call writes what [`puts`] and [`removed`] do not read. Nothing of the product does, so far.
fn is_unread(call: &Call, sent: &Value) -> bool {
    let is_of_a_row = |update: &Value| {
        let mut names = update["ExpressionAttributeNames"].as_object().into_iter().flatten();
        names.any(|(_, name)| name == VERSION_ATTRIBUTE) && place_of(table(update), &update["Key"]).is_some()
    };
    match call.operation.as_str() {
        "UpdateItem" => is_of_a_row(sent),
        "TransactWriteItems" => list(&sent["TransactItems"]).any(|part| is_of_a_row(&part["Update"])),
        "BatchExecuteStatement" => {
            call.writes().0 > 0
                && list(&sent["Statements"]).any(|statement| {
                    !statement["Statement"].as_str().is_some_and(|text| text.starts_with("INSERT INTO "))
                })
        }
        "BatchWriteItem" | "ExecuteStatement" | "ExecuteTransaction" => call.writes().0 > 0,
        _ => false,
    }
}

/// Place and version of a row's item.
fn versioned(table: &str, item: &Value) -> Option<(String, i64)> {
    let version = item[VERSION_ATTRIBUTE]["N"].as_str()?.parse().ok()?;
    Some((place_of(table, item)?, version))
}

/// Place of a row's item; `None` where Lockstep keeps an item of its own.
fn place_of(table: &str, item: &Value) -> Option<String> {
    let attribute = |name: &str| {
        let text = item[name]["S"].as_str().map(|text| AttributeValue::S(text.to_owned()));
        let number = || item[name]["N"].as_str().map(|text| AttributeValue::N(text.to_owned()));
        Some((name.to_owned(), text.or_else(number)?))
    };
    let key: Attributes = [PK, SK].into_iter().filter_map(attribute).collect();
    TargetKey::of(&key)?.check().ok()?;
    Some(format!("{table} {}", place(&key)))
}

fn table(body: &Value) -> &str {
    body["TableName"].as_str().unwrap_or_default()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn read(body: &Bytes) -> Value {
    serde_json::from_slice(body).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::call::call;
    use super::*;

    fn told(operation: &str, body: &str, status: StatusCode, said: &str) -> Vec<(String, What)> {
        let call = call(operation, body);
        answered(&call, &call.body, status, &Bytes::copy_from_slice(said.as_bytes()))
    }

    fn at(key: &str, what: What) -> (String, What) {
        (format!(r#"t [["S","{key}"],null]"#), what)
    }

    #[test]
    fn a_put_tells_that_it_was_applied_or_what_is_there_and_no_other_answer_tells_anything() {
        let body = r#"{"TableName":"t","Item":{"PK":{"S":"a"},"_v":{"N":"7"}}}"#;
        let put = call("PutItem", body);
        assert_eq!(leaving(&put, &put.body), [at("a", What::Left)]);
        assert_eq!(told("PutItem", body, StatusCode::OK, "{}"), [at("a", What::Applied(7))]);
        let refused =
            r#"{"__type":"x#ConditionalCheckFailedException","Item":{"PK":{"S":"a"},"_v":{"N":"9"}}}"#;
        assert_eq!(told("PutItem", body, StatusCode::BAD_REQUEST, refused), [at("a", What::Seen(9))]);
        let throttled = r#"{"__type":"x#ProvisionedThroughputExceededException"}"#;
        assert_eq!(told("PutItem", body, StatusCode::BAD_REQUEST, throttled), []);
        let marker = r#"{"TableName":"t","Item":{"PK":{"S":"lockstep-marker#1"},"_v":{"N":"0"}}}"#;
        assert_eq!(told("PutItem", marker, StatusCode::OK, "{}"), [], "it is no row's");
    }

    #[test]
    fn each_statement_and_each_part_of_a_transaction_is_told_of_by_itself() {
        let statement = |pk: &str| {
            let values = format!(r#"[{{"S":"{pk}"}},{{"S":"x"}},{{"N":"3"}}]"#);
            let insert = r#"INSERT INTO \"t\" VALUE {'PK':?,'more':?,'_v':?}"#;
            format!(r#"{{"Statement":"{insert}","Parameters":{values}}}"#)
        };
        let body = format!(r#"{{"Statements":[{},{}]}}"#, statement("a"), statement("b"));
        let said = r#"{"Responses":[{"Error":{"Code":"DuplicateItem"}},{}]}"#;
        assert_eq!(told("BatchExecuteStatement", &body, StatusCode::OK, said), [at("b", What::Applied(3))]);
        let body = r#"{"TransactItems":[{"Put":{"TableName":"t","Item":{"PK":{"S":"b"},"_v":{"N":"3"}}}},
            {"Delete":{"TableName":"t","Key":{"PK":{"S":"c"}}}}]}"#;
        let both = [at("b", What::Applied(3)), at("c", What::Removed)];
        assert_eq!(told("TransactWriteItems", body, StatusCode::OK, "{}"), both);
        assert_eq!(told("TransactWriteItems", body, StatusCode::BAD_REQUEST, "{}"), []);
    }

    #[test]
    fn what_is_read_is_told_of_and_what_is_written_in_another_way_is_not_passed_over() {
        let item = r#"{"PK":{"S":"a"},"_v":{"N":"7"}}"#;
        let said = format!(r#"{{"Item":{item}}}"#);
        assert_eq!(told("GetItem", r#"{"TableName":"t"}"#, StatusCode::OK, &said), [at("a", What::Seen(7))]);
        let said = format!(r#"{{"Responses":{{"t":[{item}]}}}}"#);
        assert_eq!(told("BatchGetItem", "{}", StatusCode::OK, &said), [at("a", What::Seen(7))]);
        let update = |key: &str| {
            format!(
                r##"{{"TableName":"t","Key":{{"PK":{{"S":"{key}"}}}},"ExpressionAttributeNames":{{"#v":"_v"}}}}"##
            )
        };
        for (operation, body) in [
            ("UpdateItem", update("a")),
            ("BatchWriteItem", r#"{"RequestItems":{"t":[{"PutRequest":{}}]}}"#.to_owned()),
            ("BatchExecuteStatement", r#"{"Statements":[{"Statement":"UPDATE \"t\" SET a=?"}]}"#.to_owned()),
        ] {
            let expected = [(operation.to_owned(), What::Unread)];
            assert_eq!(told(operation, &body, StatusCode::OK, "{}"), expected);
        }
        assert_eq!(told("UpdateItem", &update("lockstep-history"), StatusCode::OK, "{}"), []);
    }
}
