//! First steps of a newcomer: stores of its own, a page, an address and a token.

use std::process::Stdio;

use hyper::StatusCode;
use lockstep_tests::world::eventually;
use serde_json::json;
use tokio::process::Command;

use super::served::{Events, Served};

fn demo(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lockstep-under-test"));
    let folder = std::env::temp_dir();
    command
        .args(["serve", "--demo", "--quiet", "--logs", "300", "--listen", "127.0.0.1:0"])
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    command
}

#[tokio::test]
async fn a_demo_stands_in_dual_write_shows_itself_and_leaves_nothing_running() {
    let served = Served::started(demo(&["--json"])).await;
    for path in ["/", "/app.js", "/style.css", "/runbook.md", "/healthz", "/readyz", "/metrics"] {
        let answer = served.open(path).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.text);
    }
    let page = served.open("/").await;
    assert!(page.headers["content-security-policy"].to_str().expect("text").contains("default-src 'none'"));
    assert!(!page.text.contains(&served.operate), "no token is in the page");
    assert_eq!(served.open("/v1/status").await.status, StatusCode::UNAUTHORIZED);
    let status = served.status().await;
    assert_eq!((&status["phase"], &status["installed"]), (&"DualWrite".into(), &true.into()), "{status}");
    assert_eq!((&status["daemon"]["role"], &status["daemon"]["demo"]), (&"leader".into(), &true.into()));
    served
        .until("changes of the live writers are delivered", |status| {
            let tables = status["tables"].as_array().expect("tables");
            tables.iter().all(|table| table["relayed"].as_i64() > Some(0))
                && status["daemon"]["health"]["state"] != "broken"
        })
        .await;
    let mut events = Events::of(&served).await;
    let first = events.next().await;
    while events.next().await["daemon"]["polled_at"] == first["daemon"]["polled_at"] {}
    let metrics = served.open("/metrics").await.text;
    for line in [
        "lockstep_phase 1",
        "lockstep_leader 1",
        "lockstep_store_up{store=\"dynamodb\"} 1",
        "lockstep_relay_delivered_total{",
        // Of the writers, which are in this process.
        "lockstep_write_outcomes_total{table=\"payments\",mode=\"any\",outcome=\"committed\"}",
    ] {
        assert!(metrics.contains(line), "`{line}` is not in: {metrics}");
    }
    let read = "lockstep_reads_total{table=\"integration_logs\",store=\"postgresql\",cause=\"phase\"}";
    eventually("what they read is counted", || async { served.open("/metrics").await.text.contains(read) })
        .await;
    // The writers go on in DynamoOnly, where the feed brings what they write, and after the way back.
    let sum = |status: &serde_json::Value, of: fn(&serde_json::Value) -> Option<i64>| -> i64 {
        status["tables"].as_array().expect("tables").iter().filter_map(of).sum()
    };
    for _ in ["HybridRead", "DynamoOnly"] {
        let compared = served.done("/v1/validate", &json!({})).await;
        assert_eq!(compared["result"]["verdict"], "consistent", "{compared}");
        let stepped = served.done("/v1/advance", &json!({ "reason": "a demonstration" })).await;
        assert_eq!(stepped["state"], "succeeded", "{stepped}");
    }
    let fed = |table: &serde_json::Value| table["reverse_feed"]["applied"].as_i64();
    served.until("writes of DynamoOnly come to PostgreSQL", |status| sum(status, fed) > 20).await;
    let back = served.done("/v1/rollback", &json!({ "reason": "a demonstration" })).await;
    assert_eq!(back["state"], "succeeded", "{back}");
    requests_are_timed_by_their_kind(&served.open("/metrics").await.text);
    let relayed = |table: &serde_json::Value| table["relayed"].as_i64();
    let before = sum(&served.status().await, relayed);
    served.until("writes are delivered again", |status| sum(status, relayed) > before + 20).await;
    assert_eq!(served.end().await, Some(0));
}

/// Checks it for relay, comparison, feed and applications, which have all been at work in this process.
fn requests_are_timed_by_their_kind(metrics: &str) {
    let of = |store: &str, operation: &str| {
        let name = "lockstep_store_request_seconds";
        let labels = format!("store=\"{store}\",operation=\"{operation}\"");
        assert!(metrics.contains(&format!("{name}_bucket{{{labels},le=\"0.005\"}}")), "{labels}: {metrics}");
        let count = format!("{name}_count{{{labels}}} ");
        let line = metrics.lines().find_map(|line| line.strip_prefix(&count));
        line.and_then(|count| count.parse::<u64>().ok()).unwrap_or_else(|| panic!("{labels}: {metrics}"))
    };
    for operation in ["statement", "transaction", "commit", "copy"] {
        assert!(of("postgresql", operation) > 0, "{operation}");
    }
    for operation in ["Scan", "BatchGetItem", "PutItem", "UpdateItem", "GetRecords", "TransactWriteItems"] {
        assert!(of("dynamodb", operation) > 0, "{operation}");
    }
    let lines = metrics.lines().filter(|line| line.starts_with("lockstep_store_request_seconds"));
    assert!(lines.clone().all(|line| !line.contains("table=")), "no table is a label");
    assert!(lines.count() < 600, "they are few");
}
