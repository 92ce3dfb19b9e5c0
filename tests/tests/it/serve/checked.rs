//! Questions of a person at the terminal: how it is, one row, the checklist.

use std::time::Duration;

use lockstep_core::Phase;
use lockstep_tests::World;
use lockstep_tests::world::rows::{logs, payments};
use lockstep_tests::world::within;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};

use super::served::OPERATE;
use crate::process::{command, ended};

async fn said(world: &World, arguments: &[&str]) -> (Option<i32>, String) {
    let output = ended(command(world, arguments)).await;
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code(), text)
}

#[tokio::test]
async fn status_ends_as_the_migration_is_and_one_row_is_compared_by_its_key() {
    let world = World::start().await;
    world.sql(&logs(1, 20)).await;
    world.sql(&payments(1, 10)).await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    let (code, text) = said(&world, &["status"]).await;
    assert_eq!((code, text.contains("health: healthy")), (Some(0), true), "{text}");
    // Rows that wait for more than a minute: an operator should look.
    world.sql("UPDATE payments SET transaction_reference = 'late' WHERE payment_id = 3").await;
    world.sql("UPDATE lockstep.pending SET marked_at = marked_at - interval '2 minutes'").await;
    let (code, text) = said(&world, &["status"]).await;
    assert_eq!((code, text.contains("health: DEGRADED")), (Some(6), true), "{text}");
    let (code, text) = said(&world, &["validate", "--key", "payments/3", "--no-relay"]).await;
    assert_eq!(code, Some(1), "it is not delivered: {text}");
    let (code, text) = said(&world, &["validate", "--key", "payments/4"]).await;
    assert_eq!((code, text.contains("both stores say the same")), (Some(0), true), "{text}");
    let (code, text) = said(&world, &["validate", "--key", "integration_logs/7"]).await;
    assert_eq!(code, Some(0), "a key of which the primary key is a part: {text}");
    for wrong in ["payments/four", "nothing/4", "payments"] {
        let (code, text) = said(&world, &["validate", "--key", wrong]).await;
        assert_eq!(code, Some(2), "{wrong}: {text}");
    }
    let kept: i64 = world.value("SELECT count(*) FROM lockstep.verdicts").await;
    assert_eq!(kept, 0, "one row is no verdict");
    let mut away = command(&world, &["status", "--json"]);
    away.env("LOCKSTEP_TARGET__ENDPOINT_URL", "http://127.0.0.1:9");
    let output = ended(away).await;
    let status: Value = serde_json::from_slice(&output.stdout).expect("one JSON document");
    assert_eq!((output.status.code(), &status["health"]["state"]), (Some(1), &json!("broken")), "{status}");
    assert!(status["target_error"].as_str().is_some_and(|error| error.contains("DynamoDB")), "{status}");
    let target = status["tables"][0]["target"].as_str().unwrap_or_default();
    assert!(target.ends_with("(not known)"), "{status}");
    world.sql("ALTER TABLE payments DISABLE TRIGGER ALL").await;
    let output = ended(command(&world, &["status", "--json"])).await;
    let status: Value = serde_json::from_slice(&output.stdout).expect("one JSON document");
    assert_eq!((output.status.code(), &status["health"]["state"]), (Some(1), &json!("broken")), "{status}");
}

#[tokio::test]
async fn the_checklist_fills_itself_in_and_is_signed_where_no_program_can_know() {
    let world = World::start().await;
    world.sql(&logs(1, 20)).await;
    world.sql(&payments(1, 10)).await;
    let coordinator = world.migrated_to(Phase::DualWrite).await;
    let list = async || {
        let output = ended(command(&world, &["checklist", "--json"])).await;
        let list: Value = serde_json::from_slice(&output.stdout).expect("one JSON document");
        (output.status.code(), list)
    };
    let state = |list: &Value, id: &str| {
        let items = list["items"].as_array().expect("items");
        items.iter().find(|item| item["id"] == id).unwrap_or_else(|| panic!("no {id}: {list}"))["state"]
            .clone()
    };
    let (code, first) = list().await;
    assert_eq!(code, Some(1));
    assert_eq!(
        ["captured", "copied", "dual-write", "hybrid-read", "way-back-taken", "plan-approved", "compared"]
            .map(|id| state(&first, id)),
        ["proven", "proven", "proven", "not_reached", "failed", "to_sign", "failed"].map(|word| json!(word)),
        "{first}"
    );
    world.step_to(&coordinator, Phase::HybridRead).await;
    world.step_to(&coordinator, Phase::DualWrite).await;
    coordinator.close().await;
    let (code, text) =
        said(&world, &["checklist", "--sign", "plan-approved", "--reason", "ann and bob"]).await;
    assert_eq!(code, Some(1), "others are open: {text}");
    let (_, second) = list().await;
    assert_eq!(
        ["way-back-taken", "plan-approved", "compared"].map(|id| state(&second, id)),
        ["proven", "signed", "proven"].map(|word| json!(word)),
        "{second}"
    );
    let (code, text) = said(&world, &["checklist", "--sign", "captured", "--reason", "x"]).await;
    assert_eq!((code, text.contains("proven and not signed")), (Some(2), true), "{text}");
}

#[tokio::test]
async fn log_lines_are_json_objects_where_it_is_asked_for() {
    let world = World::start().await;
    world.prepared().await.close().await;
    let mut asked = command(&world, &["serve", "--json", "--listen", "127.0.0.1:0", "--log-format", "json"]);
    asked.env("LOCKSTEP_LOG", "info").env("LOCKSTEP_OPERATE_TOKEN", OPERATE);
    let mut child = asked.spawn().expect("it starts");
    let mut lines = BufReader::new(child.stderr.take().expect("its log")).lines();
    loop {
        let line =
            within(Duration::from_mins(3), lines.next_line()).await.expect("it reads").expect("it goes on");
        // The words to people before it begins are no log.
        let Ok(line) = serde_json::from_str::<Value>(&line) else { continue };
        assert!(line["timestamp"].is_string() && line["level"].is_string(), "{line}");
        if line["message"] == "this daemon leads" {
            assert_eq!((&line["level"], &line["target"]), (&json!("INFO"), &json!("lockstep_daemon::lead")));
            break;
        }
    }
    child.kill().await.expect("it ends");
}
