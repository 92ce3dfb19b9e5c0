//! Canary reads, the way of a write and latency of declared tables, before reads move. No table passes
//! unasked, and each check finds what it is there for.

use std::path::Path;

use lockstep_coordinator::{CoordinatorError, Rehearsal, canary_reads_of_binding};
use lockstep_core::{AttributeValue, Phase};
use lockstep_tests::World;
use serde_json::Value;

use super::configured;
use super::partitions::Moved;
use crate::process::ended;

const SCHEMA: &str = r#"
    CREATE TYPE mood AS ENUM ('ok', 'so so');
    CREATE TABLE pairs (a text, b text, how mood NOT NULL, note text, PRIMARY KEY (a, b));
    CREATE TABLE "Readings" (id uuid, at timestamptz, n integer, PRIMARY KEY (id, at)) PARTITION BY RANGE
        (at);
    CREATE TABLE early PARTITION OF "Readings" FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
    CREATE TABLE late PARTITION OF "Readings" FOR VALUES FROM ('2026-02-01') TO ('2027-01-01');
    CREATE TABLE codes (code char(5) NOT NULL, n integer);
    CREATE UNIQUE INDEX codes_code ON codes (code);
    CREATE TABLE empty (id bigint PRIMARY KEY);
    INSERT INTO pairs SELECT 'a#' || i % 7, 'b''"' || i, 'so so', NULLIF('n' || i % 2, 'n0') FROM
        generate_series(1, 60) AS i;
    INSERT INTO "Readings" SELECT md5(i::text)::uuid, timestamptz '2026-01-01' + i * interval '1 day', i
        FROM generate_series(1, 60) AS i;
    INSERT INTO codes SELECT 'c' || i, i FROM generate_series(1, 20) AS i"#;

const DECLARED: &str = r#"
[tables.pairs]
partition = "{a}"
sort = "{b}"
[tables.pairs.indexes.by_how]
partition = "{how}"
sort = "{a}"
[tables.pairs.indexes.by_note]
partition = "NOTE#{note}"
projection = "all"
[tables.readings]
source = "public.\"Readings\""
partition = "{id}"
sort = "{at}"
[tables.codes]
key = ["code"]
[tables.empty]
"#;

/// Runs the command on what is declared: its exit code, what it reported, what it said.
async fn told(world: &World, folder: &Path, arguments: &[&str]) -> (Option<i32>, Value, String) {
    let output = ended(configured(world, &folder.join("lockstep.toml"), arguments)).await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap_or_default(), said)
}

/// Every canary read that gates asked, as `table: query`, each once.
fn canaries(report: &Value) -> Vec<String> {
    let steps = report["steps"].as_array().expect("steps");
    let gates = steps.iter().flat_map(|step| step["gates"]["results"].as_array().expect("gates"));
    let mut asked: Vec<String> = gates
        .filter_map(|gate| {
            let query = gate["name"].as_str()?.strip_prefix("canary read: ")?;
            assert_eq!(gate["passed"], true, "{gate}");
            Some(format!("{}: {query}", gate["table"].as_str()?))
        })
        .collect();
    asked.sort();
    asked.dedup();
    asked
}

#[tokio::test]
async fn each_declared_table_and_index_is_asked_probed_and_timed_before_reads_move() {
    let world = World::start().await;
    world.sql(SCHEMA).await;
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("lockstep.toml"), DECLARED).expect("written");
    let migrate = ["migrate", "--json", "--quiet", "--through", "HybridRead"];
    let (code, report, said) = told(&world, folder.path(), &migrate).await;
    assert_eq!(code, Some(0), "{said}\n{report}");
    let asked = ["codes: by key", "pairs: by key", "pairs: by_how", "pairs: by_note", "readings: by key"];
    assert_eq!(canaries(&report), asked, "{report}");
    let (code, report, said) = told(&world, folder.path(), &["test-operation", "--json"]).await;
    assert_eq!(code, Some(0), "{said}\n{report}");
    let checks = report["checks"].as_array().expect("checks");
    for table in ["pairs", "readings", "codes", "empty"] {
        let of_table: Vec<&Value> = checks.iter().filter(|check| check["table"] == table).collect();
        assert!(of_table.len() == 4 && of_table.iter().all(|check| check["passed"] == true), "{report}");
    }
    let validate = ["validate", "--json", "--quiet", "--latency", "3"];
    let (code, report, said) = told(&world, folder.path(), &validate).await;
    assert_eq!((code, &report["verdict"]), (Some(0), &"consistent".into()), "{said}\n{report}");
    let timed = report["latency"].as_array().expect("latencies");
    for table in ["pairs", "readings", "codes"] {
        assert!(timed.iter().any(|query| query["table"] == table), "{table} was not timed: {report}");
    }
    // A trigger of one partition is off: the table is named, and no other one fails.
    world.sql("ALTER TABLE late DISABLE TRIGGER USER").await;
    let (code, report, said) = told(&world, folder.path(), &["test-operation", "--json"]).await;
    let checks = report["checks"].as_array().expect("checks");
    let failed: Vec<&Value> = checks.iter().filter(|check| check["passed"] == false).collect();
    assert!(code != Some(0) && report["passed"] == false, "{said}\n{report}");
    assert!(!failed.is_empty() && failed.iter().all(|check| check["table"] == "readings"), "{report}");
}

/// 1. A verdict says consistent. 2. An item of a declared table is changed past Lockstep. 3. No comparison
/// looks
/// again before the step, and the canary read does.
#[tokio::test]
async fn a_declared_table_of_whose_rows_a_canary_reads_another_item_is_not_read_from() {
    let moved = Moved::of(SCHEMA, DECLARED, Phase::DualWrite).await;
    let (world, coordinator) = (&moved.world, moved.coordinator().await);
    let report = moved.compared(false).await;
    assert!(report.verdict.is_consistent(), "{report:#?}");
    let (bindings, source, target) = (moved.tables.clone(), world.source.clone(), world.plain_target.clone());
    let coordinator = coordinator.with_rehearsal(Rehearsal::default().reading(move || {
        let (bindings, source, target) = (bindings.clone(), source.clone(), target.clone());
        async move {
            let mut reads = Vec::new();
            for binding in &bindings {
                reads.extend(canary_reads_of_binding(binding, &source, &target).await?);
            }
            Ok(reads)
        }
    }));
    let first = world.value::<String>("SELECT code::text FROM codes ORDER BY code LIMIT 1").await;
    let put = async |n: &str| {
        let client = world.plain_target.client();
        let items = client.scan().table_name("codes").consistent_read(true).send().await.expect("scans");
        let is_first = |item: &&std::collections::HashMap<String, AttributeValue>| {
            item.get("code") == Some(&AttributeValue::S(first.trim_end().to_owned()))
        };
        let mut item = items.items().iter().find(is_first).expect("it has an item").clone();
        item.insert("n".to_owned(), AttributeValue::N(n.to_owned()));
        client.put_item().table_name("codes").set_item(Some(item)).send().await.expect("put");
    };
    put("777").await;
    let report = match coordinator.step(Phase::HybridRead, None, &()).await {
        Err(CoordinatorError::Refused(report)) => report,
        other => panic!("not refused: {other:?}"),
    };
    let refused: Vec<_> = report.results.iter().filter(|gate| !gate.passed).collect();
    assert!(
        refused
            .iter()
            .all(|gate| gate.name == "canary read: by key" && gate.table.as_deref() == Some("codes"))
            && !refused.is_empty(),
        "{}",
        report.refusals()
    );
    let told = report.refusals();
    assert!(told.contains("differ in n") && !told.contains("777"), "{told}");
    put("1").await;
    coordinator.step(Phase::HybridRead, None, &()).await.expect("nothing refuses any more");
    coordinator.close().await;
}
