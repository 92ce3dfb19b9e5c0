//! Puts that the target has answered, and when: what a trace of a run holds against the source's tables.

use aws_sdk_dynamodb::types::AttributeValue;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use hyper::StatusCode;
use lockstep_core::{Attributes, PK, SK, VERSION_ATTRIBUTE, place};
use serde_json::Value;

use super::call::Call;

/// One put of an item with a version, after which the target has that state, or a newer one.
#[derive(Clone, Debug)]
pub struct Written {
    /// Time at which the emulator had answered, before any client heard of it.
    pub at: DateTime<Utc>,
    /// Name of the table.
    pub table: String,
    /// The item's key as one text, as the reverse feed remembers it.
    pub place: String,
    /// Version of the state.
    pub version: i64,
    /// Whether it was applied; else the target had a newer one.
    pub applied: bool,
}

/// Reads from an answer which puts of a call the target has. A refused transaction tells that of none of its
/// parts.
pub(super) fn of(call: &Call, sent: &Bytes, status: StatusCode, said: &Bytes) -> Vec<Written> {
    if !matches!(call.operation.as_str(), "PutItem" | "TransactWriteItems" | "BatchExecuteStatement") {
        return Vec::new();
    }
    let (Ok(body), at) = (serde_json::from_slice::<Value>(sent), Utc::now()) else { return Vec::new() };
    let answer: Value = serde_json::from_slice(said).unwrap_or_default();
    let is_superseded =
        answer["__type"].as_str().is_some_and(|kind| kind.ends_with("ConditionalCheckFailedException"));
    let applied = status == StatusCode::OK;
    match call.operation.as_str() {
        "PutItem" if applied || is_superseded => put(&body, at, applied).into_iter().collect(),
        "TransactWriteItems" if applied => {
            let parts = body["TransactItems"].as_array().into_iter().flatten();
            parts.filter_map(|part| put(&part["Put"], at, true)).collect()
        }
        "BatchExecuteStatement" if applied => {
            let statements = body["Statements"].as_array().into_iter().flatten();
            let answers = answer["Responses"].as_array().into_iter().flatten();
            let written = statements.zip(answers).filter(|(_, said)| said.get("Error").is_none());
            written.filter_map(|(statement, _)| inserted(statement, at)).collect()
        }
        _ => Vec::new(),
    }
}

fn put(put: &Value, at: DateTime<Utc>, applied: bool) -> Option<Written> {
    written(put["TableName"].as_str()?, |name| put["Item"].get(name), at, applied)
}

/// The item of `INSERT INTO "t" VALUE {'PK':?,…}`.
fn inserted(statement: &Value, at: DateTime<Utc>) -> Option<Written> {
    let text = statement["Statement"].as_str()?;
    let (_, names) = text.split_once(" VALUE {")?;
    let names: Vec<&str> = names.split("':?").map(|name| name.trim_start_matches([',', '\''])).collect();
    let value = |name: &str| statement["Parameters"].get(names.iter().position(|known| *known == name)?);
    written(text.split('"').nth(1)?, value, at, true)
}

fn written<'v>(
    table: &str,
    value: impl Fn(&str) -> Option<&'v Value>,
    at: DateTime<Utc>,
    applied: bool,
) -> Option<Written> {
    let version = value(VERSION_ATTRIBUTE)?["N"].as_str()?.parse().ok()?;
    let attribute = |name: &str| {
        let value = value(name)?;
        let text = value["S"].as_str().map(|text| AttributeValue::S(text.to_owned()));
        let number = || value["N"].as_str().map(|text| AttributeValue::N(text.to_owned()));
        Some((name.to_owned(), text.or_else(number)?))
    };
    let key: Attributes = [PK, SK].into_iter().filter_map(attribute).collect();
    Some(Written { at, table: table.to_owned(), place: place(&key), version, applied })
}

#[cfg(test)]
mod tests {
    use super::super::call::call;
    use super::*;

    fn told(operation: &str, body: &str, status: StatusCode, said: &str) -> Vec<(String, i64, bool)> {
        let call = call(operation, body);
        let found = of(&call, &call.body, status, &Bytes::copy_from_slice(said.as_bytes()));
        found.into_iter().map(|one| (one.place, one.version, one.applied)).collect()
    }

    #[test]
    fn a_put_tells_whether_it_was_applied_or_outrun_and_no_other_answer_tells_anything() {
        let body = r#"{"TableName":"t","Item":{"PK":{"S":"a"},"SK":{"N":"1"},"_v":{"N":"7"}}}"#;
        let at = || r#"[["S","a"],["N","1"]]"#.to_owned();
        assert_eq!(told("PutItem", body, StatusCode::OK, "{}"), [(at(), 7, true)]);
        let refused = r#"{"__type":"com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException"}"#;
        assert_eq!(told("PutItem", body, StatusCode::BAD_REQUEST, refused), [(at(), 7, false)]);
        let throttled = r#"{"__type":"x#ProvisionedThroughputExceededException"}"#;
        assert_eq!(told("PutItem", body, StatusCode::BAD_REQUEST, throttled), []);
        assert_eq!(told("GetItem", body, StatusCode::OK, "{}"), []);
    }

    #[test]
    fn each_statement_and_each_part_of_a_transaction_is_told_of_by_itself() {
        let statement = |pk: &str| {
            format!(
                r#"{{"Statement":"INSERT INTO \"t\" VALUE {{'PK':?,'more':?,'_v':?}}","Parameters":[{{"S":"{pk}"}},{{"S":"x"}},{{"N":"3"}}]}}"#
            )
        };
        let body = format!(r#"{{"Statements":[{},{}]}}"#, statement("a"), statement("b"));
        let said = r#"{"Responses":[{"Error":{"Code":"DuplicateItem"}},{}]}"#;
        let expected = [(r#"[["S","b"],null]"#.to_owned(), 3, true)];
        assert_eq!(told("BatchExecuteStatement", &body, StatusCode::OK, said), expected);
        let body = r#"{"TransactItems":[{"Put":{"TableName":"t","Item":{"PK":{"S":"b"},"_v":{"N":"3"}}}},{"Update":{}}]}"#;
        assert_eq!(told("TransactWriteItems", body, StatusCode::OK, "{}"), expected);
    }
}
