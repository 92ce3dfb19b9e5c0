//! Kind of each column: by its type, or by a choice that the declaration makes.

use lockstep_postgres::CatalogColumn;

use super::{Problems, Resolver, leak};
use crate::held::HeldAs;
use crate::kind::{Kind, Read};

impl Resolver<'_> {
    /// Returns the kind of a column, and how it is read.
    pub(super) fn held(
        &self,
        column: &CatalogColumn,
        is_in_key: bool,
        problems: &mut Problems,
    ) -> (Kind, Read) {
        let (name, of_type) = (&column.name, Kind::of(column));
        let is_list = self.declaration.lists.contains(name);
        if let Some(word) = self.declaration.held_as.get(name) {
            if is_list {
                problems.push(format!("lists and held_as both name `{name}`; leave it in one of them"));
            }
            return chosen(*word, column, is_in_key).unwrap_or_else(|problem| {
                problems.push(problem);
                of_type
            });
        }
        // Equal documents have several texts, as 1.5 and 1.50, and a key has one: PostgreSQL's own. And one
        // of type json would be a document within a key, and no text.
        if is_in_key && (of_type.0 == Kind::Jsonb || column.builtin == "json") {
            return (Kind::Other, Read::Printed);
        }
        if !is_list {
            return of_type;
        }
        let Some(element) = Kind::of_elements(column) else {
            problems.push(format!(
                "lists names `{name}`, which is {} and no array that a list can hold",
                column.sql_type
            ));
            return of_type;
        };
        if is_in_key {
            problems.push(format!(
                "lists names `{name}`, which is in the key: a key of DynamoDB is no list; leave it out there"
            ));
        }
        (Kind::List(leak(element)), Read::Printed)
    }
}

fn chosen(word: HeldAs, column: &CatalogColumn, is_in_key: bool) -> Result<(Kind, Read), String> {
    let (name, sql_type, word_of) = (&column.name, &column.sql_type, word.word());
    let Some(kind) = kind_as(word, column) else {
        let instead = match words(column).as_str() {
            "" => "leave it out, it is held in one way only".to_owned(),
            words => format!("write {words}, or leave it out"),
        };
        return Err(format!(
            "held_as says \"{word_of}\" of `{name}`, which is {sql_type}, and none is held so: {instead}"
        ));
    };
    // A source key has one text for each value, which is that of PostgreSQL.
    if is_in_key && (kind.has_no_text() || kind == Kind::Interval) {
        return Err(format!(
            "held_as says \"{word_of}\" of `{name}`, which is in the key: there it is held as PostgreSQL \
             prints it; leave it out there"
        ));
    }
    Ok((kind, Read::Printed))
}

/// Returns the words that are right for a column, for people.
pub(crate) fn words(column: &CatalogColumn) -> String {
    let right = HeldAs::ALL.into_iter().filter(|word| kind_as(*word, column).is_some());
    right.map(|word| format!("{:?}", word.word())).collect::<Vec<_>>().join(" or ")
}

/// Returns the kind of a column that is held so; `None` where none of its type is.
fn kind_as(word: HeldAs, column: &CatalogColumn) -> Option<Kind> {
    match (word, Kind::of(column).0) {
        (HeldAs::Binary, Kind::Uuid) => Some(Kind::UuidBytes),
        (HeldAs::Number, Kind::Numeric) => Some(Kind::Number),
        (HeldAs::Text, Kind::Real) => Some(Kind::FloatText { single: true }),
        (HeldAs::Text, Kind::Double) => Some(Kind::FloatText { single: false }),
        (HeldAs::Document, _) if matches!(column.builtin.as_str(), "json" | "jsonb") => Some(Kind::Document),
        (HeldAs::Set | HeldAs::UnorderedSet, _) => {
            let element = Kind::of_elements(column).filter(|element| *element != Kind::Boolean)?;
            Some(Kind::Set { element: leak(element), ascends: word == HeldAs::Set })
        }
        // One with fields of its own is cut to them by PostgreSQL, without a word.
        (HeldAs::Iso8601, _) if column.builtin == "interval" && has_every_field(column.modifier) => {
            Some(Kind::Interval)
        }
        _ => None,
    }
}

/// Range of fields that an interval without a declared one has, in its modifier (`INTERVAL_FULL_RANGE`).
const EVERY_FIELD: i32 = 0x7FFF;

fn has_every_field(modifier: i32) -> bool {
    modifier < 0 || (modifier >> 16) & EVERY_FIELD == EVERY_FIELD
}
