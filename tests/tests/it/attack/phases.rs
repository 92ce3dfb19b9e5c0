//! Attempts of an application's role in every phase: refused in one, they are refused in each, on the way
//! there, in DynamoOnly, where the moved tables are closed to it as well, and on the way back.

use lockstep_core::{Control, Phase};
use lockstep_tests::World;
use lockstep_tests::world::rows::{logs, payments};
use lockstep_tests::world::{LOGS, PAYMENTS, run};
use sqlx::PgConnection;

use super::{CHECKED, DENIED, attacker, refused};

/// Refused for a right that is missing, or by a guard.
const FORBIDDEN: [&str; 22] = [
    // Versions that were never handed out, and marks of another role raised to one.
    "INSERT INTO lockstep.pending (table_name, key, version) VALUES ('payments', '[1]', 9223372036854775807)",
    "UPDATE lockstep.pending SET version = 9223372036854775807",
    "INSERT INTO lockstep.intents (xid, table_name, key, repair_version)
         VALUES ('9', 'payments', '[1]', 9223372036854775807)",
    // Another role's instance.
    "UPDATE lockstep.instances SET epoch = 999",
    "DELETE FROM lockstep.instances",
    // Phase, settings, versions, epochs.
    "UPDATE lockstep.control SET phase = 'DynamoOnly'",
    "SELECT setval('lockstep.version_seq', 1)",
    "INSERT INTO lockstep.target_epochs DEFAULT VALUES",
    "SELECT 1 FROM lockstep.control FOR UPDATE",
    // "I am the feed", "it is fed", "it was consistent", "it was done".
    "INSERT INTO lockstep.reverse_writers (xid) VALUES (pg_current_xact_id())",
    "UPDATE lockstep.reverse_shards SET finished = true",
    "DELETE FROM lockstep.reverse_again",
    "INSERT INTO lockstep.verdicts DEFAULT VALUES",
    "INSERT INTO lockstep.journal (actor, kind, step) VALUES ('mallory', 'intent', 'change phase')",
    "UPDATE lockstep.dead_letters SET acknowledged_at = now(), acknowledged_by = 'dba'",
    "DELETE FROM lockstep.unverified",
    // Past the triggers, or in their place.
    "ALTER TABLE lockstep.pending DISABLE TRIGGER ALL",
    "ALTER TABLE payments DISABLE TRIGGER ALL",
    "SET session_replication_role = replica",
    "CREATE FUNCTION lockstep.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE TEMP TABLE bait (x int); CREATE TRIGGER t AFTER DELETE ON bait FOR EACH STATEMENT
         EXECUTE FUNCTION lockstep.note_delivered()",
    "TRUNCATE payments",
];
/// Writes of the moved tables, which the grants of the application allow.
const WRITES: [&str; 3] = [
    "UPDATE payments SET customer_id = customer_id + 1 WHERE payment_id = 1",
    "DELETE FROM integration_logs WHERE log_id = (SELECT max(log_id) FROM integration_logs)",
    "UPDATE integration_logs SET user_id = 'mallory' WHERE log_id = 3",
];

struct Roles {
    owner: PgConnection,
    mallory: PgConnection,
}

/// Everything that one phase is tried with.
async fn attack(world: &World, roles: &mut Roles, phase: Phase) {
    let control = async || -> Control { world.source.control().await.expect("a phase") };
    let before = control().await;
    assert_eq!(before.phase, phase);
    // One of each is there, so that a statement that changes every row has one to change.
    run(
        &mut roles.owner,
        "INSERT INTO lockstep.instances (id, name, host, pid, started_at, lease_ms)
             VALUES (7, 'n', 'h', 1, now(), 1000)",
    )
    .await;
    world
        .sql("INSERT INTO lockstep.pending (table_name, key, version) VALUES ('payments', '[404]', 1)")
        .await;
    world
        .sql(
            "INSERT INTO lockstep.dead_letters (table_name, key, version, stage, reason)
                 VALUES ('payments', '[404]', 1, 'relay', 'x')",
        )
        .await;
    for sql in FORBIDDEN {
        assert_eq!(refused(&mut roles.mallory, sql).await, DENIED, "in {phase}: {sql}");
        run(&mut roles.mallory, "ROLLBACK").await;
    }
    let for_ever = "INSERT INTO lockstep.instances (id, name, host, pid, started_at, lease_ms)
         VALUES (8, 'n', 'h', 1, now(), 9223372036854775807)";
    assert_eq!(refused(&mut roles.mallory, for_ever).await, CHECKED, "in {phase}");
    world.sql("DELETE FROM lockstep.pending WHERE version = 1; DELETE FROM lockstep.dead_letters").await;
    run(&mut roles.owner, "DELETE FROM lockstep.instances WHERE id = 7").await;
    let rows = async || (world.count(LOGS).await, world.count(PAYMENTS).await);
    let there = rows().await;
    for sql in WRITES {
        let written = sqlx::raw_sql(sql).execute(&mut roles.mallory).await;
        assert_eq!(written.is_ok(), phase != Phase::DynamoOnly, "in {phase}: {sql}: {written:?}");
    }
    if phase == Phase::DynamoOnly {
        assert_eq!(rows().await, there, "and no row went");
    }
    assert_eq!(control().await, before, "nothing of it moved the phase");
}

#[tokio::test]
async fn what_an_applications_role_is_refused_it_is_refused_in_every_phase_there_and_back() {
    let world = World::start().await;
    world.sql(&format!("{}; {}", logs(1, 20), payments(1, 20))).await;
    let coordinator = world.migrated_to(Phase::PostgresOnly).await;
    let mut roles =
        Roles { owner: attacker(&world, "alice").await, mallory: attacker(&world, "mallory").await };
    attack(&world, &mut roles, Phase::PostgresOnly).await;
    let (there, back) = (
        [Phase::DualWrite, Phase::HybridRead, Phase::DynamoOnly],
        [Phase::HybridRead, Phase::DualWrite, Phase::PostgresOnly],
    );
    for to in there.into_iter().chain(back) {
        world.step_to(&coordinator, to).await;
        if to == Phase::PostgresOnly {
            // Before it writes once more: nothing is delivered in that phase.
            world.relay_until_empty().await;
            assert!(world.disagreements().await.is_empty(), "what it was allowed to write is in both stores");
        }
        attack(&world, &mut roles, to).await;
    }
    coordinator.close().await;
}
