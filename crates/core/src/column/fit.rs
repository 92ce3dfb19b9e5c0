//! Value as PostgreSQL would hold it, computed where PostgreSQL cannot be asked (I16).
//!
//! In DynamoOnly a row is acknowledged once DynamoDB has it, and PostgreSQL follows through the reverse feed. 1.
//! A partner sends a text with a NUL in it; DynamoDB takes it. 2. PostgreSQL refuses the row, for good. 3.
//! The way back is closed over a row that its writer believes in. So the writer hears what PostgreSQL would
//! have said, before anything is sent.
//!
//! What a row alone does not tell is not asked: CHECK and foreign key constraints, unique values, the width
//! of an index.

use std::collections::BTreeMap;

use super::Unholdable;

/// Ends the type of a column that may not be NULL.
pub(super) const NOT_NULL: &str = " not null";

/// Levels that a document may have: PostgreSQL parses one by recursion, and its default `max_stack_depth`
/// ends at some more.
const DEPTH_MAX: usize = 6_000;
/// Digits before and after the point of a `numeric`.
const WHOLE_DIGITS_MAX: i64 = 131_072;
const FRACTION_DIGITS_MAX: i64 = 16_383;

/// Types of the columns of a source table, as `format_type()` prints them, with ` not null` where a column
/// may not be NULL.
///
/// A row struct says `String` of `text`, `character varying(20)` and `character(3)` alike.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ColumnTypes(BTreeMap<String, String>);

impl ColumnTypes {
    /// Makes the map of column names to their types.
    pub fn new(types: impl IntoIterator<Item = (String, String)>) -> Self {
        Self(types.into_iter().collect())
    }

    /// Returns the type of a column; `declared` where it is not known, as that of a column that was added
    /// since.
    pub fn of<'a>(&'a self, column: &str, declared: &'a str) -> &'a str {
        self.0.get(column).map_or(declared, String::as_str)
    }

    /// Returns each column with its type.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(column, sql_type)| (column.as_str(), sql_type.as_str()))
    }
}

/// Returns the numbers in the brackets of a type: `numeric(18,2)` has 18 and 2.
fn bounds(sql_type: &str) -> Option<(u32, u32)> {
    let (_, rest) = sql_type.split_once('(')?;
    let (inside, _) = rest.split_once(')')?;
    let (first, second) = inside.split_once(',').unwrap_or((inside, "0"));
    Some((first.trim().parse().ok()?, second.trim().parse().ok()?))
}

/// Begins the labels of an enum in its type, as a JSON array.
const LABELS: &str = " enum ";

/// Returns the labels of an enum, where they were recorded with its type.
pub(super) fn labels(sql_type: &str) -> Option<Vec<String>> {
    let (_, labels) = sql_type.trim_end_matches(NOT_NULL).split_once(LABELS)?;
    serde_json::from_str(labels).ok()
}

/// A text in a column of this type.
pub(super) fn text(mut value: String, sql_type: &str) -> Result<String, Unholdable> {
    if value.contains('\0') {
        return Err(Unholdable::because(
            "holds a NUL character, which no text of PostgreSQL can hold (SQLSTATE 22021)",
        ));
    }
    let Some((longest, _)) = bounds(sql_type).filter(|_| sql_type.starts_with("character")) else {
        return Ok(value);
    };
    let longest = usize::try_from(longest).unwrap_or(usize::MAX);
    let length = value.chars().count();
    if length > longest {
        // The surplus may be blanks, as the standard has it.
        let end = value.char_indices().nth(longest).map_or(value.len(), |(end, _)| end);
        if value[end..].chars().any(|c| c != ' ') {
            let type_name = sql_type.trim_end_matches(NOT_NULL);
            return Err(Unholdable::because(format!(
                "has {length} characters and is too long for {type_name} (SQLSTATE 22001)"
            )));
        }
        value.truncate(end);
    } else if !sql_type.starts_with("character varying") {
        value.extend(std::iter::repeat_n(' ', longest - length));
    }
    Ok(value)
}

/// A decimal, printed without an exponent, in a column of this type.
pub(super) fn digits(printed: &str, sql_type: &str) -> Result<(), Unholdable> {
    let Some((precision, scale)) = bounds(sql_type).filter(|_| sql_type.starts_with("numeric")) else {
        return Ok(());
    };
    let whole =
        printed.trim_start_matches('-').split('.').next().unwrap_or_default().trim_start_matches('0').len();
    if whole > usize::try_from(precision.saturating_sub(scale)).unwrap_or(usize::MAX) {
        let type_name = sql_type.trim_end_matches(NOT_NULL);
        return Err(Unholdable::because(format!(
            "has {whole} digits before the point, too many for {type_name} (SQLSTATE 22003)"
        )));
    }
    Ok(())
}

/// A document, which parses, in a column of type `jsonb`.
pub(super) fn document(text: &str) -> Result<(), Unholdable> {
    let bytes = text.as_bytes();
    let (mut at, mut depth) = (0, 0_usize);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => {
                at = string(bytes, at + 1)?;
                continue;
            }
            b'[' | b'{' => {
                depth += 1;
                if depth > DEPTH_MAX {
                    let reason = format!(
                        "is nested deeper than {DEPTH_MAX} levels, which PostgreSQL cannot parse (SQLSTATE 54001)"
                    );
                    return Err(Unholdable::because(reason));
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'-' | b'0'..=b'9' => {
                let in_number = |byte: &u8| matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9');
                let length = bytes[at..].iter().take_while(|byte| in_number(byte)).count();
                number(&text[at..at + length])?;
                at += length;
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    Ok(())
}

/// Returns the place after a string that begins before `at`.
fn string(bytes: &[u8], mut at: usize) -> Result<usize, Unholdable> {
    let unit = |at: usize| {
        let digits = bytes.get(at + 2..at + 6).and_then(|digits| std::str::from_utf8(digits).ok());
        digits.and_then(|digits| u16::from_str_radix(digits, 16).ok())
    };
    let half =
        || Unholdable::because("holds half of a surrogate pair, which no jsonb can hold (SQLSTATE 22P02)");
    while let Some(byte) = bytes.get(at) {
        match (byte, bytes.get(at + 1)) {
            (b'"', _) => return Ok(at + 1),
            (b'\\', Some(b'u')) => match unit(at) {
                Some(0) => {
                    return Err(Unholdable::because(
                        "holds \\u0000, which no jsonb can hold (SQLSTATE 22P05)",
                    ));
                }
                Some(0xD800..=0xDBFF) => {
                    let follows = bytes.get(at + 6) == Some(&b'\\') && bytes.get(at + 7) == Some(&b'u');
                    match unit(at + 6).filter(|_| follows) {
                        Some(0xDC00..=0xDFFF) => at += 12,
                        _ => return Err(half()),
                    }
                }
                Some(0xDC00..=0xDFFF) => return Err(half()),
                _ => at += 6,
            },
            (b'\\', _) => at += 2,
            _ => at += 1,
        }
    }
    Ok(at)
}

/// A number inside a document, which becomes a `numeric` without a declared precision.
fn number(text: &str) -> Result<(), Unholdable> {
    let out_of_range =
        || Unholdable::because("holds a number that is out of the range of numeric (SQLSTATE 22003)");
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let exponent: i64 = exponent.parse::<i32>().map_err(|_| out_of_range())?.into();
    let (whole, fraction) =
        mantissa.trim_start_matches('-').split_once('.').unwrap_or((mantissa.trim_start_matches('-'), ""));
    if fraction.len() as i64 - exponent > FRACTION_DIGITS_MAX {
        return Err(out_of_range());
    }
    // Digits before the point of the number itself: leading zeros are none, whichever side of the point they
    // are on.
    let significant = format!("{whole}{fraction}");
    let leading = significant.len() - significant.trim_start_matches('0').len();
    let before = whole.len() as i64 - leading as i64 + exponent;
    if leading < significant.len() && before > WHOLE_DIGITS_MAX {
        return Err(out_of_range());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_text(value: &str, sql_type: &str, expected: Option<&str>) {
        assert_eq!(text(value.to_owned(), sql_type).ok().as_deref(), expected, "{value:?} as {sql_type}");
    }

    #[test]
    fn texts_are_what_their_column_makes_of_them() {
        check_text("US", "character(3)", Some("US "));
        check_text("", "character(3) not null", Some("   "));
        check_text("EUR   ", "character(3)", Some("EUR"));
        check_text("EURO", "character(3)", None);
        check_text("äöü", "character varying(3)", Some("äöü"));
        check_text("äöü ", "character varying(3)", Some("äöü"));
        check_text("äöüß", "character varying(3) not null", None);
        check_text("anything at all", "character varying", Some("anything at all"));
        check_text("a\0b", "text", None);
    }

    #[test]
    fn decimals_have_as_many_digits_as_their_column() {
        for (printed, sql_type, fits) in [
            ("9999.99", "numeric(6,2)", true),
            ("10000.00", "numeric(6,2)", false),
            ("-10000.00", "numeric(6,2) not null", false),
            ("0.01", "numeric(2,2)", true),
            ("1.00", "numeric(2,2)", false),
        ] {
            assert_eq!(digits(printed, sql_type).is_ok(), fits, "{printed} as {sql_type}");
        }
    }

    #[test]
    fn documents_are_refused_as_postgresql_refuses_them() {
        let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        for text in [
            r#"{"a": "\u0041 \\u0000 \ud83d\ude00"}"#,
            "[1e5, -0.5, 1e131071, 0e999999, 1e-16383]",
            r#""[[[ 1e999999""#,
            &deep(DEPTH_MAX),
        ] {
            assert_eq!(document(text), Ok(()), "{}", &text[..text.len().min(60)]);
        }
        for (text, code) in [
            (r#"{"a": "x\u0000"}"#, "22P05"),
            (r#"{"x\u0000": 1}"#, "22P05"),
            (r#"["\ud83d"]"#, "22P02"),
            (r#"["\ude00"]"#, "22P02"),
            (r#"["\ud83d\u0041"]"#, "22P02"),
            ("1e999999", "22003"),
            ("[1e131072]", "22003"),
            ("1e-16384", "22003"),
            ("1e99999999999", "22003"),
            (&deep(DEPTH_MAX + 1), "54001"),
        ] {
            let refused = document(text).expect_err(&text[..text.len().min(60)]);
            assert!(refused.reason.contains(code), "{}: {refused}", &text[..text.len().min(60)]);
        }
    }
}
