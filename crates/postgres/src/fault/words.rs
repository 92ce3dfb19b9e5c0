//! Sentences for an error of PostgreSQL by its SQLSTATE, where its own words are not told.

/// Classes whose messages are the server's own sentence about names, locks, rights, and itself. Of XX only
/// the two codes of damage: what an extension makes up is XX000, and may quote what it read.
const NAMES_ONLY: &[&str] = &[
    "08", "0A", "21", "24", "25", "26", "27", "28", "2B", "34", "3B", "3D", "3F", "40", "42", "44", "53",
    "54", "55", "57", "58", "F0", "XX001", "XX002",
];

/// Classes whose messages quote nothing that a statement holds.
const FIXED: &[&str] = &["08", "25", "26", "40", "53", "54", "55", "57", "58", "XX001", "XX002"];

/// Beginnings of messages that a type follows and, after a colon, the value.
const BEFORE_A_TYPE: &[&str] =
    &["invalid input syntax for type ", "invalid input value for enum ", "value too long for type "];

/// Tells whether the server's messages of this code speak of names only.
pub(super) fn are_names_only(code: &str) -> bool {
    NAMES_ONLY.iter().any(|class| code.starts_with(class))
}

/// Tells whether they quote no part of a statement either.
pub(super) fn are_fixed(code: &str) -> bool {
    FIXED.iter().any(|class| code.starts_with(class))
}

/// Returns the part of the server's own message before the value that it quotes, where it is about a type.
pub(super) fn of_type(message: &str) -> Option<String> {
    if !BEFORE_A_TYPE.iter().any(|words| message.starts_with(words)) {
        return None;
    }
    let before = message.split_once(':').map_or(message, |(before, _)| before);
    (!before.contains('"') && before.len() <= 120).then(|| before.to_owned())
}

/// Returns the words of a SQLSTATE by itself.
pub(super) fn of_code(code: &str) -> &'static str {
    match code {
        "21000" => "more rows than one, where one is taken",
        "22001" => "a text is too long for its type",
        "22003" => "a number is out of range",
        "22007" | "22008" => "a moment is not one, or is out of range",
        "22012" => "a division by zero",
        "22021" => "a character that the encoding does not have",
        "22023" => "a parameter has a value that it cannot have",
        "22P02" => "a text that its type does not read",
        "22P03" => "bytes that their type does not read",
        "22P05" => "a character that cannot be translated",
        "23001" => "a row is still referred to",
        "23502" => "a column is NULL that must not be",
        "23503" => "a foreign key is violated",
        "23505" => "a unique constraint is violated",
        "23514" => "a check is violated",
        "23P01" => "an exclusion constraint is violated",
        "P0001" => "an exception was raised",
        "P0004" => "an assertion failed",
        "XX000" => "an internal error of PostgreSQL or of an extension",
        _ => match code.get(..2) {
            Some("22") => "a value that cannot be used so",
            Some("23") => "a constraint is violated",
            Some("25" | "2D") => "a transaction is in the wrong state",
            Some("38" | "39" | "P0") => "a function failed",
            Some("40") => "the transaction was rolled back",
            Some("42") => "a name, a right or the syntax of a statement is wrong",
            Some("HV") => "a foreign server failed",
            _ => "PostgreSQL refused it",
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_that_quote_values_are_not_the_servers_own_words() {
        for code in ["22P02", "22003", "23505", "P0001", "38000", "39P01", "HV000", "XX000", "99999", ""] {
            assert!(!are_names_only(code) && !are_fixed(code), "{code}");
        }
        for code in ["40001", "42P01", "55P03", "57014", "XX001"] {
            assert!(are_names_only(code), "{code}");
        }
    }

    #[test]
    fn a_type_is_told_and_what_did_not_read_is_not() {
        let of = |message: &str| of_type(message);
        let told = of("invalid input syntax for type integer: \"a: b\"");
        assert_eq!(told.as_deref(), Some("invalid input syntax for type integer"));
        let told = of("value too long for type character varying(10)");
        assert_eq!(told.as_deref(), Some("value too long for type character varying(10)"));
        assert_eq!(of("value \"x\" is out of range for type integer"), None);
        assert_eq!(of("invalid input syntax for type \"My: Type\": \"x\""), None);
    }
}
