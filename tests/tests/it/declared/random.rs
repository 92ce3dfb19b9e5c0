//! Random schemas, rows and templates: after the way to DynamoDB every row reads back as it was, by
//! PostgreSQL's own input functions and by the product's, and no two rows share an item.

use std::fmt::Write as _;
use std::time::Duration;

use lockstep_coordinator::Coordinator;
use lockstep_core::Phase;
use lockstep_tests::World;
use lockstep_tests::world::backfill;
use lockstep_validator::{CancellationToken, ValidateOptions, ValidateSettings, validate};
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom as _, SliceRandom as _};
use rand::{RngExt as _, SeedableRng as _};

use super::naive::disagreements;
use super::{bound, migration};

/// Types of a key of one schema, at most: each run has every type in a key of one.
const KEY_COLUMNS_MAX: usize = 3;
const ROWS: usize = 30;
/// Types that the schemas name beside those of PostgreSQL.
const TYPES: &str =
    "CREATE TYPE mood AS ENUM ('ok', 'so so', 'ä|ß#'); CREATE TYPE address AS (street text, zip integer)";

/// A type, and a random value of it as SQL. Those of the first list can be part of a key.
type Sort = (&'static str, fn(&mut StdRng) -> String);

const KEYS: &[Sort] = &[
    ("smallint", |random| random.random::<i16>().to_string()),
    ("integer", |random| random.random::<i32>().to_string()),
    ("bigint", |random| random.random::<i64>().to_string()),
    ("text", |random| text(random, 1)),
    ("varchar(30)", |random| text(random, 1)),
    ("uuid", |random| format!("'{:032x}'", random.random::<u128>())),
    ("date", |random| format!("date '2000-01-01' + {}", random.random_range(-300_000..900_000))),
    ("timestamptz", |random| {
        format!(
            "timestamptz '2000-01-01 00:00+00' + {} * interval '1 us'",
            random.random_range(-9e15..9e16_f64) as i64
        )
    }),
    ("timestamp", |random| {
        format!(
            "timestamp '2000-01-01' + {} * interval '1 us'",
            random.random_range(0..9_000_000_000_000_i64)
        )
    }),
    ("time", |random| {
        format!("time '00:00' + {} * interval '1 us'", random.random_range(0..86_399_999_999_i64))
    }),
    ("numeric(20,4)", |random| format!("{}.{:04}", random.random::<i32>(), random.random_range(0..10_000))),
    ("numeric", |random| format!("{}.{:09}", random.random::<i64>(), random.random_range(0..1_000_000_000))),
    ("double precision", |random| format!("{:e}", random.random_range(-1e12..1e12_f64))),
    ("bytea", |random| format!("'\\x{:016x}'", random.random::<u64>())),
    ("inet", |random| {
        format!("'10.{}.{}.{}'", random.random::<u8>(), random.random::<u8>(), random.random::<u8>())
    }),
    ("interval", |random| format!("{} * interval '1 s'", random.random_range(0..9_000_000))),
    ("boolean", |random| random.random::<bool>().to_string()),
    ("\"char\"", |random| format!("'{}'", random.random_range('A'..='Z'))),
    ("name", |random| text(random, 1)),
    ("char(6)", |random| text(random, 1)),
    ("oid", |random| random.random::<u32>().to_string()),
    ("oidvector", |random| format!("'{} {}'", random.random::<u32>(), random.random::<u32>())),
    ("int2vector", |random| format!("'{} {}'", random.random::<i16>(), random.random::<i16>())),
    ("tid", |random| format!("'({},{})'", random.random::<u32>(), random.random::<u16>())),
    ("xid8", |random| format!("'{}'", random.random::<u64>())),
    ("pg_lsn", |random| format!("'{:X}/{:X}'", random.random::<u32>(), random.random::<u32>())),
    ("real", |random| format!("{:e}", random.random_range(-1e6..1e6_f32))),
    ("money", |random| {
        format!("({}.{:02})::numeric::money", random.random::<i32>(), random.random_range(0..100))
    }),
    ("macaddr", |random| format!("'{:012x}'", random.random::<u64>() >> 16)),
    ("macaddr8", |random| format!("'{:016x}'", random.random::<u64>())),
    ("cidr", |random| format!("'10.{}.{}.0/24'", random.random::<u8>(), random.random::<u8>())),
    ("timetz", |random| {
        let at = random.random_range(0..86_399_999_999_i64);
        let zone = random.random_range(-15..15);
        format!("((time '00:00' + {at} * interval '1 us')::text || '{zone:+03}')::timetz")
    }),
    ("bit(8)", |random| format!("({})::bit(8)", random.random::<i32>())),
    ("varbit", |random| format!("({})::bit(32)::varbit", random.random::<i32>())),
    ("tsvector", |random| format!("to_tsvector('simple', {} || ' a')", text(random, 1))),
    ("tsquery", |random| format!("plainto_tsquery('simple', 'w{} x')", random.random::<u32>())),
    ("jsonb", |random| {
        format!("jsonb_build_object('a', {}, {}, NULL)", random.random::<i64>(), text(random, 1))
    }),
    ("text[]", |random| format!("ARRAY[{}, NULL, {}]", text(random, 0), text(random, 0))),
    ("mood", |random| format!("'{}'", ["ok", "so so", "ä|ß#"].choose(random).expect("some"))),
    ("address", |random| format!("ROW({}, {})::address", text(random, 0), random.random::<i32>())),
    ("int4range", |random| range(random, "int4range")),
    ("int8range", |random| range(random, "int8range")),
    ("numrange", |random| range(random, "numrange")),
    ("daterange", |random| times(random, "date", "daterange")),
    ("tsrange", |random| times(random, "timestamp", "tsrange")),
    ("tstzrange", |random| times(random, "timestamptz", "tstzrange")),
    ("int4multirange", |random| format!("int4multirange({})", range(random, "int4range"))),
    ("int8multirange", |random| format!("int8multirange({})", range(random, "int8range"))),
    ("nummultirange", |random| format!("nummultirange({})", range(random, "numrange"))),
    ("datemultirange", |random| format!("datemultirange({})", times(random, "date", "daterange"))),
    ("tsmultirange", |random| format!("tsmultirange({})", times(random, "timestamp", "tsrange"))),
    ("tstzmultirange", |random| format!("tstzmultirange({})", times(random, "timestamptz", "tstzrange"))),
];

/// A range of some whole numbers.
fn range(random: &mut StdRng, of: &str) -> String {
    format!("{of}({0}, {0} + 5)", random.random_range(-1000..1000))
}

/// A range of some days.
fn times(random: &mut StdRng, sort: &str, of: &str) -> String {
    let begin = format!("{sort} '2000-01-01' + {}", random.random_range(0..9_000));
    let begin = if sort == "date" { begin } else { format!("{begin} * interval '1 day'") };
    format!("{of}(({begin})::{sort}, NULL)")
}

const OTHERS: &[Sort] = &[
    ("varchar(6)[]", |random| format!("ARRAY[{}, {}]::varchar[]", text(random, 0), text(random, 0))),
    ("bigint[]", |random| format!("'{{{}, NULL}}'", random.random::<i64>())),
    ("numeric[]", |random| format!("'{{{}.50, 0.00, NULL}}'", random.random::<i32>())),
    ("numeric(12,3)[]", |random| format!("'{{{}.5}}'", random.random_range(-99_999..99_999))),
    ("real[]", |random| format!("ARRAY[{:e}]::real[]", random.random_range(-1e6..1e6_f32))),
    ("boolean[]", |random| format!("ARRAY[{}, NULL]", random.random::<bool>())),
    ("bytea[]", |random| format!("ARRAY['\\x{:08x}'::bytea, '']", random.random::<u32>())),
    ("jsonb[]", |random| format!("ARRAY[to_jsonb({}::text), NULL]", text(random, 0))),
    ("timestamptz[]", |random| {
        format!(
            "ARRAY[timestamptz '2000-01-01 00:00+00' + {} * interval '1 us']",
            random.random_range(0..9_000_000_000_000_i64)
        )
    }),
    ("inet[]", |random| format!("ARRAY['10.0.0.{}'::inet]", random.random::<u8>())),
    ("uuid[]", |_| "'{}'".to_owned()),
    ("point", |random| format!("point({}, {})", random.random::<f64>(), random.random::<f32>())),
];

/// A text of at most six characters, most of which divide, escape or end something somewhere.
fn text(random: &mut StdRng, shortest: usize) -> String {
    const HOSTILE: [char; 18] = [
        '#',
        '%',
        '\\',
        '\'',
        '"',
        '{',
        '}',
        ' ',
        '|',
        '/',
        ':',
        '-',
        '0',
        'a',
        'Z',
        'ä',
        '\u{1F600}',
        '\u{7f}',
    ];
    let length = random.random_range(shortest..=6);
    let characters: String = (0..length).map(|_| *HOSTILE.choose(random).expect("some")).collect();
    format!("'{}'", characters.replace('\'', "''"))
}

/// A declared table under a random template.
struct Made {
    sql: String,
    declared: String,
}

fn made(seed: usize, keys: &[&Sort]) -> Made {
    let random = &mut StdRng::seed_from_u64(seed as u64);
    let every: Vec<&Sort> = KEYS.iter().chain(OTHERS).collect();
    let others: Vec<&Sort> =
        (0..random.random_range(0..=14)).map(|_| *every.choose(random).expect("some")).collect();
    let columns = keys.iter().enumerate().map(|(n, (kind, _))| format!("k{n} {kind}"));
    let columns = columns.chain(others.iter().enumerate().map(|(n, (kind, _))| format!("c{n} {kind}")));
    let key: Vec<String> = (0..keys.len()).map(|n| format!("k{n}")).collect();
    let mut sql = format!(
        "CREATE TABLE made_{seed} ({}, PRIMARY KEY ({}));",
        columns.collect::<Vec<_>>().join(", "),
        key.join(", ")
    );
    for _ in 0..ROWS {
        let mut values: Vec<String> = keys.iter().map(|(_, value)| value(random)).collect();
        for (_, value) in &others {
            values.push(if random.random_bool(0.2) { "NULL".to_owned() } else { value(random) });
        }
        let _ = write!(sql, "INSERT INTO made_{seed} VALUES ({}) ON CONFLICT DO NOTHING;", values.join(", "));
    }
    let at = random.random_range(1..=keys.len());
    let template = |random: &mut StdRng, columns: &[String]| {
        let parts: Vec<String> = columns.iter().map(|column| format!("{{{column}:esc}}")).collect();
        let first = ["", "P#", "ä|"].choose(random).expect("some");
        format!("{first}{}", parts.join(["#", "##", "|"].choose(random).expect("some")))
    };
    let mut declared = format!("[tables.made_{seed}]\npartition = \"{}\"\n", template(random, &key[..at]));
    if at < key.len() {
        let _ = writeln!(declared, "sort = \"{}\"", template(random, &key[at..]));
    }
    // Half of the arrays are lists.
    let is_list = |n: &usize| others[*n].0.ends_with("[]") && random.random_bool(0.5);
    let lists: Vec<String> = (0..others.len()).filter(is_list).map(|n| format!("\"c{n}\"")).collect();
    let _ = writeln!(declared, "lists = [{}]", lists.join(", "));
    Made { sql, declared }
}

#[tokio::test]
async fn random_rows_of_random_schemas_under_random_templates_read_back_as_they_were() {
    let world = World::start().await;
    world.sql(TYPES).await;
    let mut sorts: Vec<&Sort> = KEYS.iter().collect();
    sorts.shuffle(&mut StdRng::seed_from_u64(7));
    let keys = sorts.chunks(KEY_COLUMNS_MAX).enumerate();
    let made: Vec<Made> = keys.map(|(seed, keys)| made(seed, keys)).collect();
    for Made { sql, .. } in &made {
        world.sql(sql).await;
    }
    let declared: String = made.iter().map(|made| made.declared.as_str()).collect();
    let tables = bound(&world, &declared).await.unwrap_or_else(|problem| panic!("{problem}\n{declared}"));
    let coordinator: Coordinator = world.coordinator_of(migration(&world, &tables)).await;
    coordinator.prepare(&()).await.expect("nothing refuses");
    backfill(&coordinator).await;
    coordinator.step(Phase::DualWrite, None, &()).await.expect("nothing refuses");
    coordinator.close().await;
    for (seed, Made { sql, declared }) in made.iter().enumerate() {
        let name = format!("made_{seed}");
        let letters = world.source.dead_letters(&name, 10).await.expect("lists");
        assert!(letters.is_empty(), "{declared}{letters:?}");
        assert_eq!(world.live_items(&name).await as i64, world.count(&name).await, "{declared}");
        let wrong = disagreements(&world, &name, &name, &[]).await;
        assert!(
            wrong.is_empty(),
            "{declared}{}\n{wrong:#?}",
            sql.split_once(';').map_or("", |(table, _)| table)
        );
    }
    let (options, cancel) = (
        ValidateOptions::from(ValidateSettings {
            settle_timeout: Duration::from_secs(5),
            ..ValidateSettings::default()
        }),
        CancellationToken::new(),
    );
    let progress = lockstep_validator::ValidationProgress::new(&tables);
    let report = validate(&world.source, &world.plain_target, &tables, &options, &progress, &cancel).await;
    assert!(report.verdict.is_consistent(), "{declared}{report:#?}");
}

/// Every type that PostgreSQL takes into a key is one of those above, or is refused by the name of its
/// column.
/// Arrays go by one of them, as they do in the product. Types of the catalogue itself take no value.
#[tokio::test]
async fn each_type_that_a_key_may_be_is_tried_or_refused_by_name() {
    let world = World::start().await;
    world.sql(TYPES).await;
    let mut tried = Vec::new();
    for (sort, _) in KEYS {
        tried.push(world.value::<String>(&format!("SELECT '{sort}'::regtype::text")).await);
    }
    let all = "SELECT string_agg(format_type(oid, NULL), ';' ORDER BY oid) FROM pg_type
        WHERE typnamespace = 'pg_catalog'::regnamespace AND typtype IN ('b', 'r', 'm')
            AND left(typname, 1) <> '_' AND (left(typname, 3) <> 'pg_' OR typname = 'pg_lsn')";
    let all: String = world.value(all).await;
    let (mut taken, mut refused, mut untried) = (0, Vec::new(), Vec::new());
    for (n, sort) in all.split(';').enumerate() {
        if world.try_sql(&format!("CREATE TABLE one_{n} (k {sort} PRIMARY KEY)")).await.is_err() {
            // PostgreSQL has no order of it.
            continue;
        }
        let why = match bound(&world, &format!("[tables.one_{n}]")).await {
            Ok(tables) => {
                world.source.describe(&tables[0]).await.expect("described").mismatches(&tables[0]).join("; ")
            }
            Err(why) => why,
        };
        if why.is_empty() {
            taken += 1;
            if !tried.iter().any(|tried| tried == sort) {
                untried.push(sort);
            }
        } else {
            assert!(why.contains("column `k`") && why.contains(sort), "{sort}: {why}");
            refused.push(sort);
        }
    }
    assert_eq!(untried, [] as [&str; 0], "they are taken, and no test tries them");
    assert!(taken > 40 && refused.contains(&"regclass"), "{taken} are taken; refused: {refused:?}");
}
