//! Schemas of other shapes: many partitions, keys in several collations, very broad and very wide rows.

use super::round_trip::{Case, Walk, there_and_back};
use super::until;

const EVENTS: Case = Case {
    schema: "
        CREATE TABLE events (id uuid, happened timestamptz, kind text NOT NULL, payload jsonb, PRIMARY KEY (id, happened)) PARTITION BY RANGE (happened);
        DO $make$ BEGIN
            FOR n IN 0..23 LOOP
                EXECUTE format('CREATE TABLE events_%s PARTITION OF events FOR VALUES FROM (%L) TO (%L)', n,
                    timestamptz '2025-01-01 00:00+00' + n * interval '1 month', timestamptz '2025-01-01 00:00+00' + (n + 1) * interval '1 month');
            END LOOP;
        END $make$;
        INSERT INTO events SELECT md5(i::text)::uuid, timestamptz '2025-01-01 00:00+00' + i * interval '29 hours', 'k' || i % 5, jsonb_build_object('n', i)
            FROM generate_series(1, 600) AS i",
    tables: &[("events", "events", "events", &[])],
    writes: &[
        "INSERT INTO events VALUES (gen_random_uuid(), timestamptz '2025-01-01 00:00+00' + random() * interval '710 days', 'new')",
        // Into another partition, most of the time.
        "UPDATE events SET happened = timestamptz '2025-01-01 00:00+00' + random() * interval '710 days' WHERE id = md5((random() * 600)::int::text)::uuid",
        "UPDATE events SET payload = jsonb_build_object('r', random()) WHERE id = md5((random() * 600)::int::text)::uuid",
        "UPDATE events_7 SET kind = kind || '!' WHERE length(kind) < 20 AND random() < 0.1",
        "DELETE FROM events WHERE id = md5((600 - random() * 40)::int::text)::uuid",
        "DO $new$ DECLARE n int := 24 + (random() * 12)::int; BEGIN
             EXECUTE format('CREATE TABLE IF NOT EXISTS events_%s PARTITION OF events FOR VALUES FROM (%L) TO (%L)', n,
                 timestamptz '2025-01-01 00:00+00' + n * interval '1 month', timestamptz '2025-01-01 00:00+00' + (n + 1) * interval '1 month');
         END $new$",
        "INSERT INTO events VALUES (gen_random_uuid(), timestamptz '2027-01-01 00:00+00' + random() * interval '360 days', 'late')",
    ],
};

const COLLATIONS: Case = Case {
    schema: "
        CREATE COLLATION any_case (provider = icu, locale = 'und-u-ks-level2');
        CREATE TABLE dictionary (word text COLLATE \"C\", lang text COLLATE \"de-x-icu\", form text COLLATE any_case, meaning text, PRIMARY KEY (word, lang, form));
        CREATE TABLE headwords (word text COLLATE any_case PRIMARY KEY, pages integer);
        INSERT INTO dictionary SELECT 'w' || chr(190 + i) || '#' || i, CASE WHEN i % 2 = 0 THEN 'ä' ELSE 'Z' || i END, 'Form' || i, NULL FROM generate_series(1, 120) AS i;
        INSERT INTO headwords SELECT CASE WHEN i % 2 = 0 THEN 'Wort' ELSE 'éclair' END || i, i FROM generate_series(1, 120) AS i",
    tables: &[("dictionary", "dictionary", "dictionary", &[]), ("headwords", "headwords", "headwords", &[])],
    writes: &[
        "UPDATE dictionary SET form = upper(form) WHERE meaning IS NULL AND random() < 0.1",
        "UPDATE dictionary SET word = word || 'ß', lang = 'a\u{0308}' WHERE random() < 0.05 AND length(word) < 40",
        "UPDATE dictionary SET meaning = random()::text WHERE random() < 0.1",
        "INSERT INTO dictionary VALUES ('n' || random(), '', 'É' || random(), 'x')",
        // Another key, which sorts beside the one before.
        "UPDATE headwords SET word = upper(word) WHERE random() < 0.1",
        "UPDATE headwords SET word = lower(word) WHERE random() < 0.1",
        "DELETE FROM headwords WHERE word = 'WORT' || (random() * 10)::int",
    ],
};

const BROAD: Case = Case {
    schema: "
        DO $make$ BEGIN
            EXECUTE (SELECT 'CREATE TABLE broad (id bigint PRIMARY KEY, ' || string_agg('c' || n || ' ' ||
                (ARRAY['text', 'integer', 'numeric(12,3)', 'timestamptz', 'boolean'])[1 + n % 5], ', ' ORDER BY n) || ')' FROM generate_series(1, 299) AS n);
            EXECUTE (SELECT 'INSERT INTO broad SELECT i, ' || string_agg((ARRAY['''t'' || i', 'i', 'i / 8.0', 'now()', 'i % 2 = 0'])[1 + n % 5], ', ' ORDER BY n)
                || ' FROM generate_series(1, 120) AS i' FROM generate_series(1, 299) AS n);
        END $make$;
        CREATE TABLE documents (doc uuid PRIMARY KEY, body text NOT NULL, blob bytea);
        INSERT INTO documents SELECT md5(i::text)::uuid, repeat(md5(i::text), 10900), decode(repeat('00ff', 20000), 'hex') FROM generate_series(1, 12) AS i",
    tables: &[("broad", "broad", "broad", &[]), ("documents", "documents", "documents", &[])],
    writes: &[
        "UPDATE broad SET c5 = random()::text, c1 = NULL, c299 = NOT c299 WHERE id = (random() * 120)::int",
        "INSERT INTO broad (id, c10) VALUES (1000 + (random() * 100000)::int, 'x')",
        "UPDATE documents SET body = repeat(md5(random()::text), 10900) WHERE doc = md5((random() * 12)::int::text)::uuid",
        "UPDATE documents SET blob = NULL WHERE doc = md5((random() * 12)::int::text)::uuid",
        "DELETE FROM broad WHERE id = (random() * 20)::int",
    ],
};

#[tokio::test]
async fn a_table_of_24_partitions_goes_there_and_back_while_rows_move_and_partitions_come() {
    there_and_back(&EVENTS).await;
}

/// 1. A partition is detached for good while the migration runs. 2. Whether its rows are to go with it is not
/// for a machine to say: everything stops, and names it. 3. An operator says so, and the same command goes
/// on.
#[tokio::test]
async fn a_partition_that_is_detached_under_way_stops_the_walk_until_an_operator_has_said_what_it_means() {
    let walk = Walk::begin(&EVENTS).await;
    let child = walk.started(&["migrate", "--json", "--quiet", "--round-trip"]);
    until(&walk.world, "it writes both", "SELECT phase <> 'PostgresOnly' FROM lockstep.control").await;
    walk.world.sql("ALTER TABLE events DETACH PARTITION events_5").await;
    let (code, report, said) = walk.ran(child).await;
    assert!(code != Some(0) && said.contains("events_5"), "{code:?}: {said}\n{report}");
    let (code, report, said) = walk.ran(walk.started(&["doctor", "--json"])).await;
    assert!(code != Some(0) && report.to_string().contains("events_5"), "{code:?}: {said}\n{report}");
    let (code, report, said) = walk.ran(walk.started(&["repair", "--state", "--apply", "--json"])).await;
    assert_eq!(code, Some(0), "{said}\n{report}");
    let left = walk.world.count("events_5").await;
    assert!(left > 0, "its rows stay where they are");
    walk.goes_there_and_back().await;
}

#[tokio::test]
async fn keys_in_three_collations_go_there_and_back() {
    there_and_back(&COLLATIONS).await;
}

#[tokio::test]
async fn tables_of_300_columns_and_of_rows_near_400_kb_go_there_and_back() {
    there_and_back(&BROAD).await;
}
