use lockstep_core::Phase;
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
        let sql = format!(
            "INSERT INTO lockstep.pending (table_name, key, version) VALUES ('payments', '{key}', 1)"
        );
        run(&mut app, &sql).await;
    }
    world.payment_store().put(&payment_row(1, 1, "r")).await.expect("put");
    world.sql("UPDATE payments SET customer_id = 7").await;
    world.relay_until_empty().await;
    assert_eq!(world.pending(PAYMENTS).await.len(), 0);
    let letters = world.source.dead_letters(PAYMENTS, 10).await.expect("lists");
    assert_eq!(letters.len(), 2, "each is named");
    assert!(letters.iter().all(|letter| letter.reason.contains("no capture trigger made it")));
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
    let aborted: String = {
        let mut transaction = world.strangers().begin().await.expect("begins");
        let xid = sqlx::query_scalar("SELECT pg_current_xact_id()::text")
            .fetch_one(&mut *transaction)
            .await
            .expect("a number");
        transaction.rollback().await.expect("rolled back");
        xid
    };
    let mut owner = attacker(&world, "alice").await;
    run(
        &mut owner,
        &format!(
            "INSERT INTO lockstep.intents (xid, table_name, key, repair_version) VALUES ('{aborted}', 'payments', '[1]', 1)"
        ),
    )
    .await;
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
    let forged = format!(
        "INSERT INTO lockstep.intents (xid, table_name, key, repair_version)
         VALUES ('{}', 'payments', '[1]', 1)",
        id.0
    );
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
