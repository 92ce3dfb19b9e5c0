//! Expressions of one column of a table without a row type: how it stands in a source key, how it is read as
//! text, and how a parameter becomes a value of it. They are part of triggers and indexes that are installed:
//! another spelling is another key.
//!
//! `name` is a column as a statement names it, qualified and quoted.

use chrono::{DateTime, Utc};
use lockstep_core::Column;

/// Returns an instant for a key, the same in every time zone of a session.
pub fn instant(name: &str) -> String {
    <DateTime<Utc> as Column>::key_expression(name)
}

/// Returns [`instant`] as text.
pub fn instant_text(name: &str) -> String {
    format!("{}::text", instant(name))
}

/// Returns bytes for a key, as hexadecimal digits, whatever `bytea_output` says.
pub fn bytes(name: &str) -> String {
    <Vec<u8> as Column>::key_expression(name)
}

/// Returns a number as text without zeros at its end: `1.0` and `1.00` are equal.
pub fn trimmed(name: &str) -> String {
    format!("(pg_catalog.trim_scale({name}))::text")
}

/// Returns a floating-point number as text: -0 equals 0 and prints differently.
pub fn float(name: &str) -> String {
    format!("(CASE WHEN {name} = 0 THEN '0' ELSE ({name})::text END)")
}

/// Returns a value of one of PostgreSQL's own types as text, within a key.
pub fn text(name: &str) -> String {
    format!("({name})::text")
}

/// Returns the expression that prints a value of a type that is none of PostgreSQL's own, by the output
/// function of the type. A cast to text would be the application's, if it has made one: 1. It prints `red`
/// and `RED` as `Rot`. 2. Items and rows are both read through it, and every verdict says consistent. 3. Once
/// the truth has moved, the difference is nowhere.
///
/// Of a row type whose fields are all NULL `IS NULL` is true, and `IS DISTINCT FROM NULL` as well.
pub fn printed(name: &str) -> String {
    format!("(CASE WHEN {name} IS DISTINCT FROM NULL THEN pg_catalog.format('%s', {name}) END)")
}

/// Returns a column of one of PostgreSQL's own types as text, as a statement selects it.
pub fn selected(name: &str) -> String {
    format!("{name}::text")
}

/// Returns the parameter `place` (`$3`), bound as text, as a value of `sql_type`.
pub fn parameter(place: &str, sql_type: &str) -> String {
    format!("{place}::text::{sql_type}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A key in an installed trigger has to be what a later build spells.
    #[test]
    fn expressions_stay_as_they_are_in_triggers_that_are_installed() {
        let told: Vec<String> =
            [instant, instant_text, bytes, trimmed, float, text, printed].map(|of| of("r.\"a\"")).into();
        let installed = [
            "(r.\"a\" AT TIME ZONE 'UTC')",
            "(r.\"a\" AT TIME ZONE 'UTC')::text",
            "(E'\\\\x' || pg_catalog.encode(r.\"a\", 'hex'))",
            "(pg_catalog.trim_scale(r.\"a\"))::text",
            "(CASE WHEN r.\"a\" = 0 THEN '0' ELSE (r.\"a\")::text END)",
            "(r.\"a\")::text",
            "(CASE WHEN r.\"a\" IS DISTINCT FROM NULL THEN pg_catalog.format('%s', r.\"a\") END)",
        ];
        assert_eq!(told, installed);
    }
}
