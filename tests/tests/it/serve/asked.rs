//! Requests of the API: what one may hold, and what comes of one that is in the way of another, or that a
//! store does not answer.

use hyper::{Method, StatusCode};
use lockstep_core::Phase;
use lockstep_tests::World;
use lockstep_tests::faults::{Fault, Gate, Rule};
use lockstep_tests::world::eventually;
use lockstep_tests::world::rows::payments;
use serde_json::{Value, json};

use super::served::Served;

async fn moved(world: &World, phase: Phase) -> Served {
    world.sql(&payments(1, 30)).await;
    world.migrated_to(phase).await.close().await;
    let served = Served::of(world).await;
    served.until("it leads", |status| status["daemon"]["role"] == "leader").await;
    served
}

async fn phase(world: &World) -> Phase {
    world.source.control().await.expect("a phase").phase
}

/// 1. A script of the reference asks for a dry run of a step. 2. The alias left its body aside, and took it.
#[tokio::test]
async fn an_alias_takes_what_every_body_may_hold_and_refuses_the_rest() {
    let world = World::start().await;
    let served = moved(&world, Phase::DualWrite).await;
    served.done("/v1/validate", &json!({})).await;
    let alias = "/api/migration/switch-to-dynamo-reads";
    let would = served.post(alias, &json!({ "dry_run": true, "reason": "only a look" })).await;
    assert_eq!((would.status, &would.json()["dry_run"]), (StatusCode::OK, &json!(true)), "{}", would.text);
    assert_eq!(would.json()["would"]["path"], json!(["HybridRead"]));
    for alias in [alias, "/api/migration/test-dual-write", "/dual-write/validate-sync/payments/3"] {
        for body in [json!({ "nope": 1 }), json!({ "dry_run": "yes" }), json!([1])] {
            let refused = served.post(alias, &body).await;
            assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{alias} {body}: {}", refused.text);
        }
        let bearer = format!("Bearer {}", served.operate);
        let text = [("authorization", bearer.as_str()), ("content-type", "text/plain")];
        let refused = served.ask(Method::POST, alias, &text, "{{{garbage").await;
        assert_eq!(refused.status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{alias}: {}", refused.text);
        let text = [("authorization", bearer.as_str()), ("content-type", "application/json")];
        for query in ["stardDate=2026-11-01", "startDate=2026-11-01&nope=1"] {
            let place = format!("/api/migration/validate-consistency?{query}");
            let refused = served.ask(Method::GET, &place, &text, "").await;
            assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{place}: {}", refused.text);
        }
    }
    assert_eq!(phase(&world).await, Phase::DualWrite, "none of that is a step");
    assert_eq!(served.get("/v1/journal?limt=1").await.status, StatusCode::BAD_REQUEST);
    let asked = json!({ "actor": "ann", "reason": "ticket 4711", "wait_s": 30 });
    let tested = served.post("/dual-write/test-operation", &asked).await.json();
    assert_eq!((&tested["state"], &tested["actor"]), (&json!("succeeded"), &json!("ann")), "{tested}");
    let document = served.get("/v1/openapi.json").await.json();
    let body = document["paths"][alias]["post"].pointer("/requestBody/content/application~1json/schema/$ref");
    assert_eq!(body, Some(&json!("#/components/schemas/Common")));
}

/// 1. Two steps are asked for at once. 2. The first is taken, and a gate of the second refuses. 3. "Refused"
/// alone would say that everything is as it was; and the status said so for some seconds.
#[tokio::test]
async fn a_walk_that_ends_half_way_says_where_it_came_to_and_so_does_the_status_at_once() {
    let world = World::start().await;
    let served = moved(&world, Phase::DualWrite).await;
    let back = served.post("/v1/rollback", &json!({ "to": "PostgresOnly", "wait_s": 30 })).await.json();
    assert_eq!(back["state"], "succeeded", "{back}");
    assert_eq!(served.status().await["phase"], "PostgresOnly", "it is the phase by now");
    let key = [("idempotency-key", "two-steps")];
    let asked = json!({ "to": "HybridRead", "wait_s": 30 });
    let ended = served.post_with("/v1/advance", &asked, &key).await.json();
    assert_eq!(ended["state"], "failed", "{ended}");
    assert!(ended["error"].as_str().expect("why").contains("the phase is DualWrite by now"), "{ended}");
    let told = |part: &str| ended["notes"].as_array().expect("notes").iter().any(|note| is_in(note, part));
    assert!(told("PostgresOnly → DualWrite"), "{ended}");
    assert_eq!(served.status().await["phase"], "DualWrite");
    let again = served.post_with("/v1/advance", &asked, &key).await;
    assert_eq!((again.status, &again.json()["id"]), (StatusCode::OK, &ended["id"]));
    assert_eq!(phase(&world).await, Phase::DualWrite);
}

fn is_in(value: &Value, part: &str) -> bool {
    value.as_str().is_some_and(|text| text.contains(part))
}

/// 1. DynamoDB says nothing, and the gates of a step wait for it. 2. A person presses "roll back", whose dry
/// run waited behind them for minutes.
#[tokio::test]
async fn while_dynamodb_is_away_gates_say_so_at_once_and_a_step_back_waits_for_none() {
    let world = World::behind_proxy().await;
    let served = moved(&world, Phase::HybridRead).await;
    world.proxy().script(Rule::new(Fault::Unavailable).always());
    served.until("it is told", |status| status["daemon"]["stores"]["dynamodb"]["up"] == false).await;
    let gates = served.get("/v1/gates?to=DynamoOnly").await;
    assert_eq!((gates.status, gates.code().as_str()), (StatusCode::SERVICE_UNAVAILABLE, "store_unavailable"));
    let dry = served.post("/v1/advance", &json!({ "dry_run": true })).await;
    assert_eq!((dry.status, dry.code().as_str()), (StatusCode::SERVICE_UNAVAILABLE, "store_unavailable"));
    let dry = served.post("/v1/rollback", &json!({ "to": "DualWrite", "dry_run": true })).await;
    assert_eq!((dry.status, &dry.json()["passed"]), (StatusCode::OK, &json!(true)), "{}", dry.text);
    let back = served.done("/v1/rollback", &json!({ "to": "DualWrite" })).await;
    assert_eq!(back["state"], "succeeded", "{back}");
    assert_eq!(phase(&world).await, Phase::DualWrite);
    world.proxy().clear();
}

/// 1. A step forward waits for a store that is silent. 2. A person wants reads to stay where they are, and
/// was told to wait for it.
#[tokio::test]
async fn a_step_forward_gives_way_to_a_step_back_that_names_where_it_leads() {
    let world = World::behind_proxy().await;
    let served = moved(&world, Phase::DualWrite).await;
    let gate = Gate::new();
    world.proxy().script(Rule::new(Fault::Delay(gate.clone())).always());
    let begun = served.post("/v1/advance", &json!({ "to": "HybridRead" })).await;
    assert_eq!(begun.status, StatusCode::ACCEPTED, "{}", begun.text);
    gate.until_held(1).await;
    let unnamed = served.post("/v1/rollback", &json!({})).await;
    assert_eq!((unnamed.status, unnamed.code().as_str()), (StatusCode::CONFLICT, "busy"));
    let back = async { served.post("/v1/rollback", &json!({ "to": "DualWrite" })).await };
    let place = format!("/v1/operations/{}", begun.json()["id"].as_str().expect("an id"));
    let gave_way = async {
        eventually("it gives way", || async { served.get(&place).await.json()["state"] == "cancelled" })
            .await;
        gate.open();
        world.proxy().clear();
    };
    let (back, ()) = tokio::join!(back, gave_way);
    assert_eq!(back.status, StatusCode::ACCEPTED, "{}", back.text);
    let place = format!("/v1/operations/{}", back.json()["id"].as_str().expect("an id"));
    eventually("it ends", || async { served.get(&place).await.json()["state"] == "succeeded" }).await;
    assert_eq!(phase(&world).await, Phase::DualWrite);
}
