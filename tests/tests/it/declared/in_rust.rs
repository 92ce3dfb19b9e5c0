//! `init --rust`: the structs that it prints are compiled here as they stand, and moved.

// As it was printed, to the byte.
#[rustfmt::skip]
#[allow(unreachable_pub, reason = "it is the file of a team, whose rows are public")]
mod made;

use std::sync::Arc;

use lockstep_core::{MigratableTable, Phase};
use lockstep_postgres::TableBinding;
use lockstep_tests::World;

use super::naive::disagreements;
use super::partitions::Moved;
use crate::process::{command, ended};

const SCHEMA: &str = r#"
    CREATE SCHEMA shop;
    CREATE TYPE shop.status AS ENUM ('new', 'on hold', 'Sent');
    CREATE TABLE shop.orders (customer_id bigint, "order No" integer, placed_at timestamptz NOT NULL,
        at timestamp(3),
        status shop.status NOT NULL, total numeric(12,2) NOT NULL, rate numeric, tags text[],
        "type" text NOT NULL, ttl integer,
        code char(3), doc jsonb, body bytea, is_gift boolean NOT NULL, score double precision, seen uuid,
        PRIMARY KEY (customer_id, "order No"));
    CREATE INDEX orders_seen ON shop.orders (seen, placed_at);
    CREATE TABLE shop.notes (note_id uuid PRIMARY KEY, status shop.status, note text);
    CREATE TABLE shop.odd (id integer PRIMARY KEY, price money);
    CREATE TABLE shop.keyless (id integer);
    INSERT INTO shop.orders SELECT i % 7, i, now(), '2026-01-01 10:00:00.125', 'on hold', i * 1.25,
        i * 1.50, ARRAY['a,b', NULL],
        'letter', i, 'DE', '{"a": 1.0}', '\x00ff', i % 2 = 0, i * 0.1,
        md5(i::text)::uuid FROM generate_series(1, 60) AS i;
    INSERT INTO shop.orders (customer_id, "order No", placed_at, status, total, type, is_gift) VALUES (1,
        0, now(), 'Sent', 0, '', true);
    INSERT INTO shop.notes SELECT md5(i::text)::uuid, 'new', 'n' FROM generate_series(1, 20) AS i"#;

fn binding(table: impl MigratableTable, name: &str) -> TableBinding {
    let relation = format!("shop.{name}").parse().expect("a name");
    TableBinding { table: Arc::new(table), relation, target_name: name.to_owned() }
}

/// 1. A team has a schema, and wants store handles. 2. It compiles what `init --rust` prints. 3. Its tables
/// move as they are.
#[tokio::test]
async fn structs_that_init_prints_compile_and_move_their_tables() {
    let world = World::start().await;
    world.sql(SCHEMA).await;
    let tables = ["shop.keyless", "shop.notes", "shop.odd", "shop.orders"];
    let mut init = command(&world, &["init", "--rust", "--source", world.url()]);
    init.args(tables.iter().flat_map(|table| ["--table", table]));
    let output = ended(init).await;
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let printed = String::from_utf8(output.stdout).expect("text");
    assert_eq!(printed.trim_end(), include_str!("in_rust/made.rs").trim_end(), "{printed}");
    for part in ["shop.keyless is not declared", "column `price` is money, which no type in Rust holds"] {
        assert!(printed.contains(part), "{part}\n{printed}");
    }

    let tables = vec![binding(made::OrdersTable, "orders"), binding(made::NotesTable, "notes")];
    let moved = Moved::begun(world, tables, Phase::HybridRead).await;
    let world = &moved.world;
    world.sql("UPDATE shop.orders SET status = 'Sent', ttl = 7 WHERE customer_id = 3").await;
    world.sql("DELETE FROM shop.notes WHERE note_id = md5('7')::uuid").await;
    moved.relayed().await.expect("relayed");
    let renamed = [("ttl", "ttl_column")];
    for name in ["orders", "notes"] {
        let apart = disagreements(world, &format!("shop.{name}"), name, &renamed).await;
        assert_eq!(apart, [] as [String; 0], "{name}");
    }
    let report = moved.compared(false).await;
    assert!(report.verdict.is_consistent(), "{report:#?}");
}

/// A role may choose names that end a comment, or a literal, and go on with code.
#[tokio::test]
async fn names_that_another_role_chose_are_no_lines_of_the_structs() {
    let world = World::start().await;
    let name = "x\nfn main() {}\n//\"]\u{2028}";
    let evil = format!("\"{}\"", name.replace('"', "\"\""));
    let table = format!("\"{}s\"", name.replace('"', "\"\""));
    let schema = format!(
        "CREATE SCHEMA odd; CREATE TYPE odd.{evil} AS ENUM ('a', '{label}');
         CREATE TABLE odd.{table} (id integer PRIMARY KEY, {evil} odd.{evil});
         CREATE TABLE odd.other (id integer PRIMARY KEY, {evil} money)",
        label = name.replace('\'', "''"),
    );
    world.sql(&schema).await;
    let output = ended(command(&world, &["init", "--rust", "--source", world.url()])).await;
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let printed = String::from_utf8(output.stdout).expect("text");
    assert!(printed.contains("pub enum XFnMain") && printed.contains("pub struct XFnMainS"), "{printed}");
    assert!(!printed.lines().any(|line| line.trim_start().starts_with("fn main")), "{printed}");
}
