//! Answers to each operation, and how its items are counted.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use memchr::memmem::{self, Finder};
use serde_json::{Map, Value, json};

use super::marks::Marks;
use crate::bench::validate::pages::Pages;

// Items are counted while the body goes by, by searching it for needles, not by parsing. Quotes are escaped
// inside a JSON string, so no value contains a needle's bare ones. As keys they cannot be mistaken either: an
// attribute's value is always an object of a type (`"Statement":{"S":…`), so a quote never follows an
// attribute's name, and neither `Item` nor `Key` is a type. They do depend on the SDK's writing no blanks.
const STATEMENTS: &[&[u8]] = &[br#""Statement":""#];
const REQUESTS: &[&[u8]] = &[br#"{"PutRequest":{"Item":{"#, br#"{"DeleteRequest":{"Key":{"#];

/// No needle is longer. This number of bytes less one is carried from one read to the next: enough to find a
/// needle that was cut.
pub(super) const NEEDLE_BYTES_MAX: usize = 25;

/// An operation, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Write,
    Update,
    BatchOfStatements,
    BatchOfRequests,
    Describe,
    Create,
    Delete,
    ListTables,
    UpdateTimeToLive,
    DescribeTimeToLive,
    Get,
    BatchGet,
    Query,
    Scan,
    Unknown,
}

impl Operation {
    /// Reads the operation from the value of `x-amz-target`.
    pub(super) fn of(target: &[u8]) -> Self {
        let name = memchr::memrchr(b'.', target).map_or(target, |dot| &target[dot + 1..]);
        match name {
            b"BatchExecuteStatement" | b"ExecuteTransaction" => Operation::BatchOfStatements,
            b"BatchWriteItem" => Operation::BatchOfRequests,
            b"UpdateItem" => Operation::Update,
            b"PutItem" | b"DeleteItem" | b"ExecuteStatement" | b"TransactWriteItems" => Operation::Write,
            b"DescribeTable" => Operation::Describe,
            b"CreateTable" | b"UpdateTable" => Operation::Create,
            b"DeleteTable" => Operation::Delete,
            b"ListTables" => Operation::ListTables,
            b"UpdateTimeToLive" => Operation::UpdateTimeToLive,
            b"DescribeTimeToLive" => Operation::DescribeTimeToLive,
            b"GetItem" => Operation::Get,
            b"BatchGetItem" => Operation::BatchGet,
            b"Query" => Operation::Query,
            b"Scan" => Operation::Scan,
            _ => Operation::Unknown,
        }
    }

    /// The items of a request, as far as that is known without its body.
    pub(super) fn items(self) -> u64 {
        u64::from(matches!(self, Operation::Write | Operation::Update))
    }

    pub(super) fn writes(self) -> bool {
        use Operation::{BatchOfRequests, BatchOfStatements, Update, Write};
        matches!(self, Write | Update | BatchOfStatements | BatchOfRequests)
    }

    pub(super) fn is_batch(self) -> bool {
        matches!(self, Operation::BatchOfStatements | Operation::BatchOfRequests)
    }

    /// Whether the answer needs the body: it names the table, the page, or a mark.
    pub(super) fn is_answered_by_body(self) -> bool {
        use Operation::{BatchGet, Create, Delete, Describe, Get, Scan, Update};
        matches!(self, Describe | Create | Delete | Scan | Get | BatchGet | Update)
    }
}

/// A `TableDescription` for a table's name.
pub(super) type Describe = Box<dyn Fn(&str) -> String + Send + Sync>;

/// The answers, written in advance.
pub(super) struct Answers {
    pub(super) describe: Describe,
    pub(super) finders: Finders,
    /// Pages with which scans are answered; nothing without them.
    pub(super) pages: Option<Arc<Pages>>,
    marks: Marks,
    empty: Bytes,
    requests: Bytes,
    // By number of statements, up to DynamoDB's limit of 25.
    statements: Vec<Bytes>,
}

impl Default for Answers {
    fn default() -> Self {
        Answers {
            describe: Box::new(describe),
            finders: Finders::default(),
            pages: None,
            marks: Marks::default(),
            empty: ok("{}"),
            requests: ok(r#"{"UnprocessedItems":{}}"#),
            statements: (0..=25).map(responses).collect(),
        }
    }
}

impl Answers {
    /// `body` is given to operations that are answered by it; `items` is what was counted.
    pub(super) fn answer(&self, operation: Operation, body: &[u8], items: u64) -> Bytes {
        let about = |field| ok(&format!("{{\"{field}\":{}}}", (self.describe)(table(body))));
        match operation {
            Operation::Write => self.empty.clone(),
            Operation::Update => {
                self.marks.keep(body);
                self.empty.clone()
            }
            Operation::Get => ok(&self.marks.found(body)),
            Operation::BatchOfRequests => self.requests.clone(),
            Operation::BatchOfStatements => {
                let count = usize::try_from(items).unwrap_or(usize::MAX);
                self.statements.get(count).cloned().unwrap_or_else(|| responses(count))
            }
            Operation::Describe => about("Table"),
            Operation::Create | Operation::Delete => about("TableDescription"),
            Operation::ListTables => ok(r#"{"TableNames":[]}"#),
            Operation::UpdateTimeToLive => {
                ok(r#"{"TimeToLiveSpecification":{"AttributeName":"ttl","Enabled":true}}"#)
            }
            Operation::DescribeTimeToLive => {
                ok(r#"{"TimeToLiveDescription":{"TimeToLiveStatus":"ENABLED","AttributeName":"ttl"}}"#)
            }
            Operation::BatchGet => ok(&nothing_of_each(body)),
            Operation::Query | Operation::Scan => match &self.pages {
                Some(pages) if operation == Operation::Scan => pages.answer(body),
                _ => ok(r#"{"Items":[],"Count":0,"ScannedCount":0}"#),
            },
            Operation::Unknown => render(
                "400 Bad Request",
                r#"{"__type":"com.amazon.coral.service#UnknownOperationException","message":"not spoken by the null target"}"#,
            ),
        }
    }
}

impl fmt::Debug for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answers").finish_non_exhaustive()
    }
}

/// The needles, prepared: building a searcher costs more than searching a body with it.
#[derive(Debug)]
pub(super) struct Finders {
    statements: Vec<Finder<'static>>,
    requests: Vec<Finder<'static>>,
}

impl Default for Finders {
    fn default() -> Self {
        let prepare = |needles: &[&'static [u8]]| needles.iter().map(|needle| Finder::new(*needle)).collect();
        Finders { statements: prepare(STATEMENTS), requests: prepare(REQUESTS) }
    }
}

impl Finders {
    /// The needles to look for in a body of this operation.
    pub(super) fn of(&self, operation: Operation) -> &[Finder<'static>] {
        match operation {
            Operation::BatchOfStatements => &self.statements,
            Operation::BatchOfRequests => &self.requests,
            _ => &[],
        }
    }
}

/// A table as every client expects it.
fn describe(table: &str) -> String {
    format!(
        r#"{{"TableName":"{table}","TableId":"00000000-0000-4000-8000-000000000000","TableArn":"arn:aws:dynamodb:null:000000000000:table/{table}","TableStatus":"ACTIVE","CreationDateTime":0,"ItemCount":0,"TableSizeBytes":0,"KeySchema":[{{"AttributeName":"PK","KeyType":"HASH"}},{{"AttributeName":"SK","KeyType":"RANGE"}}],"AttributeDefinitions":[{{"AttributeName":"PK","AttributeType":"S"}},{{"AttributeName":"SK","AttributeType":"S"}}],"BillingModeSummary":{{"BillingMode":"PAY_PER_REQUEST"}}}}"#
    )
}

/// The table a request names. Names of tables contain nothing that JSON escapes.
fn table(body: &[u8]) -> &str {
    const NEEDLE: &[u8] = br#""TableName":""#;
    let name = memmem::find(body, NEEDLE).map(|at| &body[at + NEEDLE.len()..]);
    let name = name.and_then(|rest| memchr::memchr(b'"', rest).map(|end| &rest[..end]));
    name.and_then(|name| std::str::from_utf8(name).ok()).unwrap_or("unnamed")
}

/// An answer to BatchGetItem that finds no key: as DynamoDB's, it names each table that was asked for.
fn nothing_of_each(body: &[u8]) -> String {
    let asked = serde_json::from_slice::<Value>(body).unwrap_or_default();
    let tables = asked["RequestItems"].as_object().into_iter().flat_map(|tables| tables.keys());
    let none: Map<String, Value> = tables.map(|table| (table.clone(), json!([]))).collect();
    json!({ "Responses": none, "UnprocessedKeys": {} }).to_string()
}

fn responses(count: usize) -> Bytes {
    ok(&format!("{{\"Responses\":[{}]}}", vec!["{}"; count].join(",")))
}

pub(in super::super) fn ok(body: &str) -> Bytes {
    render("200 OK", body)
}

fn render(status: &str, body: &str) -> Bytes {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\ncontent-type: application/x-amz-json-1.0\r\ncontent-length: {length}\r\n\r\n{body}").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn needles_are_no_longer_than_what_is_carried() {
        let longest = STATEMENTS.iter().chain(REQUESTS).map(|needle| needle.len()).max();
        assert_eq!(longest, Some(NEEDLE_BYTES_MAX));
    }

    #[test]
    fn the_answer_to_a_batch_has_as_many_responses_as_statements() {
        let answers = Answers::default();
        for count in [0_u64, 1, 25, 100] {
            let answer = answers.answer(Operation::BatchOfStatements, b"", count);
            let body = memmem::find(&answer, b"\r\n\r\n").map(|at| &answer[at + 4..]).expect("a body");
            let body: Value = serde_json::from_slice(body).expect("JSON");
            assert_eq!(body["Responses"].as_array().map(Vec::len), usize::try_from(count).ok());
        }
    }

    #[test]
    fn an_answer_that_finds_no_key_names_each_table_that_was_asked_for() {
        let asked = br#"{"RequestItems":{"logs":{"Keys":[{"PK":{"S":"x"}}]},"payments":{"Keys":[]}}}"#;
        assert_eq!(nothing_of_each(asked), r#"{"Responses":{"logs":[],"payments":[]},"UnprocessedKeys":{}}"#);
    }

    #[test]
    fn an_operation_is_known_by_the_end_of_its_target() {
        assert_eq!(Operation::of(b"DynamoDB_20120810.PutItem"), Operation::Write);
        assert_eq!(Operation::of(b"DynamoDB_20120810.BatchExecuteStatement"), Operation::BatchOfStatements);
        assert_eq!(Operation::of(b""), Operation::Unknown);
    }
}
