//! One request as it came in, and what can be told from it without much work.

use bytes::Bytes;
use hyper::http::request::Parts;
use memchr::memmem;
use serde_json::Value;

/// A request, read whole.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) operation: String,
    pub(super) parts: Parts,
    pub(super) body: Bytes,
}

impl Call {
    pub(super) fn new(parts: Parts, body: Bytes) -> Self {
        // `X-Amz-Target: DynamoDB_20120810.PutItem`; a request without it gets an empty operation, which no
        // rule names.
        let target = parts.headers.get("x-amz-target").and_then(|value| value.to_str().ok());
        let operation = target.and_then(|target| target.rsplit('.').next()).unwrap_or_default().to_owned();
        Call { operation, parts, body }
    }

    /// Whether the call is about `table`. Batches and PartiQL carry the name as a key of an object or inside
    /// a statement, so there it may stand anywhere, as a whole word.
    pub(super) fn names(&self, table: &str) -> bool {
        if table.is_empty() {
            return false;
        }
        if !self.names_anywhere() {
            return memmem::find(&self.body, format!("\"TableName\":\"{table}\"").as_bytes()).is_some();
        }
        memmem::find_iter(&self.body, table.as_bytes()).any(|at| {
            let before = at.checked_sub(1).and_then(|at| self.body.get(at));
            let after = self.body.get(at + table.len());
            ![before, after].into_iter().flatten().any(|byte| in_a_name(*byte))
        })
    }

    /// The first table the call names, for the record. Cheap and good enough for the requests our own code
    /// sends.
    pub(super) fn table(&self) -> Option<String> {
        let (opening, closing) = match self.operation.as_str() {
            "BatchWriteItem" | "BatchGetItem" => ("\"RequestItems\":{\"", "\""),
            // The first quoted identifier of a statement is its table.
            _ if self.is_partiql() => ("\\\"", "\\\""),
            _ => ("\"TableName\":\"", "\""),
        };
        let start = memmem::find(&self.body, opening.as_bytes())? + opening.len();
        let rest = self.body.get(start..)?;
        let end = memmem::find(rest, closing.as_bytes())?;
        std::str::from_utf8(rest.get(..end)?).ok().map(str::to_owned)
    }

    /// Returns how many items the call writes (none if it reads), and the write units each of them takes.
    pub(super) fn writes(&self) -> (usize, usize) {
        match self.operation.as_str() {
            "PutItem" | "UpdateItem" | "DeleteItem" => (1, 1),
            "ExecuteStatement" => (usize::from(!self.selects(|body| body.get("Statement"))), 1),
            "BatchWriteItem" => (self.count(|body| body.get("RequestItems")), 1),
            "BatchExecuteStatement"
                if self.selects(|body| body.get("Statements")?.get(0)?.get("Statement")) =>
            {
                (0, 1)
            }
            "BatchExecuteStatement" => (self.count(|body| body.get("Statements")), 1),
            "TransactWriteItems" => (self.count(|body| body.get("TransactItems")), 2),
            "ExecuteTransaction" => (self.count(|body| body.get("TransactStatements")), 2),
            _ => (0, 1),
        }
    }

    /// Bytes of the items that a transaction puts: names and values, as DynamoDB counts them.
    pub(super) fn bytes_put(&self) -> usize {
        let body: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        let entries = body["TransactItems"].as_array().into_iter().flatten();
        let items = entries.filter_map(|entry| entry["Put"]["Item"].as_object()).flatten();
        items.map(|(name, value)| name.len() + bytes_of(value)).sum()
    }

    /// Characters and parameters of each statement of a batch.
    pub(super) fn statements(&self) -> Vec<(usize, usize)> {
        let body: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        let statements = body["Statements"].as_array().into_iter().flatten();
        let measures = statements.map(|statement| {
            let characters = statement["Statement"].as_str().map_or(0, |text| text.chars().count());
            (characters, statement["Parameters"].as_array().map_or(0, Vec::len))
        });
        measures.collect()
    }

    /// Shard that a GetRecords reads: what its iterator says beside the position in it.
    pub(super) fn shard(&self) -> Option<String> {
        let body: Value = serde_json::from_slice(&self.body).ok()?;
        let said = decoded(body["ShardIterator"].as_str()?)?;
        said.split("\"position\"").next().map(str::to_owned)
    }

    /// Whether it queries an index.
    pub(super) fn asks_an_index(&self) -> bool {
        memmem::find(&self.body, b"\"IndexName\":").is_some()
    }

    fn is_partiql(&self) -> bool {
        matches!(self.operation.as_str(), "ExecuteStatement" | "BatchExecuteStatement" | "ExecuteTransaction")
    }

    fn names_anywhere(&self) -> bool {
        self.is_partiql() || matches!(self.operation.as_str(), "BatchWriteItem" | "BatchGetItem")
    }

    /// The entries of a list, or of all the lists of an object (the requests of a batch stand under their
    /// tables).
    fn count(&self, list: impl Fn(&Value) -> Option<&Value>) -> usize {
        let body: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        match list(&body) {
            Some(Value::Array(entries)) => entries.len(),
            Some(Value::Object(tables)) => tables.values().filter_map(Value::as_array).map(Vec::len).sum(),
            _ => 0,
        }
    }

    /// A batch of statements reads all or writes all, so the first one tells.
    fn selects(&self, statement: impl Fn(&Value) -> Option<&Value>) -> bool {
        let body: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        let statement = statement(&body).and_then(Value::as_str).unwrap_or_default();
        statement.trim_start().get(..6).is_some_and(|verb| verb.eq_ignore_ascii_case("select"))
    }
}

/// Bytes of a value on the wire, `{"S": "text"}`, as DynamoDB counts them.
fn bytes_of(value: &Value) -> usize {
    match value.as_object().and_then(|value| value.iter().next()) {
        Some((_, Value::String(text))) => text.len(),
        Some((_, Value::Array(list))) => 3 + list.iter().map(|value| 1 + bytes_of(value)).sum::<usize>(),
        Some((_, Value::Object(map))) => {
            3 + map.iter().map(|(name, value)| 1 + name.len() + bytes_of(value)).sum::<usize>()
        }
        _ => 1,
    }
}

/// The text in an iterator of the emulator, which is base64.
fn decoded(iterator: &str) -> Option<String> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0_u32, 0);
    for character in iterator.trim_end_matches('=').bytes() {
        let digit = DIGITS.iter().position(|digit| *digit == character)?;
        bits = (bits << 6) | u32::try_from(digit).ok()?;
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push(u8::try_from((bits >> held) & 0xff).ok()?);
        }
    }
    String::from_utf8(bytes).ok()
}

/// The characters a table's name is made of.
fn in_a_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.')
}

#[cfg(test)]
pub(super) fn call(operation: &str, body: &str) -> Call {
    let request = hyper::Request::post("/").header("X-Amz-Target", format!("DynamoDB_20120810.{operation}"));
    let (parts, ()) = request.body(()).expect("a request").into_parts();
    Call::new(parts, Bytes::copy_from_slice(body.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(operation: &str, body: &str, table: &str, writes: (usize, usize)) {
        let call = call(operation, body);
        assert_eq!(call.operation, operation);
        assert_eq!(call.table().as_deref(), Some(table));
        assert!(call.names(table));
        assert!(!call.names(&table[1..]), "part of a name is another table");
        assert_eq!(call.writes(), writes);
    }

    #[test]
    fn a_single_item_call_names_its_table_and_writes_one() {
        check("PutItem", r#"{"TableName":"logs","Item":{"PK":{"S":"payments"}}}"#, "logs", (1, 1));
        assert!(!call("PutItem", r#"{"TableName":"logs","Item":{"PK":{"S":"payments"}}}"#).names("payments"));
    }

    #[test]
    fn a_read_writes_nothing() {
        check("GetItem", r#"{"TableName":"logs","Key":{}}"#, "logs", (0, 1));
        check("ExecuteStatement", r#"{"Statement":"SELECT * FROM \"logs\""}"#, "logs", (0, 1));
        check(
            "BatchExecuteStatement",
            r#"{"Statements":[{"Statement":"select * from \"logs\""}]}"#,
            "logs",
            (0, 1),
        );
    }

    #[test]
    fn a_batch_writes_all_its_items() {
        let body =
            r#"{"RequestItems":{"logs":[{"PutRequest":{}},{"DeleteRequest":{}}],"pay":[{"PutRequest":{}}]}}"#;
        check("BatchWriteItem", body, "logs", (3, 1));
        assert!(call("BatchWriteItem", body).names("pay"));
    }

    #[test]
    fn statements_name_their_table_in_quotes() {
        let body = r#"{"Statements":[{"Statement":"INSERT INTO \"logs\" VALUE ?"},{"Statement":"UPDATE \"logs\" SET a=?"}]}"#;
        check("BatchExecuteStatement", body, "logs", (2, 1));
    }

    #[test]
    fn a_transaction_costs_twice() {
        let body = r#"{"TransactItems":[{"Put":{"TableName":"logs"}},{"Update":{"TableName":"pay"}}]}"#;
        check("TransactWriteItems", body, "logs", (2, 2));
        assert!(call("TransactWriteItems", body).names("pay"));
        let list = r#"{"L":[{"S":"ab"},{"BOOL":true}]}"#;
        let body =
            format!(r#"{{"TransactItems":[{{"Put":{{"Item":{{"PK":{{"S":"four"}},"n":{list}}}}}}}]}}"#);
        let body = body.as_str();
        assert_eq!(call("TransactWriteItems", body).bytes_put(), 2 + 4 + 1 + 3 + 3 + 2);
    }
}
