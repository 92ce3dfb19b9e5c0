//! Steps by the API: there and back, with who and why in the journal, and news of them at once.

use hyper::StatusCode;
use lockstep_core::Phase;
use lockstep_tests::World;
use lockstep_tests::world::rows::{logs, payments};
use serde_json::json;

use super::served::{Events, Served};

async fn world() -> World {
    let world = World::start().await;
    world.sql(&logs(1, 60)).await;
    world.sql(&payments(1, 30)).await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    world
}

async fn ready(served: &Served) {
    served
        .until("it leads and delivers", |status| {
            let parts = status["daemon"]["parts"].as_array().expect("parts");
            status["daemon"]["role"] == "leader"
                && parts.iter().any(|part| part["name"] == "relay" && part["state"] == "running")
        })
        .await;
}

#[tokio::test]
async fn a_migration_goes_to_hybrid_read_and_back_by_the_api() {
    let world = world().await;
    let served = Served::of(&world).await;
    ready(&served).await;
    let mut events = Events::of(&served).await;
    assert_eq!(events.next().await["phase"], "DualWrite");

    // Nothing was compared yet, so the gate refuses, and says so before and after.
    let would = served.post("/v1/advance", &json!({ "dry_run": true })).await;
    assert_eq!((would.status, &would.json()["passed"]), (StatusCode::OK, &json!(false)), "{}", would.text);
    assert_eq!(would.json()["would"]["path"], json!(["HybridRead"]));
    let gates = served.get("/v1/gates").await.json();
    assert_eq!((&gates["to"], &gates["passed"]), (&json!("HybridRead"), &json!(false)), "{gates}");
    let refused = served.done("/v1/advance", &json!({ "actor": "ann", "reason": "too early" })).await;
    assert_eq!(refused["state"], "refused", "{refused}");
    assert!(
        refused["gates"].as_array().expect("gates").iter().any(|gate| gate["passed"] == false),
        "{refused}"
    );

    let compared = served.done("/v1/validate", &json!({})).await;
    assert_eq!(
        (&compared["state"], &compared["result"]["verdict"]),
        (&json!("succeeded"), &json!("consistent")),
        "{compared}"
    );
    let stepped = served
        .done("/v1/advance", &json!({ "to": "HybridRead", "actor": "ann", "reason": "ticket 4711" }))
        .await;
    assert_eq!(
        (&stepped["state"], &stepped["result"]["phase"]),
        (&json!("succeeded"), &json!("HybridRead")),
        "{stepped}"
    );
    while events.next().await["phase"] != "HybridRead" {}

    let journal = served.get("/v1/journal?limit=100").await.json();
    let entries = journal["entries"].as_array().expect("entries");
    let asked = entries
        .iter()
        .find(|entry| entry["step"] == "asked to advance" && entry["detail"]["reason"] == "ticket 4711");
    assert_eq!(asked.expect("who asked is journalled")["actor"], "ann via serve");
    let taken = entries.iter().find(|entry| entry["step"] == "change phase" && entry["kind"] == "done");
    assert_eq!(taken.expect("so is the step")["actor"], "ann via serve");

    let back = served.done("/v1/rollback", &json!({ "to": "DualWrite", "reason": "only a test" })).await;
    assert_eq!(
        (&back["state"], &back["result"]["phase"]),
        (&json!("succeeded"), &json!("DualWrite")),
        "{back}"
    );
    while events.next().await["phase"] != "DualWrite" {}
    assert_eq!(world.source.control().await.expect("a phase").phase, Phase::DualWrite);
    assert_eq!(served.end().await, Some(0));
}

#[tokio::test]
async fn the_same_idempotency_key_acts_once_whichever_daemon_is_asked() {
    let world = world().await;
    let served = Served::of(&world).await;
    ready(&served).await;
    let key = [("idempotency-key", "once-and-only-once")];
    let body = json!({ "wait_s": 30 });
    let first = served.post_with("/v1/test-operation", &body, &key).await;
    assert_eq!(
        (first.status, &first.json()["state"]),
        (StatusCode::OK, &json!("succeeded")),
        "{}",
        first.text
    );
    let again = served.post_with("/v1/test-operation", &body, &key).await;
    assert_eq!((again.status, &again.json()["id"]), (StatusCode::OK, &first.json()["id"]));
    let other = served.post_with("/v1/rollback", &json!({}), &key).await;
    assert_eq!((other.status, other.code().as_str()), (StatusCode::UNPROCESSABLE_ENTITY, "unprocessable"));
    assert_eq!(served.end().await, Some(0));
    let another = Served::of(&world).await;
    ready(&another).await;
    let later = another.post_with("/v1/rollback", &json!({}), &key).await;
    assert_eq!((later.status, &later.json()["state"]), (StatusCode::OK, &json!("unknown")), "{}", later.text);
    assert_eq!(world.source.control().await.expect("a phase").phase, Phase::DualWrite, "it did not act");
}

#[tokio::test]
async fn a_part_that_is_paused_rests_until_it_is_resumed_and_another_daemon_knows_it() {
    let world = world().await;
    let served = Served::of(&world).await;
    ready(&served).await;
    let paused = served
        .post("/v1/pause", &json!({ "parts": ["relay"], "actor": "bob", "reason": "maintenance" }))
        .await;
    assert_eq!(paused.json()["paused"][0]["part"], "relay", "{}", paused.text);
    let rests = |status: &serde_json::Value| {
        let parts = status["daemon"]["parts"].as_array().expect("parts").clone();
        parts.iter().any(|part| {
            part["name"] == "relay"
                && part["state"] == "paused"
                && part["why"].to_string().contains("maintenance")
        })
    };
    served.until("the relay rests", rests).await;
    world.sql("UPDATE payments SET transaction_reference = 'while paused' WHERE payment_id = 3").await;
    served
        .until("the change waits", |status| {
            status["tables"].as_array().expect("tables").iter().any(|t| t["pending"] == 1)
        })
        .await;
    assert_eq!(served.end().await, Some(0));
    let another = Served::of(&world).await;
    another.until("it rests there as well", rests).await;
    let resumed = another.post("/v1/resume", &json!({})).await;
    assert_eq!(resumed.json()["paused"], json!([]), "{}", resumed.text);
    another
        .until("the change is delivered", |status| {
            status["tables"].as_array().expect("tables").iter().all(|t| t["pending"] == 0)
        })
        .await;
    world.assert_converged().await;
}
