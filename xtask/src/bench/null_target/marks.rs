//! The one thing that a null target does keep: a table's mark of history.
//!
//! A relay sets the mark of its table when it begins, and reads it back before it delivers. A target that has
//! forgotten it was set back to a backup, as far as the relay can tell, and nothing is moved into it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use memchr::memmem;
use serde_json::{Map, Value};

/// Bytes in the key of each mark, and in no row of a bench.
const PLACE: &[u8] = b"lockstep-history";

/// The marks, by the table.
#[derive(Debug, Default)]
pub(super) struct Marks(Mutex<HashMap<String, Value>>);

impl Marks {
    /// Keeps the mark that an `UpdateItem` sets; anything else is let go.
    pub(super) fn keep(&self, body: &[u8]) {
        if let Some((table, item)) = set_by(body) {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(table, item);
        }
    }

    /// The answer to a `GetItem`: the mark that it asks for, or nothing.
    pub(super) fn found(&self, body: &[u8]) -> String {
        let none = || "{}".to_owned();
        if memmem::find(body, PLACE).is_none() {
            return none();
        }
        let Ok(Value::Object(request)) = serde_json::from_slice(body) else { return none() };
        let table = request.get("TableName").and_then(Value::as_str).unwrap_or_default();
        let marks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        marks.get(table).map_or_else(none, |item| serde_json::json!({ "Item": item }).to_string())
    }
}

/// The table, and the item that `SET #a = :a, #b = :b` makes of its key.
fn set_by(body: &[u8]) -> Option<(String, Value)> {
    memmem::find(body, PLACE)?;
    let request: Map<String, Value> = serde_json::from_slice(body).ok()?;
    let (names, values) =
        (request.get("ExpressionAttributeNames")?, request.get("ExpressionAttributeValues")?);
    let mut item = request.get("Key")?.as_object()?.clone();
    for set in request.get("UpdateExpression")?.as_str()?.strip_prefix("SET ")?.split(", ") {
        let (name, value) = set.split_once(" = ")?;
        item.insert(names.get(name)?.as_str()?.to_owned(), values.get(value)?.clone());
    }
    Some((request.get("TableName")?.as_str()?.to_owned(), Value::Object(item)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_found_in_its_own_table_and_a_row_is_not_kept() {
        let marks = Marks::default();
        marks.keep(
            br##"{"TableName":"logs","Key":{"PK":{"S":"lockstep-history"}},"UpdateExpression":"SET #m = :m","ExpressionAttributeNames":{"#m":"_mark"},"ExpressionAttributeValues":{":m":{"N":"7"}}}"##,
        );
        marks.keep(br#"{"TableName":"logs","Key":{"PK":{"S":"a row"}},"UpdateExpression":"SET a = :a"}"#);
        let get =
            |table: &str| format!(r#"{{"TableName":"{table}","Key":{{"PK":{{"S":"lockstep-history"}}}}}}"#);
        assert_eq!(
            marks.found(get("logs").as_bytes()),
            r#"{"Item":{"PK":{"S":"lockstep-history"},"_mark":{"N":"7"}}}"#
        );
        assert_eq!(marks.found(get("others").as_bytes()), "{}");
        assert_eq!(marks.found(br#"{"TableName":"logs","Key":{"PK":{"S":"a row"}}}"#), "{}");
    }
}
