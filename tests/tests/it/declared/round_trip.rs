//! Whole migrations of schemas that people have: `init`, there, back, and there again, while strangers write
//! SQL.

use std::path::PathBuf;
use std::time::Duration;

use lockstep_tests::World;
use lockstep_tests::world::within;
use serde_json::Value;
use sqlx::{AssertSqlSafe, Executor as _};
use tempfile::TempDir;
use tokio::process::Child;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::naive::disagreements;
use super::{configured, init};
use crate::scanned::Secrets;

/// A schema, its tables, and what strangers write: each statement again and again.
pub(super) struct Case {
    pub(super) schema: &'static str,
    /// The relation as `init` takes it and as SQL does, its name in the configuration, and renamed columns.
    #[allow(clippy::type_complexity)]
    pub(super) tables:
        &'static [(&'static str, &'static str, &'static str, &'static [(&'static str, &'static str)])],
    pub(super) writes: &'static [&'static str],
}

const WEBSHOP: Case = Case {
    schema: "
        CREATE SCHEMA shop;
        CREATE TYPE shop.status AS ENUM ('new', 'paid', 'sent');
        CREATE DOMAIN shop.amount AS numeric(12,2) CHECK (VALUE >= 0);
        CREATE TABLE shop.customers (customer_id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY, email text UNIQUE, name varchar(60),
            country char(2) NOT NULL, created_at timestamptz NOT NULL DEFAULT now(), ttl integer, active boolean NOT NULL DEFAULT true);
        CREATE TABLE shop.orders (customer_id bigint REFERENCES shop.customers ON DELETE CASCADE, order_no integer, placed_at timestamp,
            status shop.status NOT NULL, total shop.amount NOT NULL, note text, PRIMARY KEY (customer_id, order_no));
        CREATE INDEX orders_placed ON shop.orders (placed_at);
        CREATE TABLE shop.order_items (customer_id bigint, order_no integer, sku text, quantity smallint CHECK (quantity > 0),
            price numeric, PRIMARY KEY (customer_id, order_no, sku),
            FOREIGN KEY (customer_id, order_no) REFERENCES shop.orders ON DELETE CASCADE);
        CREATE INDEX items_sku ON shop.order_items (sku);
        INSERT INTO shop.customers (email, name, country, ttl)
            SELECT i || '@example.org', 'Käufer ' || i, CASE WHEN i % 2 = 0 THEN 'DE' ELSE 'A' END, i FROM generate_series(1, 120) AS i;
        INSERT INTO shop.orders SELECT i, n, timestamp '2026-01-01' + i * interval '1 hour', 'new', i * 1.5, NULLIF('#' || i, '#7')
            FROM generate_series(1, 120) AS i, generate_series(1, 3) AS n;
        INSERT INTO shop.order_items SELECT i, n, 'sku#' || k, k, 1.50 * k FROM generate_series(1, 120) AS i,
            generate_series(1, 3) AS n, generate_series(1, 2) AS k",
    tables: &[
        ("shop.customers", "shop.customers", "customers", &[("ttl", "ttl_column")]),
        ("shop.orders", "shop.orders", "orders", &[]),
        ("shop.order_items", "shop.order_items", "order_items", &[]),
    ],
    writes: &[
        "INSERT INTO shop.customers (name, country) VALUES (repeat('é', (random() * 60)::int), 'ES')",
        "UPDATE shop.customers SET email = random()::text, ttl = (random() * 9)::int WHERE customer_id = (random() * 150)::int",
        "UPDATE shop.orders SET status = 'paid', total = total + 0.01 WHERE customer_id = (random() * 120)::int",
        "UPDATE shop.order_items SET sku = sku || '#x', price = price * 1.10 WHERE customer_id = (random() * 120)::int AND length(sku) < 90",
        "DELETE FROM shop.customers WHERE customer_id = 10 * (random() * 4)::int",
        "INSERT INTO shop.order_items SELECT customer_id, order_no, 'new' || random(), 1, 0.000001 FROM shop.orders LIMIT 1 OFFSET (random() * 50)::int",
    ],
};

const CATALOGUE: Case = Case {
    schema: "
        CREATE TYPE mood AS ENUM ('ok', 'so so', 'ä|ß');
        CREATE TYPE address AS (street text, zip integer);
        CREATE TABLE products (sku text PRIMARY KEY, tags text[], price money, lifetime interval, area box, place point,
            span int4range, valid tstzrange, raw bytea, ratio double precision, weight real, meta jsonb, doc json, flags bit varying(8),
            net inet, search tsvector, made date, opens time(3), closes timetz, uid uuid, feeling mood, lives address,
            price_text text GENERATED ALWAYS AS (sku || '!') STORED);
        INSERT INTO products SELECT 'sku' || i, ARRAY['a,b', NULL, i::text, '\"'], (i * 1.25)::numeric::money, i * interval '1 day 3 hours',
            box(point(i, i), point(0, 0)), point(i, -i * 0.1), int4range(i, i + 5), tstzrange(now() - i * interval '1 day', now()),
            decode(lpad(to_hex(i), 8, '0'), 'hex'), i / 7.0, i / 3.0, jsonb_build_object('n', i / 10.0, 'x', NULL),
            ('{\"b\": ' || i || ',  \"a\":1}')::json, i::bit(8)::varbit, ('10.0.0.' || i)::inet, to_tsvector('simple', 'word' || i || ' other'),
            date '2026-01-01' + i, time '10:00' + i * interval '1 ms', timetz '10:00:00+02', md5(i::text)::uuid,
            'ä|ß', ROW('Straße \"' || i, i)::address FROM generate_series(1, 150) AS i",
    tables: &[("products", "products", "products", &[])],
    writes: &[
        "INSERT INTO products (sku, tags, price) VALUES ('n' || random(), ARRAY[random()::text], random()::numeric::money)",
        "UPDATE products SET lifetime = lifetime * 1.01, ratio = random(), weight = random() WHERE sku = 'sku' || (random() * 150)::int",
        "UPDATE products SET sku = sku || '/', valid = NULL, closes = '23:59:59.5-11:30' WHERE sku = 'sku' || (random() * 150)::int",
        "DELETE FROM products WHERE sku = 'sku' || (random() * 150)::int",
    ],
};

const NAMES: Case = Case {
    schema: r#"
        CREATE SCHEMA "My Shop";
        CREATE TABLE "My Shop"."Order" ("Id" uuid PRIMARY KEY, "select" text, "from" integer, "PK" text, "Überschrift" text, "a b" date);
        CREATE TABLE "My Shop"."user.group" ("group" text, "order" timestamptz, "value""s" text, PRIMARY KEY ("group", "order"));
        CREATE TABLE "My Shop"."Line" ("Order" uuid, "No" integer, "Qty" integer, PRIMARY KEY ("Order", "No")) PARTITION BY RANGE ("No");
        CREATE TABLE "My Shop"."Lines of old" PARTITION OF "My Shop"."Line" FOR VALUES FROM (0) TO (2);
        CREATE TABLE "My Shop".lines PARTITION OF "My Shop"."Line" DEFAULT;
        CREATE TABLE words (word text COLLATE "C", lang char(3), meaning text, PRIMARY KEY (word, lang));
        CREATE TABLE documents (doc jsonb PRIMARY KEY, n integer);
        INSERT INTO documents SELECT jsonb_build_object('a', 1.50, 'n', i), i FROM generate_series(1, 100) AS i;
        CREATE TABLE sensors (device text NOT NULL, slot interval NOT NULL, reading real, UNIQUE (device, slot));
        CREATE TABLE rates (rate numeric, at double precision, day date, PRIMARY KEY (rate, at, day));
        INSERT INTO "My Shop"."Order" SELECT md5(i::text)::uuid, 's' || i, i, 'pk' || i, NULL, date '2026-02-01' FROM generate_series(1, 100) AS i;
        INSERT INTO "My Shop"."Line" SELECT "Id", n, 1 FROM "My Shop"."Order", generate_series(1, 2) AS n WHERE "from" % 3 = 0;
        ALTER TABLE "My Shop"."Order" ADD FOREIGN KEY ("Id") REFERENCES "My Shop"."Order";
        ALTER TABLE "My Shop"."Lines of old" ADD FOREIGN KEY ("Order") REFERENCES "My Shop"."Order" ON UPDATE CASCADE;
        ALTER TABLE "My Shop".lines ADD FOREIGN KEY ("Order") REFERENCES "My Shop"."Order" ON UPDATE CASCADE ON DELETE CASCADE;
        INSERT INTO "My Shop"."user.group" SELECT 'g#' || i % 7, timestamptz '2026-01-01 00:00:00.123456+00' + i * interval '1 s', ''
            FROM generate_series(1, 100) AS i;
        INSERT INTO words SELECT 'w' || chr(200 + i) || '#' || i, CASE WHEN i % 2 = 0 THEN 'de' ELSE 'eng' END, NULL FROM generate_series(1, 100) AS i;
        INSERT INTO sensors SELECT 'd' || i % 5, i * interval '1 hour', i / 3.0 FROM generate_series(1, 100) AS i;
        INSERT INTO rates SELECT i * 1.10, i * 1e15, date '2026-01-01' + i FROM generate_series(1, 100) AS i"#,
    tables: &[
        ("My Shop.Order", r#""My Shop"."Order""#, "order", &[("PK", "pk_column")]),
        (r#"My Shop."user.group""#, r#""My Shop"."user.group""#, "user_group", &[]),
        ("My Shop.Line", r#""My Shop"."Line""#, "line", &[]),
        ("words", "words", "words", &[]),
        ("sensors", "sensors", "sensors", &[]),
        ("rates", "rates", "rates", &[]),
        ("documents", "documents", "documents", &[]),
    ],
    writes: &[
        // Another text of an equal key, and another key.
        "UPDATE documents SET doc = replace(doc::text, '1.50', '1.5')::jsonb WHERE n = (random() * 100)::int",
        r#"UPDATE documents SET doc = doc || '{"b": [2.0, null, "é"]}' WHERE n = (random() * 100)::int"#,
        "UPDATE documents SET n = n + 1000 WHERE n = (random() * 100)::int",
        "DELETE FROM documents WHERE n = 10 * (random() * 4)::int",
        r#"UPDATE "My Shop"."Order" SET "select" = random()::text, "Id" = md5(random()::text)::uuid WHERE "from" = (random() * 100)::int"#,
        r#"UPDATE "My Shop"."user.group" SET "order" = "order" + interval '1 us', "value""s" = 'x' WHERE extract(second FROM "order")::int = (random() * 59)::int"#,
        r#"INSERT INTO "My Shop"."Line" SELECT "Id", 2 + (random() * 90)::int, 2 FROM "My Shop"."Order" WHERE "from" = (random() * 100)::int"#,
        r#"UPDATE "My Shop"."Line" SET "Qty" = "Qty" + 1 WHERE "No" = 1"#,
        "UPDATE words SET word = word || 'ß', lang = 'x' WHERE word LIKE '%#' || (random() * 100)::int AND length(word) < 99",
        "UPDATE sensors SET slot = slot + interval '1 month 1 day 00:00:01', reading = random() WHERE slot = (random() * 100)::int * interval '1 hour'",
        "UPDATE rates SET rate = rate + 0.10, at = at * 1.5, day = day + 1 WHERE day = date '2026-01-01' + (random() * 100)::int AND at < 1e40",
        "UPDATE rates SET rate = (rate::text || '0')::numeric WHERE day = date '2026-01-01' + (random() * 100)::int AND length(rate::text) < 20",
        "DELETE FROM words WHERE word LIKE '%#' || (10 * (random() * 4)::int)",
        "INSERT INTO sensors VALUES ('n' || random(), '-1 day', NULL)",
    ],
};

/// A session of another country, as applications have them: what is printed into a key must not depend on it.
const ABROAD: &str = "SET DateStyle = 'German'; SET IntervalStyle = 'iso_8601'; SET TimeZone = 'Asia/Tokyo'; SET extra_float_digits = -3";

/// Writes until told to stop. What is refused in DynamoOnly is tried again, as an application would.
async fn write(
    mut session: sqlx::PgConnection,
    writes: &'static [&'static str],
    stop: CancellationToken,
) -> u64 {
    session.execute(ABROAD).await.expect("settings");
    let mut done = 0;
    for statement in writes.iter().cycle() {
        if stop.is_cancelled() {
            break;
        }
        match session.execute(AssertSqlSafe((*statement).to_owned())).await {
            Ok(_) => done += 1,
            Err(error) => assert!(error.as_database_error().is_some(), "{statement}: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    done
}

/// A schema as `init` has declared it, with strangers who write.
pub(super) struct Walk {
    pub(super) world: World,
    case: &'static Case,
    folder: TempDir,
    stop: CancellationToken,
    writers: JoinSet<u64>,
}

impl Walk {
    pub(super) async fn begin(case: &'static Case) -> Self {
        let world = World::start().await;
        world.sql(case.schema).await;
        let folder = tempfile::tempdir().expect("a folder");
        let named: Vec<&str> = case.tables.iter().map(|(given, ..)| *given).collect();
        init(&world, folder.path(), &named).await;
        let (stop, mut writers) = (CancellationToken::new(), JoinSet::new());
        for _ in 0..2 {
            writers.spawn(write(world.stranger().await, case.writes, stop.clone()));
        }
        Self { world, case, folder, stop, writers }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("lockstep.toml")
    }

    /// Starts the command on what is declared.
    pub(super) fn started(&self, arguments: &[&str]) -> Child {
        configured(&self.world, &self.file(), arguments).spawn().expect("the command starts")
    }

    /// Runs it to its end: its exit code, what it reported and what it said.
    pub(super) async fn ran(&self, child: Child) -> (Option<i32>, Value, String) {
        let waited = async { child.wait_with_output().await.expect("it ends") };
        let output = within(Duration::from_secs(180), waited).await;
        Secrets::of(&configured(&self.world, &self.file(), &[])).scan(&output);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), serde_json::from_slice(&output.stdout).unwrap_or_default(), said)
    }

    /// Goes there, back and there again, and compares both stores when the writers have ended.
    pub(super) async fn goes_there_and_back(mut self) {
        let child = self.started(&["migrate", "--json", "--quiet", "--round-trip"]);
        let (code, report, error) = self.ran(child).await;
        self.stop.cancel();
        let mut written = 0;
        while let Some(done) = self.writers.join_next().await {
            written += done.expect("a writer ends well");
        }
        let text = std::fs::read_to_string(self.file()).expect("written");
        assert_eq!(code, Some(0), "{error}\n{report}\n{text}");
        let found = (&report["verdict"], &report["phase"]);
        assert_eq!(found, (&"consistent".into(), &"DynamoOnly".into()), "{report}");
        assert!(written > 20, "writers wrote: {written}");
        let mut wrong = Vec::new();
        for (_, relation, target, renamed) in self.case.tables {
            assert!(self.world.live_items(target).await > 8, "{target} has items");
            wrong.extend(disagreements(&self.world, relation, target, renamed).await);
        }
        assert_eq!(wrong, [] as [String; 0], "{text}");
    }
}

pub(super) async fn there_and_back(case: &'static Case) {
    Walk::begin(case).await.goes_there_and_back().await;
}

#[tokio::test]
async fn a_webshop_with_composite_keys_goes_there_and_back_as_init_declares_it() {
    there_and_back(&WEBSHOP).await;
}

#[tokio::test]
async fn a_catalogue_of_enums_arrays_money_intervals_and_shapes_goes_there_and_back() {
    there_and_back(&CATALOGUE).await;
}

#[tokio::test]
async fn names_in_any_case_and_keys_of_text_times_and_numbers_go_there_and_back() {
    there_and_back(&NAMES).await;
}
