//! R43: each statement goes through the one place that knows what the control schema of a migration is
//! called.

use lockstep_tidy::{files, rust};

/// The one place.
const PLACE: &str = "crates/postgres/src/sql.rs";
/// Gives the released schema migrations to the driver, each through that place.
const MIGRATIONS: &str = "crates/postgres/src/schema.rs";
/// Forwards to the driver's pool what that place has named already, and times it.
const POOL: &str = "crates/postgres/src/timed.rs";

/// Ways in which the driver takes a statement.
const TAKERS: [&str; 10] = [
    "sqlx::query",
    "sqlx::raw_sql",
    "sqlx_core::query",
    "sqlx_core::raw_sql",
    "sqlx_core::executor",
    "QueryBuilder",
    "into_sql_str",
    "copy_out_raw(",
    "copy_in_raw(",
    ".listen(",
];
/// Takers that are given text with the name in it.
const NAMED: [&str; 1] = ["copy_out_raw(&sql::of_this_schema("];

/// Words that begin with what the schema is called, and are other names: each is passed on as it is.
const OTHERS: [&str; 17] = [
    // Words of ours to a person or a program that reads them.
    "lockstep: ",
    "lockstep%",
    "lockstep uninstall",
    // Lines of a fingerprint, and columns of one statement.
    "lockstep shape: ",
    "lockstep partition: ",
    "lockstep hides: ",
    "lockstep wants ",
    "lockstep_now",
    "lockstep_key",
    "lockstep_xid",
    "lockstep_old_",
    "lockstep_version",
    "lockstep_repair",
    "lockstep_(old_)?key",
    // Every schema of ours, whatever it is called, and a file of a test.
    "lockstep$|^lockstep_",
    "lockstep_'",
    "lockstep-owner-",
];
/// Names that stand in statements by a constant. Any other could be meant as a parameter, which no one
/// renames.
const CONSTANTS: [&str; 2] = ["lockstep.path", "lockstep.test_operation_probe"];

/// Returns what a file names of the driver that takes statements.
fn takers(code: &str) -> Vec<String> {
    let code = &NAMED.iter().fold(code.to_owned(), |code, named| code.replace(named, ""));
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
        let allowed = |taker: &String| {
            path == MIGRATIONS && taker == "into_sql_str" || path == POOL && taker == "Executor"
        };
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
    assert_eq!(takers("connection.copy_out_raw(copy)"), ["copy_out_raw("]);
    assert_eq!(takers("connection.copy_out_raw(&sql::of_this_schema(copy))"), [""; 0]);
}

/// 1. A statement says `SET search_path = lockstep`, or `lockstep_pending`, or a name is given as a
/// parameter. 2. The place that names the schema does not know that form, and passes it on. 3. The second
/// migration of a database reads or changes the first one's tables, where both are of one role.
#[test]
fn each_word_that_begins_as_the_schema_does_is_one_that_the_place_renames_or_another_name() {
    let mut found = Vec::new();
    for path in files::below("crates/postgres/src", "rs").into_iter().filter(|path| path != PLACE) {
        let text = files::read(&path);
        let product = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        for literal in rust::parts(product).literals {
            let words = unknown(&literal.text).into_iter().chain(parameter(&literal.text));
            found.extend(words.map(|word| format!("{path}:{}: {word}", literal.line)));
        }
    }
    for path in files::below("crates/postgres/src", "sql") {
        let text = files::read(&path);
        let code: Vec<&str> =
            text.lines().map(|line| line.split_once("--").map_or(line, |(code, _)| code)).collect();
        found.extend(unknown(&code.join("\n")).into_iter().map(|word| format!("{path}: {word}")));
    }
    assert!(found.is_empty(), "spell the name as crates/postgres/src/sql.rs knows it:\n{}", found.join("\n"));
    for known in [
        "FROM lockstep.control",
        "nextval('lockstep.version_seq')",
        "nspname IN ('lockstep', 'lockstep_archive')",
        "DROP SCHEMA IF EXISTS lockstep CASCADE",
        "'lockstep_phase'",
        "AS $lockstep$",
        "zz_lockstep_moved",
    ] {
        assert_eq!(unknown(known), [""; 0], "{known}");
    }
    for other in ["SET search_path = lockstep, pg_temp", "lockstep_pending", "LISTEN lockstep_phase"] {
        assert_eq!(unknown(other).len(), 1, "{other}");
    }
    for name in ["lockstep", "lockstep.pending", "lockstep_archive.journal"] {
        assert!(parameter(name).is_some(), "{name}");
    }
    assert_eq!(parameter("lockstep.pending p"), None);
}

/// Returns a text that is a name of the schema, or of something in it, and no more.
fn parameter(text: &str) -> Option<String> {
    let rest = text.strip_prefix("lockstep")?;
    let rest = rest.strip_prefix("_archive").unwrap_or(rest);
    let is_name = rest.is_empty()
        || rest.strip_prefix('.').is_some_and(|name| name.chars().all(|c| c.is_alphanumeric() || c == '_'));
    (is_name && !CONSTANTS.contains(&text)).then(|| format!("{text}, which may be a parameter"))
}

/// Returns the words that neither name the schema in a form that is renamed, nor are another name.
fn unknown(text: &str) -> Vec<String> {
    let of_a_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '$' | '"');
    let of_this = |(at, word): (usize, &str)| {
        let (before, after) = (&text[..at], &text[at + word.len()..]);
        let ends = !after.starts_with(|c: char| c.is_alphanumeric() || c == '_');
        let of_schemas = ["schema ", "SCHEMA ", "SCHEMA IF EXISTS ", "SCHEMA IF NOT EXISTS "];
        let renamed = after.starts_with('.')
            || after.strip_prefix("_archive").is_some_and(|rest| !rest.starts_with(of_a_word))
            || before.ends_with('\'') && (after.starts_with("'") || after.starts_with("_phase'"))
            || ends && of_schemas.iter().any(|word| before.ends_with(word));
        let is_other = OTHERS.iter().any(|other| text[at..].starts_with(other));
        let begins = !before.ends_with(of_a_word) && !before.ends_with("\\_");
        (begins && !renamed && !is_other).then(|| text[at..].chars().take(30).collect())
    };
    text.match_indices("lockstep").filter_map(of_this).collect()
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
