//! Claims about one row and one item.

use lockstep_core::{AnyTable, AttributeValue, Attributes, Json};

use super::table::{NOTES, Note, Notes, item, note, tombstone, tuple};
use crate::diff::{Class, SourceRow, classify};

const NOW_S: i64 = 1_000;

#[track_caller]
fn check(table: &Notes, row: Option<&Note>, item: Option<&Attributes>, expected: Class) {
    let tuple = row.map(tuple);
    let row = tuple.as_deref().map(SourceRow::Copied);
    assert_eq!(classify(table as &dyn AnyTable, row, item, NOW_S), expected);
}

fn different(columns: &[&str]) -> Class {
    Class::Different(columns.iter().map(|column| (*column).to_owned()).collect())
}

#[test]
fn a_row_and_its_own_item_are_equal_at_any_version() {
    check(&NOTES, Some(&note()), Some(&item(&NOTES, &note(), 0)), Class::Equal);
    check(&NOTES, Some(&note()), Some(&item(&NOTES, &note(), 1 << 41)), Class::Equal);
}

#[test]
fn nothing_and_nothing_or_a_tombstone_agree() {
    check(&NOTES, None, None, Class::Absent);
    check(&NOTES, None, Some(&tombstone(&note(), 9)), Class::Absent);
}

#[test]
fn documents_are_compared_by_meaning() {
    let mut other = note();
    other.tags = Some(Json::parse(r#"{"b":[2],"a":1}"#).expect("JSON"));
    check(&NOTES, Some(&note()), Some(&item(&NOTES, &other, 0)), Class::Equal);
}

#[test]
fn every_differing_column_is_named_and_derived_attributes_too() {
    let mut other = note();
    other.text = Some("hello!".to_owned());
    check(&NOTES, Some(&note()), Some(&item(&NOTES, &other, 0)), different(&["text", "GSI1PK"]));
}

#[test]
fn null_is_not_the_empty_string() {
    let (mut null, mut empty) = (note(), note());
    null.tags = None;
    (null.text, empty.text, empty.tags) = (None, Some(String::new()), None);
    check(&NOTES, Some(&null), Some(&item(&NOTES, &empty, 0)), different(&["text", "GSI1PK"]));
}

#[test]
fn an_attribute_that_no_rule_makes_is_a_difference() {
    let mut found = item(&NOTES, &note(), 0);
    found.insert("surprise".to_owned(), AttributeValue::Bool(true));
    check(&NOTES, Some(&note()), Some(&found), different(&["surprise"]));
}

#[test]
fn a_row_without_an_item_or_with_a_tombstone_is_missing() {
    check(&NOTES, Some(&note()), None, Class::Missing);
    check(&NOTES, Some(&note()), Some(&tombstone(&note(), 9)), Class::Missing);
}

#[test]
fn retention_is_not_loss_but_a_tombstone_is_not_retention() {
    let past = Notes { expires_at_s: Some(NOW_S) };
    let future = Notes { expires_at_s: Some(NOW_S + 1) };
    check(&past, Some(&note()), None, Class::Expired);
    check(&future, Some(&note()), None, Class::Missing);
    check(&past, Some(&note()), Some(&tombstone(&note(), 9)), Class::Missing);
    check(&past, Some(&note()), Some(&item(&past, &note(), 0)), Class::Equal);
}

#[test]
fn an_item_without_a_row_is_extra_and_so_is_one_in_another_rows_place() {
    check(&NOTES, None, Some(&item(&NOTES, &note(), 0)), Class::Extra);
    let mut misplaced = item(&NOTES, &note(), 0);
    misplaced.insert("PK".to_owned(), AttributeValue::S("Grace".to_owned()));
    check(&NOTES, Some(&note()), Some(&misplaced), Class::Extra);
}

#[test]
fn a_row_that_the_target_cannot_hold_is_never_called_missing_or_equal() {
    let mut unholdable = note();
    unholdable.author = String::new();
    check(&NOTES, Some(&unholdable), None, Class::Unholdable("PK".to_owned()));
    check(&NOTES, Some(&unholdable), Some(&item(&NOTES, &note(), 0)), Class::Unholdable("PK".to_owned()));
}

#[test]
fn an_item_that_does_not_decode_names_the_attribute() {
    let mut broken = item(&NOTES, &note(), 0);
    broken.insert("tags".to_owned(), AttributeValue::Bool(true));
    check(&NOTES, Some(&note()), Some(&broken), Class::Undecodable("tags".to_owned()));
}
