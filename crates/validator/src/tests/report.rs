//! Claims about the JSON form, which others read.

use chrono::DateTime;
use lockstep_core::Phase;
use serde_json::json;

use crate::evidence::{Manifest, SCHEMA_VERSION};
use crate::report::Report;
use crate::table_report::{FindingClass, RowFinding, TableReport};
use crate::verdict::Verdict;

fn report(verdict: Verdict) -> Report {
    let finding = RowFinding {
        class: FindingClass::Missing,
        key: r#"["7","Ada"]"#.to_owned(),
        is_source_key: true,
        columns: Vec::new(),
        shares_place_with: None,
        fields: Vec::new(),
    };
    Report {
        began: None,
        verdict,
        started_at: DateTime::UNIX_EPOCH,
        duration_s: 1.5,
        phase: Some(Phase::DualWrite),
        epoch: Some(2),
        window_start: None,
        window_end: None,
        sample: None,
        from_export: false,
        seed_given: false,
        incremental: false,
        schema_version: SCHEMA_VERSION,
        manifest: Manifest::default(),
        lag: Vec::new(),
        latency: Vec::new(),
        tables: vec![TableReport { missing: 1, findings: vec![finding], ..TableReport::of("notes") }],
    }
}

#[test]
fn verdict_and_reasons_stand_beside_the_other_fields() {
    let reasons = vec!["notes: 1 key is missing in the target".to_owned()];
    for (verdict, label, reasons) in [
        (Verdict::Consistent, "consistent", vec![]),
        (Verdict::Inconsistent { reasons: reasons.clone() }, "inconsistent", reasons.clone()),
        (Verdict::Incomplete { reasons: reasons.clone() }, "incomplete", reasons.clone()),
    ] {
        let written = serde_json::to_value(report(verdict.clone())).expect("serialises");
        assert_eq!(written["verdict"], json!(label));
        assert_eq!(written["reasons"], json!(reasons));
        assert_eq!(written["phase"], json!("DualWrite"));
        assert_eq!(written["tables"][0]["findings"][0]["class"], json!("missing"));
        let read: Report = serde_json::from_value(written).expect("reads what it wrote");
        assert_eq!(read.verdict, verdict);
        assert_eq!(read.tables, report(verdict).tables);
        assert!(read.is_whole());
    }
}

#[test]
fn only_a_verdict_under_a_seed_by_chance_is_whole() {
    let given = Report { seed_given: true, ..report(Verdict::Consistent) };
    assert!(report(Verdict::Consistent).is_whole() && !given.is_whole());
    let written = serde_json::to_value(given).expect("serialises");
    assert_eq!(written["seed_given"], json!(true), "by which the source knows it");
}

#[test]
fn a_verdict_of_an_unknown_name_is_refused_and_not_taken_for_a_good_one() {
    let written = json!({ "verdict": "probably", "reasons": [] });
    assert!(serde_json::from_value::<Verdict>(written).is_err());
}
