//! Columns that a template writes in a form which no value of their type has.
//!
//! 1. A key is `{id:date}`, and `id` is a number. 2. The rule that keeps rows apart says that only a part of
//! `id` is in the key, and to add it, which is done. 3. No row has a key: each is a dead letter, and only
//! the plan of the migration, which reads some rows, says so before.

use lockstep_template::{Form, Part, Template};

use crate::kind::Kind;
use crate::shape::Column;

/// Returns what is wrong with the forms of a template, one sentence a column.
pub(super) fn wrong(what: &str, template: &Template, columns: &[Column]) -> Vec<String> {
    let of_part = |part: &Part| {
        let (name, form) = match part {
            Part::Column { name, form } => (name, form),
            Part::Shard { name, .. } => (name, &Form::Plain),
            Part::Literal(_) => return None,
        };
        let column = columns.iter().find(|column| column.name == name)?;
        let why = match form {
            _ if has(column.kind, *form) => return None,
            _ if matches!(column.kind, Kind::List(_)) => {
                "which is held as a list: leave it out of `lists`, or name another column there"
            }
            _ if column.kind.has_no_text() => {
                "which is held as a document or a set: leave it out of `held_as`, or name another \
                 column there"
            }
            Form::Date => {
                "which has no date: name a column of a date or a time there, or write it without `:date`"
            }
            _ => "which is no whole number: write it without the number of digits",
        };
        Some(format!("{what}: `{name}` is {}, {why}", column.sql_type))
    };
    template.parts().iter().filter_map(of_part).collect()
}

/// Tells whether some value of a kind can be written in a form. Text may hold a date or a number.
fn has(kind: Kind, form: Form) -> bool {
    match form {
        _ if kind.has_no_text() => false,
        Form::Date => {
            matches!(kind, Kind::Date | Kind::Timestamp | Kind::Instant | Kind::Text | Kind::Other)
        }
        Form::Padded(_) => {
            matches!(
                kind,
                Kind::Integer | Kind::Scaled(0) | Kind::Numeric | Kind::Number | Kind::Text | Kind::Other
            )
        }
        Form::Plain | Form::Upper | Form::Lower | Form::Escaped => true,
    }
}
