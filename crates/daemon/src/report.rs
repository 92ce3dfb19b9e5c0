//! A verdict's report for people who may not see rows: counts, and which keys and columns differ.

use serde_json::{Map, Value, json};

/// Findings that are listed.
const FINDINGS_MAX: usize = 500;

/// Returns a report without its lists: its words and numbers, and those of each table.
#[must_use]
pub fn summary(report: &Value) -> Value {
    let mut summary = scalars(report);
    if let Some(reasons) = report.get("reasons").and_then(Value::as_array) {
        summary.insert(
            "reasons".to_owned(),
            reasons.iter().filter(|reason| reason.is_string()).cloned().collect(),
        );
    }
    let tables = report.get("tables").and_then(Value::as_array);
    let tables: Vec<Value> =
        tables.into_iter().flatten().map(|table| Value::Object(scalars(table))).collect();
    summary.insert("tables".to_owned(), Value::from(tables));
    Value::Object(summary)
}

fn scalars(value: &Value) -> Map<String, Value> {
    let fields = value.as_object().into_iter().flatten();
    fields
        .filter(|(_, value)| !value.is_object() && !value.is_array())
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// Returns what a report found: table, class, key, names of columns.
pub(crate) fn findings(report: &Value) -> Vec<Value> {
    let tables = report.get("tables").and_then(Value::as_array);
    let mut found = Vec::new();
    for table in tables.into_iter().flatten() {
        for finding in table.get("findings").and_then(Value::as_array).into_iter().flatten() {
            found.push(json!({
                "table": table.get("name"), "class": finding.get("class"), "key": finding.get("key"),
                "columns": finding.get("columns"),
            }));
            if found.len() >= FINDINGS_MAX {
                return found;
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_value_of_a_field_is_in_what_is_shown() {
        let report = json!({
            "verdict": "inconsistent", "reasons": ["1 row differs"],
            "tables": [{ "name": "payments", "source_rows": 3, "findings": [
                { "class": "different", "key": "7", "columns": ["amount"], "fields": [{ "column": "amount", "source": "secret", "target": "hidden" }] },
            ] }],
        });
        let shown = json!([summary(&report), findings(&report)]).to_string();
        assert!(
            shown.contains("amount") && shown.contains("payments") && shown.contains("1 row differs"),
            "{shown}"
        );
        assert!(!shown.contains("secret") && !shown.contains("hidden"), "{shown}");
    }
}
