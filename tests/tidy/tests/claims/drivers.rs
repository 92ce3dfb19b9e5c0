//! Only `crates/postgres` speaks SQL and only `crates/dynamo` calls DynamoDB.

use lockstep_tidy::{files, lists, rust};

/// Folders in which SQL may stand: its own crate, and what makes and fills the sample's tables. Tests are
/// below `tests/`.
const SQL: [&str; 2] = ["crates/postgres/", "crates/sample/"];
/// Folder in which DynamoDB's expressions and PartiQL look like SQL.
const DYNAMO: &str = "crates/dynamo/";
/// Folders and files in which sqlx may be named: also in the traits by which a column is read and bound, and
/// where a lease is read as a row.
const SQLX: [&str; 7] = [
    "crates/postgres/",
    "crates/sample/",
    "crates/core/src/column/",
    "crates/core/src/erased",
    "crates/core/src/row.rs",
    "crates/core/src/lease.rs",
    "crates/core/src/lib.rs",
];

/// The source files of the product that are no tests.
fn product() -> Vec<String> {
    let mut found = files::below("crates", "rs");
    found.extend(files::below("xtask", "rs"));
    found.retain(|path| !path.contains("/tests/") && !path.ends_with("/tests.rs"));
    found
}

#[test]
fn no_sql_stands_outside_the_postgres_crate() {
    let mut found = Vec::new();
    for path in product() {
        if SQL.iter().any(|folder| path.starts_with(folder)) || path.starts_with(DYNAMO) {
            continue;
        }
        let parts = rust::parts(&tested_part_away(&files::read(&path)));
        if parts.literals.iter().any(|literal| is_sql(&literal.text)) {
            found.push(path);
        }
    }
    lists::check("sql", &found, "SQL belongs into crates/postgres: give it a function there, and call that.");
}

#[test]
fn sqlx_is_named_only_where_rows_are_read_and_statements_made() {
    let found = naming(&SQLX, |code| code.contains("sqlx::") || code.contains("use sqlx"));
    lists::check("sqlx", &found, "Only crates/postgres holds a session; callers get values.");
}

#[test]
fn no_sdk_client_is_called_outside_the_dynamo_crate() {
    let found = naming(&[DYNAMO], |code| code.match_indices("aws_").any(|(at, _)| is_client(&code[at..])));
    lists::check(
        "aws",
        &found,
        "Requests to DynamoDB belong into crates/dynamo. The type AttributeValue may be named.",
    );
}

fn naming(allowed: &[&str], names: impl Fn(&str) -> bool) -> Vec<String> {
    let mut found = product();
    found.retain(|path| !allowed.iter().any(|folder| path.starts_with(folder)));
    found.retain(|path| names(&rust::parts(&tested_part_away(&files::read(path))).code));
    found
}

/// Whether the path is of one of AWS's crates and names anything but the type of an attribute.
fn is_client(path: &str) -> bool {
    let of_aws =
        ["aws_sdk_dynamodb::", "aws_sdk_dynamodbstreams::", "aws_config::", "aws_smithy_http_client::"];
    let rest = of_aws.iter().find_map(|name| path.strip_prefix(name));
    rest.is_some_and(|rest| {
        !rest.starts_with("types::AttributeValue") && !rest.starts_with("primitives::Blob")
    })
}

/// Whether a literal reads like a statement, or like a piece of one.
fn is_sql(text: &str) -> bool {
    const STARTS: [&str; 22] = [
        "SELECT ",
        "INSERT INTO ",
        "DELETE FROM ",
        "CREATE TABLE",
        "CREATE SCHEMA",
        "CREATE INDEX",
        "CREATE TRIGGER",
        "CREATE FUNCTION",
        "CREATE OR REPLACE",
        "CREATE ROLE",
        "CREATE DATABASE",
        "CREATE SEQUENCE",
        "ALTER TABLE",
        "ALTER ROLE",
        "DROP TABLE",
        "DROP SCHEMA",
        "DROP TRIGGER",
        "TRUNCATE ",
        "LOCK TABLE",
        "COPY (",
        "GRANT ",
        "REVOKE ",
    ];
    let text = text.trim_start().trim_start_matches("\\n").trim_start();
    const OF_A_COLUMN: [&str; 3] = ["pg_catalog.", "::text", " AT TIME ZONE "];
    OF_A_COLUMN.iter().any(|piece| text.contains(piece))
        || STARTS.iter().any(|start| text.starts_with(start))
        || (text.starts_with("UPDATE ") && text.contains(" SET "))
        || (text.starts_with("WITH ") && text.contains("SELECT "))
        || (text.contains("SELECT ") && text.contains(" FROM "))
}

/// A name that is followed by a bracket at once and is a function of PostgreSQL's, as far as its spelling
/// says.
fn bare_calls(sql: &str) -> Vec<String> {
    // Words of the language, and names that statements of ours give to what they select from.
    const NO_FUNCTIONS: [&str; 14] = [
        "coalesce",
        "greatest",
        "least",
        "nullif",
        "extract",
        "exists",
        "values",
        "cast",
        "position",
        "d",
        "k",
        "numeric",
        "char",
        "character",
    ];
    let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let mut found = Vec::new();
    for (at, _) in sql.match_indices('(') {
        let name: String = sql[..at]
            .chars()
            .rev()
            .take_while(|c| is_name(*c))
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
            .collect();
        let before = sql[..at - name.len()].chars().next_back();
        let is_qualified = before.is_some_and(|c| matches!(c, '.' | ':' | '"' | '`') || c.is_alphanumeric());
        // Of several arrays it is a form of the language, which calls PostgreSQL's own.
        let is_a_form = name == "unnest" && has_several_arguments(&sql[at + 1..]);
        if !name.is_empty() && !is_qualified && !is_a_form && !NO_FUNCTIONS.contains(&name.as_str()) {
            found.push(name);
        }
    }
    found
}

/// Whether a comma comes before the bracket that closes.
fn has_several_arguments(rest: &str) -> bool {
    let mut depth = 0_usize;
    for c in rest.chars() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' if depth == 0 => return false,
            ')' | ']' | '}' => depth -= 1,
            ',' if depth == 0 => return true,
            _ => {}
        }
    }
    false
}

/// S3: a role that may create in the path of a session offers a better match for a name without a schema.
#[test]
fn every_function_that_our_sql_calls_is_named_with_its_schema() {
    let mut found = Vec::new();
    for path in files::below("crates/postgres", "rs") {
        let parts = rust::parts(&tested_part_away(&files::read(&path)));
        for literal in parts.literals {
            found.extend(
                bare_calls(&literal.text).into_iter().map(|name| format!("{path}:{}: {name}", literal.line)),
            );
        }
    }
    assert!(found.is_empty(), "call them as pg_catalog.…:\n{}", found.join("\n"));
    assert_eq!(bare_calls("SELECT count(*), pg_catalog.max(a), coalesce(b, lower(c))"), ["count", "lower"]);
    assert_eq!(bare_calls("unnest($1::a[]), unnest($1::a[], $2::b[])"), ["unnest"]);
}

/// A file without the module of its tests, which is its end.
fn tested_part_away(text: &str) -> String {
    text.split("#[cfg(test)]\nmod tests {").next().unwrap_or(text).to_owned()
}

#[test]
fn statements_are_told_from_sentences() {
    for statement in [
        "SELECT 1",
        " \n  INSERT INTO t VALUES ($1)",
        "UPDATE t SET a = 1",
        "x AND EXISTS (SELECT 1 FROM t)",
        "({name})::text",
    ] {
        assert!(is_sql(statement), "{statement}");
    }
    for sentence in
        ["select a table", "UPDATE is refused", "Selected 3 rows", "DELETE is refused in DynamoOnly"]
    {
        assert!(!is_sql(sentence), "{sentence}");
    }
    assert!(is_client("aws_sdk_dynamodb::Client::new"));
    assert!(!is_client("aws_sdk_dynamodb::types::AttributeValue::N"));
}
