//! R43: each statement goes through the one place that knows what the control schema of a migration is called.

use lockstep_tidy::{files, rust};

/// The one place.
const PLACE: &str = "crates/postgres/src/sql.rs";
/// Gives the released schema migrations to the driver, each through that place.
const MIGRATIONS: &str = "crates/postgres/src/schema.rs";

/// Ways in which the driver takes a statement.
const TAKERS: [&str; 4] = ["sqlx::query", "sqlx::raw_sql", "QueryBuilder", "into_sql_str"];

/// Returns what a file names of the driver that takes statements.
fn takers(code: &str) -> Vec<String> {
    let named = TAKERS.into_iter().filter(|taker| code.contains(taker)).map(str::to_owned);
    let imported = code.split("use sqlx::").skip(1).filter_map(|rest| rest.split(';').next());
    let words = imported.flat_map(|names| names.split(|c: char| !c.is_alphanumeric() && c != '_'));
    let imported =
        words.filter(|word| *word == "Executor" || *word == "raw_sql" || word.starts_with("query"));
    named.chain(imported.map(str::to_owned)).collect()
}

#[test]
fn no_statement_is_sent_past_the_place_that_names_the_control_schema() {
    let mut found = Vec::new();
    for path in files::below("crates/postgres/src", "rs") {
        if path == PLACE {
            continue;
        }
        let code = rust::parts(&files::read(&path)).code;
        let allowed = |taker: &String| path == MIGRATIONS && taker == "into_sql_str";
        found.extend(
            takers(&code).iter().filter(|taker| !allowed(taker)).map(|taker| format!("{path}: {taker}")),
        );
    }
    assert!(found.is_empty(), "use crate::sql:\n{}", found.join("\n"));
    assert_eq!(
        takers("use sqlx::{AssertSqlSafe, Executor as _}; sqlx::query(x)"),
        ["sqlx::query", "Executor"]
    );
    assert_eq!(takers("use sqlx::{query_as}; use sqlx::PgExecutor;"), ["query_as"]);
}

/// A person with two migrations in a database who types what a message of the one says must not change the
/// other.
#[test]
fn no_message_takes_the_control_schema_for_the_usual_one() {
    let mut found = Vec::new();
    for path in files::below("crates", "rs") {
        if path.starts_with("crates/postgres/")
            || path.starts_with("crates/sample/")
            || path.contains("tests")
        {
            continue;
        }
        let text = files::read(&path);
        let product = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        for literal in rust::parts(product).literals {
            if names_the_usual_one(&literal.text) {
                found.push(format!("{path}:{}", literal.line));
            }
        }
    }
    assert!(found.is_empty(), "use control_schema() of crates/postgres:\n{}", found.join("\n"));
    for named in ["schema lockstep is gone", "VACUUM lockstep.pending", "in lockstep_archive.journal"] {
        assert!(names_the_usual_one(named), "{named}");
    }
    for other in ["lockstep.toml", "the schema of lockstep", "lockstep_control", "docs/lockstep.control.md"] {
        assert!(!names_the_usual_one(other), "{other}");
    }
}

fn names_the_usual_one(text: &str) -> bool {
    const TABLES: [&str; 6] = ["control", "tables", "pending", "journal", "instances", "version_seq"];
    let is_word =
        |before: &str| !before.ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | '/' | '.'));
    text.contains("schema lockstep")
        || text.match_indices("lockstep_archive.").any(|(at, _)| is_word(&text[..at]))
        || text.match_indices("lockstep.").any(|(at, name)| {
            let (before, after) = (&text[..at], &text[at + name.len()..]);
            is_word(before) && TABLES.iter().any(|table| after.starts_with(table))
        })
}
