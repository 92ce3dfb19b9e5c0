use lockstep_tests::world::run;

use super::{CHECKED, DENIED, attacker, refused, world};

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
