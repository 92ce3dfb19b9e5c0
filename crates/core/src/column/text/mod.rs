//! Values as text, spelled in the one way in which items and keys hold them: of tables in Rust and of
//! declared ones alike, so that one column makes one attribute whichever way its table is moved.

pub mod array;
pub mod decimal;
pub mod float;
pub mod hex;
pub mod time;

/// Returns the expression that prints a value of a type that is none of PostgreSQL's own, by the output
/// function of the type. A cast to text would be the application's, if it has made one: 1. It prints `red`
/// and `RED` as `Rot`. 2. Items and rows are both read through it, and every verdict says consistent. 3. Once
/// the truth has moved, the difference is nowhere.
///
/// Of a row type whose fields are all NULL `IS NULL` is true, and `IS DISTINCT FROM NULL` as well.
pub fn expression(name: &str) -> String {
    format!("(CASE WHEN {name} IS DISTINCT FROM NULL THEN pg_catalog.format('%s', {name}) END)")
}
