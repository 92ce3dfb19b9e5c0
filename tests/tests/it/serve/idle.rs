//! A migration that no application writes costs next to nothing, and is awake at once when one does; and what
//! moves keeps to what operators allow.

use std::time::{Duration, Instant};

use hyper::StatusCode;
use lockstep_core::Phase;
use lockstep_postgres::Source;
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

/// It asked PostgreSQL some eighty statements a second, four hundred from one look of the daemon to the next.
/// What is counted are looks and statements, and no time.
#[tokio::test]
async fn while_no_process_writes_both_stores_are_asked_little_and_a_change_is_met_at_once() {
    const LOOKS: usize = 3;
    let is_look = |sql: &String| sql.contains(" AS waits") && sql.contains("lockstep.verdicts");
    let world = World::behind_both_proxies().await;
    world.sql(&logs(1, 40)).await;
    world.sql(&payments(1, 20)).await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    let url = world.source_options().url;
    let variables = [("LOCKSTEP_SERVE__SAMPLE_EVERY_S", "0"), ("LOCKSTEP_SOURCE__URL", &url)];
    let served = Served::with(&world, &variables).await;
    served.until("it rests", rests).await;
    let proxy = world.source_proxy();
    proxy.record();
    proxy.until_run(|run| run.iter().any(is_look)).await;
    proxy.record();
    let before = world.proxy().counts().seen_in_all();
    proxy.until_run(|run| run.iter().filter(|sql| is_look(sql)).count() >= LOOKS).await;
    let run = proxy.recorded();
    let asked = world.proxy().counts().seen_in_all() - before;
    let glances = run.iter().filter(|sql| sql.contains(" AS waits")).count();
    eprintln!(
        "idle: {} statements in {LOOKS} looks of the daemon, {glances} of them glances; {asked} requests",
        run.len()
    );
    // In the first seconds of a calm the relay looks more often than later, and everything is read once more.
    let renewals = run.iter().filter(|sql| sql.starts_with("UPDATE lockstep.relays")).count();
    assert!(renewals < LOOKS, "a relay that looks renews its lease by that: {renewals} in {LOOKS} looks");
    assert!(run.len() < LOOKS * 40, "{} statements in {LOOKS} looks: {run:#?}", run.len());
    assert!(asked < LOOKS as u64 * 10, "{asked} requests to DynamoDB in {LOOKS} looks");

    let changed = Instant::now();
    world.sql("UPDATE payments SET transaction_reference = 'after the calm' WHERE payment_id = 3").await;
    eventually("it is delivered", || async {
        world.value::<i64>("SELECT count(*) FROM lockstep.pending").await == 0
    })
    .await;
    assert!(changed.elapsed() < Duration::from_secs(30), "{:?}", changed.elapsed());
    world.assert_converged().await;
    // The next glance sees what no trigger of ours tells of as well.
    world.sql("ALTER TABLE payments DISABLE TRIGGER ALL").await;
    served.until("it is told", |status| status["daemon"]["health"]["state"] == "broken").await;
    assert_eq!(served.end().await, Some(0));
}

/// Readings of once a minute while nothing happens, and of each `status`: 1. A migration has fifty tables.
/// 2. Each of them is asked by itself, and an idle source answers hundreds of statements a minute.
#[tokio::test]
async fn a_whole_reading_and_the_marks_of_history_ask_all_tables_at_once() {
    let world = World::behind_both_proxies().await;
    world.sql(&payments(1, 5)).await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    let source = Source::connect_as_operator(&world.source_options()).await.expect("it connects");
    let proxy = world.source_proxy();
    proxy.record();
    let status = lockstep_coordinator::status(&source, &world.target, &world.tables()).await.expect("read");
    assert!(status.tables.len() > 1 && status.tables.iter().all(|table| table.capture == "on"));
    let run = proxy.recorded();
    let asks = |run: &[String], what: &str| run.iter().filter(|sql| sql.contains(what)).count();
    assert_eq!(asks(&run, "recorded.capture_mark"), 1, "{run:#?}");
    assert_eq!(asks(&run, "pg_control_system"), 1, "what it knows of its history is one question");
    let names = world.tables();
    let asked: Vec<(&str, &str)> =
        names.iter().map(|binding| (binding.name(), binding.target_name.as_str())).collect();
    let begun = source.begin_marks(&asked, Duration::ZERO, Duration::ZERO).await.expect("begun");
    assert_eq!(begun.len(), asked.len());
    let made: Vec<(&str, i64)> = asked.iter().map(|(name, _)| (*name, begun[*name].number)).collect();
    source.end_marks(&made).await.expect("noted");
    let known = source.marks_known().await.expect("read");
    for (name, number) in made {
        assert_eq!((known[name].marking, known[name].marked), (number, number), "{name}");
    }
    assert_eq!(asks(&proxy.recorded(), "lockstep.history_marks"), 3, "begun, noted, and read here");
    // A table that this migration writes to under another name is none of its own.
    let elsewhere = [(asked[0].0, "elsewhere")];
    let begun = source.begin_marks(&elsewhere, Duration::ZERO, Duration::ZERO).await.expect("asked");
    assert!(begun.is_empty());
    source.close().await;
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
