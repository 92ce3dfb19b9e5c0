//! Columns that are held otherwise by choice (`held_as`): to DynamoDB and back, and what is set aside.

use std::sync::Arc;
use std::time::Duration;

use lockstep_coordinator::{FeedProgress, FeedUntil, reverse_feed};
use lockstep_core::{AttributeValue, Attributes, Item, Phase, Version, version_of};
use lockstep_tests::World;
use lockstep_tests::world::backfill;
use lockstep_validator::{CancellationToken, ValidateOptions, ValidateSettings, validate};

use super::naive::disagreements;
use super::{bound, migration, until};

/// A column, its type, what it is held as, and values of it as SQL that come back as they were.
const CHOICES: &[(&str, &str, &str, &[&str])] = &[
    ("id", "uuid", "binary", &["gen_random_uuid()", "'ffffffff-ffff-ffff-ffff-ffffffffffff'"]),
    ("other", "uuid", "binary", &["'00000000-0000-0000-0000-000000000000'", "gen_random_uuid()"]),
    (
        "price",
        "numeric",
        "number",
        &["0", "-1.5", "12345678901234567890.123456789012345678", "1e-130", "1e125"],
    ),
    ("amount", "numeric", "number", &["10", "0.25", "-3.5"]),
    ("single", "real", "text", &["'NaN'", "'-Infinity'", "3.4e38", "1e-45", "0.1"]),
    ("double", "double precision", "text", &["'Infinity'", "'NaN'", "1e300", "5e-324", "0.1"]),
    (
        "doc",
        "jsonb",
        "document",
        &[
            "'{\"b\": [1, 2.5, null, true, {}], \"a\": {\"ä\\\"\": \"\"}, \" \": \"\\\\ \\u00e4\"}'",
            "'null'",
            "'\"text\"'",
            "'12345678901234567890123456789012345678'",
            "'[]'",
        ],
    ),
    ("plain", "json", "document", &["'{\"a\":[1,2,{\"b\":false}]}'", "'[]'", "'null'", "'\"\"'", "'7'"]),
    ("tags", "text[]", "set", &["ARRAY['', ' ', '\"', 'NULL', 'a,b', '{}', 'ä']", "ARRAY['a']"]),
    ("marks", "bigint[]", "set", &["ARRAY[-9223372036854775808, -1, 2, 10]", "ARRAY[7]::bigint[]"]),
    ("parts", "bytea[]", "unordered_set", &["ARRAY['\\x00', '\\x00ff', '\\x5c']::bytea[]"]),
    ("days", "date[]", "unordered_set", &["ARRAY['2026-01-31', '2026-02-01']::date[]"]),
    (
        "wait",
        "interval",
        "iso8601",
        &["'1 year 2 mons -3 days 04:05:06.789'", "'-00:00:00.5'", "'0'", "'178000000 years'", "'24:00:00'"],
    ),
    ("pause", "interval(2)", "iso8601", &["'1.25 s'", "'-1 day'"]),
];

/// Values that something would be lost of, and what is said of the row.
const LOST: &[(&str, &str, &str)] = &[
    ("price", "'NaN'", "NaN"),
    ("price", "123456789012345678901234567890123456789", "38 digits"),
    ("price", "1e-131", "1E-130"),
    ("doc", "'{\"a\": {\"\": 1}}'", "empty"),
    ("doc", "'[1234567890123456789012345678901234567890]'", "38 digits"),
    ("doc", "(repeat('[', 40) || repeat(']', 40))::jsonb", "32 levels"),
    ("plain", "'{\"a\": 1, \"a\": 2}'", "twice"),
    ("plain", "'\"\\u0000\"'", "\\u0000"),
    ("tags", "'{}'", "is empty"),
    ("tags", "ARRAY['a', NULL]", "NULL"),
    ("tags", "ARRAY['b', 'a']", "do not ascend"),
    ("tags", "ARRAY[['a'],['b']]", "one dimension"),
    ("marks", "ARRAY[10, 9]::bigint[]", "do not ascend"),
    ("parts", "ARRAY['\\x00', '\\x00']::bytea[]", "twice"),
];

fn declared() -> String {
    let choices = CHOICES.iter().map(|(name, _, word, _)| format!("{name} = \"{word}\""));
    // A column by itself that is bytes, or a number, is no key of an index: its text is.
    format!(
        "[tables.chosen]\nheld_as = {{ {} }}\n[tables.chosen.indexes.by_other]\npartition = \"{{other}}\"\n\
         sort = \"{{price}}\"\n[tables.chosen.sums.prices]\nvalue = \"amount\"\nby = [\"single\"]",
        choices.collect::<Vec<_>>().join(", ")
    )
}

async fn made(world: &World) -> i64 {
    let columns = CHOICES.iter().map(|(name, kind, ..)| format!("\"{name}\" {kind}"));
    let columns: Vec<String> = columns.collect();
    world.sql(&format!("CREATE TABLE chosen ({}, PRIMARY KEY (id))", columns.join(", "))).await;
    let rows = CHOICES.iter().map(|(.., values)| values.len()).max().expect("some");
    for row in 0..rows {
        let value = |values: &[&'static str], is_id: bool| {
            if is_id && row >= values.len() { values[0] } else { values[row % values.len()] }
        };
        let values = CHOICES.iter().map(|(name, .., values)| value(values, *name == "id"));
        let values: Vec<&str> = values.collect();
        world.sql(&format!("INSERT INTO chosen VALUES ({})", values.join(", "))).await;
    }
    world.sql("INSERT INTO chosen (id) VALUES (gen_random_uuid())").await;
    world.sql("CREATE TABLE as_it_was AS TABLE chosen").await;
    rows as i64 + 1
}

/// Tells what an attribute is, by the letters of the API.
fn letters(item: &Attributes, name: &str) -> &'static str {
    match item.get(name) {
        None => "",
        Some(AttributeValue::S(_)) => "S",
        Some(AttributeValue::N(_)) => "N",
        Some(AttributeValue::B(_)) => "B",
        Some(AttributeValue::Ss(_)) => "SS",
        Some(AttributeValue::Ns(_)) => "NS",
        Some(AttributeValue::Bs(_)) => "BS",
        Some(AttributeValue::M(_)) => "M",
        Some(_) => "other",
    }
}

#[tokio::test]
async fn what_is_held_as_was_chosen_comes_back_as_it_was() {
    let world = World::start().await;
    let rows = made(&world).await;
    let tables = bound(&world, &declared()).await.expect("binds");
    let migration = migration(&world, &tables);
    let coordinator = world.coordinator_of(migration.clone()).await;
    coordinator.prepare(&()).await.expect("nothing refuses");
    let set_aside: u64 = backfill(&coordinator).await.iter().map(|summary| summary.dead_letters).sum();
    let letters_of = world.source.dead_letters("chosen", 10).await.expect("lists");
    assert_eq!(set_aside, 0, "{letters_of:?}");
    coordinator.step(Phase::DualWrite, None, &()).await.expect("nothing refuses");
    coordinator.close().await;
    let items = world.items("chosen").await;
    assert_eq!(items.len() as i64, rows);
    for (name, letter) in [
        ("id", "B"),
        ("other", "B"),
        ("price", "N"),
        ("single", "S"),
        ("double", "S"),
        ("doc", "M"),
        ("plain", "M"),
        ("tags", "SS"),
        ("marks", "NS"),
        ("parts", "BS"),
        ("days", "SS"),
        ("wait", "S"),
        ("by_other_pk", "S"),
        ("by_other_sk", "S"),
    ] {
        assert!(items.iter().any(|item| letters(item, name) == letter), "{name} is no {letter}");
    }
    assert_eq!(disagreements(&world, "chosen", "chosen", &[]).await, [] as [String; 0]);
    let options = ValidateOptions::from(ValidateSettings {
        settle_timeout: Duration::from_secs(5),
        ..ValidateSettings::default()
    });
    let (compared, cancel) = (lockstep_validator::ValidationProgress::new(&tables), CancellationToken::new());
    let report = validate(&world.source, &world.plain_target, &tables, &options, &compared, &cancel).await;
    assert!(report.verdict.is_consistent(), "{report:#?}");

    let feed = || async {
        let (progress, cancel) = (Arc::new(FeedProgress::new(&migration.tables)), CancellationToken::new());
        let fed =
            reverse_feed(&migration, &migration.options.reverse_feed, FeedUntil::Drained, &progress, &cancel);
        fed.await.expect("the feed ends well")
    };
    feed().await;
    // Every row is lost in PostgreSQL, past the triggers, and comes back from its item.
    world
        .sql(
            "ALTER TABLE chosen DISABLE TRIGGER USER; DELETE FROM chosen;
             ALTER TABLE chosen ENABLE ALWAYS TRIGGER zz_lockstep_capture_chosen;
             ALTER TABLE chosen ENABLE ALWAYS TRIGGER zz_lockstep_truncate_chosen",
        )
        .await;
    let epoch = world.flip(Phase::DynamoOnly).await;
    for item in world.items("chosen").await {
        let version = Version(epoch.floor().max(version_of(&item).map_or(0, |version| version.0)) + 1);
        let mut again = Item::default();
        for (name, value) in item.into_iter().filter(|(name, _)| name != "_v") {
            again.push(Box::leak(name.into_boxed_str()), value);
        }
        world.plain_target.put_guarded("chosen", again.at(version), version).await.expect("written");
    }
    feed().await;
    let why = "SELECT coalesce(string_agg(why, '; '), '') FROM lockstep.reverse_again";
    assert_eq!(world.value::<String>(why).await, "");
    until(&world, "every row is back", &format!("SELECT count(*) = {rows} FROM chosen")).await;
    for (column, kind, ..) in CHOICES {
        // A json has no equality, and its blanks are given up; those here have none.
        let sql = format!(
            "SELECT count(*) FROM chosen AS h JOIN as_it_was AS w USING (id)
             WHERE h.{column}::text IS DISTINCT FROM w.{column}::text"
        );
        assert_eq!(world.value::<i64>(&sql).await, 0, "{column} {kind}");
    }
}

#[tokio::test]
async fn of_what_is_held_by_choice_a_row_that_would_lose_something_is_set_aside_and_no_other() {
    let world = World::start().await;
    let rows = made(&world).await;
    for (column, value, _) in LOST {
        world.sql(&format!("INSERT INTO chosen (id, {column}) VALUES (gen_random_uuid(), {value})")).await;
    }
    let tables = bound(&world, &declared()).await.expect("binds");
    let coordinator = world.coordinator_of(migration(&world, &tables)).await;
    coordinator.prepare(&()).await.expect("nothing refuses");
    backfill(&coordinator).await;
    coordinator.close().await;
    assert_eq!(world.live_items("chosen").await as i64, rows);
    let letters = world.source.dead_letters("chosen", 50).await.expect("lists");
    assert_eq!(letters.len(), LOST.len(), "{letters:#?}");
    for (column, value, why) in LOST {
        let told = |reason: &str| reason.contains(&format!("column `{column}`")) && reason.contains(why);
        assert!(letters.iter().any(|letter| told(&letter.reason)), "{column} {value}: {letters:#?}");
    }
}

/// An item that PostgreSQL would take and change is told, and a set of another order is no difference.
#[tokio::test]
async fn an_item_is_compared_by_what_it_means_and_refused_where_postgresql_has_no_such_value() {
    let world = World::start().await;
    made(&world).await;
    let tables = bound(&world, &declared()).await.expect("binds");
    let table = &tables[0].table;
    let id = [7_u8; 16].to_vec();
    let item = |name: &str, value: AttributeValue| {
        Attributes::from([
            ("PK".to_owned(), AttributeValue::S("07070707-0707-0707-0707-070707070707".to_owned())),
            ("id".to_owned(), AttributeValue::B(id.clone().into())),
            (name.to_owned(), value),
        ])
    };
    let s = |text: &str| AttributeValue::S(text.to_owned());
    let refusal =
        |name: &str, value| table.row_of_item(&item(name, value)).err().map(|error| error.to_string());
    for (name, value, part) in [
        ("other", AttributeValue::B(vec![1].into()), "16 bytes"),
        ("price", s("1"), "a number"),
        ("single", s("1e300"), "out of range"),
        ("doc", AttributeValue::L(vec![s("a\0")]), "\\u0000"),
        ("doc", AttributeValue::M([("a".to_owned(), AttributeValue::B(vec![1].into()))].into()), "bytes"),
        ("tags", AttributeValue::L(vec![s("a")]), "a set"),
        ("marks", AttributeValue::Ns(vec!["1".to_owned(), "1.5".to_owned()]), "digits"),
        ("wait", s("1 day"), "interval"),
        ("pause", s("PT1.255S"), "round"),
    ] {
        let refused = refusal(name, value.clone()).unwrap_or_else(|| panic!("{name} took {value:?}"));
        assert!(refused.contains(part), "{name}: {refused}");
    }
    for (name, value) in [
        ("price", AttributeValue::N("1E+3".to_owned())),
        ("doc", AttributeValue::Null(true)),
        ("marks", AttributeValue::Ns(vec!["9".to_owned(), "1E+1".to_owned(), "-3".to_owned()])),
        ("pause", s("PT1.25S")),
    ] {
        assert_eq!(refusal(name, value), None, "{name}");
    }
    let place = table.place_of_item(&item("price", AttributeValue::N("1".to_owned()))).expect("a place");
    assert_eq!(place.partition, s("07070707-0707-0707-0707-070707070707"));
}
