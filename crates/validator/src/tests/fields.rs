//! Claims about what a finding says of fields, and about what it must not say.

use lockstep_core::{AnyTable, AttributeValue, Attributes, FieldDiff, FieldValue, Json};
use proptest::prelude::*;

use super::table::{NOTES, Note, item, note, tuple};
use crate::diff::{SourceRow, explain};
use crate::table_report::{FindingClass, RowFinding};

fn explained(row: &Note, item: &Attributes, unmasked: bool) -> Vec<FieldDiff> {
    explain(&NOTES as &dyn AnyTable, &SourceRow::Copied(&tuple(row)), item, unmasked)
}

fn field(column: &str, path: Option<&str>, source: FieldValue, target: FieldValue) -> FieldDiff {
    FieldDiff { column: column.to_owned(), path: path.map(str::to_owned), source, target }
}

fn value(text: &str) -> FieldValue {
    FieldValue::Value(text.to_owned())
}

#[test]
fn a_field_says_where_and_how_it_differs() {
    let mut other = note();
    other.text = Some(String::new());
    other.tags = Some(Json::parse(r#"{"a": 1, "b": [3]}"#).expect("JSON"));
    let found = item(&NOTES, &other, 0);
    let expected = [
        field("text", None, value("hello"), FieldValue::Empty),
        field("tags", Some("$.b[0]"), value("2"), value("3")),
        field("GSI1PK", None, value("TEXT#5"), value("TEXT#0")),
    ];
    assert_eq!(explained(&note(), &found, true), expected);
    let masked = expected.map(FieldDiff::masked);
    assert_eq!(masked[0], field("text", None, FieldValue::Masked, FieldValue::Empty));
    assert_eq!(explained(&note(), &found, false), masked);
}

#[test]
fn null_absent_and_empty_are_told_apart() {
    let mut null = note();
    null.text = None;
    let mut empty = note();
    empty.text = Some(String::new());
    let first = |row: &Note, item: &Attributes| explained(row, item, false).swap_remove(0);
    assert_eq!(
        first(&null, &item(&NOTES, &empty, 0)),
        field("text", None, FieldValue::Null, FieldValue::Empty)
    );
    assert_eq!(
        first(&empty, &item(&NOTES, &null, 0)),
        field("text", None, FieldValue::Empty, FieldValue::Absent)
    );
    let mut surprised = item(&NOTES, &null, 0);
    surprised.insert("surprise".to_owned(), AttributeValue::S("x".to_owned()));
    assert_eq!(first(&null, &surprised), field("surprise", None, FieldValue::Absent, FieldValue::Masked));
}

#[test]
fn an_item_that_does_not_decode_says_why_and_a_key_column_is_revealed() {
    let mut broken = item(&NOTES, &note(), 0);
    broken.insert("tags".to_owned(), AttributeValue::Null(true));
    let FieldValue::Unreadable(why) = &explained(&note(), &broken, false)[0].target else {
        panic!("it does not decode")
    };
    assert!(why.contains("NULL"), "{why}");
    let mut renamed = item(&NOTES, &note(), 0);
    renamed.insert("author".to_owned(), AttributeValue::S("Grace".to_owned()));
    assert_eq!(explained(&note(), &renamed, false)[0], field("author", None, value("Ada"), value("Grace")));
}

/// Looks like nothing else, and is no name of a column or of a member.
fn secret() -> impl Strategy<Value = String> {
    "S#[a-z0-9\"\\\\]{6,12}"
}

proptest! {
    #[test]
    fn no_secret_leaves_a_masked_finding(
        ours in secret(), theirs in secret(), member in secret(), in_key in any::<bool>(), broken in any::<bool>(), surprise in any::<bool>(),
    ) {
        let document = |value: &str| {
            let name = if in_key { member.as_str() } else { "owner" };
            Json::of(&serde_json::json!({ "list": [{ name: { "card": value } }, value] })).expect("JSON")
        };
        let row = Note { text: Some(ours.clone()), tags: Some(document(&ours)), ..note() };
        let other = Note { text: Some(theirs.clone()), tags: Some(document(&theirs)), ..note() };
        let mut found = item(&NOTES, &other, 0);
        if broken {
            found.insert("tags".to_owned(), AttributeValue::S(format!("{{{theirs}")));
        }
        if surprise {
            found.insert("surprise".to_owned(), AttributeValue::S(theirs.clone()));
        }
        let fields = explained(&row, &found, false);
        prop_assert!(!fields.is_empty() || ours == theirs);
        let finding = RowFinding {
            class: FindingClass::Different,
            key: "[]".to_owned(),
            is_source_key: true,
            columns: Vec::new(),
shares_place_with: None,
            fields: fields.clone(),
        };
        let mut written = serde_json::to_string(&finding).expect("JSON");
        for field in &fields {
            written += &format!("\n{} {} {}", field.place(), field.source, field.target);
        }
        for secret in [&ours, &theirs, &member] {
            // As it is, and as JSON would write it.
            let quoted = serde_json::Value::from(secret.as_str()).to_string();
            prop_assert!(!written.contains(secret.as_str()) && !written.contains(&quoted[1..quoted.len() - 1]), "{written}");
        }
        let unmasked = serde_json::to_string(&explained(&row, &found, true)).expect("JSON");
        prop_assert!(broken || ours == theirs || unmasked.contains("S#"), "this could not fail: {unmasked}");
    }
}
