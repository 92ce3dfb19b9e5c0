//! Words about a document that does not read: what is expected, and never what is there (R36).
//!
//! serde quotes what it found: 1. An operator mixes up two variables, or two fields of a body. 2. `invalid
//! type: string "s3cret", expected u64` is in a log.

use serde_json::error::Category;

/// Returns the fault of a JSON document, and its place.
pub fn of_json(error: &serde_json::Error) -> String {
    let place = format!("line {}, column {}", error.line(), error.column());
    let placed = error.line() > 0;
    let words = match error.classify() {
        Category::Data => of_serde(&error.to_string()),
        Category::Eof => "it ends too early".to_owned(),
        Category::Io => "it could not be read".to_owned(),
        Category::Syntax => "it is no JSON".to_owned(),
    };
    if placed { format!("{words} ({place})") } else { words }
}

/// Returns the sentence of serde on data that is not as expected, without what was found. Of a sentence that
/// is not serde's own nothing is told.
pub fn of_serde(sentence: &str) -> String {
    let Some((kind, found)) = KINDS.iter().find_map(|kind| Some((*kind, sentence.strip_prefix(kind)?)))
    else {
        return "it is not as expected".to_owned();
    };
    let kind = kind.trim_end_matches([' ', ':', '`']);
    if kind == "missing field" || kind == "duplicate field" {
        // A field of ours.
        let name = found.split('`').next().unwrap_or_default();
        return format!("{kind} `{name}`");
    }
    // The expectation comes last, and is ours; it ends where a parser says the place.
    let expected =
        found.rsplit_once(", expected ").or_else(|| found.rsplit_once(", there are ")).map(|(_, last)| {
            let end = last.rfind(" at line ").unwrap_or(last.len());
            &last[..end]
        });
    match expected {
        Some(expected) => format!("{kind}, expected {expected}"),
        None => kind.to_owned(),
    }
}

const KINDS: &[&str] = &[
    "invalid type: ",
    "invalid value: ",
    "invalid length ",
    "unknown field `",
    "unknown variant `",
    "missing field `",
    "duplicate field `",
    // Of types of ours that are read from text; what they expect stands last as well.
    "unknown phase `",
    "unknown moment `",
];

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "snake_case")]
    #[allow(dead_code)]
    struct Body {
        rows: u64,
        kind: Option<Kind>,
        at: Option<crate::Moment>,
        to: Option<crate::Phase>,
    }

    #[derive(Debug, Deserialize)]
    enum Kind {
        Full,
    }

    #[test]
    fn what_is_expected_is_told_and_what_is_there_is_not() {
        for (text, told) in [
            (r#"{"rows": "Planted, expected x"}"#, "invalid type, expected u64"),
            (r#"{"rows": -4711}"#, "invalid value, expected u64"),
            (r#"{"rows": 1, "Planted": 2}"#, "unknown field, expected one of `rows`, `kind`, `at`, `to`"),
            (r#"{"rows": 1, "kind": "Planted"}"#, "unknown variant, expected `Full`"),
            (r#"{"rows": 1, "at": "Planted"}"#, "unknown moment, expected \"2026-01-31\" or "),
            (
                r#"{"rows": 1, "to": "Planted, expected Planted"}"#,
                "unknown phase, expected PostgresOnly, DualWrite, HybridRead or DynamoOnly",
            ),
            (r#"{"kind": null}"#, "missing field `rows`"),
            ("{\"rows\": Planted}", "it is no JSON"),
            ("{\"rows\": \"Planted", "it ends too early"),
        ] {
            let error = serde_json::from_str::<Body>(text).expect_err("refused");
            let said = of_json(&error);
            assert!(said.starts_with(told) && said.contains("line 1"), "{said}");
            assert!(!said.contains("Planted") && !said.contains("4711"), "{said}");
        }
    }
}
