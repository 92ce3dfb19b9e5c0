//! Words that may be told of an error of the driver: never a value of a row (R36). The one place that decides
//! it.
//!
//! Messages hold values where the server quotes what it read (class 22), and where a function of the
//! application wrote them: 1. A trigger says `RAISE EXCEPTION 'bad address %', NEW.email`. 2. The message is
//! in the log, in the status, in a report and in a dead letter. So a message is told only where it is of a
//! class that speaks of names, locks, rights and the server itself, and neither came from a function that is
//! not ours nor was raised there. Of all others the SQLSTATE, words of ours and the names that belong to it
//! are told. DETAIL, HINT and CONTEXT are never told; the server's own log has them.

use lockstep_core::Unholdable;
use sqlx::error::{BoxDynError, DatabaseError, UnexpectedNullError};
use sqlx::postgres::PgDatabaseError;

use super::raiser::{self, Raiser};
use super::words;

/// Longest name that is shown, in characters.
const NAME_MAX: usize = 100;

/// Describes any error of the driver, without a value of a row.
pub(super) fn of_driver(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(e) => of_database(e.as_ref()),
        // A decoder may quote the value that it cannot read.
        sqlx::Error::ColumnDecode { index, source } => {
            format!("decoding column {}: {}", shown(index), of_decoder(source))
        }
        sqlx::Error::Decode(source) => format!("decoding a value: {}", of_decoder(source)),
        sqlx::Error::Encode(source) => format!("encoding a value: {}", of_decoder(source)),
        other => other.to_string(),
    }
}

fn of_decoder(error: &BoxDynError) -> String {
    let text = error.to_string();
    // The driver's own words on two types.
    let is_of_types = text.starts_with("mismatched types; Rust type `");
    if is_of_types || error.is::<UnexpectedNullError>() || error.is::<Unholdable>() {
        text
    } else {
        "a value that its type does not take".to_owned()
    }
}

fn of_database(error: &dyn DatabaseError) -> String {
    let Some(error) = error.try_downcast_ref::<PgDatabaseError>() else {
        return "the database refused it".to_owned();
    };
    of_server(&Answer {
        code: error.code(),
        message: error.message(),
        context: error.r#where().unwrap_or_default(),
        routine: error.routine().unwrap_or_default(),
        names: [
            ("table", error.table()),
            ("column", error.column()),
            ("constraint", error.constraint()),
            ("type", error.data_type()),
        ],
    })
}

/// Fields of an error that the server sends.
struct Answer<'a> {
    code: &'a str,
    message: &'a str,
    /// Code in which the error came up, the innermost first.
    context: &'a str,
    /// The function in the server's own source.
    routine: &'a str,
    names: [(&'a str, Option<&'a str>); 4],
}

fn of_server(answer: &Answer<'_>) -> String {
    let Answer { code, message, context, .. } = *answer;
    let raised = answer.routine == "exec_stmt_raise";
    let raiser = raiser::of(context);
    let is_whole = match raiser {
        Raiser::Ours => raised || words::are_names_only(code),
        Raiser::Server => !raised && words::are_names_only(code),
        // A statement that a function put together may have a value in place of a name.
        Raiser::Statement => !raised && words::are_fixed(code),
        Raiser::Function => false,
    };
    if is_whole {
        return message.to_owned();
    }
    let is_of_server = !raised && matches!(raiser, Raiser::Server | Raiser::Statement);
    let mut said = match raiser {
        Raiser::Server if !raised => words::of_type(message),
        _ => None,
    }
    .unwrap_or_else(|| words::of_code(code).to_owned());
    if is_of_server {
        // A function that raises names what it likes.
        for (what, name) in answer.names {
            if let Some(name) = name {
                said = format!("{said}, {what} {}", shown(name));
            }
        }
        if code == "XX000" && !answer.routine.is_empty() {
            said = format!("{said}, in {}", shown(answer.routine));
        }
    }
    match raiser::function(context) {
        Some(function) => said = format!("{said}, in function {}", shown(function)),
        None if !is_of_server => said.push_str(", in a function"),
        None => {}
    }
    format!("{said}; its own words may hold values of rows, and are in PostgreSQL's log only")
}

fn shown(name: &str) -> String {
    let short: String = name.chars().take(NAME_MAX).collect();
    format!("`{}`", short.escape_debug())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "4711 Planted";

    fn answer<'a>(code: &'a str, message: &'a str, context: &'a str, routine: &'a str) -> Answer<'a> {
        let names =
            [("table", Some("payments")), ("column", None), ("constraint", Some("positive")), ("type", None)];
        Answer { code, message, context, routine, names }
    }

    #[test]
    fn what_a_function_raises_is_not_told_whatever_code_and_language_it_takes() {
        let context = "PL/pgSQL function public.stamp() line 3 at RAISE";
        let in_german = "PL/pgSQL-Funktion public.stamp() Zeile 3 bei RAISE";
        for code in ["P0001", "23505", "40001", "42P01", "22023", "57014", "XX001", "LK001", "99999"] {
            for (context, routine) in [
                (context, "exec_stmt_raise"),
                (in_german, "exec_stmt_raise"),
                ("PL/Python function \"stamp\"", "PLy_output"),
                ("", "exec_stmt_raise"),
            ] {
                let said = of_server(&answer(code, &format!("no {SECRET}"), context, routine));
                assert!(!said.contains(SECRET) && !said.contains("payments"), "{said}");
                assert!(said.contains("in function") || said.contains("in a function"), "{said}");
            }
        }
        let said = of_server(&answer("P0001", SECRET, context, "exec_stmt_raise"));
        assert!(said.contains("`public.stamp`") && said.contains("PostgreSQL's log"), "{said}");
    }

    #[test]
    fn a_value_that_the_server_quotes_is_not_told_and_its_type_is() {
        let quoted = format!("invalid input syntax for type date: \"{SECRET}\"");
        let said = of_server(&answer("22P02", &quoted, "", "DateTimeParseError"));
        assert!(!said.contains(SECRET) && said.starts_with("invalid input syntax for type date"), "{said}");
        for message in [
            format!("value \"{SECRET}\" is out of range for type integer"),
            format!("invalid byte sequence for encoding \"UTF8\": {SECRET}"),
            format!("new row {SECRET}"),
        ] {
            for code in ["22003", "22021", "23514", "22023", "38000", "HV000", "XX000"] {
                let said = of_server(&answer(code, &message, "", "x"));
                assert!(!said.contains(SECRET), "{said}");
                assert!(said.contains("table `payments`, constraint `positive`"), "{said}");
            }
        }
    }

    #[test]
    fn the_servers_own_words_on_names_and_locks_are_told_whole() {
        for (code, message, context) in [
            ("42P01", "relation \"payments\" does not exist", ""),
            (
                "55P03",
                "canceling statement due to lock timeout",
                "while locking tuple (0,1) in relation \"a\"",
            ),
            (
                "40P01",
                "deadlock detected",
                "SQL statement \"SELECT 1\"\nPL/pgSQL function f() line 1 at PERFORM",
            ),
            ("28P01", "password authentication failed for user \"app\"", ""),
        ] {
            assert_eq!(of_server(&answer(code, message, context, "any")), message);
        }
        let dynamic = "SQL statement \"SELECT x\"\nPL/pgSQL function public.f() line 1 at EXECUTE";
        let said =
            of_server(&answer("42601", &format!("syntax error at or near \"{SECRET}\""), dynamic, "y"));
        assert!(!said.contains(SECRET) && said.contains("`public.f`"), "{said}");
    }

    #[test]
    fn what_our_own_functions_raise_is_told() {
        let ours = "PL/pgSQL function lockstep.guard_intents() line 5 at RAISE";
        let message = "lockstep: this transaction is long over";
        assert_eq!(of_server(&answer("42501", message, ours, "exec_stmt_raise")), message);
        let said = of_server(&answer("22P02", SECRET, ours, "jsonb_in"));
        assert!(!said.contains(SECRET), "{said}");
    }

    #[test]
    fn a_decoder_that_quotes_is_not_told() {
        let quotes = |text: &str| -> BoxDynError { text.to_owned().into() };
        let decode = |source| sqlx::Error::ColumnDecode { index: "\"at\"".to_owned(), source };
        assert!(!of_driver(&decode(quotes(SECRET))).contains(SECRET));
        assert!(!of_driver(&sqlx::Error::Encode(quotes(SECRET))).contains(SECRET));
        let types =
            "mismatched types; Rust type `i64` (as SQL type `INT8`) is not compatible with SQL type `TEXT`";
        assert!(of_driver(&decode(quotes(types))).contains("SQL type `TEXT`"));
    }
}
