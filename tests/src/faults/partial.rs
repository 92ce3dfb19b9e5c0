//! A batch of which only a part goes on.
//!
//! [`split`] takes requests out of a batch, evenly spread rather than off its end (a caller that assumes "the
//! first `n` went through" must be caught), and [`Split::merge`] puts them back into the answer as refused.
//! Bodies pass through a JSON value, which changes the order of keys and nothing else: DynamoDB's numbers are
//! strings on the wire.

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::answers::{STATEMENT_THROTTLED, THROTTLED};

/// A batch cut in two.
#[derive(Debug)]
pub(super) struct Split {
    /// The body to forward, or `None` when everything is withheld.
    pub(super) forward: Option<Bytes>,
    withheld: Withheld,
}

#[derive(Debug)]
enum Withheld {
    /// For each statement, whether it was withheld.
    Statements(Vec<bool>),
    /// Requests by table, to be returned under this field.
    Requests { field: &'static str, by_table: Map<String, Value> },
}

/// Withholds `count` requests of a batch. `None` if there is nothing to split: not a batch, or not one that
/// we understand; the emulator will say what is wrong with it.
pub(super) fn split(operation: &str, body: &[u8], count: usize) -> Option<Split> {
    let mut body: Map<String, Value> = serde_json::from_slice(body).ok()?;
    match operation {
        "BatchExecuteStatement" => {
            let statements = body.get_mut("Statements")?.as_array_mut()?;
            let out: Vec<bool> =
                (0..statements.len()).map(|at| is_withheld(at, statements.len(), count)).collect();
            take(statements, &mut out.iter().copied());
            let forward = (!statements.is_empty()).then(|| to_bytes(&body));
            Some(Split { forward, withheld: Withheld::Statements(out) })
        }
        "BatchWriteItem" => split_requests(body, count, "UnprocessedItems", |table| table.as_array_mut()),
        "BatchGetItem" => split_requests(body, count, "UnprocessedKeys", |table| {
            table.get_mut("Keys").and_then(Value::as_array_mut)
        }),
        _ => None,
    }
}

impl Split {
    /// The answer to the whole batch, from the emulator's answer to the part that was forwarded. `None` if
    /// that answer is not what such a batch is answered with.
    pub(super) fn merge(self, answer: &[u8]) -> Option<Bytes> {
        let mut answer: Map<String, Value> = serde_json::from_slice(answer).ok()?;
        match self.withheld {
            Withheld::Statements(out) => {
                let given = answer.get_mut("Responses")?.as_array_mut()?;
                let mut given = std::mem::take(given).into_iter();
                let responses =
                    out.into_iter().map(|withheld| if withheld { Some(throttled()) } else { given.next() });
                let responses = responses.collect::<Option<Vec<Value>>>()?;
                if given.next().is_some() {
                    return None;
                }
                answer.insert("Responses".to_owned(), Value::Array(responses));
            }
            Withheld::Requests { field, by_table } => {
                let unprocessed = answer.entry(field).or_insert_with(|| json!({})).as_object_mut()?;
                for (table, mut ours) in by_table {
                    match unprocessed.get_mut(&table) {
                        Some(theirs) => requests(theirs)?.append(requests(&mut ours)?),
                        None => drop(unprocessed.insert(table, ours)),
                    }
                }
            }
        }
        Some(to_bytes(&answer))
    }

    /// The answer when everything was withheld: all statements throttled one by one. Batches of items have
    /// none, they are refused as a whole.
    pub(super) fn all_withheld(self) -> Option<Bytes> {
        match self.withheld {
            Withheld::Statements(_) => self.merge(br#"{"Responses":[]}"#),
            Withheld::Requests { .. } => None,
        }
    }
}

fn split_requests(
    mut body: Map<String, Value>,
    count: usize,
    field: &'static str,
    list: impl Fn(&mut Value) -> Option<&mut Vec<Value>>,
) -> Option<Split> {
    let tables = body.get_mut("RequestItems")?.as_object_mut()?;
    let total = tables.values_mut().filter_map(&list).map(|requests| requests.len()).sum();
    let mut out = (0..total).map(|at| is_withheld(at, total, count));
    let mut by_table = Map::new();
    for (name, table) in tables.iter_mut() {
        let taken = take(list(table)?, &mut out);
        if !taken.is_empty() {
            // The fields beside the requests (a projection, consistency) go back with them.
            let mut copy = table.clone();
            *list(&mut copy)? = taken;
            by_table.insert(name.clone(), copy);
        }
    }
    tables.retain(|_, table| list(table).is_some_and(|requests| !requests.is_empty()));
    let forward = (!tables.is_empty()).then(|| to_bytes(&body));
    Some(Split { forward, withheld: Withheld::Requests { field, by_table } })
}

/// Exactly `count` of `total` places (all, if there are fewer), evenly spread.
fn is_withheld(at: usize, total: usize, count: usize) -> bool {
    count >= total || (at + 1) * count / total > at * count / total
}

/// Moves the marked entries out of a list; one mark is drawn for each entry.
fn take(entries: &mut Vec<Value>, marks: &mut impl Iterator<Item = bool>) -> Vec<Value> {
    entries.extract_if(.., |_| marks.next().unwrap_or(false)).collect()
}

/// The requests of one table in an unprocessed map: a list for writes, a list under `Keys` for reads.
fn requests(table: &mut Value) -> Option<&mut Vec<Value>> {
    match table {
        Value::Array(requests) => Some(requests),
        table => table.get_mut("Keys")?.as_array_mut(),
    }
}

fn throttled() -> Value {
    json!({ "Error": { "Code": STATEMENT_THROTTLED, "Message": THROTTLED } })
}

fn to_bytes(body: &Map<String, Value>) -> Bytes {
    // Made of parsed JSON, so it can be written again.
    serde_json::to_vec(body).unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &[u8]) -> Value {
        serde_json::from_slice(body).expect("JSON")
    }

    #[test]
    fn exactly_the_number_that_was_asked_for_is_withheld_wherever_they_stand() {
        for total in 1..=25 {
            for count in 0..=total + 1 {
                let withheld = (0..total).filter(|at| is_withheld(*at, total, count)).count();
                assert_eq!(withheld, count.min(total), "{count} of {total}");
            }
        }
    }

    #[test]
    fn statements_withheld_are_answered_in_their_places() {
        let body = json!({ "Statements": (0..5).map(|n| json!({ "Statement": n.to_string() })).collect::<Vec<_>>() });
        let split = split("BatchExecuteStatement", body.to_string().as_bytes(), 2).expect("a batch");
        let forward = parse(split.forward.as_ref().expect("three go on"));
        let went_on: Vec<&str> = forward["Statements"]
            .as_array()
            .expect("a list")
            .iter()
            .filter_map(|s| s["Statement"].as_str())
            .collect();
        assert_eq!(went_on, ["0", "1", "3"]);
        let upstream =
            json!({ "Responses": went_on.iter().map(|n| json!({ "TableName": n })).collect::<Vec<_>>() });
        let merged = parse(&split.merge(upstream.to_string().as_bytes()).expect("an answer"));
        for (at, response) in merged["Responses"].as_array().expect("a list").iter().enumerate() {
            if [2, 4].contains(&at) {
                assert_eq!(response["Error"]["Code"], STATEMENT_THROTTLED);
            } else {
                assert_eq!(response["TableName"], at.to_string());
            }
        }
    }

    #[test]
    fn an_answer_with_a_wrong_number_of_responses_is_not_understood() {
        let body = br#"{"Statements":[{"Statement":"a"},{"Statement":"b"},{"Statement":"c"}]}"#;
        for answer in [r#"{"Responses":[{}]}"#, r#"{"Responses":[{},{},{}]}"#, "{}", "not JSON"] {
            let split = split("BatchExecuteStatement", body, 1).expect("a batch");
            assert!(split.merge(answer.as_bytes()).is_none(), "{answer}");
        }
    }

    #[test]
    fn requests_withheld_join_what_the_emulator_left_unprocessed() {
        let body = json!({ "RequestItems": { "a": [1, 2, 3], "b": [4] }, "ReturnConsumedCapacity": "NONE" });
        let split = split("BatchWriteItem", body.to_string().as_bytes(), 2).expect("a batch");
        let forward = parse(split.forward.as_ref().expect("two go on"));
        assert_eq!(forward["RequestItems"], json!({ "a": [1, 3] }), "a table without requests is left out");
        assert_eq!(forward["ReturnConsumedCapacity"], "NONE");
        let merged = parse(&split.merge(br#"{"UnprocessedItems":{"a":[3]}}"#).expect("an answer"));
        assert_eq!(merged["UnprocessedItems"], json!({ "a": [3, 2], "b": [4] }));
    }

    #[test]
    fn keys_withheld_keep_what_was_asked_of_them() {
        let body = json!({ "RequestItems": { "a": { "Keys": [1, 2], "ConsistentRead": true } } });
        let split = split("BatchGetItem", body.to_string().as_bytes(), 1).expect("a batch");
        let merged = parse(&split.merge(br#"{"Responses":{"a":[]}}"#).expect("an answer"));
        assert_eq!(merged["UnprocessedKeys"], json!({ "a": { "Keys": [2], "ConsistentRead": true } }));
        assert_eq!(merged["Responses"], json!({ "a": [] }));
    }

    #[test]
    fn a_batch_withheld_whole_forwards_nothing() {
        let statements = split("BatchExecuteStatement", br#"{"Statements":[{},{}]}"#, 9).expect("a batch");
        assert!(statements.forward.is_none());
        let answer = parse(&statements.all_withheld().expect("an answer"));
        assert_eq!(answer["Responses"].as_array().map(Vec::len), Some(2));
        let writes = split("BatchWriteItem", br#"{"RequestItems":{"a":[1]}}"#, 1).expect("a batch");
        assert!(writes.forward.is_none());
        assert!(writes.all_withheld().is_none());
    }
}
