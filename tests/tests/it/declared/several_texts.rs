//! Keys of types that take two texts for one value: PostgreSQL keeps their rows one, DynamoDB its items two.

use lockstep_core::Phase;
use lockstep_tests::World;

use super::init;
use super::naive::disagreements;
use super::partitions::Moved;

/// Types of a key, a value of each, and the type that is named as the cause.
const SEVERAL: &[(&str, &str, &str)] = &[
    ("interval", "'1 mon'", "interval"),
    ("span", "'1 mon'", "interval"),
    ("numeric[]", "'{1.0}'", "numeric"),
    ("numrange", "'[1.0,2)'", "numeric"),
    ("double precision[]", "'{-0}'", "double precision"),
    ("bpchar[]", "ARRAY['a ']::bpchar[]", "character"),
    ("jsonb", "'1.5'", "jsonb"),
    ("tsquery", "'a'", "tsquery"),
    ("citext[]", "'{Word}'", "citext"),
    ("named", "ROW(1, 'Word')::named", "text under collation folded"),
    ("worded", "'[A,B)'", "text under collation folded"),
];

/// Types whose equal values have one text, or are spelled as one.
const ONE: &[(&str, &str)] = &[
    ("numeric", "1.50"),
    ("double precision", "0.1"),
    ("character(3)", "'a'"),
    ("timetz", "'12:00+01'"),
    ("inet", "'10.0.0.1/32'"),
    ("int4range", "'(0,2)'"),
    ("text[]", "'{a,B}'"),
    ("mood", "'ok'"),
    ("plain", "ROW(1, 'Word')::plain"),
    ("varbit", "B'010'"),
];

fn schema() -> String {
    let mut schema = String::from(
        "CREATE EXTENSION citext;
         CREATE COLLATION folded (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
         CREATE DOMAIN span AS interval; CREATE TYPE mood AS ENUM ('ok');
         CREATE TYPE named AS (a integer, b text COLLATE folded); CREATE TYPE plain AS (a integer, b text);
         CREATE TYPE worded AS RANGE (subtype = text, collation = folded);",
    );
    let several = SEVERAL.iter().map(|(sql_type, value, _)| (*sql_type, *value));
    for (n, (sql_type, value)) in several.chain(ONE.iter().copied()).enumerate() {
        schema += &format!(
            "CREATE TABLE keyed_{n} (k {sql_type} PRIMARY KEY, v text);
             INSERT INTO keyed_{n} VALUES ({value}, 'v');"
        );
    }
    schema
}

fn name(n: usize) -> String {
    format!("keyed_{n}")
}

/// 1. In DynamoOnly two services write one value of a key in two texts. 2. They are two items. 3. PostgreSQL
/// has one row for both, so the step tells of such a key.
#[tokio::test]
async fn keys_of_several_texts_are_one_row_in_postgresql_and_are_told_of() {
    let all = SEVERAL.len() + ONE.len();
    let declared: String = (0..all).map(|n| format!("[tables.{}]\n", name(n))).collect();
    let moved = Moved::of(&schema(), &declared, Phase::HybridRead).await;
    // Where PostgreSQL is the truth the other text of a value is a change as any other.
    moved.world.sql("UPDATE keyed_0 SET k = '30 days'; UPDATE keyed_2 SET k = '{1.00}'").await;
    moved.relayed().await.expect("relayed");
    for n in 0..all {
        let apart = disagreements(&moved.world, &name(n), &name(n), &[]).await;
        assert_eq!(apart, [] as [String; 0], "{}", name(n));
    }
    let report = moved.compared(false).await;
    assert!(report.verdict.is_consistent(), "{report:#?}");

    for (n, (sql_type, _, cause)) in SEVERAL.iter().enumerate() {
        assert_eq!(
            moved.several_texts(&name(n)).await,
            [("k".to_owned(), (*cause).to_owned())],
            "{sql_type}"
        );
    }
    for (n, (sql_type, _)) in ONE.iter().enumerate() {
        assert_eq!(moved.several_texts(&name(SEVERAL.len() + n)).await, [], "{sql_type}");
    }
}

#[tokio::test]
async fn init_says_of_which_key_postgresql_takes_several_texts() {
    let world = World::start().await;
    world.sql(&schema()).await;
    let folder = tempfile::tempdir().expect("a folder");
    let narrow = SEVERAL.len();
    let file = init(&world, folder.path(), &["public.keyed_0", &format!("public.keyed_{narrow}")]).await;
    let text = std::fs::read_to_string(file).expect("written");
    let said = "NOTE for DynamoOnly: the key's `k` is or holds interval";
    assert_eq!(text.matches("NOTE for DynamoOnly: the key's").count(), 1, "{text}");
    assert!(text.contains(said), "{text}");
}
