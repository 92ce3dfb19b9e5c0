//! A key is as long as an application likes. Capture never makes a write of an application fail, and a row
//! that no item can hold is a dead letter, whatever its key.

use std::time::Duration;

use lockstep_core::{Phase, SourceKey};
use lockstep_postgres::{CaptureState, Delivered, KeyDigest, KeyOrder};
use lockstep_tests::World;
use lockstep_tests::world::rows::{log, logs, payments};
use lockstep_tests::world::{LOGS, PAYMENTS, backfill, eventually, run};

/// Text that does not compress, so that an index has to hold all of it.
fn noise(characters: usize) -> String {
    format!(
        "(SELECT left(string_agg(md5((i * 7919)::text), ''), {characters}) FROM generate_series(1, {characters} / 32 + 1) AS i)"
    )
}

/// The sample's own indexes are not what this is about: one of them may be over the column.
async fn world() -> World {
    let world = World::start().await;
    world
        .sql(
            "DO $$ DECLARE i regclass; BEGIN
                 FOR i IN SELECT indexrelid FROM pg_index WHERE indrelid = 'integration_logs'::regclass AND NOT indisprimary
                 LOOP EXECUTE 'DROP INDEX ' || i; END LOOP; END $$",
        )
        .await;
    world
}

fn long(log_id: i64, characters: usize) -> String {
    log(log_id, "SERVICE").replacen("'SERVICE'", &noise(characters), 1)
}

#[tokio::test]
async fn writes_of_rows_with_long_keys_are_captured_like_any_other() {
    let world = world().await;
    world.prepared().await.close().await;
    for characters in [3_000, 6_400, 200_000] {
        world.sql(&long(1, characters)).await;
        world.sql("UPDATE integration_logs SET status_code = '500' WHERE log_id = 1").await;
        world.sql("UPDATE integration_logs SET service_name = service_name || 'x' WHERE log_id = 1").await;
        assert_eq!(world.pending(LOGS).await.len(), 2, "the key it had, and the key it has");
        assert_eq!(world.relay_until_empty().await.dead_letters, 1);
        let letters = world.source.dead_letters(LOGS, 10).await.expect("lists");
        assert!(letters.len() == 1 && letters[0].reason.contains("2048"), "{letters:?}");
        assert_eq!(world.source.retry_dead_letters(LOGS).await.expect("marks"), 1);
        assert_eq!(world.relay_until_empty().await.dead_letters, 1, "still too long");
        world.sql("DELETE FROM integration_logs WHERE log_id = 1").await;
        world.assert_converged().await;
        assert_eq!(
            world.source.count_dead_letters(LOGS).await.expect("counts"),
            (0, 0),
            "deleted, so delivered, so cured"
        );
    }
}

#[tokio::test]
async fn a_backfill_sets_rows_with_long_keys_aside_and_goes_on() {
    let world = world().await;
    world.sql(&logs(1, 50)).await;
    world.sql(&long(3_000, 3_000)).await;
    world.sql(&long(3_001, 9_000)).await;
    let coordinator = world.prepared().await;
    let set_aside: u64 = backfill(&coordinator).await.iter().map(|summary| summary.dead_letters).sum();
    coordinator.close().await;
    assert_eq!(set_aside, 2);
    assert_eq!(world.live_items(LOGS).await, 50);
    lockstep_tests::world::acknowledge(&world.source, LOGS, "an operator").await.expect("acknowledges");
    assert_eq!(
        world.validate().await.verdict.reasons(),
        [] as [String; 0],
        "accepted, and nothing else is wrong"
    );
}

/// Schema `lockstep` as it was before its tables were keyed by digests, with the functions of then.
pub(crate) const BEFORE: &str = r"
    DROP INDEX lockstep.pending_by_digest, lockstep.dead_letters_by_digest, lockstep.unverified_by_digest, lockstep.intents_by_transaction,
        lockstep.intents_by_digest, lockstep.reverse_places_by_digest, lockstep.reverse_places_by_row, lockstep.reverse_again_by_digest;
    ALTER TABLE lockstep.pending ADD CONSTRAINT pending_pkey PRIMARY KEY (table_name, key);
    ALTER TABLE lockstep.dead_letters ADD CONSTRAINT dead_letters_pkey PRIMARY KEY (table_name, key);
    ALTER TABLE lockstep.unverified ADD CONSTRAINT unverified_pkey PRIMARY KEY (table_name, key);
    ALTER TABLE lockstep.intents ADD CONSTRAINT intents_pkey PRIMARY KEY (xid, table_name, key);
    CREATE INDEX intents_by_key ON lockstep.intents (table_name, key);
    ALTER TABLE lockstep.reverse_places ADD CONSTRAINT reverse_places_pkey PRIMARY KEY (table_name, place);
    CREATE INDEX reverse_places_by_row ON lockstep.reverse_places (table_name, row_key);
    ALTER TABLE lockstep.reverse_again ADD CONSTRAINT reverse_again_pkey PRIMARY KEY (table_name, place);
    ALTER TABLE lockstep.reverse_again DROP COLUMN for_good, DROP COLUMN acknowledged_at, DROP COLUMN acknowledged_by;
    DO $$ DECLARE made regprocedure; digest text; body text; BEGIN
        digest := 'pg_catalog.sha256(pg_catalog.decode(pg_catalog.replace((%s)::text, E''\\'', E''\\\\''), ''escape''))';
        FOR made IN SELECT p.oid FROM pg_proc p WHERE p.pronamespace = 'lockstep'::regnamespace AND p.prosrc LIKE '%sha256%' LOOP
            body := replace(pg_get_functiondef(made), replace(digest, '%s', 'key'), 'key');
            body := replace(body, replace(digest, '%s', 'p.key'), 'p.key');
            body := replace(body, replace(digest, '%s', 'd.key'), 'd.key');
            body := replace(body, replace(digest, '%s', 'OLD.key'), 'OLD.key');
            body := replace(body, replace(digest, '%s', 'lockstep_key::jsonb'), 'lockstep_key::jsonb');
            body := replace(body, replace(digest, '%s', 'lockstep_old_key::jsonb'), 'lockstep_old_key::jsonb');
            EXECUTE body;
        END LOOP;
        IF EXISTS (SELECT FROM pg_proc p WHERE p.pronamespace = 'lockstep'::regnamespace AND p.prosrc LIKE '%sha256%') THEN
            RAISE 'a function is still of today';
        END IF;
    END $$;
    UPDATE lockstep.tables SET capture_version = 2;
    DELETE FROM lockstep.schema_migrations WHERE version = 12";

#[tokio::test]
async fn a_schema_with_rows_in_it_is_upgraded_while_applications_write() {
    let world = world().await;
    world.sql(&logs(1, 40)).await;
    world.sql(&payments(1, 20)).await;
    world.sql("UPDATE payments SET payment_amount = 'NaN' WHERE payment_id = 1").await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    lockstep_validator::begin(&world.source).await.expect("a pass begins");
    world.sql("UPDATE payments SET loan_id = 2 WHERE payment_id BETWEEN 5 AND 9").await;
    world.relay_until_empty().await;
    world.sql(BEFORE).await;
    // Marks, notes, dead letters and an intent of then.
    world.sql("UPDATE payments SET loan_id = 3 WHERE payment_id BETWEEN 8 AND 12").await;
    world.sql("INSERT INTO lockstep.intents (xid, table_name, key, repair_version) SELECT '3', table_name, key, version FROM lockstep.pending LIMIT 1").await;
    world
        .sql(
            "INSERT INTO lockstep.reverse_places (table_name, place, version, key, row_key, live)
             SELECT table_name, key::text, version, key, jsonb_build_array(key -> 0), true FROM lockstep.pending",
        )
        .await;
    let before = world.pending(PAYMENTS).await;
    let (letters, noted) =
        (world.count("lockstep.dead_letters").await, world.count("lockstep.unverified").await);
    assert!(before.len() == 5 && letters == 1 && noted > 0, "{before:?} {letters} {noted}");

    // A writer is in the midst of its transaction; another one comes while the upgrade waits.
    let mut writer = world.stranger().await;
    run(&mut writer, "BEGIN; UPDATE payments SET loan_id = 4 WHERE payment_id = 9").await;
    let source = world.another_source().await;
    let upgrade = tokio::spawn(async move { source.migrate_schema().await });
    eventually("the upgrade waits for the writer", || world.is_held_up()).await;
    world.sql("UPDATE payments SET loan_id = 4 WHERE payment_id = 13").await;
    run(&mut writer, "UPDATE payments SET loan_id = 5 WHERE payment_id = 14; COMMIT").await;
    let upgraded =
        tokio::time::timeout(Duration::from_secs(60), upgrade).await.expect("in time").expect("no panic");
    upgraded.expect("the schema is upgraded");
    let applied = "SELECT count(*) FROM lockstep.schema_migrations WHERE version = 12 AND success";
    assert_eq!(world.value::<i64>(applied).await, 1);

    // The same session goes on, with the triggers that it has used before.
    run(&mut writer, "UPDATE payments SET loan_id = 6 WHERE payment_id IN (9, 15)").await;
    world.sql(&long(5_000, 6_400)).await;
    assert_eq!(world.source.capture_state(&world.payments_table()).await.expect("reads"), CaptureState::On);
    let after = world.pending(PAYMENTS).await;
    assert!(before.keys().all(|key| after.contains_key(key)) && after.len() == 8, "{after:?}");
    assert_eq!(
        (world.count("lockstep.dead_letters").await, world.count("lockstep.unverified").await),
        (letters, noted)
    );
    assert_eq!(world.count("lockstep.reverse_places").await, 5);
    world.sql("DELETE FROM lockstep.reverse_places").await;
    world.relay_until_empty().await;
    world
        .sql("DELETE FROM integration_logs WHERE log_id = 5000; UPDATE payments SET payment_amount = 1 WHERE payment_id = 1")
        .await;
    world.assert_converged().await;
    world
        .payment_store()
        .put(&lockstep_tests::world::rows::payment_row(77, 1, "r"))
        .await
        .expect("an application writes");
    world.stepped_to(Phase::HybridRead).await;
}

#[tokio::test]
async fn a_large_pending_set_is_read_and_emptied_through_its_index() {
    let world = world().await;
    world.prepared().await.close().await;
    world
        .sql(
            "INSERT INTO lockstep.pending (table_name, key, version)
             SELECT 'payments', jsonb_build_array(i, 1, '2099-03-04T05:06:07.000008'), i FROM generate_series(1, 60000) AS i;
             ANALYZE lockstep.pending",
        )
        .await;
    let scans = "SELECT seq_scan FROM pg_stat_user_tables WHERE relid = 'lockstep.pending'::regclass";
    let through =
        "SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelid = 'lockstep.pending_by_digest'::regclass";
    let (before, through_before) = (world.value::<i64>(scans).await, world.value::<i64>(through).await);
    let source = world.another_source().await;
    let binding = world.payments_table();
    let mut after: Option<KeyDigest> = None;
    let mut read = 0;
    for _ in 0..8 {
        let batch = source
            .read_pending(None, &binding, KeyOrder::Ascending, after.as_ref(), 100)
            .await
            .expect("reads");
        let keys: Vec<SourceKey> = batch.rows.iter().map(|row| row.key.clone()).collect();
        assert_eq!(source.pending_among(PAYMENTS, &keys).await.expect("looks up").len(), 100);
        let delivered: Vec<_> =
            batch.rows.iter().map(|row| Delivered { key: row.key.clone(), version: row.version }).collect();
        assert_eq!(source.acknowledge(PAYMENTS, &delivered, batch.read_at).await.expect("acknowledges"), 100);
        read += keys.len();
        after = batch.next;
    }
    assert_eq!(read, 800);
    // A session tells of its scans when it ends.
    source.close().await;
    eventually("the scans are told", async || world.value::<i64>(through).await >= through_before + 800)
        .await;
    assert_eq!(world.value::<i64>(scans).await, before, "the set was never read whole");
}
