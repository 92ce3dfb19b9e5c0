//! Alert rules and dashboard, as files: they fire and resolve, ask only for what is exported, and lead to
//! pages that exist. In a Prometheus that scrapes a daemon: `prometheus`.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

pub(super) fn read(path: &str) -> String {
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
}

#[test]
fn rules_and_dashboard_ask_for_metrics_that_exist() {
    // That these are kept, and no others, has a test of its own (`documented::metrics`).
    let names: Vec<&str> = lockstep_core::METRICS.iter().map(|metric| metric.name).collect();
    let exported = metrics(&names.join("\n"));
    for file in ["ops/prometheus/lockstep.rules.yml", "ops/grafana/lockstep.json", "docs/operate.md"] {
        let asked = metrics(&read(file));
        assert!(asked.len() > if file.starts_with("ops/") { 15 } else { 5 }, "{file}: {asked:?}");
        let unknown: Vec<_> = asked.difference(&exported).collect();
        assert!(unknown.is_empty(), "{file} asks for {unknown:?}");
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
