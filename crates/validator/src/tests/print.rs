//! Equal prints if and only if equal items.

use std::collections::HashMap;

use lockstep_core::{AttributeValue, Attributes, Fields, MigratableTable, Version};
use proptest::prelude::*;

use super::table::{NOTES, Note, item, note, tuple};
use crate::print::{Print, Printer};

fn print(attributes: &Attributes) -> Print {
    Printer::new(7).print(attributes.iter().map(|(name, value)| (name.as_str(), value.into())))
}

fn number(digits: &str) -> Print {
    print(&HashMap::from([("x".to_owned(), AttributeValue::N(digits.to_owned()))]))
}

#[test]
fn a_row_prints_like_the_item_that_was_made_of_it_whatever_the_version() {
    let note = note();
    let row = MigratableTable::encode(&NOTES, &note).expect("holdable");
    let of_row = Printer::new(7).print(row.iter().map(|(name, value)| (*name, value.into())));
    for version in [0, 1, i64::MAX] {
        assert_eq!(of_row, print(&item(&NOTES, &note, version)));
    }
    let (again, key, expires_at) =
        lockstep_core::AnyTable::encode_keyed(&NOTES, &mut Fields::of_copy(&tuple(&note))).expect("holdable");
    assert_eq!((again, expires_at), (row, None));
    assert_eq!(
        Ok(key),
        lockstep_core::AnyTable::key_of_row(&NOTES, &mut Fields::of_copy(&tuple(&note)))
            .map_err(|e| e.column)
    );
}

#[test]
fn numbers_are_printed_by_value() {
    for equal in [
        ["10.50", "10.5"],
        ["0", "-0.00"],
        ["1e2", "100"],
        ["0.001", "1E-3"],
        ["+7", "7"],
        ["00120", "1.2e2"],
        ["120", "120.0"],
        ["7", "07"],
    ] {
        assert_eq!(number(equal[0]), number(equal[1]), "{equal:?}");
    }
    for different in [
        ["10.5", "10.51"],
        ["1", "-1"],
        ["1", "10"],
        ["0.1", "0.01"],
        ["", "0"],
        ["NaN", "0"],
        ["1.2.3", "1.23"],
    ] {
        assert_ne!(number(different[0]), number(different[1]), "{different:?}");
    }
}

#[test]
fn null_empty_and_absent_are_three_things() {
    let with = |text: Option<AttributeValue>| {
        print(&text.map(|value| ("x".to_owned(), value)).into_iter().collect())
    };
    let (null, empty, absent) =
        (with(Some(AttributeValue::Null(true))), with(Some(AttributeValue::S(String::new()))), with(None));
    assert!(null != empty && empty != absent && null != absent);
}

#[test]
fn each_single_attribute_that_changes_changes_the_state_and_only_keys_the_place() {
    let whole = item(&NOTES, &note(), 3);
    for name in whole.keys().filter(|name| *name != "_v") {
        let mut changed = whole.clone();
        let value = match &whole[name] {
            AttributeValue::S(text) => AttributeValue::S(format!("{text} ")),
            AttributeValue::N(digits) => AttributeValue::N(format!("{digits}1")),
            other => panic!("an attribute of another type: {other:?}"),
        };
        changed.insert(name.clone(), value);
        assert_ne!(print(&changed).state, print(&whole).state, "{name}");
        assert_eq!(print(&changed).place != print(&whole).place, name == "PK" || name == "SK", "{name}");
        changed.remove(name);
        assert_ne!(print(&changed).state, print(&whole).state, "without {name}");
    }
}

#[test]
fn what_moves_between_neighbours_is_noticed() {
    let of = |a: &str, b: &str| {
        let text = |text: &str| AttributeValue::S(text.to_owned());
        print(&HashMap::from([("a".to_owned(), text(a)), ("b".to_owned(), text(b))])).state
    };
    assert_ne!(of("xy", "z"), of("x", "yz"));
    assert_ne!(of("x", "y"), of("y", "x"));
}

proptest! {
    #[test]
    fn rows_print_alike_if_and_only_if_they_are_alike(a in any_note(), b in any_note()) {
        let [of_a, of_b] = [&a, &b].map(|note| print(&item(&NOTES, note, Version(1).0)));
        prop_assert_eq!(of_a.state == of_b.state, a == b);
    }
}

/// Draws notes from few values, so that two are often alike.
fn any_note() -> impl Strategy<Value = Note> {
    (0..2_i64, "[ab]", proptest::option::of("[ab]?"), proptest::bool::ANY).prop_map(
        |(note_id, author, text, has_tags)| {
            let tags = has_tags.then(|| lockstep_core::Json::parse("[1]").expect("JSON"));
            Note { note_id, author, text, tags }
        },
    )
}
