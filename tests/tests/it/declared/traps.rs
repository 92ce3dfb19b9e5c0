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
        s text, k text, x text, asked text, found text, sample text,
        \"o'clock\" text DEFAULT 'five', \"a \"\"b\"\" \\c {d}\" text DEFAULT 'six', PRIMARY KEY (n, total));
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
    for change in [
        "ALTER TYPE mood RENAME VALUE 'ok' TO 'fine'",
        "ALTER TYPE felt RENAME ATTRIBUTE how TO why",
        "ALTER TYPE felt DROP ATTRIBUTE since; ALTER TYPE felt ADD ATTRIBUTE since date",
    ] {
        let moved = Moved::of(schema, "[tables.days]", Phase::DualWrite).await;
        assert!(moved.compared(false).await.verdict.is_consistent());
        moved.world.sql(change).await;
        for incremental in [true, false] {
            let report = moved.compared(incremental).await;
            assert!(!report.verdict.is_consistent(), "I15, {change}, incremental {incremental}: {report:#?}");
        }
    }
}

/// 1. The application prints the labels of its type in another language, by a cast of its own. 2. Were rows
/// read by that cast, two labels would be one in the item, and in every comparison.
#[tokio::test]
async fn a_value_is_what_its_type_prints_whatever_the_casts_of_the_database_say() {
    let schema = "CREATE TYPE color AS ENUM ('red', 'RED', 'blue');
        CREATE TYPE pair AS (a integer, b text);
        CREATE TABLE painted (id integer PRIMARY KEY, c color NOT NULL, p pair, maybe color, cs color[]);
        INSERT INTO painted VALUES (1, 'red', (1, 'x'), 'RED', '{red,NULL}'), (2, 'RED', (NULL, NULL), NULL, NULL), (3, 'blue', NULL, 'blue', '{}');
        CREATE FUNCTION label(color) RETURNS text IMMUTABLE LANGUAGE sql AS $$ SELECT 'Farbe' $$;
        CREATE FUNCTION label(pair) RETURNS text IMMUTABLE LANGUAGE sql AS $$ SELECT 'Paar' $$;
        CREATE FUNCTION label(color[]) RETURNS text IMMUTABLE LANGUAGE sql AS $$ SELECT 'Farben' $$;
        CREATE CAST (color AS text) WITH FUNCTION label(color) AS ASSIGNMENT;
        CREATE CAST (pair AS text) WITH FUNCTION label(pair) AS IMPLICIT;
        CREATE CAST (color[] AS text) WITH FUNCTION label(color[])";
    let moved = Moved::of(schema, "[tables.painted]", Phase::DualWrite).await;
    moved.world.sql("UPDATE painted SET maybe = 'red' WHERE id = 3").await;
    moved.relayed().await.expect("the relay ends well");
    assert!(moved.compared(false).await.verdict.is_consistent());
    let text = |item: &Attributes, name: &str| item.get(name).and_then(|value| value.as_s().ok()).cloned();
    let mut held: Vec<_> = moved
        .world
        .items("painted")
        .await
        .iter()
        .map(|item| ["c", "p", "maybe", "cs"].map(|name| text(item, name)))
        .collect();
    held.sort();
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(
        held,
        [
            [some("RED"), some("(,)"), None, None],
            [some("blue"), None, some("red"), some("{}")],
            [some("red"), some("(1,x)"), some("RED"), some("{red,NULL}")],
        ]
    );
}

/// The collation of a key is no part of its type, and its change rewrites nothing but the index. 1. A
/// comparison is broken off while it reads. 2. The key sorts in another way. 3. It goes on behind a key
/// that rows have moved before, and never reads those.
#[tokio::test]
async fn a_key_that_sorts_in_another_way_stops_everything_until_it_is_read_again_from_the_beginning() {
    let schema = "CREATE TABLE words (word text COLLATE \"C\" PRIMARY KEY, n integer);
        INSERT INTO words SELECT c || i, i FROM unnest('{A,a,Z,z}'::text[]) AS c, generate_series(1, 50) AS i";
    let moved = Moved::of(schema, "[tables.words]", Phase::DualWrite).await;
    assert!(moved.compared(false).await.verdict.is_consistent());
    moved.world.sql("ALTER TABLE words ALTER word TYPE text COLLATE \"C\"").await;
    assert!(moved.compared(true).await.verdict.is_consistent(), "the order is the one it was");
    moved.world.sql("ALTER TABLE words ALTER word TYPE text COLLATE \"en-x-icu\"").await;
    for incremental in [true, false] {
        let report = moved.compared(incremental).await;
        assert!(!report.verdict.is_consistent(), "{report:#?}");
        let said = report.tables[0].failure.clone().unwrap_or_default();
        assert!(said.contains("its key sorts by another collation"), "{said}");
    }
    let refused = moved.relayed().await;
    moved.world.sql("UPDATE words SET n = 0 WHERE word = 'A1'").await;
    assert!(refused.is_err() || moved.relayed().await.is_err(), "nothing is delivered over it");
    let diagnosis = moved.diagnosis().await;
    assert!(!diagnosis.next.is_empty(), "I17: {diagnosis:#?}");
    moved.mended().await.expect("the table is taken as it is now");
    moved.relayed().await.expect("the relay ends well");
    assert!(moved.compared(false).await.verdict.is_consistent());
    assert_eq!(disagreements(&moved.world, "words", "words", &[]).await, [] as [String; 0]);
}

/// After `SET UNLOGGED`, a crash and `SET LOGGED` there is an empty table in another file; `VACUUM FULL`
/// looks the same from outside. So after either only a whole comparison says anything.
#[tokio::test]
async fn rows_that_lie_in_another_file_are_compared_whole_before_anything_rests_on_a_verdict() {
    let schema = "CREATE TABLE words (word text PRIMARY KEY); INSERT INTO words VALUES ('a'), ('b');
        CREATE TABLE parts (id integer PRIMARY KEY) PARTITION BY LIST (id);
        CREATE TABLE parts_1 PARTITION OF parts FOR VALUES IN (1); INSERT INTO parts VALUES (1)";
    let moved = Moved::of(schema, "[tables.words]\n[tables.parts]", Phase::DualWrite).await;
    for rewritten in ["words", "parts_1"] {
        assert!(moved.compared(false).await.verdict.is_consistent());
        assert!(moved.compared(true).await.verdict.is_consistent());
        moved.world.sql(&format!("VACUUM FULL {rewritten}")).await;
        // Nothing stops, and what a relay records hides nothing.
        moved.relayed().await.expect("the relay ends well");
        let coordinator = moved.coordinator().await;
        let refused = coordinator.step(Phase::HybridRead, None, &()).await.expect_err(rewritten).to_string();
        coordinator.close().await;
        assert!(refused.contains("a rewrite of its rows into another file"), "{refused}");
        let report = moved.compared(true).await;
        let said: Vec<_> = report.tables.iter().filter_map(|table| table.failure.clone()).collect();
        assert!(
            said.len() == 1 && said[0].contains("run `validate` without --incremental first"),
            "{said:?}"
        );
        assert!(!report.verdict.is_consistent());
    }
}

/// A key of `jsonb` that were an element of its own in a source key would lose its quotes there: the text "7"
/// and the number would be one key, and `1.50` would come back as `1.5`.
#[tokio::test]
async fn a_document_that_is_a_key_is_found_by_its_text_and_its_item_goes_with_it() {
    let schema = r#"CREATE TABLE documents (k jsonb PRIMARY KEY, v integer);
        INSERT INTO documents VALUES ('"abc"', 1), ('{"a": 1}', 2), ('true', 3), ('1.50', 4), ('null', 5), ('"7"', 6), ('7', 7),
            ('[1, "x"]', 8), ('"it''s \\ \"so\" é"', 9)"#;
    let moved = Moved::of(schema, "[tables.documents]", Phase::DualWrite).await;
    assert!(moved.compared(false).await.verdict.is_consistent());
    for change in [
        r#"DELETE FROM documents WHERE k IN ('"7"', '"abc"')"#,
        r#"UPDATE documents SET v = v + 100"#,
        "UPDATE documents SET k = '1.5' WHERE v = 104",
    ] {
        moved.world.sql(change).await;
        moved.relayed().await.expect("the relay ends well");
        assert!(moved.compared(true).await.verdict.is_consistent(), "{change}");
        assert!(moved.compared(false).await.verdict.is_consistent(), "{change}");
        assert_eq!(
            disagreements(&moved.world, "documents", "documents", &[]).await,
            [] as [String; 0],
            "{change}"
        );
    }
    let aside: i64 = moved.world.value("SELECT count(*) FROM lockstep.dead_letters").await;
    assert_eq!(aside, 0);
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

/// 1. A column of type json stands in a sort key. 2. In the source key it was a document, and the text in
/// it no text. 3. The mark of a row that went named no place: it was delivered, and the item stayed.
#[tokio::test]
async fn a_row_whose_key_in_dynamodb_has_json_is_deleted_and_moved_there() {
    let schema = r#"CREATE TABLE spoken (id bigint PRIMARY KEY, meta json NOT NULL);
        INSERT INTO spoken VALUES (1, '"de"'), (2, '{"a": 1.50}'), (3, '[1, 2]'), (4, '7'), (5, '"fr"')"#;
    let declared = "[tables.spoken]\npartition = \"{id}\"\nsort = \"{meta}\"";
    let moved = Moved::of(schema, declared, Phase::DualWrite).await;
    let world = &moved.world;
    world.sql("DELETE FROM spoken WHERE id IN (1, 2)").await;
    world.sql(r#"UPDATE spoken SET meta = '{"moved": true}' WHERE id = 3"#).await;
    world.sql(r#"UPDATE spoken SET meta = '"en"' WHERE id = 5"#).await;
    moved.relayed().await.expect("relayed");
    assert_eq!(world.live_items("spoken").await, 3, "what is gone is gone there");
    let report = moved.compared(false).await;
    assert!(report.verdict.is_consistent(), "{report:#?}");
}
