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

/// S22. 1. A role that may create in some schema makes a table without a key, whose name goes on in lines of
/// its own. 2. An operator has `init` declare every table. 3. The name was written into a comment, and what
/// came after its first line was a section of the operator's file, whose command was run.
#[tokio::test]
async fn names_that_another_role_chose_are_no_lines_of_the_configuration() {
    let world = World::start().await;
    let name = "x\n[cleanup]\nbackup_check=\"\"touch ran\"\"\r\n\u{85}#\u{202e}";
    let (evil, other) = (format!("\"{name}\""), format!("\"{name}2\""));
    let schema = format!(
        "CREATE SCHEMA held; CREATE SCHEMA odd; CREATE SCHEMA kinds;
         CREATE TABLE held.{evil} (a integer);
         CREATE TYPE kinds.{evil} AS RANGE (subtype = integer);
         CREATE TABLE odd.rows (id integer NOT NULL, {evil} kinds.{evil}, word text, few text NOT NULL,
             CONSTRAINT {evil} CHECK (id > 0));
         CREATE UNIQUE INDEX {evil} ON odd.rows (id);
         CREATE TABLE odd.named ({evil} text PRIMARY KEY, word text);
         CREATE INDEX {other} ON odd.named (word);
         CREATE TABLE odd.refers (id integer CONSTRAINT {evil} REFERENCES odd.rows (id))",
    );
    world.sql(&schema).await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("lockstep.toml");
    let init = async || {
        let mut init = command(&world, &["init", "--json", "--source", world.url(), "--out"]);
        init.arg(&file);
        ended(init).await
    };
    // A link of another user would have the file written wherever it leads.
    let elsewhere = folder.path().join("elsewhere");
    std::os::unix::fs::symlink(&elsewhere, &file).expect("linked");
    assert_eq!(init().await.status.code(), Some(2));
    assert!(!elsewhere.exists(), "nothing was written through the link");
    std::fs::remove_file(&file).expect("removed");

    let output = init().await;
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let text = std::fs::read_to_string(&file).expect("written");
    let is_ours = |line: &str| {
        line.is_empty()
            || line == "#"
            || line.starts_with("# ")
            || line.starts_with("[tables.")
            || ["[source]", "[target]"].contains(&line)
            || ["url", "source", "key", "partition", "sort", "target", "attributes"]
                .contains(&line.split(" = ").next().unwrap_or(line))
    };
    assert!(text.lines().all(is_ours), "{text}");
    assert!(text.chars().all(|c| c == '\n' || !lockstep_core::acts(c)), "{text:?}");
    for part in [
        r"# held.x\n[cleanup]\nbackup_check=",
        r"`x\n[cleanup]",
        r"# In DynamoOnly nothing checks or does any more: CHECK x\n[cleanup]",
        r"# As x\n[cleanup]",
        r"# No primary key; the index x\n[cleanup]",
        r"the foreign key odd.refers.",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
}

/// All that DynamoDB would not have is told of wherever it stands: a domain's CHECK, of a column, below
/// another domain or in an array; an index of an expression; and a partition of three values.
#[tokio::test]
async fn init_tells_of_checks_of_domains_indexes_of_expressions_and_partitions_of_few_values() {
    let world = World::start().await;
    world
        .sql(
            "CREATE SCHEMA told;
             CREATE TYPE told.status AS ENUM ('new', 'paid', 'sent');
             CREATE DOMAIN told.amount AS numeric(12,2) CONSTRAINT positive CHECK (VALUE >= 0);
             CREATE DOMAIN told.price AS told.amount CONSTRAINT small CHECK (VALUE < 1000);
             CREATE DOMAIN told.code AS text CONSTRAINT four CHECK (length(VALUE) = 4);
             CREATE TABLE told.orders (status told.status, number bigint, price told.price, codes told.code[],
                 email text, PRIMARY KEY (status, number));
             CREATE INDEX by_lower_email ON told.orders (lower(email))",
        )
        .await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = super::init(&world, folder.path(), &["told.orders"]).await;
    let text = std::fs::read_to_string(&file).expect("written");
    for part in [
        "CHECK positive of the domain told.amount, which `price` is made of",
        "CHECK small of the domain told.price, which `price` is made of",
        "CHECK four of the domain told.code, which `codes` is made of",
        "by_lower_email in PostgreSQL is an index of an expression",
        "DECIDE: `status` has few values",
    ] {
        assert_eq!(text.matches(part).count(), 1, "{part}\n{text}");
    }
    // One that is not there, by a name that is near.
    let mut near = command(&world, &["init", "--source", world.url(), "--table", "told.order", "--out", "-"]);
    near.env_remove("AWS_REGION");
    let output = ended(near).await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("there is no table told.order in this database; is told.orders meant?"), "{said}");
}

/// 1. Orders have an index by customer and by time of shipment. 2. As an index of DynamoDB it has no order
/// that was not shipped, for it has no such attribute. 3. Who asks for a customer's orders misses it.
#[tokio::test]
async fn init_proposes_no_index_that_leaves_rows_out_and_tells_of_those_that_it_does_not_propose() {
    let world = World::start().await;
    world
        .sql(
            r#"CREATE SCHEMA sold;
             CREATE TABLE sold.orders (id bigint PRIMARY KEY, customer_id bigint NOT NULL, shipped_at timestamptz,
                 placed_at timestamptz NOT NULL, shop bigint NOT NULL, "a:b" bigint NOT NULL);
             CREATE INDEX a_shipment ON sold.orders (customer_id, shipped_at);
             CREATE INDEX by_placement ON sold.orders (shop, placed_at);
             CREATE INDEX z_customer ON sold.orders (customer_id, placed_at);
             CREATE INDEX by_odd ON sold.orders ("a:b")"#,
        )
        .await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = super::init(&world, folder.path(), &["sold.orders"]).await;
    let text = std::fs::read_to_string(&file).expect("written");
    for part in [
        "DECIDE: not sorted by shipped_at, which may be NULL",
        "sort = \"{placed_at}\"",
        "z_customer in PostgreSQL is not proposed",
        "by_odd in PostgreSQL is not proposed",
    ] {
        assert_eq!(text.matches(part).count(), 1, "{part}\n{text}");
    }
    assert!(!text.contains("{shipped_at}"), "{text}");
}
