use std::time::Duration;

use chrono::DateTime;
use lockstep_core::Epoch;
use lockstep_tests::World;
use lockstep_tests::world::{PAYMENTS, run};
use sqlx::PgConnection;

use super::{attacker, world};

/// A session of a role with an instance of its own.
async fn reporter(world: &World, name: &str, id: i64) -> PgConnection {
    let mut app = attacker(world, name).await;
    let register = format!(
        "INSERT INTO lockstep.instances (id, name, host, pid, started_at, lease_ms)
         VALUES ({id}, 'n', 'h', 1, now(), 60000)"
    );
    run(&mut app, &register).await;
    app
}

fn differ(id: i64, count: i64) -> String {
    let report = format!(r#"[{{"table_name": "{PAYMENTS}", "name": "shadow.differ", "count": {count}}}]"#);
    format!("UPDATE lockstep.instances SET report = '{report}' WHERE id = {id}")
}

async fn sum(world: &World) -> i64 {
    world
        .value("SELECT coalesce(sum(count), 0)::bigint FROM lockstep.counts WHERE name = 'shadow.differ'")
        .await
}

/// 1. A role reports, and leaves its transaction open. 2. What other roles report waited for its row: that
/// the stores differ never arrived, and reads did not step back.
#[tokio::test]
async fn a_report_that_is_left_open_holds_up_none_of_another_role() {
    let world = world().await;
    let mut honest = reporter(&world, "alice", 1).await;
    let mut open = reporter(&world, "mallory", 2).await;
    run(&mut open, "BEGIN").await;
    run(&mut open, &differ(2, 1)).await;
    run(&mut honest, &differ(1, 3)).await;
    assert_eq!(sum(&world).await, 3, "it arrived");
    world.source.count_up(&[(PAYMENTS, "shadow.differ", 5)]).await.expect("the daemon's as well");
    run(&mut open, "COMMIT").await;
    assert_eq!(sum(&world).await, 9, "of each role, and of none");
    let owners = "SELECT count(DISTINCT owner) FROM lockstep.counts WHERE name = 'shadow.differ'";
    assert_eq!(world.value::<i64>(owners).await, 3);
}

/// 1. A role reports differences that it made up, again and again. 2. HybridRead is refused, and a
/// comparison that finds nothing is older than the next report: no command led on.
#[tokio::test]
async fn a_role_that_makes_differences_up_is_named_and_can_be_passed_over() {
    let world = world().await;
    let mut liar = reporter(&world, "mallory", 2).await;
    let mut honest = reporter(&world, "alice", 1).await;
    let now = "UPDATE lockstep.instances SET epoch = (SELECT epoch FROM lockstep.control) WHERE id = ";
    run(&mut liar, &format!("{now} 2")).await;
    run(&mut honest, &format!("{now} 1")).await;
    run(&mut liar, &differ(2, 50)).await;
    run(&mut honest, &differ(1, 3)).await;
    let role: String = world.value("SELECT owner::text FROM lockstep.instances WHERE id = 2").await;
    let gate = async || {
        let report = lockstep_coordinator::ready(&world.migration(), lockstep_core::Phase::HybridRead)
            .await
            .expect("asked");
        let gate = report.results.into_iter().find(|gate| gate.name == "shadow reads agree").expect("a gate");
        (gate.passed, gate.detail)
    };
    let (passed, detail) = gate().await;
    assert!(
        !passed && detail.contains("53 of 53") && detail.contains(&format!("role {role} (50), ")),
        "{detail}"
    );
    let name = lockstep_core::settings::DISTRUSTED_REPORTERS;
    let value = lockstep_core::settings::of_name(name).expect("a setting").typed(&role).expect("a role");
    world.source.set(name, &value, "dba", Some("it makes them up"), None).await.expect("set");
    let (passed, detail) = gate().await;
    assert!(
        !passed && detail.contains("3 of 3") && !detail.contains(&format!("{role} (")),
        "what others saw counts: {detail}"
    );
    assert!(detail.contains(&format!("reports of \"{role}\" are passed over, as dba has set")), "{detail}");
    run(&mut liar, &differ(2, 50)).await;
    let all = serde_json::json!(format!("{role},{}", role.replace("mallory", "alice")));
    world.source.set(name, &all, "dba", None, None).await.expect("set");
    assert!(gate().await.0, "no role is left that counts");
    assert_eq!(sum(&world).await, 103, "all of it is kept: trusted again, it counts again");
    let refused = super::refused(&mut liar, "DELETE FROM lockstep.settings").await;
    assert_eq!(refused, super::DENIED, "the setting is the operator's");
}

/// Tables and epochs that a role made up were groups without end, and its numbers had the readers' sums
/// overflow.
#[tokio::test]
async fn a_report_makes_no_groups_and_no_sums_without_end() {
    let world = world().await;
    let mut app = reporter(&world, "mallory", 1).await;
    let made_up = format!(
        "UPDATE lockstep.instances SET report = (
             SELECT jsonb_agg(jsonb_build_object('table_name', t.name, 'name', 'shadow.differ', 'count', {}))
             FROM (SELECT 'made_up_' || n FROM generate_series(1, 500) n
                   UNION ALL SELECT '{PAYMENTS}' FROM generate_series(1, 500)) AS t (name))
         WHERE id = 1",
        i32::MAX
    );
    for epoch in [i64::MIN, -7, 0, 1 << 40, i64::MAX] {
        run(&mut app, &format!("UPDATE lockstep.instances SET epoch = {epoch} WHERE id = 1")).await;
        run(&mut app, &made_up).await;
    }
    let groups: Vec<(String, i64)> = sqlx::query_as(
        "SELECT DISTINCT table_name, epoch FROM lockstep.counts WHERE name = 'shadow.differ' ORDER BY epoch",
    )
    .fetch_all(world.source.pool())
    .await
    .expect("asked");
    let now: i64 = world.value("SELECT epoch FROM lockstep.control").await;
    assert_eq!(groups, [(PAYMENTS.to_owned(), 0), (PAYMENTS.to_owned(), now)]);
    assert_eq!(sum(&world).await, 5_000_000, "a million of each report");

    world.sql("UPDATE lockstep.counts SET count = 999999999 WHERE name = 'shadow.differ'").await;
    run(&mut app, &made_up).await;
    let most = "SELECT max(count) FROM lockstep.counts WHERE name = 'shadow.differ'";
    assert!(world.value::<i64>(most).await <= 1_000_000_000);
    world.source.counted(Duration::from_secs(3_600)).await.expect("the daemon reads it");
    let counted = world.source.counted_in(Epoch(now), DateTime::UNIX_EPOCH).await.expect("the gates read it");
    assert!(counted.iter().any(|row| row.name == "shadow.differ" && row.count > 0), "{counted:?}");
}
