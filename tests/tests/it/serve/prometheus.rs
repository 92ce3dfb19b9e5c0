//! A real Prometheus that scrapes a real daemon: the dashboard finds what it asks for, and faults of the
//! stores fire the rules that are for them, and the end of each resolves it.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::process::Stdio;

use lockstep::store::ReadOptions;
use lockstep_core::{AttributeValue, MigratableTable, Phase, Version};
use lockstep_payments::Payments;
use lockstep_tests::World;
use lockstep_tests::world::rows::payments;
use lockstep_tests::world::{PAYMENTS, eventually};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use super::rules::read;
use super::served::Served;
use super::turned::{application, relay_rests};
use crate::reverse_feed::payment_row;

struct Prometheus {
    port: u16,
    _child: Child,
    _folder: tempfile::TempDir,
}

impl Prometheus {
    /// One that scrapes a daemon each second, with rules if there are any; `None` where it is not installed.
    fn of(served: &Served, rules: &str) -> Option<Self> {
        if std::process::Command::new("prometheus").arg("--version").output().is_err() {
            let is_ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
            assert!(!is_ci, "CI needs prometheus: ops/prometheus/check installs it");
            eprintln!("\n\n== LEFT OUT: nothing was tried on a scrape; install prometheus ==\n\n");
            return None;
        }
        let folder = tempfile::TempDir::new().expect("a folder");
        let target = served.address.trim_start_matches("http://");
        let config = format!(
            "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\nrule_files: [rules.yml]\n\
             scrape_configs: [{{ job_name: lockstep, static_configs: [{{ targets: ['{target}'] }}] }}]\n"
        );
        let path = folder.path().join("prometheus.yml");
        std::fs::write(&path, config).expect("written");
        std::fs::write(folder.path().join("rules.yml"), rules).expect("written");
        // It takes no port 0: one that was free a moment ago.
        let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", path.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("prometheus starts");
        Some(Self { port, _child: child, _folder: folder })
    }

    async fn get(&self, path: &str) -> Option<Value> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.ok()?;
        let head = format!("GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n");
        stream.write_all(head.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
    }

    async fn ask(&self, query: &str) -> Option<Value> {
        let encoded: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        self.get(&format!("/api/v1/query?query={encoded}")).await
    }

    /// The rules that fire.
    async fn firing(&self) -> BTreeSet<String> {
        let answer = self.get("/api/v1/alerts").await.unwrap_or_default();
        let alerts = answer["data"]["alerts"].as_array().cloned().unwrap_or_default();
        let firing = alerts.iter().filter(|alert| alert["state"] == "firing");
        firing.filter_map(|alert| alert["labels"]["alertname"].as_str().map(str::to_owned)).collect()
    }

    async fn fires(&self, rules: &[&str]) {
        eventually("each rule fires", || async {
            let firing = self.firing().await;
            rules.iter().all(|rule| firing.contains(*rule))
        })
        .await;
    }

    async fn resolves(&self, rules: &[&str]) {
        eventually("each rule is resolved", || async {
            let firing = self.firing().await;
            rules.iter().all(|rule| !firing.contains(*rule))
        })
        .await;
    }
}

fn count_of(answer: &Value) -> usize {
    answer["data"]["result"].as_array().map_or(0, Vec::len)
}

async fn leading(world: &World, variables: &[(&str, &str)]) -> Served {
    let served = Served::with(world, variables).await;
    served
        .until("it leads", |status| status["daemon"]["role"] == "leader" && status["installed"] == true)
        .await;
    served
}

/// A Prometheus that has scraped a daemon answers what the dashboard asks.
#[tokio::test]
async fn every_query_of_the_dashboard_is_answered_on_a_real_scrape() {
    let world = World::start().await;
    world.sql(&payments(1, 10)).await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    let served = leading(&world, &[]).await;
    let Some(prometheus) = Prometheus::of(&served, "groups: []\n") else { return };
    eventually("it has scraped twice", || async {
        let answer = prometheus.ask("count_over_time(lockstep_phase[1m]) >= 2").await;
        answer.is_some_and(|answer| count_of(&answer) > 0)
    })
    .await;
    let dashboard: Value = serde_json::from_str(&read("ops/grafana/lockstep.json")).expect("JSON");
    let mut queries = Vec::new();
    collect_queries(&dashboard, &mut queries);
    assert!(queries.len() > 10, "{queries:?}");
    let mut answered = 0;
    for query in queries {
        let plain =
            query.replace("$__rate_interval", "1m").replace("$__interval", "1m").replace("$__range", "5m");
        let answer = prometheus.ask(&plain).await.unwrap_or_else(|| panic!("no answer to {plain}"));
        assert_eq!(answer["status"], "success", "{plain}: {answer}");
        answered += usize::from(count_of(&answer) > 0);
    }
    // Some speak of applications, of the way back, or of nothing that has happened here.
    assert!(answered >= 8, "{answered} of the dashboard's queries found something");
    assert_eq!(served.end().await, Some(0));
}

fn collect_queries(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            if let Some(query) = fields.get("expr").and_then(Value::as_str) {
                found.push(query.to_owned());
            }
            fields.values().for_each(|value| collect_queries(value, found));
        }
        Value::Array(values) => values.iter().for_each(|value| collect_queries(value, found)),
        _ => {}
    }
}

/// The rules as they ship, but for how long something has to be so.
fn at_once(rules: &str) -> String {
    let lines = rules.lines().map(|line| match line.trim_start().starts_with("for: ") {
        true => "        for: 1s".to_owned(),
        // What was minutes ago is over at once.
        false => line.replace("[5m]", "[10s]"),
    });
    lines.collect::<Vec<_>>().join("\n") + "\n"
}

/// Rules of the thresholds that rows and items cross which say something else.
const OF_ITEMS: [&str; 6] = [
    "LockstepConsistency",
    "LockstepConsistencyBelowTarget",
    "LockstepFieldAccuracy",
    "LockstepFieldAccuracyBelowTarget",
    "LockstepOrphans",
    "LockstepOrphansAboveTarget",
];
/// Those of what waits, and of budgets.
const OF_WORK: [&str; 5] = [
    "LockstepLatencyBudget",
    "LockstepPausedLong",
    "LockstepPendingAge",
    "LockstepPendingAgeCritical",
    "LockstepSpendCap",
];

#[tokio::test]
async fn a_fault_beyond_each_threshold_fires_its_rule_and_its_end_resolves_it() {
    let world = World::start().await;
    world.sql(&payments(1, 40)).await;
    world.migrated_to(Phase::DualWrite).await.close().await;
    let served = leading(&world, &[("LOCKSTEP_SERVE__SAMPLE_EVERY_S", "1")]).await;
    let Some(prometheus) = Prometheus::of(&served, &at_once(&read("ops/prometheus/lockstep.rules.yml")))
    else {
        return;
    };
    eventually("nothing fires while all is well", || async {
        let measured = prometheus.ask("lockstep_data_consistency_percent == 100").await;
        measured.is_some_and(|answer| count_of(&answer) > 0) && prometheus.firing().await.is_empty()
    })
    .await;

    // One row has another item than it should, one has none, and one item has no row.
    let app = application(&world, "deletes", ReadOptions::default()).await;
    let store = app.store::<Payments>();
    let place = async |payment: i64| {
        let row = store.get_source(payment).await.expect("asked").expect("a row");
        store.table().target_key(&Payments::key(&row)).expect("a key").to_attributes()
    };
    let client = world.plain_target.client();
    let (different, missing) = (place(3).await, place(4).await);
    let deleting = client.delete_item().table_name(PAYMENTS).set_key(Some(missing));
    deleting.send().await.expect("deleted past Lockstep");
    let other = AttributeValue::S("another".to_owned());
    let updating = client.update_item().table_name(PAYMENTS).set_key(Some(different));
    let updating = updating.update_expression("SET transaction_reference = :r");
    updating.expression_attribute_values(":r", other).send().await.expect("changed past Lockstep");
    let orphan = payment_row(99, 1, 100);
    let made_up = MigratableTable::encode(&Payments::default(), &orphan).expect("fits");
    world.plain_target.put_guarded(PAYMENTS, made_up.at(Version(7)), Version(7)).await.expect("put");
    let orphan = store.table().target_key(&Payments::key(&orphan)).expect("a key").to_attributes();
    app.shutdown().await;
    prometheus.fires(&OF_ITEMS).await;
    let deleting = client.delete_item().table_name(PAYMENTS).set_key(Some(orphan));
    deleting.send().await.expect("deleted");
    world.sql("UPDATE payments SET transaction_reference = 'written again' WHERE payment_id IN (3, 4)").await;
    prometheus.resolves(&OF_ITEMS).await;

    // A change that waits for an hour behind a relay that is paused, and budgets that nothing keeps to.
    served.post("/v1/pause", &json!({ "parts": ["relay"], "reason": "a fault" })).await;
    served.until("the relay rests", relay_rests).await;
    world.sql("UPDATE payments SET transaction_reference = 'waits' WHERE payment_id = 7").await;
    world.sql("UPDATE lockstep.pending SET marked_at = now() - interval '1 hour'").await;
    let budgets = json!({ "set": { "spend_cap_usd": 0.5, "latency_ms_max": 1 }, "reason": "a fault" });
    served.post("/v1/settings", &budgets).await;
    world.source.count_up(&[(PAYMENTS, "spent.write_units", 2_000_000)]).await.expect("counted");
    prometheus.fires(&OF_WORK).await;
    let none = json!({ "set": { "spend_cap_usd": null, "latency_ms_max": null }, "reason": "mended" });
    served.post("/v1/settings", &none).await;
    served.post("/v1/resume", &json!({})).await;
    prometheus.resolves(&OF_WORK).await;
    assert_eq!(served.end().await, Some(0));
}
