//! Declarations by `init` are what `migrate` takes: a table that a gate would refuse is left out with the
//! reason, and does not keep the others from moving.

use lockstep_tests::World;
use serde_json::Value;

use super::configured;
use crate::process::{command, ended};

const SCHEMA: &str = r#"
    CREATE SCHEMA odd;
    CREATE COLLATION odd.folded (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
    CREATE TABLE odd.plain (id integer PRIMARY KEY, v text);
    INSERT INTO odd.plain SELECT i, 'v' FROM generate_series(1, 20) AS i;
    CREATE TABLE odd.late (id integer, v text, PRIMARY KEY (id) DEFERRABLE);
    CREATE TABLE odd.folds (word text COLLATE odd.folded PRIMARY KEY);
    CREATE TABLE odd.ruled (id integer PRIMARY KEY);
    CREATE RULE kept AS ON DELETE TO odd.ruled DO INSTEAD NOTHING;
    CREATE TABLE odd.braces ("k{1}" integer PRIMARY KEY);
    CREATE TABLE odd.columnless ();
    CREATE TABLE odd.keyless (a integer CONSTRAINT of_plain REFERENCES odd.plain)"#;

#[tokio::test]
async fn init_declares_what_migrate_takes_and_says_why_of_the_rest() {
    let world = World::start().await;
    world.sql(SCHEMA).await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("lockstep.toml");
    let mut init = command(&world, &["init", "--json", "--source", world.url(), "--out"]);
    init.arg(&file);
    let names = ["plain", "late", "folds", "ruled", "braces", "columnless", "keyless"];
    init.args(names.iter().flat_map(|name| ["--table".to_owned(), format!("odd.{name}")]));
    let output = ended(init).await;
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let said: Value = serde_json::from_slice(&output.stdout).expect("one JSON document");
    assert_eq!(said["declared"], serde_json::json!(["plain"]), "{said}");
    let text = std::fs::read_to_string(&file).expect("written");
    for part in [
        "odd.late is not declared: the primary key is DEFERRABLE",
        "odd.folds is not declared: the collation of key column `word` is not deterministic",
        "odd.ruled is not declared: rule kept",
        "odd.braces is not declared: tables.braces: partition: template `{k{1}}`",
        "odd.columnless is not declared: it has no primary key",
        "odd.keyless is not declared: it has no primary key",
        "DECIDE before DynamoOnly: the foreign key odd.keyless.of_plain is of a table that is not declared here",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }

    let moved = ended(configured(&world, &file, &["migrate", "--to", "DualWrite", "--quiet"])).await;
    assert_eq!(moved.status.code(), Some(0), "{}\n{text}", String::from_utf8_lossy(&moved.stderr));
}
