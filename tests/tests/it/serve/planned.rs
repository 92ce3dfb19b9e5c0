//! The plan as a route (R45): what `plan` says, for who may only look, and not reckoned more often than
//! needed.

use hyper::StatusCode;
use lockstep_core::Phase;
use lockstep_tests::World;
use lockstep_tests::world::eventually;
use lockstep_tests::world::rows::{logs, payments};
use serde_json::{Value, json};

use super::served::Served;
use crate::process::{command, ended};

#[tokio::test]
async fn the_plan_is_told_to_who_may_look_and_is_reckoned_again_when_what_it_rests_on_is_turned() {
    let world = World::behind_both_proxies().await;
    world.sql(&logs(1, 400)).await;
    world.sql(&payments(1, 90)).await;
    world.sql("UPDATE payments SET transaction_reference = 'a secret of row 7' WHERE payment_id = 7").await;
    world.sql("ANALYZE").await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    let url = world.source_options().url;
    let variables = [("LOCKSTEP_SERVE__SAMPLE_EVERY_S", "0"), ("LOCKSTEP_SOURCE__URL", url.as_str())];
    let served = Served::with(&world, &variables).await;
    served.until("it leads", |status| status["daemon"]["role"] == "leader").await;

    let first = served.get("/v1/plan").await;
    assert_eq!(first.status, StatusCode::OK, "{}", first.text);
    let plan = first.json();
    let of_command = ended(command(&world, &["plan", "--json", "--quiet"])).await;
    let of_command: Value = serde_json::from_slice(&of_command.stdout).expect("one JSON document");
    for (n, name) in ["integration_logs", "payments"].into_iter().enumerate() {
        assert_eq!(plan["tables"][n]["name"], name);
        for fact in ["rows", "sample"] {
            assert_eq!(plan["tables"][n][fact], of_command["tables"][n][fact], "{fact} of {name}");
        }
    }
    assert_eq!(plan["load_paths"], of_command["load_paths"]);
    assert!(!first.text.contains("a secret"), "no values");

    // A client that asks within a minute is given the same, and PostgreSQL is asked nothing for it.
    let samples = |run: &[String]| run.iter().filter(|sql| sql.contains("TABLESAMPLE")).count();
    world.source_proxy().record();
    for _ in 0..20 {
        assert_eq!(served.get("/v1/plan").await.json(), plan);
    }
    assert_eq!(samples(&world.source_proxy().recorded()), 0);
    let turned = json!({ "set": { "write_units_per_s_max": 100 }, "reason": "the night" });
    assert_eq!(served.post("/v1/settings", &turned).await.status, StatusCode::OK);
    eventually("it rests on what was turned", || async {
        served.get("/v1/plan").await.json()["load_paths"][0]["hours_at_limit"].is_number()
    })
    .await;
    assert!(samples(&world.source_proxy().recorded()) > 0, "the plan is a sample of the source");

    world.source_proxy().down().await;
    let turned = served.get("/v1/plan").await;
    assert_eq!(turned.status, StatusCode::OK, "a plan of a minute ago is a plan");
    world.source_proxy().up().await;
    assert_eq!(served.end().await, Some(0));
}
