//! Spelling of a column for statements: how it stands in a source key, and how a field of it is spelled as a
//! literal.

use lockstep_core::text::{decimal, hex, time};
use lockstep_core::{Column as _, Unholdable};
use lockstep_postgres::column_sql;

use crate::kind::{Kind, Read};
use crate::shape::Column;

/// Returns the expression that puts a column into a source key; it prints equal values in one way.
pub(crate) fn key_expression(column: &Column) -> fn(&str) -> String {
    match (column.kind, column.read) {
        (Kind::Instant, Read::Binary) => column_sql::instant,
        (Kind::Instant, Read::Printed) => column_sql::instant_text,
        (Kind::Bytes, _) => column_sql::bytes,
        (Kind::Numeric | Kind::Scaled(_) | Kind::Number, _) => column_sql::trimmed,
        (Kind::Real | Kind::Double | Kind::FloatText { .. }, _) => column_sql::float,
        (_, Read::Binary) => |name| name.to_owned(),
        (_, Read::Printed) if column.is_foreign => column_sql::printed,
        (_, Read::Printed) => column_sql::text,
    }
}

/// Returns a field as the literal that borders a range.
pub(crate) fn literal(column: &Column) -> fn(Option<&[u8]>) -> Result<String, Unholdable> {
    match (column.kind, column.read) {
        (Kind::Integer, Read::Binary) => |field| match present(field)?.len() {
            2 => i16::from_field(field)?.literal(),
            4 => i32::from_field(field)?.literal(),
            _ => i64::from_field(field)?.literal(),
        },
        (Kind::Boolean, Read::Binary) => |field| Ok(bool::from_field(field)?.to_string()),
        (Kind::Instant, Read::Binary) => chrono::DateTime::<chrono::Utc>::literal_of_field,
        (Kind::Bytes, Read::Binary) => |field| Ok(hex::printed(present(field)?)),
        (Kind::Numeric | Kind::Scaled(_) | Kind::Number, _) => {
            |field| spelled(field, |text| decimal::plain(text).map(|text| decimal::trimmed(&text).to_owned()))
        }
        (Kind::Instant, _) => |field| spelled(field, time::instant),
        (Kind::Timestamp, _) => |field| spelled(field, time::timestamp),
        (Kind::Time, _) => |field| spelled(field, time::time),
        _ => printed,
    }
}

/// Returns a printed field as `spell` writes it, or as PostgreSQL printed it where DynamoDB has no such
/// value. A row whose key is NaN or infinite is set aside, and what comes before and after it is read on,
/// past this literal.
fn spelled(
    field: Option<&[u8]>,
    spell: fn(&str) -> Result<String, Unholdable>,
) -> Result<String, Unholdable> {
    let text = printed(field)?;
    Ok(spell(&text).unwrap_or(text))
}

fn present(field: Option<&[u8]>) -> Result<&[u8], Unholdable> {
    field.ok_or_else(|| Unholdable::because("is NULL in a key"))
}

fn printed(field: Option<&[u8]>) -> Result<String, Unholdable> {
    let text = std::str::from_utf8(present(field)?);
    text.map(str::to_owned).map_err(|_| Unholdable::because("is not UTF-8, which every text of DynamoDB is"))
}
