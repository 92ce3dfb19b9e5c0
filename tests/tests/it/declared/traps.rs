//! Tables that are made to be misread: columns that are called as ours, keys whose text is not their value,
//! types whose text changes while no row does.

use lockstep_core::{AttributeValue, Attributes, Phase};
use lockstep_tests::World;

use super::naive::disagreements;
use super::partitions::Moved;
use super::round_trip::{Case, there_and_back};
use super::{bound, migration};

/// Every name that a statement of ours gives a column of its own, as a column of the application.
const CALLED_AS_OURS: &str = "
    CREATE TABLE traps (n integer, total integer, key text, version integer, exists boolean, state text, is_there text,
        read_at timestamptz, dead_letter text, place text, place_number integer, repair_version bigint, d text, p text,
        s text, k text, x text, asked text, found text, sample text, PRIMARY KEY (n, total));
    INSERT INTO traps (n, total, key, version, exists, state) SELECT i, 1000 - i, 'no JSON', i % 9, i % 2 = 0, 'open'
        FROM generate_series(1, 300) AS i";

const TRAPS: Case = Case {
    schema: CALLED_AS_OURS,
    tables: &[("traps", "traps", "traps", &[])],
    writes: &[
        "UPDATE traps SET version = version - 1, exists = NOT exists WHERE n = (random() * 300)::int",
        "UPDATE traps SET version = NULL, key = '[\"1\"]', state = NULL WHERE n = (random() * 300)::int",
        "INSERT INTO traps (n, total, exists) VALUES (1000 + (random() * 100000)::int, (random() * 9)::int, false)",
        "UPDATE traps SET n = n + 100000, dead_letter = 'f', is_there = 'f' WHERE n = (random() * 300)::int",
        "DELETE FROM traps WHERE n = (random() * 40)::int",
    ],
};

#[tokio::test]
async fn a_table_whose_columns_are_called_as_ours_goes_there_and_back() {
    there_and_back(&TRAPS).await;
}

/// Deletes the live items that satisfy a condition, past Lockstep; how many.
async fn lose(world: &World, table: &str, is_lost: impl Fn(&Attributes) -> bool) -> usize {
    let items: Vec<Attributes> = world.items(table).await;
    let lost: Vec<_> = items.iter().filter(|item| is_lost(item)).collect();
    for item in &lost {
        let key =
            ["PK", "SK"].into_iter().filter_map(|name| Some((name.to_owned(), item.get(name)?.clone())));
        let delete = world.plain_target.client().delete_item().table_name(table).set_key(Some(key.collect()));
        delete.send().await.expect("deleted");
    }
    lost.len()
}

#[tokio::test]
async fn a_lost_item_is_missing_whatever_the_columns_of_its_row_are_called() {
    let moved = Moved::of(CALLED_AS_OURS, "[tables.traps]", Phase::DualWrite).await;
    assert!(moved.compared(false).await.verdict.is_consistent());
    let lost =
        lose(&moved.world, "traps", |item| item.get("exists") == Some(&AttributeValue::Bool(false))).await;
    let report = moved.compared(false).await;
    assert_eq!((report.tables[0].missing, lost), (150, 150), "{report:#?}");
    assert!(!report.verdict.is_consistent());
}

#[tokio::test]
async fn a_row_is_set_aside_and_the_backfill_ends_whatever_its_columns_are_called() {
    let outgrown = format!("{CALLED_AS_OURS}; UPDATE traps SET sample = repeat('x', 420000) WHERE n = 7");
    let moved = Moved::of(&outgrown, "[tables.traps]", Phase::PostgresOnly).await;
    moved.relayed().await.expect("the relay ends well");
    let aside: i64 = moved.world.value("SELECT count(*) FROM lockstep.dead_letters").await;
    assert_eq!(aside, 1);
    moved.world.sql("UPDATE traps SET sample = NULL, version = 1 WHERE n = 7").await;
    moved.relayed().await.expect("the relay ends well");
    assert_eq!(disagreements(&moved.world, "traps", "traps", &[]).await, [] as [String; 0]);
}

#[tokio::test]
async fn a_key_of_minus_zero_is_found_and_its_lost_item_is_missing() {
    let schema = "CREATE TABLE weights (w double precision PRIMARY KEY, note text);
        INSERT INTO weights VALUES ('-0', 'none'), (1.5, 'some'), (-2.25, 'less')";
    let moved = Moved::of(schema, "[tables.weights]", Phase::DualWrite).await;
    moved.world.sql("UPDATE weights SET note = 'changed'").await;
    moved.relayed().await.expect("the relay ends well");
    assert!(moved.compared(false).await.verdict.is_consistent());
    lose(&moved.world, "weights", |item| item.get("note").is_some()).await;
    assert_eq!(moved.compared(false).await.tables[0].missing, 3);
}

#[tokio::test]
async fn a_label_that_is_renamed_below_an_array_a_domain_or_a_composite_ends_every_verdict() {
    let schema = "CREATE TYPE mood AS ENUM ('ok', 'bad');
        CREATE DOMAIN some_mood AS mood[];
        CREATE TYPE felt AS (how mood, since date);
        CREATE TABLE days (day date PRIMARY KEY, moods some_mood, felt felt);
        INSERT INTO days SELECT date '2026-01-01' + i, ARRAY['ok', 'bad']::mood[], ROW('ok', '2026-01-01')::felt
            FROM generate_series(1, 50) AS i";
    for change in
        ["ALTER TYPE mood RENAME VALUE 'ok' TO 'fine'", "ALTER TYPE felt RENAME ATTRIBUTE how TO why"]
    {
        let moved = Moved::of(schema, "[tables.days]", Phase::DualWrite).await;
        assert!(moved.compared(false).await.verdict.is_consistent());
        moved.world.sql(change).await;
        for incremental in [true, false] {
            let report = moved.compared(incremental).await;
            assert!(!report.verdict.is_consistent(), "I15, {change}, incremental {incremental}: {report:#?}");
        }
    }
}

/// 1. Ranges are cut by one order and read by another. 2. What lies between is neither copied nor compared.
#[tokio::test]
async fn a_key_of_a_type_with_an_order_of_its_own_is_refused() {
    let world = World::start().await;
    world
        .sql(
            "CREATE EXTENSION citext; CREATE DOMAIN email AS citext;
             CREATE TABLE accounts (email email PRIMARY KEY); CREATE TABLE notes (id integer PRIMARY KEY, by citext);
             CREATE TABLE folded (id integer NOT NULL, email citext NOT NULL UNIQUE)",
        )
        .await;
    for (declared, name) in [("[tables.accounts]", "email"), ("[tables.folded]\nkey = [\"email\"]", "email")]
    {
        let tables = bound(&world, declared).await.expect("bound");
        let coordinator = world.coordinator_of(migration(&world, &tables)).await;
        let refused = coordinator.prepare(&()).await.expect_err(declared).to_string();
        assert!(refused.contains(&format!("`{name}` is of a type with an order of its own")), "{refused}");
        coordinator.close().await;
    }
    let tables = bound(&world, "[tables.notes]").await.expect("bound");
    let coordinator = world.coordinator_of(migration(&world, &tables)).await;
    coordinator.prepare(&()).await.expect("no key of it");
    coordinator.close().await;
}
