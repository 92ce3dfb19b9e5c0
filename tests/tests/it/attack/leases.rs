use std::time::Duration;

use chrono::Utc;
use lockstep::instance::{Instance, InstanceOptions};
use lockstep_coordinator::InstanceEnd;
use lockstep_core::{Phase, Registration};
use lockstep_postgres::Source;
use lockstep_tests::World;
use lockstep_tests::world::{eventually, run};

use super::{CHECKED, DENIED, attacker, refused, world};
use crate::roles::{grants, role};

fn register(id: i64, lease_ms: i64) -> String {
    format!(
        "INSERT INTO lockstep.instances (id, name, host, pid, started_at, lease_ms) VALUES ({id}, 'n', 'h', 1, now(), {lease_ms})"
    )
}

/// S7: a lease of 9684540638697514 s held up every step, the way back included.
#[tokio::test]
async fn a_lease_ends_within_a_minute_and_its_times_are_times() {
    let world = world().await;
    let mut app = attacker(&world, "mallory").await;
    for lease_ms in [i64::MAX, 60_001, 0] {
        assert_eq!(refused(&mut app, &register(1, lease_ms)).await, CHECKED);
    }
    run(&mut app, &register(1, 60_000)).await;
    run(&mut app, "UPDATE lockstep.instances SET renewed_at = 'infinity' WHERE id = 1").await;
    let finite: bool =
        world.value("SELECT renewed_at <= clock_timestamp() FROM lockstep.instances WHERE id = 1").await;
    assert!(finite, "a renewal is when it was made");
    for never in ["-infinity", "infinity", "294276-12-31 AD", "4713-01-01 BC"] {
        let started = format!("UPDATE lockstep.instances SET started_at = '{never}' WHERE id = 1");
        run(&mut app, &started).await;
        let sayable = "SELECT started_at BETWEEN '2000-01-01 00:00:00+00' AND clock_timestamp()
            FROM lockstep.instances WHERE id = 1";
        assert!(world.value::<bool>(sayable).await, "{never}");
    }
    world.source.instances().await.expect("status reads them");
}

#[tokio::test]
async fn an_instance_is_acknowledged_and_given_back_by_its_own_role_alone() {
    let world = world().await;
    let mut owner = attacker(&world, "alice").await;
    run(&mut owner, &register(1, 1_000)).await;
    let mut app = attacker(&world, "mallory").await;
    let foreign = [
        "UPDATE lockstep.instances SET epoch = 999 WHERE id = 1",
        "UPDATE lockstep.instances SET owner = current_user WHERE id = 1",
        "DELETE FROM lockstep.instances WHERE id = 1",
    ];
    for sql in foreign {
        assert_eq!(refused(&mut app, sql).await, DENIED, "{sql}");
    }
    run(&mut owner, "UPDATE lockstep.instances SET epoch = 2 WHERE id = 1").await;
    run(&mut owner, "DELETE FROM lockstep.instances WHERE id = 1").await;
}

/// 1. The truth is in DynamoDB, and an instance has its lease there. 2. A role registers the number of that
/// instance in PostgreSQL, with an epoch that is far ahead. 3. A step back pauses. It took the instance for
/// one that has acknowledged, and a write of it that was under way landed after the step.
#[tokio::test]
async fn no_row_of_a_role_acknowledges_for_a_lease_in_dynamodb() {
    let world = World::start().await;
    world.migrated_to(Phase::DynamoOnly).await.close().await;
    let control = world.control();
    let record = control.record().await.expect("read").expect("a record");
    let lease = Duration::from_secs(2);
    let who = Registration { id: 777, name: "honest".to_owned(), started_at: Utc::now(), lease };
    control.register(&who).await.expect("registered");
    control.renew(who.id, Some(record.epoch)).await.expect("renewed").expect("it is registered");
    let mut app = attacker(&world, "mallory").await;
    run(
        &mut app,
        "INSERT INTO lockstep.instances (id, name, host, pid, started_at, epoch, lease_ms)
         VALUES (777, 'n', 'h', 1, now(), 4611686018427387904, 60000)",
    )
    .await;
    let ahead =
        "SELECT epoch > (SELECT c.epoch FROM lockstep.control c) FROM lockstep.instances WHERE id = 777";
    assert!(!world.value::<bool>(ahead).await, "no phase is acknowledged that has not begun");
    // As an earlier version of the schema let it stand.
    world.sql("UPDATE lockstep.instances SET epoch = 4611686018427387904 WHERE id = 777").await;
    let coordinator = world.coordinator().await;
    let back = coordinator.step(Phase::HybridRead, None, &()).await.expect("back");
    let ends: Vec<InstanceEnd> =
        back.instances.iter().filter(|end| end.name == "honest").map(|end| end.end).collect();
    assert_eq!(ends, [InstanceEnd::LeaseOver], "its lease is waited out: {:?}", back.instances);
}

/// 1. The row of an instance goes, as it does while the truth is in DynamoDB. 2. Another role registers its
/// number. 3. The instance was refused with the same number until its process started again.
#[tokio::test]
async fn an_instance_whose_number_another_role_has_taken_goes_on_under_another_one() {
    let world = world().await;
    let (alice, options) = role(&world, "alice").await;
    world.sql(&grants(&alice)).await;
    let (mallory, _) = role(&world, "mallory").await;
    let source = Source::connect(&options).await.expect("it answers");
    let lease = InstanceOptions { name: "honest".to_owned(), lease: Duration::from_secs(2) };
    let instance = Instance::start(&source, lease).await.expect("registers");
    // Met by a renewal, and by one that registers again.
    for state in ["live", "expired"] {
        let taken: i64 = world
            .value(&format!(
                "UPDATE lockstep.instances SET owner = '{mallory}', state = '{state}'
                 WHERE owner = '{alice}' RETURNING id"
            ))
            .await;
        let again = format!(
            "lockstep.instances i WHERE owner = '{alice}' AND state = 'live' AND id <> {taken}
                 AND epoch = (SELECT c.epoch FROM lockstep.control c)"
        );
        eventually("it is registered again", || async { world.count(&again).await == 1 }).await;
        eventually("it serves", || async { instance.control().is_some() }).await;
        assert_eq!(world.count(&format!("lockstep.instances WHERE id = {taken}")).await, 1);
    }
    instance.shutdown().await;
    assert_eq!(world.count(&format!("lockstep.instances WHERE owner = '{alice}'")).await, 0);
    source.close().await;
}
