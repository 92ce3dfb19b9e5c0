use lockstep_core::Phase;
use lockstep_postgres::KeyOrder;
use lockstep_tests::World;
use lockstep_tests::world::rows::payment_row;
use lockstep_tests::world::{PAYMENTS, run};

use super::{CHECKED, DENIED, attacker, refused, world};

/// S5: above the sequence, every later change of the key would be refused as delivered.
#[tokio::test]
async fn a_version_that_was_never_handed_out_is_no_mark_and_no_intent() {
    let world = world().await;
    world.payment_store().put(&payment_row(1, 1, "r")).await.expect("put");
    let mut app = attacker(&world, "mallory").await;
    let forged = [
        "INSERT INTO lockstep.pending (table_name, key, version) VALUES ('payments', '[1]', 9223372036854775807)",
        "INSERT INTO lockstep.intents (xid, table_name, key, repair_version) VALUES ('9', 'payments', '[1]', 9223372036854775807)",
    ];
    for sql in forged {
        assert_eq!(refused(&mut app, sql).await, DENIED, "{sql}");
    }
    run(&mut app, "INSERT INTO lockstep.pending (table_name, key, version) VALUES ('payments', '[7]', 1)")
        .await;
    let raise = "UPDATE lockstep.pending SET version = 9223372036854775807";
    assert_eq!(refused(&mut app, raise).await, DENIED);
    let no_list = "INSERT INTO lockstep.pending (table_name, key, version) VALUES ('payments', '{}', 1)";
    assert_eq!(refused(&mut app, no_list).await, CHECKED);
}

/// S6: one mark that reads as no key ended the relay of its table at every start.
#[tokio::test]
async fn a_mark_that_reads_as_no_key_is_set_aside_and_what_is_behind_it_is_delivered() {
    let world = World::start().await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    let mut app = attacker(&world, "mallory").await;
    for key in [r#"["abc", "x", "y"]"#, r#"[{"a": 1}, {}, {}]"#] {
        run(&mut app, &mark(key)).await;
    }
    world.payment_store().put(&payment_row(1, 1, "r")).await.expect("put");
    world.sql("UPDATE payments SET customer_id = 7").await;
    world.relay_until_empty().await;
    assert_eq!(world.pending(PAYMENTS).await.len(), 0);
    let letters = world.source.dead_letters(PAYMENTS, 10).await.expect("lists");
    assert_eq!(letters.len(), 2, "each is named");
    assert!(letters.iter().all(|letter| letter.reason.contains("no capture trigger made it")));
}

/// The statement by which a role marks a key of the payments.
fn mark(key: &str) -> String {
    format!("INSERT INTO lockstep.pending (table_name, key, version) VALUES ('payments', '{key}', 1)")
}

/// S6. 1. A role marks what is no key. 2. It has the mark locked while the relay meets it, so that it cannot
/// be set aside; or the next one comes while the page is read again. 3. Either ended the relay of all tables.
#[tokio::test]
async fn a_mark_that_reads_as_no_key_ends_no_relay_while_it_is_locked() {
    let world = world().await;
    let mut app = attacker(&world, "mallory").await;
    run(&mut app, &mark(r#"["abc"]"#)).await;
    run(&mut app, "BEGIN; UPDATE lockstep.pending SET marked_at = marked_at").await;
    world.payment_store().put(&payment_row(1, 1, "r")).await.expect("put");
    world.sql("UPDATE payments SET customer_id = 7").await;
    world.relay_until_empty().await;
    assert_eq!(
        world.pending(PAYMENTS).await.len(),
        1,
        "the change was delivered, and the lock is not waited for"
    );
    run(&mut app, "ROLLBACK").await;
    world.relay_until_empty().await;
    assert_eq!(world.pending(PAYMENTS).await.len(), 0);
    assert_eq!(world.source.count_dead_letters(PAYMENTS).await.expect("counts"), (1, 1));
}

/// S6. 1. Among five hundred marks one is malformed. 2. Each mark of the table was looked at by a statement
/// of its own.
#[tokio::test]
async fn one_mark_that_reads_as_no_key_costs_no_statement_for_each_of_the_others() {
    let world = world().await;
    world
        .sql(
            "INSERT INTO lockstep.pending (table_name, key, version)
             SELECT 'payments', jsonb_build_array(i, 1, '2099-03-04T05:06:07.000008'), 1
             FROM generate_series(1, 3000) AS i",
        )
        .await;
    world.sql(&mark("[]")).await;
    world.sql(&mark(r#"["abc"]"#)).await;
    let calls = "SELECT coalesce(sum(xact_commit + xact_rollback), 0)::bigint FROM pg_stat_database
        WHERE datname = current_database()";
    let source = world.another_source().await;
    let before = world.value::<i64>(calls).await;
    let (mut after, mut read) = (None, 0);
    loop {
        let page = source
            .read_pending(None, &world.payments_table(), KeyOrder::Ascending, after.as_ref(), 500)
            .await
            .expect("reads");
        read += page.rows.len();
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    // A session tells of its transactions when it ends.
    source.close().await;
    assert_eq!(read, 3_001, "no key of a row is `[]`, and it reads as one");
    assert_eq!(world.source.count_dead_letters(PAYMENTS).await.expect("counts").0, 1);
    let spent = world.value::<i64>(calls).await - before;
    assert!(spent < 300, "{spent} transactions");
}

/// S6. 1. A role marks keys of many megabytes, or writes such rows: compressed, they are small. 2. The relay
/// read a page of five hundred of them, and was killed for its memory, at each start.
#[tokio::test]
async fn a_page_of_marks_is_bounded_in_bytes_whatever_a_role_has_written() {
    let world = world().await;
    // 40 rows of a megabyte, one of five, as text and as a document; and keys of two megabytes.
    world
        .sql(
            "INSERT INTO integration_logs
                 (log_id, log_type, service_name, is_success, log_timestamp, error_message, request_data)
             SELECT i, 'Check', 's', true, '2099-03-04', repeat('x', 1000000), '1'
                 FROM generate_series(1, 40) AS i
             UNION ALL VALUES
                 (50, 'Check', 's', true, '2099-03-04'::timestamptz, repeat('x', 5000000), '1'::jsonb),
                 (51, 'Check', 's', true, '2099-03-04', 'y', jsonb_build_object('x', repeat('x', 5000000)))",
        )
        .await;
    let mut app = attacker(&world, "mallory").await;
    run(
        &mut app,
        "INSERT INTO lockstep.pending (table_name, key, version)
         SELECT 'integration_logs', jsonb_build_array(i, repeat('x', 2000000), 'y'), 1
             FROM generate_series(60, 64) AS i",
    )
    .await;
    lockstep_validator::begin(&world.source).await.expect("a pass begins");
    let (mut after, mut pages, mut read, mut unread) = (None, 0, 0, 0);
    loop {
        let page = world
            .source
            .read_pending(None, &world.logs_table(), KeyOrder::Ascending, after.as_ref(), 500)
            .await
            .expect("reads");
        let bytes: usize = page.rows.iter().map(|row| row.bytes_read()).sum();
        assert!(bytes < 18_000_000, "{bytes} bytes in one page");
        let too_many: Vec<i64> = page.rows.iter().filter_map(|row| row.bytes_too_many()).collect();
        assert!(too_many.iter().all(|bytes| (5_000_000..5_010_000).contains(bytes)), "{too_many:?}");
        unread += too_many.len();
        read += page.rows.len();
        pages += 1;
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!((read, unread), (42, 2));
    assert!(pages >= 3, "{pages} pages of 40 MB");
    world.relay_until_empty().await;
    let letters = world.source.dead_letters("integration_logs", 100).await.expect("lists");
    assert_eq!(letters.len(), 47, "each is set aside with a reason");
    assert!(
        letters.iter().all(|letter| letter.key.len() < 20_000),
        "a key is shown as far as it can be read"
    );
    let whys = |part: &str| letters.iter().filter(|letter| letter.reason.contains(part)).count();
    assert_eq!(
        (whys("DynamoDB holds 409600"), whys("the keys of an item have 2048")),
        (42, 5),
        "{letters:?}"
    );
    // What was delivered is read page by page as well, by the next comparison.
    let changed = world.source.changed_keys("integration_logs", None, 1_000, false).await.expect("reads");
    let unread = changed.keys.iter().filter(|key| key.key.is_none() && key.literals.is_empty()).count();
    assert_eq!((changed.keys.len(), unread, changed.next), (47, 5, None));
}

/// S16: rows that are set aside are acknowledged by the operator.
#[tokio::test]
async fn an_application_acknowledges_no_dead_letter_even_with_the_grants_of_before() {
    let world = world().await;
    world
        .sql("INSERT INTO lockstep.dead_letters (table_name, key, version, stage, reason) VALUES ('payments', '[1]', 1, 'relay', 'x')")
        .await;
    let mut app = attacker(&world, "mallory").await;
    let acknowledge = "UPDATE lockstep.dead_letters SET acknowledged_at = now(), acknowledged_by = 'dba'";
    assert_eq!(refused(&mut app, acknowledge).await, DENIED);
    world.sql("GRANT UPDATE ON lockstep.dead_letters TO PUBLIC").await;
    assert_eq!(refused(&mut app, acknowledge).await, DENIED, "the guard refuses what a grant allows");
}

/// An intent of another role may be settled by how it ended, and not be made to vanish.
#[tokio::test]
async fn an_intent_of_another_role_does_not_vanish_without_its_mark() {
    let world = world().await;
    let aborted = rolled_back(&world).await;
    let mut owner = attacker(&world, "alice").await;
    run(&mut owner, &intent(&aborted, "[1]")).await;
    let mut app = attacker(&world, "mallory").await;
    assert_eq!(refused(&mut app, "DELETE FROM lockstep.intents").await, DENIED);
    assert_eq!(world.intents().await, 1);
    run(
        &mut app,
        "WITH settled AS (DELETE FROM lockstep.intents RETURNING table_name, key, repair_version)
         INSERT INTO lockstep.pending (table_name, key, version) SELECT * FROM settled",
    )
    .await;
    assert_eq!((world.intents().await, world.pending(PAYMENTS).await.len()), (0, 1), "a sweep settles it");
}

/// An intent under a number to come, or under the number and key of another role's write, stops no other
/// role.
#[tokio::test]
async fn intents_of_another_role_stop_no_strict_write() {
    let world = world().await;
    let mut app = attacker(&world, "mallory").await;
    let to_come = "INSERT INTO lockstep.intents (xid, table_name, key, repair_version)
        SELECT ((pg_snapshot_xmax(pg_current_snapshot())::text::bigint + n)::text)::xid8, 'payments', '[1]', 1
        FROM generate_series(1000, 1100) AS n";
    assert_eq!(refused(&mut app, to_come).await, "22023");

    // Under way: the forged intent is there before that of the transaction itself, and stays in an open
    // transaction of its role as well.
    let mut writer = lockstep_postgres::begin_write(&world.source).await.expect("begins");
    let id = writer.2;
    let forged = intent(&id.0.to_string(), "[1]");
    let mut second = attacker(&world, "eve").await;
    run(&mut app, &forged).await;
    run(&mut second, "BEGIN").await;
    run(&mut second, &forged).await;
    let key = lockstep_postgres::MarkedKey { table: PAYMENTS, key: "[1]".to_owned() };
    world.source.record_intents(id, &[(&key, None)]).await.expect("another role's intents stand in no way");
    lockstep_postgres::resolve_in_transaction(&mut writer.0, &[(&key, lockstep_core::Version(1))])
        .await
        .expect("it takes out its own");
    writer.0.commit().await.expect("commits");
    run(&mut second, "ROLLBACK").await;
    assert_eq!(world.intents().await, 1, "that of the other role is left, for the sweeper");
    world.source.sweep_intents(std::time::Duration::ZERO).await.expect("sweeps");
    assert_eq!(world.intents().await, 0);
}

/// Number of a transaction that was rolled back.
async fn rolled_back(world: &World) -> String {
    let mut transaction = world.strangers().begin().await.expect("begins");
    let xid = sqlx::query_scalar("SELECT pg_current_xact_id()::text")
        .fetch_one(&mut *transaction)
        .await
        .expect("a number");
    transaction.rollback().await.expect("rolled back");
    xid
}

fn intent(xid: &str, key: &str) -> String {
    format!(
        "INSERT INTO lockstep.intents (xid, table_name, key, repair_version)
         VALUES ('{xid}', 'payments', '{key}', 1)"
    )
}

/// 1. A strict write is rolled back, and its item stays as no commit left it. 2. A role marks a key that is
/// equal to its key as a document, or records it as an intent of the same transaction. 3. The intent went,
/// and its own key was never marked.
#[tokio::test]
async fn an_intent_is_settled_by_the_mark_of_its_own_key_and_by_no_equal_document() {
    let world = world().await;
    let (mut owner, mut app) = (attacker(&world, "alice").await, attacker(&world, "mallory").await);
    for n in 1..=8 {
        let xid = rolled_back(&world).await;
        run(&mut owner, &intent(&xid, &format!("[{n}]"))).await;
        let equal = format!("[{n}.0]");
        let mark = "INSERT INTO lockstep.pending (table_name, key, version)";
        run(&mut app, &format!("{mark} VALUES ('payments', '{equal}', 1)")).await;
        assert_eq!(refused(&mut app, "DELETE FROM lockstep.intents").await, DENIED, "{equal}");
        run(&mut app, &intent(&xid, &equal)).await;
        world.source.sweep_intents(std::time::Duration::ZERO).await.expect("sweeps");
        let pending = world.pending(PAYMENTS).await;
        assert!(pending.contains_key(&format!("[{n}]")) && pending.contains_key(&equal), "{pending:?}");
    }
    assert_eq!(world.intents().await, 0);
}

/// 1. A role opens a transaction with hundreds of savepoints, and records intents under their numbers. 2. A
/// sweep looked at the oldest five hundred numbers, all of them under way, at each turn. 3. The phantoms of
/// every other role stayed for as long as that transaction was open.
#[tokio::test]
async fn an_open_transaction_of_a_role_keeps_no_sweep_from_the_intents_of_others() {
    let world = world().await;
    let (mut holder, mut app) = (attacker(&world, "mallory").await, attacker(&world, "eve").await);
    run(&mut holder, "BEGIN").await;
    let first: String = sqlx::query_scalar("SELECT pg_current_xact_id()::text")
        .fetch_one(&mut holder)
        .await
        .expect("a number");
    run(
        &mut holder,
        r#"DO $$ BEGIN
               FOR n IN 1..900 LOOP
                   BEGIN
                       INSERT INTO lockstep.pending (table_name, key, version)
                       VALUES ('payments', jsonb_build_array('of savepoint', n), 1);
                   EXCEPTION WHEN unique_violation THEN NULL;
                   END;
               END LOOP;
           END $$"#,
    )
    .await;
    run(
        &mut app,
        &format!(
            "INSERT INTO lockstep.intents (xid, table_name, key, repair_version)
             SELECT ((({first} + n)::text)::xid8), 'payments', '[1]', 1 FROM generate_series(0, 900) AS n"
        ),
    )
    .await;
    let under_way: i64 =
        world.value("SELECT count(*) FROM lockstep.intents WHERE pg_xact_status(xid) = 'in progress'").await;
    assert!(under_way > 500, "{under_way}");
    let mut owner = attacker(&world, "alice").await;
    let xid = rolled_back(&world).await;
    run(&mut owner, &intent(&xid, "[5]")).await;
    // And one of its number whose key is locked for as long.
    run(&mut app, &intent(&xid, r#"["of savepoint", 1]"#)).await;
    let swept = world.source.sweep_intents(std::time::Duration::ZERO).await.expect("sweeps");
    assert!(swept.waiting > 0, "{swept:?}");
    assert!(world.pending(PAYMENTS).await.contains_key("[5]"), "{swept:?}");
    let of_owner = "lockstep.intents WHERE owner::text LIKE '%\\_alice'";
    assert_eq!(world.count(of_owner).await, 0, "{swept:?}");
    run(&mut holder, "ROLLBACK").await;
    world.source.sweep_intents(std::time::Duration::ZERO).await.expect("sweeps");
    world.source.sweep_intents(std::time::Duration::ZERO).await.expect("sweeps");
    assert_eq!(world.intents().await, 0, "and what it had recorded ends as its transactions did");
}
