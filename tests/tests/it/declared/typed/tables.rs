//! The tables, and their rows.

use std::collections::BTreeSet;

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, Utc};
use lockstep_core::{Document, FloatText, Number, Scaled, UuidBytes};
use rust_decimal::Decimal;
use uuid::Uuid;

#[derive(Clone, Copy, Debug, PartialEq, lockstep::Label)]
#[lockstep(sql = "shop.status")]
pub(super) enum Status {
    New,
    #[lockstep(label = "so so")]
    SoSo,
    #[lockstep(label = "|\"")]
    Odd,
}

/// Every type that can be in a key is in this one.
#[derive(Clone, Debug, PartialEq, lockstep::Table)]
#[lockstep(name = "every", table = "Every")]
#[lockstep(partition = "{id}#{day}", sort = "{moment}#{clock}#{shard}#{status:esc}#{raw:esc}")]
#[lockstep(index(name = "by_uuid", partition = "{o_uuid}"))]
#[lockstep(index(name = "by_status", partition = "S#{o_status}#{o_day}"))]
pub(super) struct Row {
    #[lockstep(primary_key)]
    pub(super) id: Uuid,
    #[lockstep(primary_key)]
    pub(super) status: Status,
    #[lockstep(primary_key)]
    pub(super) raw: Vec<u8>,
    #[lockstep(primary_key, attribute = "on_day")]
    pub(super) day: NaiveDate,
    #[lockstep(primary_key)]
    pub(super) clock: NaiveTime,
    #[lockstep(primary_key)]
    pub(super) moment: NaiveDateTime,
    #[lockstep(primary_key, attribute = "part")]
    pub(super) shard: i16,
    #[lockstep(attribute = "ratio")]
    pub(super) double: f64,
    pub(super) bigs: Vec<i64>,
    #[lockstep(attribute = "other")]
    pub(super) o_uuid: Option<Uuid>,
    pub(super) o_status: Option<Status>,
    pub(super) o_raw: Option<Vec<u8>>,
    pub(super) o_small: Option<i16>,
    pub(super) o_real: Option<f32>,
    pub(super) o_double: Option<f64>,
    pub(super) o_day: Option<NaiveDate>,
    pub(super) o_clock: Option<NaiveTime>,
    pub(super) o_moment: Option<NaiveDateTime>,
    pub(super) o_instant: Option<DateTime<Utc>>,
    pub(super) o_numeric: Option<Decimal>,
    #[lockstep(sql = "numeric(18,2)")]
    pub(super) o_scaled: Option<Scaled<2>>,
    pub(super) o_texts: Option<Vec<Option<String>>>,
    pub(super) o_codes: Option<Vec<String>>,
    pub(super) o_smalls: Option<Vec<i16>>,
    pub(super) o_ints: Option<Vec<Option<i32>>>,
    pub(super) o_bigs: Option<Vec<Option<i64>>>,
    pub(super) h_uuid: Option<UuidBytes>,
    pub(super) h_numeric: Option<Number>,
    pub(super) h_real: Option<FloatText<f32>>,
    pub(super) h_double: FloatText<f64>,
    pub(super) h_document: Option<Document>,
    pub(super) h_texts: Option<BTreeSet<String>>,
    pub(super) h_smalls: Option<BTreeSet<i16>>,
    pub(super) h_ints: Option<BTreeSet<i32>>,
    pub(super) h_bigs: Option<BTreeSet<i64>>,
}

/// The same table, declared.
pub(super) const DECLARED: &str = r##"
[tables.declared]
source = "shop.every"
partition = "{id}#{day}"
sort = "{moment}#{clock}#{shard}#{status:esc}#{raw:esc}"
attributes = { double = "ratio", o_uuid = "other", shard = "part", day = "on_day" }

[tables.declared.held_as]
h_uuid = "binary"
h_numeric = "number"
h_real = "text"
h_double = "text"
h_document = "document"
h_texts = "set"
h_smalls = "unordered_set"
h_ints = "set"
h_bigs = "set"

[tables.declared.indexes.by_uuid]
partition = "{o_uuid}"
sort = "{moment}#{clock}#{shard}#{status:esc}#{raw:esc}"

[tables.declared.indexes.by_status]
partition = "S#{o_status}#{o_day}"
sort = "{moment}#{clock}#{shard}#{status:esc}#{raw:esc}"
"##;

/// A row that moves, and is found by a uuid.
#[derive(Clone, Debug, PartialEq, lockstep::Table)]
#[lockstep(name = "visits", table = "Visits", partition = "D#{day}", sort = "{at}#{visit_id}")]
#[lockstep(index(name = "by_id", partition = "{visit_id}"))]
pub(super) struct Visit {
    #[lockstep(primary_key, attribute = "ident")]
    pub(super) visit_id: Uuid,
    #[lockstep(attribute = "on_day")]
    pub(super) day: NaiveDate,
    pub(super) at: NaiveDateTime,
    pub(super) status: Status,
}

/// Columns of these tables that are held in attributes of other names.
pub(super) const RENAMED: &[(&str, &str)] =
    &[("double", "ratio"), ("o_uuid", "other"), ("shard", "part"), ("visit_id", "ident"), ("day", "on_day")];

/// A row that is found by bytes.
#[derive(Clone, Debug, PartialEq, lockstep::Table)]
#[lockstep(name = "blobs", table = "Blobs", partition = "{digest}")]
pub(super) struct Blob {
    #[lockstep(primary_key)]
    pub(super) digest: Vec<u8>,
    pub(super) body: Option<Vec<u8>>,
}

pub(super) const SCHEMA: &str = r#"
    CREATE SCHEMA shop;
    CREATE TYPE shop.status AS ENUM ('new', 'so so', '|"');
    CREATE TABLE shop.every (id uuid, status shop.status, raw bytea, day date, clock time, moment timestamp,
        shard smallint, double double precision NOT NULL, bigs bigint[] NOT NULL, o_uuid uuid,
        o_status shop.status, o_raw bytea, o_small smallint, o_real real, o_double double precision,
        o_day date, o_clock time, o_moment timestamp, o_instant timestamptz, o_numeric numeric,
        o_scaled numeric(18,2), o_texts text[], o_codes varchar(3)[], o_smalls smallint[], o_ints integer[],
        o_bigs bigint[], h_uuid uuid, h_numeric numeric, h_real real, h_double double precision NOT NULL,
        h_document jsonb, h_texts text[], h_smalls smallint[], h_ints integer[], h_bigs bigint[],
        PRIMARY KEY (id, status, raw, day, clock, moment, shard));
    CREATE TABLE shop.visits (visit_id uuid PRIMARY KEY, day date NOT NULL, at timestamp NOT NULL,
        status shop.status NOT NULL);
    CREATE TABLE shop.blobs (digest bytea PRIMARY KEY, body bytea);
    INSERT INTO shop.visits SELECT md5(i::text)::uuid, date '2026-01-01' + i,
        timestamp '2026-01-01' + i * interval '1.5 s', 'so so' FROM generate_series(1, 20) AS i;
    INSERT INTO shop.blobs SELECT sha256(i::text::bytea), decode(to_hex(i + 16), 'hex')
        FROM generate_series(1, 20) AS i"#;

/// Values of each column after `id`, as SQL.
pub(super) const VALUES: &[&[&str]] = &[
    &["'new'", "'so so'", "'|\"'"],
    &["'\\x00ff235c25'", "'\\x27'"],
    &["'0001-01-01'", "'9999-12-31'", "'2024-02-29'"],
    &["'00:00'", "'23:59:59.999999'", "'12:00:00.5'"],
    &["'0001-01-01 00:00:00'", "'9999-12-31 23:59:59.999999'", "'2026-01-31 10:00:00.25'"],
    &["-32768", "32767"],
    &[
        "1e125",
        "2.2250738585072014e-120",
        "0.1",
        "1e15",
        "123456789012345.6",
        "-1e-05",
        "0.30000000000000004",
    ],
    &["'{}'", "'{9223372036854775807,-9223372036854775808}'"],
    &["'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'", "NULL", "'00000000-0000-0000-0000-000000000000'"],
    &["'new'", "'|\"'", "NULL"],
    &["''", "'\\x00ff5c27'", "NULL", "decode(repeat('00ff', 300), 'hex')"],
    &["-32768", "NULL", "0"],
    &["3.4e38", "-1.17549435e-38", "0.1", "16777216", "1e-07", "123456.7", "NULL"],
    &["NULL", "1e100", "-0.1"],
    &["'2000-01-01'", "NULL", "'1999-12-31'"],
    &["'23:59:59.000001'", "NULL"],
    &["'1969-12-31 23:59:59.999999'", "NULL"],
    &["'2026-01-31 10:00:00.000001+05'", "'9999-12-31 23:59:59.999999+00'", "NULL"],
    &["1.500", "0.000", "-7922816251426433759354395033.5", "NULL", "1e-28", "100"],
    &["9999999999999999.99", "-0.01", "NULL"],
    &["'{}'", "ARRAY['a,b', NULL, 'NULL', '\"', '\\', '', ' ', '{}', 'ä\u{1F600}', E'a\\nb\\v']", "NULL"],
    &["ARRAY['äöü', '']", "NULL"],
    &["'{-32768,32767}'", "NULL"],
    &["'{NULL,-2147483648}'", "NULL", "'{NULL}'"],
    &["'{NULL,9223372036854775807}'", "NULL"],
    &["'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'", "NULL"],
    &["1.5", "0", "-7922816251426433759354395033.5", "NULL", "1e-28"],
    &["'Infinity'", "1e-45", "NULL", "0.1"],
    &["1e300", "'-Infinity'", "5e-324", "0.30000000000000004"],
    &[
        "'{\"a\": [1, 2.5, null, true], \"b\": {\"ä\\\"\": \"\"}}'",
        "'null'",
        "NULL",
        "'\"text\"'",
        "'[]'",
        "'-12.25'",
    ],
    &["ARRAY['', ' ', '\"', 'NULL', 'a,b', '{}', 'ä']", "NULL"],
    &["'{-32768,32767}'", "NULL"],
    &["'{-2147483648,9,10}'", "NULL"],
    &["'{7}'", "'{-9223372036854775808,9223372036854775807}'"],
];

/// A row of shop.every as SQL.
pub(super) fn values(n: usize) -> String {
    // Each list at a pace of its own, so that neighbours are not always the same.
    let chosen = VALUES.iter().enumerate().map(|(at, values)| values[(n + n / (at + 2)) % values.len()]);
    let chosen: Vec<&str> = chosen.collect();
    format!("INSERT INTO shop.every VALUES (md5('{n}')::uuid, {})", chosen.join(", "))
}
