//! What may be shown and recorded of an error of PostgreSQL: never a value of a row (R36).
//!
//! Messages hold values where the server quotes its input (class 22), and where a function of the
//! application wrote them: 1. A trigger says `RAISE EXCEPTION 'bad address %', NEW.email`. 2. The message is
//! in the log, in the status, in a report and in a dead letter. DETAIL, HINT and WHERE are never shown.

use sqlx::error::DatabaseError;
use sqlx::postgres::PgDatabaseError;

/// Classes whose messages are the server's own sentence about names, locks, rights, and itself.
const OWN_WORDS: [&str; 21] = [
    "08", "0A", "21", "23", "24", "25", "26", "28", "2B", "34", "3B", "3D", "3F", "40", "42", "44", "53",
    "54", "55", "57", "58",
];

/// Longest name that is shown, in characters.
const NAME_MAX: usize = 100;

/// The message of a database error where it is PostgreSQL's own and free of values, or ours; else what class
/// of error it is, with the names that belong to it.
pub(super) fn without_values(error: &dyn DatabaseError) -> String {
    let Some(error) = error.try_downcast_ref::<PgDatabaseError>() else {
        return "the database refused it".to_owned();
    };
    let context = error.r#where().unwrap_or_default();
    let raised = error.routine() == Some("exec_stmt_raise");
    if is_of_ours(context) && (raised || has_own_words(error.code())) {
        return error.message().to_owned();
    }
    let from_function = raised || is_in_a_function(context);
    if !from_function && has_own_words(error.code()) {
        return error.message().to_owned();
    }
    let mut said = words(error.code()).to_owned();
    if let Some(function) = function(context) {
        said = format!("{said}, in function {}", shown(function));
    } else if from_function {
        said.push_str(", in a function");
    }
    // A function that raises names what it likes.
    if !from_function {
        let names = [
            ("table", error.table()),
            ("column", error.column()),
            ("constraint", error.constraint()),
        ];
        for (what, name) in names {
            if let Some(name) = name {
                said = format!("{said}, {what} {}", shown(name));
            }
        }
    }
    format!("{said}; its words are in PostgreSQL's log, as they may hold values of rows")
}

fn has_own_words(code: &str) -> bool {
    // XX000 and XX001 are the server's; what an extension makes up is not on the list.
    OWN_WORDS.iter().any(|class| code.starts_with(class)) || code.starts_with("XX")
}

/// Whether the innermost place is a function of schema `lockstep`, in whatever language the server speaks. A
/// name in quotes could be anything.
fn is_of_ours(context: &str) -> bool {
    let line = context.lines().next().unwrap_or_default();
    line.contains("PL/pgSQL")
        && (line.split_once(" lockstep.").is_some_and(|(before, _)| !before.contains(['"', '(']))
            || line.contains(" inline_code_block "))
        && !line.contains('"')
}

/// Whether anything but a place of the server itself is in the context. Rows that are waited for and lines of
/// a COPY are places too, and say nothing of who wrote the message.
fn is_in_a_function(context: &str) -> bool {
    let line = context.lines().next().unwrap_or_default();
    !(line.is_empty() || line.starts_with("while ") || line.starts_with("COPY "))
}

/// The function of the innermost place, where the server speaks English.
fn function(context: &str) -> Option<&str> {
    let line = context.lines().next()?;
    let (name, _) = line.strip_prefix("PL/pgSQL function ")?.split_once('(')?;
    Some(name)
}

fn shown(name: &str) -> String {
    let short: String = name.chars().take(NAME_MAX).collect();
    format!("`{}`", short.escape_debug())
}

/// What a SQLSTATE says by itself.
fn words(code: &str) -> &'static str {
    match code {
        "22001" => "a text is too long for its type",
        "22003" => "a number is out of range",
        "22007" | "22008" => "a moment is not one, or is out of range",
        "22012" => "a division by zero",
        "22021" => "a character that the encoding does not have",
        "22023" => "a parameter has a value that it cannot have",
        "22P02" => "a text that its type does not read",
        "22P03" => "bytes that their type does not read",
        "23502" => "a column is NULL that must not be",
        "23503" => "a foreign key is violated",
        "23505" => "a unique constraint is violated",
        "23514" => "a check is violated",
        "23P01" => "an exclusion constraint is violated",
        "P0001" => "a function raised an exception",
        _ => match code.get(..2) {
            Some("22") => "a value that cannot be used so",
            Some("23") => "a constraint is violated",
            Some("P0") => "a function failed",
            _ => "PostgreSQL refused it",
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_ours_by_its_schema_and_not_by_a_name_in_quotes() {
        assert!(is_of_ours("PL/pgSQL function lockstep.guard_intents() line 5 at RAISE"));
        assert!(is_of_ours("PL/pgSQL-Funktion lockstep.guard_intents() Zeile 5 bei RAISE"));
        assert!(!is_of_ours("PL/pgSQL function \"a lockstep.b\"() line 5 at RAISE"));
        assert!(!is_of_ours("PL/pgSQL function public.stamp() line 5 at RAISE"));
        assert!(!is_of_ours("PL/pgSQL function stamp() line 1 at RAISE\nPL/pgSQL function lockstep.x() line 2"));
        assert!(!is_of_ours("SQL statement \"SELECT 1\"\nPL/pgSQL function lockstep.x() line 2"));
    }

    #[test]
    fn the_servers_own_places_are_no_functions() {
        assert!(!is_in_a_function(""));
        assert!(!is_in_a_function("while updating tuple (0,1) in relation \"payments\""));
        assert!(!is_in_a_function("COPY payments, line 1"));
        assert!(is_in_a_function("SQL function \"f\" statement 1"));
    }

    #[test]
    fn messages_that_quote_values_are_not_the_servers_own_words() {
        for code in ["22P02", "22003", "P0001", "38000", "HV000", "99999"] {
            assert!(!has_own_words(code), "{code}");
        }
        for code in ["23505", "40001", "42P01", "55P03", "57014", "XX001"] {
            assert!(has_own_words(code), "{code}");
        }
    }
}
