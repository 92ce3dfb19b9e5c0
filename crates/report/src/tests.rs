//! Claims about the page.

use chrono::DateTime;
use lockstep_validator::{Report, Sample};
use proptest::prelude::*;
use serde_json::json;

use crate::{ReportPage, TimelineMoment, html};

fn report(verdict: &str, text: &str) -> Report {
    let field = json!({ "column": "amount", "path": "$.a", "source": { "is": "masked" }, "target": { "is": "value", "value": text } });
    let finding = json!({ "class": "different", "key": text, "is_source_key": true, "columns": [text], "fields": [field] });
    let side = json!({ "rows": 2, "unreadable": 0, "rows_broken": 1, "rules": [{ "rule": "positive", "rows": 1, "keys": [text] }] });
    let total = json!({ "rows": 2, "sum": "3.50" });
    let sum = json!({
        "name": "amount", "by": ["currency"], "source": total, "target": total, "totals_agree": true, "groups": 1, "groups_differing": 1,
        "differing": [{ "group": [text], "source": total, "target": total }], "groups_cut": false
    });
    let quality = json!({
        "rating": "good", "because": [text], "source": side, "target": side, "references": [], "sums": [sum],
        "days": [{ "day": "2026-01-31", "source": 2, "target": 1 }], "at_rest": true, "unchecked": [], "failures": []
    });
    let mut table = json!({ "name": "payments", "failure": text, "quality": quality, "findings": [finding], "complete": false });
    for count in [
        "source_count",
        "target_count",
        "tombstones",
        "pending",
        "dead_letters",
        "dead_letters_unacknowledged",
        "compared",
        "equal",
        "missing",
        "different",
        "extra",
        "undecodable",
        "expired",
        "unsettled",
    ] {
        table[count] = json!(1);
    }
    let side = json!({ "p50_ms": 1.0, "p95_ms": 2.0, "p99_ms": 30.0 });
    let lag = |at_s: f64| json!({ "at_s": at_s, "table": text, "pending": 3, "oldest_s": 0.5 });
    let written = json!({
        "verdict": verdict, "reasons": [text], "started_at": DateTime::UNIX_EPOCH, "duration_s": 61.0, "phase": "DualWrite", "epoch": 2,
        "tables": [table], "schema_version": 2, "lag": [lag(0.0), lag(1.0)],
        "latency": [{ "table": "payments", "query": text, "samples": 9, "rows_mean": 1.0, "source": side, "target": side }],
    });
    serde_json::from_value(written).expect("a report")
}

fn page(verdict: &str, text: &str) -> String {
    let moment = TimelineMoment {
        at: DateTime::UNIX_EPOCH,
        kind: "done".to_owned(),
        step: text.to_owned(),
        detail: text.to_owned(),
        actor: text.to_owned(),
    };
    html(&ReportPage { report: &report(verdict, text), timeline: &[moment], made_at: DateTime::UNIX_EPOCH })
}

#[test]
fn the_verdict_comes_first_and_is_the_reports() {
    for (verdict, word) in [
        ("consistent", "Consistent"),
        ("inconsistent", "Not consistent"),
        ("incomplete", "Not shown to be consistent"),
    ] {
        let page = page(verdict, "x");
        let at = page
            .find(&format!("<p class=\"word\">{word}</p>"))
            .unwrap_or_else(|| panic!("{word} is not in it"));
        assert!(at < page.find("<h2>").expect("a section"), "before everything else");
    }
}

#[test]
fn it_asks_no_server_and_runs_nothing() {
    let page = page("consistent", "x").to_lowercase();
    for loads in [
        "<script", "<link", "<img", "<iframe", "src=", "href=", "url(", "@import", "http://", "https://",
        "onload",
    ] {
        assert!(!page.contains(loads), "{loads}");
    }
}

#[test]
fn a_sample_is_not_called_everything() {
    let report = Report { sample: Some(Sample { rows: 10, seed: 7 }), ..report("consistent", "x") };
    let page = html(&ReportPage { report: &report, timeline: &[], made_at: DateTime::UNIX_EPOCH });
    assert!(page.contains("chosen by seed 7") && !page.contains("Every row of both stores was compared"));
}

proptest! {
    #[test]
    fn whatever_a_store_says_is_text_and_never_markup(text in "[<>&\"'a-z/= ]{1,30}") {
        let hostile = format!("<script>{text}</script><b onload=\"x\">");
        let page = page("inconsistent", &hostile);
        prop_assert!(!page.contains("<script") && !page.contains("<b onload"));
    }
}
