//! A daemon while people operate it: what goes before what, and what is over.

use hyper::StatusCode;
use lockstep::store::ReadOptions;
use lockstep_core::{MigratableTable, Phase};
use lockstep_payments::Payments;
use lockstep_tests::World;
use lockstep_tests::world::rows::payments;
use lockstep_tests::world::{PAYMENTS, eventually};
use serde_json::json;

use super::served::Served;
use super::turned::{application, leads, relay_rests, world};

const SPENT: &str =
    "SELECT coalesce(sum(count), 0)::bigint FROM lockstep.counts WHERE name = 'spent.write_units'";
/// Session of the daemon that leads.
const LEADER: &str = "SELECT coalesce(max(pid), 0)::bigint FROM pg_locks
     WHERE locktype = 'advisory' AND granted AND objid = 40
         AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";

/// Write units that a daemon has consumed since it was started, by its metrics.
async fn consumed(served: &Served) -> i64 {
    let text = served.open("/metrics").await.text;
    let of_tables = text.lines().filter(|line| line.starts_with("lockstep_relay_write_units_total{"));
    of_tables.filter_map(|line| line.rsplit(' ').next()?.parse::<i64>().ok()).sum()
}

async fn spent(world: &World) -> i64 {
    world.value::<i64>(SPENT).await
}

/// 1. A daemon has delivered, and noted what that cost. 2. It loses its lock, and leads again. 3. It noted
/// all of it once more, and at the cap that was met so copying stopped.
#[tokio::test]
async fn what_was_spent_is_counted_once_however_often_a_daemon_leads() {
    let world = world(Phase::DualWrite).await;
    let of_before = spent(&world).await;
    let served = Served::with(&world, &[("LOCKSTEP_SERVE__SAMPLE_EVERY_S", "0")]).await;
    served.until("it leads", leads).await;
    world.sql(&payments(100, 300)).await;
    let settled = async |more_than: i64| {
        served
            .until("all is delivered", |status| {
                leads(status)
                    && status["tables"].as_array().expect("tables").iter().all(|t| t["pending"] == 0)
            })
            .await;
        let is_noted = async || {
            let noted = spent(&world).await - of_before;
            noted > more_than && noted == consumed(&served).await
        };
        eventually("what was consumed is noted, and no more", is_noted).await;
        spent(&world).await - of_before
    };
    let before = settled(200).await;
    let leader = world.value::<i64>(LEADER).await;
    world.sql(&format!("SELECT pg_terminate_backend({leader}::int)")).await;
    eventually("it leads again", || async {
        let now = world.value::<i64>(LEADER).await;
        now != 0 && now != leader
    })
    .await;
    world.sql("UPDATE payments SET transaction_reference = 'once more' WHERE payment_id = 3").await;
    assert!(settled(before).await < before + 100, "of one more row");
}

/// 1. An operator compares everything, which takes hours. 2. Reads are wrong, and the way back is asked for.
#[tokio::test]
async fn a_step_back_breaks_off_a_comparison_and_nothing_else_does() {
    let world = world(Phase::DualWrite).await;
    let served = Served::with(&world, &[("LOCKSTEP_SERVE__SAMPLE_EVERY_S", "0")]).await;
    served.until("it leads", leads).await;
    // It waits for a change that is not delivered.
    served.post("/v1/pause", &json!({ "parts": ["relay"], "reason": "only a test" })).await;
    served.until("the relay rests", relay_rests).await;
    world.sql("UPDATE payments SET transaction_reference = 'waits' WHERE payment_id = 3").await;
    let comparing = served.post("/v1/validate", &json!({ "reason": "the night's" })).await;
    assert_eq!(comparing.status, StatusCode::ACCEPTED, "{}", comparing.text);
    let id = comparing.json()["id"].as_str().expect("an id").to_owned();
    let forward = served.post("/v1/advance", &json!({ "to": "HybridRead" })).await;
    assert_eq!((forward.status, forward.code().as_str()), (StatusCode::CONFLICT, "busy"));
    let back = served.post("/v1/rollback", &json!({ "reason": "reads are wrong", "wait_s": 30 })).await;
    assert_eq!(
        (&back.json()["state"], &back.json()["result"]["phase"]),
        (&json!("succeeded"), &json!("PostgresOnly")),
        "{}",
        back.text
    );
    let broken_off = served.get(&format!("/v1/operations/{id}")).await.json();
    assert_eq!(broken_off["state"], "cancelled", "{broken_off}");
    assert!(broken_off["error"].to_string().contains("step back"), "{broken_off}");
}

/// 1. A sample finds that rows differ. 2. The phase is one in which no sample is made. 3. The alert stayed
/// for as long as the daemon ran.
#[tokio::test]
async fn what_a_sample_found_is_over_where_none_is_made_any_more() {
    let world = world(Phase::DualWrite).await;
    let app = application(&world, "deletes", ReadOptions::default()).await;
    let store = app.store::<Payments>();
    let row = store.get_source(3).await.expect("asked").expect("a row");
    let place = store.table().target_key(&Payments::key(&row)).expect("a key").to_attributes();
    world
        .plain_target
        .client()
        .delete_item()
        .table_name(PAYMENTS)
        .set_key(Some(place))
        .send()
        .await
        .expect("deleted past Lockstep");
    app.shutdown().await;
    let served = Served::of(&world).await;
    let raised = |status: &serde_json::Value| {
        let alerts = status["daemon"]["alerts"].as_array().expect("alerts");
        alerts.iter().any(|alert| alert["name"] == "data_consistency")
    };
    served.until("it is found", raised).await;
    assert!(!served.open("/metrics").await.text.contains("lockstep_data_consistency_percent NaN"));
    let back = served.done("/v1/rollback", &json!({ "reason": "only a test" })).await;
    assert_eq!(back["state"], "succeeded", "{back}");
    served.until("it is over", |status| status["daemon"]["measured"].is_null() && !raised(status)).await;
    assert!(served.open("/metrics").await.text.contains("lockstep_data_consistency_percent NaN"));
}

/// 1. The money of both sides is to be the same, and no sample adds it up. 2. Operators ask for a
/// comparison of everything now and then, and the daemon starts it.
#[tokio::test]
async fn everything_is_compared_with_its_sums_as_often_as_it_is_asked_for() {
    let world = world(Phase::DualWrite).await;
    let app = application(&world, "deletes", ReadOptions::default()).await;
    let store = app.store::<Payments>();
    let row = store.get_source(3).await.expect("asked").expect("a row");
    let place = store.table().target_key(&Payments::key(&row)).expect("a key").to_attributes();
    let deleting = world.plain_target.client().delete_item().table_name(PAYMENTS).set_key(Some(place));
    deleting.send().await.expect("deleted past Lockstep");
    app.shutdown().await;
    let variables = [("LOCKSTEP_SERVE__SAMPLE_EVERY_S", "0"), ("LOCKSTEP_SERVE__FULL_EVERY_S", "2")];
    let served = Served::with(&world, &variables).await;
    let raised = |status: &serde_json::Value| {
        let alerts = status["daemon"]["alerts"].as_array().expect("alerts");
        alerts.iter().any(|alert| alert["name"] == "not_consistent")
    };
    served.until("it is found", raised).await;
    world.sql("UPDATE payments SET transaction_reference = 'written again' WHERE payment_id = 3").await;
    served.until("it is over", |status| !raised(status) && status["verdict_consistent"] == true).await;
    let sums = "SELECT report::text LIKE '%payment_amount%' AND report::text LIKE '%totals_agree%'
                FROM lockstep.verdicts ORDER BY id DESC LIMIT 1";
    assert!(world.value::<bool>(sums).await, "sums are part of it");
    let made = async || world.value::<i64>("SELECT count(*) FROM lockstep.verdicts").await;
    let before = made().await;
    eventually("it is made again", || async { made().await > before }).await;
    served.post("/v1/pause", &json!({ "parts": ["sampling"], "reason": "only a test" })).await;
    let rests = |status: &serde_json::Value| {
        let parts = status["daemon"]["parts"].as_array().expect("parts");
        parts.iter().any(|part| part["name"] == "whole-comparison" && part["state"] == "paused")
    };
    served.until("it rests with samples", rests).await;
}
