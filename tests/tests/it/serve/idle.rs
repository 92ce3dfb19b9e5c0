//! A migration that nobody writes costs next to nothing, and is awake at once when somebody does; and what
//! moves keeps to what operators allow.

use std::time::{Duration, Instant};

use hyper::StatusCode;
use lockstep_core::Phase;
use lockstep_tests::World;
use lockstep_tests::world::eventually;
use lockstep_tests::world::rows::{logs, payments};
use serde_json::{Value, json};

use super::served::Served;

fn rests(status: &Value) -> bool {
    status["daemon"]["role"] == "leader"
        && status["daemon"]["health"]["state"] == "healthy"
        && status["tables"].as_array().expect("tables").iter().all(|table| table["pending"] == 0)
}

/// Seconds that a process has computed.
fn computed_s(process: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).expect("it runs");
    let fields: Vec<&str> = stat.rsplit(") ").next().expect("its fields").split(' ').collect();
    // User and system time, in hundredths of a second on every Linux there is.
    (fields[11].parse::<f64>().expect("a number") + fields[12].parse::<f64>().expect("a number")) / 100.0
}

/// It asked PostgreSQL some eighty statements a second, and DynamoDB three. The bounds are those of the first
/// seconds of a calm; they fall further for half a minute.
#[tokio::test]
async fn while_nobody_writes_both_stores_are_asked_little_and_a_change_is_met_at_once() {
    const WINDOW: Duration = Duration::from_secs(6);
    let world = World::behind_proxy().await;
    world.sql(&logs(1, 40)).await;
    world.sql(&payments(1, 20)).await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    let served = Served::with(&world, &[("LOCKSTEP_SERVE__SAMPLE_EVERY_S", "0")]).await;
    served.until("it rests", rests).await;
    let commits = async || -> i64 {
        world.value("SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()").await
    };
    // A session that does nothing tells of its last commits after ten seconds.
    tokio::time::sleep(Duration::from_secs(12)).await;
    let process = served.child.id().expect("it runs");
    let before = (commits().await, world.proxy().counts().seen_in_all(), computed_s(process));
    tokio::time::sleep(WINDOW).await;
    let after = (commits().await, world.proxy().counts().seen_in_all(), computed_s(process));
    let per_s = |n: f64| n / WINDOW.as_secs_f64();
    let (source, target) = (per_s((after.0 - before.0) as f64), per_s((after.1 - before.1) as f64));
    let busy = per_s(after.2 - before.2) * 100.0;
    eprintln!("idle: {source:.1} commits/s, {target:.1} requests/s to DynamoDB, {busy:.1} % of a processor");
    assert!(source < 6.0 && target < 2.0, "{source:.1} commits/s, {target:.1} requests/s to DynamoDB");

    let changed = Instant::now();
    world.sql("UPDATE payments SET transaction_reference = 'after the calm' WHERE payment_id = 3").await;
    eventually("it is delivered", || async {
        world.value::<i64>("SELECT count(*) FROM lockstep.pending").await == 0
    })
    .await;
    assert!(changed.elapsed() < Duration::from_secs(4), "{:?}", changed.elapsed());
    world.assert_converged().await;
    // What no trigger of ours tells of is seen by the next glance as well.
    world.sql("ALTER TABLE payments DISABLE TRIGGER ALL").await;
    let broken = Instant::now();
    served.until("it is told", |status| status["daemon"]["health"]["state"] == "broken").await;
    assert!(broken.elapsed() < Duration::from_secs(12), "{:?}", broken.elapsed());
    assert_eq!(served.end().await, Some(0));
}

/// R11: one budget, and a bound of the relay's own that is turned while it works, with its reason shown.
#[tokio::test]
async fn a_relay_keeps_to_what_operators_allow_and_what_it_writes_is_taken_off_the_budget() {
    let world = World::start().await;
    world.sql(&logs(1, 10)).await;
    world.sql(&payments(1, 120)).await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    let served = Served::with(&world, &[("LOCKSTEP_SERVE__SAMPLE_EVERY_S", "0")]).await;
    served.until("it rests", rests).await;
    let bounds = json!({ "relay_write_units_per_s_max": 40, "write_units_per_s_max": 100 });
    let set = served.post("/v1/settings", &json!({ "set": bounds, "reason": "readers first" })).await;
    assert_eq!(set.status, StatusCode::OK, "{}", set.text);
    let begun = Instant::now();
    world.sql("UPDATE payments SET transaction_reference = 'slowly'").await;
    served
        .until("it says why it is slow", |status| {
            let rates = status["daemon"]["rates"].as_array().expect("rates");
            rates.iter().any(|rate| rate["slowed_by"] == "the budget of 40 write units a second")
        })
        .await;
    let is_charged = "SELECT coalesce(spent_until > '-infinity', false) FROM lockstep.budget";
    eventually("what changes cost is taken off the budget", || async {
        world.value::<bool>(is_charged).await
    })
    .await;
    eventually("it is delivered", || async {
        world.value::<i64>("SELECT count(*) FROM lockstep.pending").await == 0
    })
    .await;
    assert!(
        begun.elapsed() > Duration::from_secs(1),
        "120 rows at 40 units a second took {:?}",
        begun.elapsed()
    );
    let reaches_s: f64 = world
        .value("SELECT extract(epoch FROM spent_until - clock_timestamp())::float8 FROM lockstep.budget")
        .await;
    assert!(reaches_s < 2.0, "history would wait for {reaches_s} s after the last change");
    world.assert_converged().await;
    assert_eq!(served.end().await, Some(0));
}
