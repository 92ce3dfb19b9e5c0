//! Alert rules and dashboard: they fire and resolve, ask only for what is exported, and lead to pages that
//! exist.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use lockstep_core::Phase;
use lockstep_tests::World;
use lockstep_tests::world::eventually;
use lockstep_tests::world::rows::payments;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::served::Served;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Names of metrics in a text, without what a histogram adds to them.
fn metrics(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_lowercase() || c == '_'));
    words
        .filter(|word| word.starts_with("lockstep_"))
        .map(|word| word.trim_end_matches("_bucket").trim_end_matches("_count").to_owned())
        .collect()
}

#[test]
fn every_alert_rule_fires_and_resolves_by_promtool() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ops/prometheus/check");
    let ended = Command::new(script).output().expect("the check runs");
    if ended.status.code() == Some(77) {
        eprintln!("\n\n== LEFT OUT: the alert rules were not tried; see ops/prometheus/check ==\n\n");
        return;
    }
    assert!(
        ended.status.success(),
        "{}{}",
        String::from_utf8_lossy(&ended.stdout),
        String::from_utf8_lossy(&ended.stderr)
    );
    exported += &read("crates/core/src/requests.rs");
    exported += &read("crates/cli/src/progress_metrics.rs");
}

#[test]
fn rules_and_dashboard_ask_for_metrics_that_exist() {
    let mut exported = String::new();
    for file in
        ["gauges", "counting", "operations", "monitor", "webhook", "poll", "http/guard", "http/server"]
    {
        exported += &read(&format!("crates/daemon/src/{file}.rs"));
    }
    for file in ["store/counters", "store/reads/counters", "store/reads/shadow", "operation/mod"] {
        exported += &read(&format!("crates/lockstep/src/{file}.rs"));
    }
    let exported = metrics(&exported);
    for file in ["ops/prometheus/lockstep.rules.yml", "ops/grafana/lockstep.json", "docs/operate.md"] {
        let asked = metrics(&read(file));
        assert!(asked.len() > 15, "{file}: {asked:?}");
        let unknown: Vec<_> = asked.difference(&exported).collect();
        assert!(unknown.is_empty(), "{file} asks for {unknown:?}");
    }
}

/// A Prometheus that has scraped a daemon answers what the dashboard asks.
#[tokio::test]
async fn every_query_of_the_dashboard_is_answered_on_a_real_scrape() {
    if Command::new("prometheus").arg("--version").output().is_err() {
        let is_ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
        assert!(!is_ci, "CI needs prometheus: ops/prometheus/check installs it");
        eprintln!("\n\n== LEFT OUT: the dashboard was not tried on a scrape; install prometheus ==\n\n");
        return;
    }
    let world = World::start().await;
    world.sql(&payments(1, 10)).await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    let served = Served::of(&world).await;
    served
        .until("it leads", |status| status["daemon"]["role"] == "leader" && status["installed"] == true)
        .await;
    let folder = tempfile::TempDir::new().expect("a folder");
    let target = served.address.trim_start_matches("http://");
    let config = format!(
        "global: {{ scrape_interval: 1s }}\nscrape_configs: [{{ job_name: lockstep, static_configs: [{{ targets: ['{target}'] }}] }}]\n"
    );
    let path = folder.path().join("prometheus.yml");
    std::fs::write(&path, config).expect("written");
    // It takes no port 0: one that was free a moment ago.
    let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
    let mut prometheus = tokio::process::Command::new("prometheus")
        .arg(format!("--config.file={}", path.display()))
        .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("prometheus starts");
    let ask = async |query: &str| -> Option<serde_json::Value> {
        let encoded: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
        let head = format!("GET /api/v1/query?query={encoded} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n");
        stream.write_all(head.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
    };
    let count_of = |answer: &serde_json::Value| answer["data"]["result"].as_array().map_or(0, Vec::len);
    eventually("it has scraped twice", || async {
        ask("count_over_time(lockstep_phase[1m]) >= 2").await.is_some_and(|answer| count_of(&answer) > 0)
    })
    .await;
    let dashboard: serde_json::Value =
        serde_json::from_str(&read("ops/grafana/lockstep.json")).expect("JSON");
    let mut queries = Vec::new();
    collect_queries(&dashboard, &mut queries);
    assert!(queries.len() > 10, "{queries:?}");
    let mut answered = 0;
    for query in queries {
        let plain =
            query.replace("$__rate_interval", "1m").replace("$__interval", "1m").replace("$__range", "5m");
        let answer = ask(&plain).await.unwrap_or_else(|| panic!("no answer to {plain}"));
        assert_eq!(answer["status"], "success", "{plain}: {answer}");
        answered += usize::from(count_of(&answer) > 0);
    }
    // Some speak of applications, of the way back, or of nothing that has happened here.
    assert!(answered >= 8, "{answered} of the dashboard's queries found something");
    prometheus.kill().await.expect("it ends");
    assert_eq!(served.end().await, Some(0));
}

fn collect_queries(value: &serde_json::Value, found: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(fields) => {
            if let Some(query) = fields.get("expr").and_then(serde_json::Value::as_str) {
                found.push(query.to_owned());
            }
            fields.values().for_each(|value| collect_queries(value, found));
        }
        serde_json::Value::Array(values) => values.iter().for_each(|value| collect_queries(value, found)),
        _ => {}
    }
}

#[test]
fn every_alert_leads_to_a_section_of_the_runbook() {
    let anchors: BTreeSet<String> = read("docs/runbook.md")
        .lines()
        .filter_map(|line| line.strip_prefix("### "))
        .map(|title| title.to_lowercase().replace(':', "").replace(' ', "-"))
        .collect();
    let rules = read("ops/prometheus/lockstep.rules.yml");
    let (mut alerts, mut links) = (0, 0);
    for line in rules.lines() {
        alerts += usize::from(line.contains("- alert: "));
        if let Some((_, anchor)) = line.split_once("docs/runbook.md#") {
            links += 1;
            assert!(anchors.contains(anchor), "{anchor} is no section of docs/runbook.md");
        }
    }
    assert!(alerts >= 30 && alerts == links, "{alerts} alerts, {links} links");
    let judged = read("crates/daemon/src/alerts.rs");
    let names = judged
        .split_once("NAMES: [")
        .and_then(|(_, rest)| rest.split_once("];"))
        .expect("the list of alerts")
        .0;
    for name in names.split('"').skip(1).step_by(2) {
        assert!(anchors.contains(&format!("alert-{}", name.replace('_', "-"))), "{name} has no section");
    }
}
