//! R43: the control schema of every earlier version, with rows in each of its tables, becomes that of this
//! one.

use lockstep_core::{Epoch, Phase};
use lockstep_tests::World;

/// Rows that an earlier version has in each table. A table that it did not have yet is passed over.
const ROWS: [(&str, &str); 21] = [
    (
        "tables",
        "(name, relation, fingerprint, layout, capture_mark, target_name) VALUES ('t', 'public.t', 'f', 'l', 'm', 't')",
    ),
    (
        "pending",
        "(table_name, key, version) VALUES ('t', '[1]', nextval('lockstep.version_seq')), ('t', '[\"é\\\\\"]', nextval('lockstep.version_seq'))",
    ),
    ("journal", "(actor, kind, step) VALUES ('a', 'intent', 'change phase')"),
    ("ranges", "(table_name, number, lower, watermark) VALUES ('t', 0, NULL, '{5}'), ('t', 1, '{9}', NULL)"),
    (
        "dead_letters",
        "(table_name, key, version, stage, reason) VALUES ('t', '[3]', 1, 'backfill', 'r'), ('t', '[4]', 1, 'relay', 'r')",
    ),
    ("verdicts", "(epoch, consistent, report) VALUES (1, true, '{\"schema_version\": 1}')"),
    ("unverified", "(table_name, key, pass) VALUES ('t', '[6]', 0)"),
    ("verified", "VALUES ('t', 1, now(), 'HybridRead', 3, 'i', now())"),
    (
        "intents",
        "(xid, table_name, key, repair_version) VALUES ('5', 't', '[7]', nextval('lockstep.version_seq'))",
    ),
    ("instances", "(id, name, host, pid, started_at, lease_ms) VALUES (1, 'n', 'h', 1, now(), 1000)"),
    ("reverse_tables", "(table_name, stream) VALUES ('t', 's')"),
    ("reverse_shards", "(table_name, shard, position) VALUES ('t', 's1', '17')"),
    (
        "reverse_places",
        "(table_name, place, version, key, row_key, live) VALUES ('t', 'p', 9, '{}', '[1]', true)",
    ),
    ("reverse_again", "(table_name, place, key, why) VALUES ('t', 'p', '{}', 'w')"),
    ("target_epochs", "VALUES (2)"),
    ("history_marks", "(table_name, marking, marked, version) VALUES ('t', 2, 1, 5)"),
    ("settings", "(name, value, actor) VALUES ('x', '1', 'a')"),
    ("workers", "(id, name, host, pid, coordinator, lease_until) VALUES (1, 'n', 'h', 1, false, now())"),
    ("reverse_markers", "(table_name, round, place) VALUES ('t', 'r', 'p')"),
    ("reverse_riders", "(table_name, key, made) VALUES ('t', '[8]', false)"),
    (
        "imports",
        "(table_name, state, folder, bucket, prefix, part_bytes) VALUES ('t', 'writing', 'f', 'b', 'p', 1)",
    ),
];

/// Everything that the schema consists of, in one text.
const SHAPE: &str = "
    SELECT string_agg(line, E'\n' ORDER BY line COLLATE \"C\") FROM (
        SELECT concat_ws(' ', 'column', c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
            pg_get_expr(d.adbin, d.adrelid)) AS line FROM pg_attribute a
            JOIN pg_class c ON c.oid = a.attrelid AND c.relkind IN ('r', 'S', 'v') LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
            WHERE c.relnamespace = 'lockstep'::regnamespace AND a.attnum > 0 AND NOT a.attisdropped
        UNION ALL SELECT concat_ws(' ', 'constraint', conrelid::regclass, conname, pg_get_constraintdef(oid)) FROM pg_constraint
            WHERE connamespace = 'lockstep'::regnamespace
        UNION ALL SELECT 'index ' || pg_get_indexdef(i.indexrelid) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
            WHERE c.relnamespace = 'lockstep'::regnamespace
        UNION ALL SELECT concat_ws(' ', 'trigger', pg_get_triggerdef(t.oid), tgenabled) FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
            WHERE c.relnamespace = 'lockstep'::regnamespace AND NOT tgisinternal
        UNION ALL SELECT concat_ws(' ', 'function', p.oid::regprocedure, md5(p.prosrc), p.proacl) FROM pg_proc p
            WHERE p.pronamespace = 'lockstep'::regnamespace
    ) AS lines";

async fn counts(world: &World) -> Vec<(&'static str, i64)> {
    let mut counts = Vec::new();
    for (table, _) in ROWS {
        let there: bool = world.value(&format!("SELECT to_regclass('lockstep.{table}') IS NOT NULL")).await;
        if there {
            counts.push((table, world.value(&format!("SELECT count(*) FROM lockstep.{table}")).await));
        }
    }
    counts
}

#[tokio::test]
async fn the_control_schema_of_every_earlier_version_is_upgraded_with_its_rows() {
    let world = World::start().await;
    let all = world.source.migrate_schema_as_of(usize::MAX).await.expect("a new one");
    let of_this_version: String = world.value(SHAPE).await;
    // What an earlier version remembered of a migration that was complete before this one.
    world
        .sql(
            "CREATE SCHEMA lockstep_archive; CREATE TABLE lockstep_archive.completed (
                 singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
                 completed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
                 epoch bigint NOT NULL, actor text NOT NULL, journal_file text NOT NULL);
             INSERT INTO lockstep_archive.completed (epoch, actor, journal_file) VALUES (5, 'a', 'f')",
        )
        .await;
    for known in 1..all {
        world.sql("DROP SCHEMA lockstep CASCADE").await;
        world.source.migrate_schema_as_of(known).await.expect("an earlier version's schema");
        world.sql("UPDATE lockstep.control SET phase = 'HybridRead', epoch = 3").await;
        for (table, _) in counts(&world).await {
            let (_, rows) = ROWS.iter().find(|(name, _)| *name == table).expect("one of them");
            world.sql(&format!("INSERT INTO lockstep.{table} {rows}")).await;
        }
        let before = counts(&world).await;

        world.source.migrate_schema().await.expect("upgraded");
        world.source.migrate_schema().await.expect("once more changes nothing");

        let now = counts(&world).await;
        let lost: Vec<_> = before.iter().filter(|had| !now.contains(had)).collect();
        assert!(lost.is_empty(), "after the first {known} migrations: {lost:?} became {now:?}");
        let control = world.source.control().await.expect("read");
        assert_eq!((control.phase, control.epoch), (Phase::HybridRead, Epoch(3)));
        assert_eq!(world.value::<String>(SHAPE).await, of_this_version, "after the first {known} migrations");
        let whose = world.source.whose().await.expect("read");
        let remembered = whose.unnamed(Epoch(5), None).expect("what was complete before is known");
        assert_eq!((remembered.epoch, whose.id.is_some(), whose.completed.len()), (5, true, 1));
        let told: i64 =
            world.value("SELECT jsonb_array_length(completed)::bigint FROM lockstep.control").await;
        assert_eq!(told, 1, "applications read it there, after the first {known} migrations");
        // Versions that are handed out from here outrank those that were.
        let outranks = "SELECT nextval('lockstep.version_seq') > max(version) FROM lockstep.pending";
        assert!(world.value::<bool>(outranks).await);
        // These read the old rows.
        let letters = world.source.dead_letters("t", 9).await.expect("dead letters");
        assert_eq!(
            (letters.len(), world.pending("t").await.len()),
            (2, 2),
            "after the first {known} migrations"
        );
    }
}
