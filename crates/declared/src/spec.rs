//! What statements need to know of a column: how it stands in a source key, and how a field of it is spelled
//! as a literal.

use lockstep_core::{Column as _, Unholdable};

use crate::kind::{Kind, Read, to_hex};
use crate::shape::Column;
use crate::text::{decimal, time};

/// The expression that puts a column into a source key; it prints equal values in one way.
pub(crate) fn key_expression(column: &Column) -> fn(&str) -> String {
    match (column.kind, column.read) {
        (Kind::Instant, Read::Binary) => |name| format!("({name} AT TIME ZONE 'UTC')"),
        (Kind::Instant, Read::Printed) => |name| format!("({name} AT TIME ZONE 'UTC')::text"),
        (Kind::Bytes, _) => |name| format!("(E'\\\\x' || pg_catalog.encode({name}, 'hex'))"),
        (Kind::Numeric | Kind::Scaled(_), _) => |name| format!("(pg_catalog.trim_scale({name}))::text"),
        // -0 equals 0 and prints differently.
        (Kind::Real | Kind::Double, _) => {
            |name| format!("(CASE WHEN {name} = 0 THEN '0' ELSE ({name})::text END)")
        }
        (_, Read::Binary) => |name| name.to_owned(),
        (_, Read::Printed) if column.is_foreign => |name| printed(name),
        (_, Read::Printed) => |name| format!("({name})::text"),
    }
}

/// The expression that prints a value of a type that is none of PostgreSQL's own, by the output function of
/// the type. A cast to text would be the application's, if it has made one: 1. It prints `red` and `RED` as
/// `Rot`. 2. Items and rows are both read through it, and every verdict says consistent. 3. Once the truth
/// has moved, the difference is nowhere.
///
/// Of a row type whose fields are all NULL `IS NULL` is true, and `IS DISTINCT FROM NULL` as well.
pub(crate) fn printed(name: &str) -> String {
    format!("(CASE WHEN {name} IS DISTINCT FROM NULL THEN pg_catalog.format('%s', {name}) END)")
}

/// A field as the literal that borders a range.
pub(crate) fn literal(column: &Column) -> fn(Option<&[u8]>) -> Result<String, Unholdable> {
    match (column.kind, column.read) {
        (Kind::Integer, Read::Binary) => |field| match present(field)?.len() {
            2 => i16::from_field(field)?.literal(),
            4 => i32::from_field(field)?.literal(),
            _ => i64::from_field(field)?.literal(),
        },
        (Kind::Boolean, Read::Binary) => |field| Ok(bool::from_field(field)?.to_string()),
        (Kind::Instant, Read::Binary) => chrono::DateTime::<chrono::Utc>::literal_of_field,
        (Kind::Bytes, Read::Binary) => |field| Ok(to_hex(present(field)?)),
        (Kind::Numeric | Kind::Scaled(_), _) => {
            |field| spelled(field, |text| decimal::plain(text).map(|text| decimal::trimmed(&text).to_owned()))
        }
        (Kind::Instant, _) => |field| spelled(field, time::instant),
        (Kind::Timestamp, _) => |field| spelled(field, time::timestamp),
        (Kind::Time, _) => |field| spelled(field, time::time),
        _ => text,
    }
}

/// A printed field as `spell` writes it, or as PostgreSQL printed it where DynamoDB has no such value. A row
/// whose key is NaN or infinite is set aside, and what comes before and after it is read on, past this
/// literal.
fn spelled(
    field: Option<&[u8]>,
    spell: fn(&str) -> Result<String, Unholdable>,
) -> Result<String, Unholdable> {
    let text = text(field)?;
    Ok(spell(&text).unwrap_or(text))
}

fn present(field: Option<&[u8]>) -> Result<&[u8], Unholdable> {
    field.ok_or_else(|| Unholdable::because("is NULL in a key"))
}

fn text(field: Option<&[u8]>) -> Result<String, Unholdable> {
    let text = std::str::from_utf8(present(field)?);
    text.map(str::to_owned).map_err(|_| Unholdable::because("is not UTF-8, which every text of DynamoDB is"))
}
