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

/// 1. An answer is lost. 2. An operator turns something else. 3. The request comes again under its key.
#[tokio::test]
async fn what_is_turned_under_a_key_is_turned_once_whichever_daemon_is_asked() {
    let world = world().await;
    let served = Served::of(&world).await;
    ready(&served).await;
    let asks = [
        ("/v1/resume", json!({ "reason": "nothing is paused" }), "key-of-the-resume"),
        ("/v1/pause", json!({ "parts": ["sampling"], "reason": "maintenance" }), "key-of-the-pause"),
        ("/v1/settings", json!({ "set": { "canary_percent": 5 } }), "key-of-the-setting"),
        (
            "/v1/settings",
            json!({ "ramp": { "name": "shadow_percent", "steps": [1, 100], "hold_s": 3600 } }),
            "key-of-the-ramp",
        ),
    ];
    for (path, body, key) in &asks {
        let answer = served.post_with(path, body, &[("idempotency-key", *key)]).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.text);
    }
    for (path, body) in [
        ("/v1/resume", json!({ "parts": ["sampling"] })),
        ("/v1/pause", json!({ "parts": ["relay"], "reason": "another one" })),
        ("/v1/settings", json!({ "set": { "canary_percent": 0, "shadow_percent": 0 } })),
    ] {
        let answer = served.post(path, &body).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.text);
    }
    let before = world.source.settings().await.expect("read");
    assert_eq!(before.len(), 3, "{before:?}");
    for another in [false, true] {
        let daemon = if another { &Served::of(&world).await } else { &served };
        if another {
            // The first is told to end below; the lock is another's by then.
            let taken = served.child.id().expect("it runs").to_string();
            let killed = std::process::Command::new("kill").args(["-KILL", &taken]).status();
            assert!(killed.expect("kill runs").success());
            daemon.until("it leads", |status| status["daemon"]["role"] == "leader").await;
        }
        for (path, body, key) in &asks {
            let answer = daemon.post_with(path, body, &[("idempotency-key", *key)]).await;
            assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.text);
            let other = daemon.post_with("/v1/pause", &json!({}), &[("idempotency-key", *key)]).await;
            assert_eq!(other.status, StatusCode::UNPROCESSABLE_ENTITY, "{path}: {}", other.text);
        }
        assert_eq!(world.source.settings().await.expect("read"), before, "{another}");
    }
}

/// 1. The last step back is taken, and its answer is lost. 2. The request comes again, and there is no step
/// further from here.
#[tokio::test]
async fn a_step_that_is_asked_for_again_is_known_by_its_key_before_its_way_is_looked_at() {
    let world = world().await;
    let served = Served::of(&world).await;
    ready(&served).await;
    let (key, body) = ([("idempotency-key", "the-last-step")], json!({ "wait_s": 30 }));
    let first = served.post_with("/v1/rollback", &body, &key).await;
    assert_eq!(first.json()["state"], "succeeded", "{}", first.text);
    served.until("it is seen", |status| status["phase"] == "PostgresOnly").await;
    let again = served.post_with("/v1/rollback", &body, &key).await;
    assert_eq!((again.status, &again.json()["id"]), (StatusCode::OK, &first.json()["id"]), "{}", again.text);
    assert_eq!(served.end().await, Some(0));
    let another = Served::of(&world).await;
    another.until("it leads", |status| status["daemon"]["role"] == "leader").await;
    let later = another.post_with("/v1/rollback", &body, &key).await;
    assert_eq!((later.status, &later.json()["state"]), (StatusCode::OK, &json!("unknown")), "{}", later.text);
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
