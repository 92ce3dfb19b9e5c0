//! Every type, with hostile values, from PostgreSQL to an item and back into another row: PostgreSQL's own
//! text is the same after it.

use std::sync::Arc;
use std::time::Duration;

use lockstep_coordinator::{FeedProgress, FeedUntil, RelayUntil, relay, reverse_feed};
use lockstep_core::{AttributeValue, Item, Phase, Version, version_of};
use lockstep_tests::World;
use lockstep_tests::world::backfill;
use lockstep_validator::{CancellationToken, ValidateOptions, ValidateSettings, validate};
use sqlx::AssertSqlSafe;

use super::naive::disagreements;
use super::{bound, migration, until};

/// A type, and values of it as SQL.
const TYPES: &[(&str, &[&str])] = &[
    ("smallint", &["-32768", "32767", "0"]),
    ("integer", &["-2147483648", "2147483647"]),
    ("bigint", &["-9223372036854775808", "9223372036854775807"]),
    ("numeric(38,10)", &["9999999999999999999999999999.9999999999", "-0.0000000001", "0", "1.5"]),
    ("numeric", &["1.500", "0.000", "123456789012345678901234567890123456789012345.6789", "1e-40", "-1e60"]),
    ("real", &["3.4e38", "-1.17549435e-38", "0.1", "16777216", "1e-07", "123456.7"]),
    (
        "double precision",
        &[
            "1e125",
            "2.2250738585072014e-120",
            "0.1",
            "1e15",
            "123456789012345.6",
            "-1e-05",
            "0.30000000000000004",
        ],
    ),
    ("boolean", &["true", "false"]),
    ("text", &["''", "E'a\\nb\\t\"\\'\\\\'", "'\u{1F600} ä \u{202e}'", "' '", "'NULL'", "'{}'"]),
    ("varchar(5)", &["'äöü  '", "'12345'"]),
    ("char(4)", &["'a'", "''", "'abcd'", "' a'"]),
    ("bytea", &["''", "'\\x00ff5c27'", "decode(repeat('00ff', 500), 'hex')"]),
    ("date", &["'0001-01-01'", "'9999-12-31'", "'2024-02-29'"]),
    ("time", &["'00:00'", "'24:00:00'", "'23:59:59.999999'"]),
    ("time(2)", &["'12:00:00.25'"]),
    ("timetz", &["'12:00:00.5+05:45'", "'00:00-15:59'"]),
    ("timestamp", &["'0001-01-01 00:00:00'", "'9999-12-31 23:59:59.999999'", "'2026-01-31 10:00'"]),
    ("timestamptz", &["'2026-01-31 10:00:00.000001+05'", "'9999-12-31 23:59:59.999999+00'"]),
    ("timestamp(3) with time zone", &["'2026-01-31 10:00:00.125+00'"]),
    ("interval", &["'1 year 2 mons -3 days 04:05:06.789'", "'-1 day'", "'0'", "'178000000 years'"]),
    ("uuid", &["'00000000-0000-0000-0000-000000000000'", "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'"]),
    ("json", &["'{\"b\": 1,  \"a\":[1.0, 1e5]}'", "'null'"]),
    (
        "jsonb",
        &["'{\"b\": 1.00, \"a\": null, \"\": \"\\u00e4\"}'", "'[]'", "'123456789012345678901234567890.10'"],
    ),
    ("inet", &["'10.0.0.1/8'", "'::1'"]),
    ("cidr", &["'10.0.0.0/8'"]),
    ("macaddr", &["'08:00:2b:01:02:03'"]),
    ("bit(3)", &["B'101'"]),
    ("varbit", &["B''", "B'10101'"]),
    ("money", &["'-92233720368547758.08'::numeric::money", "'0.01'::numeric::money"]),
    ("int4range", &["'empty'", "'[1,5)'", "'(,)'"]),
    ("tstzrange", &["'[2026-01-01 00:00+00,)'"]),
    ("text[]", &["'{}'", "ARRAY['a,b', NULL, 'NULL', '\"', '\\']", "'[2:3]={x,y}'", "ARRAY[['a'],['b']]"]),
    ("timestamptz[]", &["ARRAY[timestamptz '2026-01-01 10:00+05', NULL]"]),
    ("double precision[]", &["ARRAY[0.1, 'NaN', 1e300]::float8[]"]),
    ("point", &["'(1.5,-2)'", "'(0.1,1e300)'"]),
    ("polygon", &["'((0,0),(1,1),(1,0))'"]),
    ("tsvector", &["to_tsvector('simple', 'it''s a b:c')"]),
    ("xml", &["'<a b=\"c\">ä</a>'", "'text only'"]),
    ("pg_lsn", &["'16/B374D848'"]),
    ("oid", &["4294967295"]),
    ("\"char\"", &["'x'"]),
    ("name", &["'a name'"]),
    ("mood", &["'so so'", "'|\"'"]),
    ("pair", &["ROW('a,\"b', NULL)::pair", "ROW(NULL, 5)::pair"]),
    ("positive", &["7"]),
    ("stamp", &["'2026-01-31 10:00:00.5+00'"]),
    ("moods", &["ARRAY['ok']::mood[]"]),
];

const SCHEMA: &str = "
    CREATE TYPE mood AS ENUM ('ok', 'so so', '|\"');
    CREATE TYPE pair AS (a text, b integer);
    CREATE DOMAIN positive AS integer CHECK (VALUE > 0);
    CREATE DOMAIN stamp AS timestamptz;
    CREATE DOMAIN moods AS mood[]";

/// A table with a column of every type, a row for the n-th value of each, and one of NULLs.
async fn every_type(world: &World) -> i64 {
    world.sql(SCHEMA).await;
    let columns: Vec<String> =
        TYPES.iter().enumerate().map(|(n, (kind, _))| format!("c{n} {kind}")).collect();
    world.sql(&format!("CREATE TABLE hostile (id integer PRIMARY KEY, {})", columns.join(", "))).await;
    let rows = TYPES.iter().map(|(_, values)| values.len()).max().expect("types");
    for row in 0..rows {
        let values: Vec<&str> = TYPES.iter().map(|(_, values)| values[row % values.len()]).collect();
        world.sql(&format!("INSERT INTO hostile VALUES ({row}, {})", values.join(", "))).await;
    }
    world.sql(&format!("INSERT INTO hostile (id) VALUES ({rows})")).await;
    world.sql("CREATE TABLE as_it_was AS TABLE hostile").await;
    rows as i64 + 1
}

#[tokio::test]
async fn every_type_is_the_same_text_after_its_way_to_dynamodb_and_back() {
    let world = World::start().await;
    let rows = every_type(&world).await;
    // Some as lists, which come back as the same arrays.
    let is_list = |kind: &str| ["timestamptz[]", "moods"].contains(&kind);
    let lists = TYPES.iter().enumerate().filter(|(_, (kind, _))| is_list(kind)).map(|(n, _)| format!("c{n}"));
    let declared = format!("[tables.hostile]\nlists = {:?}", lists.collect::<Vec<_>>());
    let tables = bound(&world, &declared).await.expect("binds");
    let migration = migration(&world, &tables);
    let coordinator = world.coordinator_of(migration.clone()).await;
    coordinator.prepare(&()).await.expect("nothing refuses");
    let set_aside: u64 = backfill(&coordinator).await.iter().map(|summary| summary.dead_letters).sum();
    let letters = world.source.dead_letters("hostile", 10).await.expect("lists");
    assert_eq!(set_aside, 0, "{letters:?}");
    coordinator.close().await;
    assert_eq!(world.live_items("hostile").await as i64, rows);
    assert_eq!(disagreements(&world, "hostile", "hostile", &[]).await, [] as [String; 0]);

    // Begun before the truth moves, as the step demands.
    let feed = || async {
        let (progress, cancel) = (Arc::new(FeedProgress::new(&migration.tables)), CancellationToken::new());
        let fed =
            reverse_feed(&migration, &migration.options.reverse_feed, FeedUntil::Drained, &progress, &cancel);
        fed.await.expect("the feed ends well")
    };
    feed().await;
    // Every row is lost in PostgreSQL, past the triggers, and comes back from its item.
    world.sql("ALTER TABLE hostile DISABLE TRIGGER USER; DELETE FROM hostile; ALTER TABLE hostile ENABLE ALWAYS TRIGGER zz_lockstep_capture_hostile; ALTER TABLE hostile ENABLE ALWAYS TRIGGER zz_lockstep_truncate_hostile").await;
    let epoch = world.flip(Phase::DynamoOnly).await;
    for item in world.items("hostile").await {
        let version = Version(epoch.floor().max(version_of(&item).map_or(0, |version| version.0)) + 1);
        let mut again = Item::default();
        for (name, value) in item.into_iter().filter(|(name, _)| name != "_v") {
            again.push(Box::leak(name.into_boxed_str()), value);
        }
        world.plain_target.put_guarded("hostile", again.at(version), version).await.expect("written");
    }
    feed().await;
    let why = "SELECT coalesce(string_agg(why, '; '), '') FROM lockstep.reverse_again";
    assert_eq!(world.value::<String>(why).await, "");
    until(&world, "every row is back", &format!("SELECT count(*) = {rows} FROM hostile")).await;
    let columns: Vec<String> = (0..TYPES.len()).map(|n| format!("c{n}")).collect();
    for (column, (kind, _)) in columns.iter().zip(TYPES) {
        let sql = format!(
            "SELECT count(*) FROM hostile AS h JOIN as_it_was AS w USING (id) WHERE h.{column}::text IS DISTINCT FROM w.{column}::text"
        );
        assert_eq!(world.value::<i64>(&sql).await, 0, "{kind}");
    }
}

#[tokio::test]
async fn what_dynamodb_cannot_hold_is_a_dead_letter_that_names_its_column() {
    let world = World::start().await;
    world
        .sql(
            "CREATE TABLE unholdable (id text PRIMARY KEY, n numeric, m numeric(9,2), d double precision, day date, at timestamptz, t text);
             INSERT INTO unholdable (id, n) VALUES ('n', 'NaN');
             INSERT INTO unholdable (id, m) VALUES ('m', 'NaN');
             INSERT INTO unholdable (id, d) VALUES ('d', 'Infinity'), ('d2', 'NaN'), ('d3', 1e300);
             INSERT INTO unholdable (id, day) VALUES ('day', 'infinity'), ('day2', '0044-03-15 BC');
             INSERT INTO unholdable (id, at) VALUES ('at', '-infinity');
             INSERT INTO unholdable (id, t) VALUES ('t', repeat('x', 500000)), ('', 'no key');
             INSERT INTO unholdable (id, t) VALUES ('fine', 'x')",
        )
        .await;
    let tables = bound(&world, "[tables.unholdable]").await.expect("binds");
    let coordinator = world.coordinator_of(migration(&world, &tables)).await;
    coordinator.prepare(&()).await.expect("nothing refuses");
    backfill(&coordinator).await;
    coordinator.close().await;
    let letters = world.source.dead_letters("unholdable", 50).await.expect("lists");
    let mut told: Vec<String> =
        letters.iter().map(|letter| format!("{} {}", letter.key, letter.reason)).collect();
    told.sort();
    assert_eq!(told.len(), 10, "{told:#?}");
    for (key, part) in [
        ("[\"n\"]", "`n`: is NaN"),
        ("[\"m\"]", "`m`: is NaN"),
        ("[\"d\"]", "`d`: is infinite"),
        ("[\"d2\"]", "`d`: is NaN"),
        ("[\"d3\"]", "`d`: is outside"),
        ("[\"day\"]", "`day`: is infinite"),
        ("[\"day2\"]", "`day`"),
        ("[\"at\"]", "`at`"),
        ("[\"t\"]", "bytes"),
        ("[\"\"]", "empty"),
    ] {
        assert!(
            told.iter().any(|letter| letter.starts_with(key) && letter.contains(part)),
            "{key} {part}: {told:#?}"
        );
    }
    assert_eq!(world.live_items("unholdable").await, 1);
    assert!(!told.concat().contains("xxx"), "no values");
}

/// The greatest key of a table is NaN where there is one, so a chunk ends with it, and a range.
#[tokio::test]
async fn a_row_whose_key_is_no_number_is_set_aside_and_the_others_go_on() {
    for (kind, strange, fine) in [
        ("numeric", "'NaN'", "n / 4.0"),
        ("numeric(9,2)", "'NaN'", "n / 4.0"),
        ("double precision", "'NaN'", "n / 3.0"),
        ("double precision", "'-Infinity'", "n / 3.0"),
        ("real", "'Infinity'", "n / 3.0"),
        ("date", "'infinity'", "date '2026-01-01' + n"),
        ("timestamptz", "'-infinity'", "timestamptz '2026-01-01' + n * interval '1 h'"),
        ("timestamptz", "'0044-03-15 00:00+00 BC'", "timestamptz '2026-01-01' + n * interval '1 h'"),
        ("timestamptz", "'12020-08-01 00:00:00.000001+00'", "timestamptz '2026-01-01' + n * interval '1 h'"),
        ("timestamp", "'infinity'", "timestamp '2026-01-01' + n * interval '1 h'"),
        ("timestamp", "'0044-03-15 BC'", "timestamp '2026-01-01' + n * interval '1 h'"),
    ] {
        let world = World::start().await;
        world
            .sql(&format!(
                "CREATE TABLE odd (k {kind}, n integer, v text, PRIMARY KEY (k, n));
                 INSERT INTO odd SELECT {fine}, n, 'v' FROM generate_series(1, 300) AS n; INSERT INTO odd VALUES ({strange}, 1, 'v')"
            ))
            .await;
        let tables = bound(&world, "[tables.odd]").await.expect("binds");
        let migration = migration(&world, &tables);
        let coordinator = world.coordinator_of(migration.clone()).await;
        coordinator.prepare(&()).await.expect("nothing refuses");
        backfill(&coordinator).await;
        coordinator.step(Phase::DualWrite, None, &()).await.expect("nothing refuses");
        coordinator.close().await;
        let letters = world.source.dead_letters("odd", 10).await.expect("lists");
        assert!(
            letters.len() == 1 && letters[0].reason.contains("column `k`"),
            "{kind} {strange}: {letters:?}"
        );
        world.sql("UPDATE odd SET v = 'w'").await;
        let progress = lockstep_coordinator::Progress::new(&tables);
        let cancel = CancellationToken::new();
        let relayed = relay(&migration, RelayUntil::Empty, &progress, &cancel).await;
        relayed.unwrap_or_else(|error| panic!("{kind} {strange}: {error}"));
        assert_eq!(world.live_items("odd").await, 300, "{kind} {strange}");
        lockstep_tests::world::acknowledge(&world.source, "odd", "test").await.expect("acknowledged");
        let options = ValidateOptions::from(ValidateSettings {
            settle_timeout: Duration::from_secs(5),
            ..ValidateSettings::default()
        });
        let compared = lockstep_validator::ValidationProgress::new(&tables);
        let report =
            validate(&world.source, &world.plain_target, &tables, &options, &compared, &cancel).await;
        assert!(report.verdict.is_consistent(), "{kind} {strange}: {report:#?}");
    }
}

#[tokio::test]
async fn an_item_that_postgresql_would_change_is_refused_and_told() {
    let world = World::start().await;
    world
        .sql("CREATE TABLE exact (id integer PRIMARY KEY, m numeric(9,2), t timestamp(3), v varchar(3))")
        .await;
    let tables = bound(&world, "[tables.exact]").await.expect("binds");
    let table = &tables[0].table;
    let item = |name: &str, value: AttributeValue| {
        std::collections::HashMap::from([
            ("PK".to_owned(), AttributeValue::N("1".to_owned())),
            ("id".to_owned(), AttributeValue::N("1".to_owned())),
            (name.to_owned(), value),
        ])
    };
    let refusal =
        |name: &str, value| table.row_of_item(&item(name, value)).err().map(|error| error.to_string());
    let of = |name, value| refusal(name, value).unwrap_or_else(|| panic!("{name} was taken"));
    assert!(of("m", AttributeValue::N("1.005".to_owned())).contains("more than 2 digits"));
    assert!(of("t", AttributeValue::S("2026-01-31T10:00:00.000001".to_owned())).contains("round"));
    assert!(of("v", AttributeValue::S("a\0".to_owned())).contains("NUL"));
    assert!(of("m", AttributeValue::S("1".to_owned())).contains("a number"));
    assert_eq!(refusal("m", AttributeValue::N("1.5".to_owned())), None);
    let longer =
        sqlx::query(AssertSqlSafe("INSERT INTO exact (id, v) VALUES (1, $1::text::varchar)".to_owned()));
    assert!(
        longer.bind("toolong").execute(world.strangers()).await.is_err(),
        "the way that the feed writes cuts nothing"
    );
}
