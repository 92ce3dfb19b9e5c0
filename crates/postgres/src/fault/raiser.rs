//! Code in the server that raised an error, read from its CONTEXT.

use crate::sql;

/// The owner of the innermost code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Raiser {
    /// The server itself, in a statement of ours.
    Server,
    /// A function of schema `lockstep`, whose words are ours.
    Ours,
    /// A statement that a function runs, or a foreign key of the server's own.
    Statement,
    /// A function of the application, or code that is not known: the server may speak another language.
    Function,
}

/// Beginnings of lines in which the server names what is no function: a row that is waited for, a
/// line of a COPY, the parameters of a statement.
const OF_THE_SERVER: &[&str] = &["while ", "COPY ", "unnamed portal ", "portal ", "parallel worker"];

/// Returns the owner of the innermost code.
pub(super) fn of(context: &str) -> Raiser {
    let line = context.lines().next().unwrap_or_default();
    if line.is_empty() {
        Raiser::Server
    } else if OF_THE_SERVER.iter().any(|words| line.starts_with(words)) {
        // A lock that a function waits for is named before the function.
        let outer = context.split_once('\n').map_or("", |(_, outer)| outer);
        if of(outer) == Raiser::Server { Raiser::Server } else { Raiser::Statement }
    } else if line.starts_with("SQL statement \"") {
        Raiser::Statement
    } else if is_of_ours(line) {
        Raiser::Ours
    } else {
        Raiser::Function
    }
}

/// Tells whether the line is of a function of the control schema, in whatever language the server speaks. A
/// name in quotes could be anything.
fn is_of_ours(line: &str) -> bool {
    line.starts_with("PL/pgSQL")
        && !line.contains('"')
        && line
            .split_once(&format!(" {}.", sql::control_schema()))
            .is_some_and(|(before, _)| !before.contains('('))
}

/// Returns the innermost function, where the server speaks English.
pub(super) fn function(context: &str) -> Option<&str> {
    context.lines().find_map(|line| {
        let (name, _) = line.strip_prefix("PL/pgSQL function ")?.split_once('(')?;
        Some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_is_ours_by_its_schema_and_not_by_a_name_in_quotes() {
        assert_eq!(of("PL/pgSQL function lockstep.guard_intents() line 5 at RAISE"), Raiser::Ours);
        assert_eq!(of("PL/pgSQL-Funktion lockstep.guard_intents() Zeile 5 bei RAISE"), Raiser::Ours);
        for other in [
            "PL/pgSQL function \"a lockstep.b\"() line 5 at RAISE",
            "PL/pgSQL function public.stamp() line 5 at RAISE",
            "PL/pgSQL function stamp() line 1 at RAISE\nPL/pgSQL function lockstep.x() line 2",
            "PL/Python function \"stamp\"",
            "SQL function \"f\" statement 1",
            "PL/pgSQL function inline_code_block line 1 at RAISE",
        ] {
            assert_eq!(of(other), Raiser::Function, "{other}");
        }
    }

    #[test]
    fn the_servers_own_lines_are_told_from_those_below_a_function() {
        for line in [
            "",
            "while updating tuple (0,1) in relation \"payments\"",
            "COPY payments, line 1",
            "unnamed portal with parameters: $1 = '1'",
        ] {
            assert_eq!(of(line), Raiser::Server, "{line}");
        }
        let below = "while locking tuple (0,1) in relation \"a\"\nSQL statement \"SELECT 1\"";
        assert_eq!(of(below), Raiser::Statement);
    }

    #[test]
    fn a_function_is_named_also_where_a_statement_of_it_failed() {
        let context = "SQL statement \"INSERT INTO a VALUES ('x')\"\nPL/pgSQL function public.f(integer) \
            line 2 at SQL statement";
        assert_eq!(function(context), Some("public.f"));
    }
}
