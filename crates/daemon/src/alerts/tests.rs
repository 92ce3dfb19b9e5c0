use lockstep_postgres::VerdictWord;

use super::*;

fn seen<'a>(
    measured: Option<&'a Measured>,
    counted: Option<&'a Counted>,
    stores: &'a StoresView,
) -> Seen<'a> {
    Seen {
        status: None,
        measured,
        counted,
        spend: None,
        stepped_back: None,
        held_back: None,
        slow: &[],
        stores,
        parts: &[],
    }
}

#[test]
fn what_applications_counted_warns_at_its_target_and_alarms_at_its_bound() {
    let stores = StoresView::default();
    let of = |write: f64, operations: f64| Counted {
        write_success_percent: Some(write),
        operations_completed_percent: Some(operations),
        ..Counted::default()
    };
    let judged = |counted: &Counted| {
        judge(&seen(None, Some(counted), &stores), &Thresholds::default(), &[], Utc::now())
    };
    assert_eq!(judged(&of(99.96, 99.95)), Vec::new());
    assert_eq!(judged(&Counted::default()), Vec::new(), "what was not counted is no alert");
    for (counted, name, severity) in [
        (of(99.94, 100.0), "write_success", Severity::Warning),
        (of(99.89, 100.0), "write_success", Severity::Critical),
        (of(100.0, 99.8), "coordinated_operations", Severity::Warning),
        (of(100.0, 99.4), "coordinated_operations", Severity::Critical),
    ] {
        let alerts = judged(&counted);
        assert_eq!((alerts.len(), severity_of(&alerts, name)), (1, Some(severity)), "{name}");
        assert!(NAMES.contains(&name));
    }
}

#[test]
fn a_status_without_dynamodb_is_broken_where_it_is_needed_and_says_why() {
    let of = |phase, target_error: Option<&str>| Status {
        phase,
        target_error: target_error.map(str::to_owned),
        verdict_age_s: Some(1.0),
        ..Status::default()
    };
    let away = Some("DynamoDB: describing x: connection refused");
    for (status, state) in [
        (of(Some(Phase::DynamoOnly), away), HealthState::Broken),
        (of(Some(Phase::DualWrite), away), HealthState::Broken),
        (of(Some(Phase::PostgresOnly), away), HealthState::Degraded),
        (of(None, away), HealthState::Degraded),
    ] {
        let (found, reasons) = health_of(&status);
        assert_eq!((found, reasons.len()), (state, 1), "{:?}", status.phase);
        assert!(reasons[0].contains("connection refused"), "{reasons:?}");
    }
    assert_eq!(health_of(&of(Some(Phase::DynamoOnly), None)).0, HealthState::Healthy);
}

#[test]
fn an_incomplete_verdict_warns_and_does_not_send_to_repair() {
    let of = |verdict| {
        let age = Some(1.0);
        let status =
            Status { phase: Some(Phase::HybridRead), verdict, verdict_age_s: age, ..Status::default() };
        health_of(&status)
    };
    let (state, reasons) = of(Some(VerdictWord::Incomplete));
    assert_eq!(state, HealthState::Degraded, "{reasons:?}");
    assert!(reasons[0].contains("validate") && !reasons[0].contains("repair"), "{reasons:?}");
    assert_eq!(of(Some(VerdictWord::Inconsistent)).0, HealthState::Broken);
    assert_eq!(of(Some(VerdictWord::Consistent)).0, HealthState::Healthy);
}

#[test]
fn a_spend_over_its_cap_and_a_step_back_are_told() {
    let stores = StoresView::default();
    let spend = Spend { usd: 2.0, cap_usd: Some(1.5), ..Spend::default() };
    let why = "11 differences were found".to_owned();
    let back = SteppedBack { at: Utc::now(), epoch: lockstep_core::Epoch(7), why };
    let both = Seen { spend: Some(&spend), stepped_back: Some(&back), ..seen(None, None, &stores) };
    let alerts = judge(&both, &Thresholds::default(), &[], Utc::now());
    assert_eq!(severity_of(&alerts, "spend_cap"), Some(Severity::Warning));
    assert_eq!(severity_of(&alerts, "reads_stepped_back"), Some(Severity::Critical));
    // A cap that will be met is told while there is time to raise it, and only once.
    let ahead = Spend { usd: 1.0, forecast_usd: Some(2.0), ..spend };
    for (forecast_usd, told) in [(Some(2.0), Some(Severity::Warning)), (Some(1.5), None), (None, None)] {
        let ahead = Spend { forecast_usd, ..ahead.clone() };
        let one = Seen { spend: Some(&ahead), ..seen(None, None, &stores) };
        let alerts = judge(&one, &Thresholds::default(), &[], Utc::now());
        assert_eq!((severity_of(&alerts, "spend_forecast"), severity_of(&alerts, "spend_cap")), (told, None));
    }
}

/// 1. A comparison of everything reads for hours. 2. Reads are stepped back. 3. It ends, and says consistent.
#[test]
fn a_step_back_is_told_until_a_comparison_agrees_all_of_whose_readings_are_later() {
    let at = DateTime::from_timestamp(1_000, 0).expect("a moment");
    let seconds = chrono::TimeDelta::seconds;
    let epoch = lockstep_core::Epoch(7);
    let back = SteppedBack { at, epoch, why: "11 differences were found".to_owned() };
    let of = |phase, epoch, verdict_consistent, as_of_s: Option<i64>| {
        let status = Status {
            phase: Some(phase),
            epoch: Some(epoch),
            verdict_consistent,
            verdict_age_s: Some(0.0),
            verdict_as_of: as_of_s.map(|s| at + seconds(s)),
            ..Status::default()
        };
        of_step_back(&back, Some(&status))
    };
    let next = lockstep_core::Epoch(8);
    assert_eq!(of(Phase::DualWrite, next, Some(true), Some(1)), None);
    for (phase, epoch, consistent, as_of_s, says) in [
        (Phase::DualWrite, next, Some(true), Some(-40), "`validate`"),
        (Phase::DualWrite, next, Some(true), None, "`validate`"),
        (Phase::DualWrite, next, Some(false), Some(1), "`validate`"),
        (Phase::DualWrite, next, None, None, "`validate`"),
        (Phase::HybridRead, epoch, Some(true), Some(1), "stepping back"),
        (Phase::HybridRead, lockstep_core::Epoch(9), Some(true), Some(-1), "`validate`"),
    ] {
        let said = of(phase, epoch, consistent, as_of_s);
        assert!(said.is_some_and(|said| said.contains(says)), "{phase} {consistent:?} {as_of_s:?}: {said:?}");
    }
    assert!(of_step_back(&back, None).is_some(), "nothing is known yet");
}

#[test]
fn marks_that_are_kept_and_a_store_that_answers_slowly_are_told_with_whose_they_are() {
    let stores = StoresView::default();
    let held = |dead, live| HeldBack {
        dead,
        live,
        by: Some("session 7 of role report".to_owned()),
        for_s: Some(9_000.0),
    };
    let limits = Thresholds { pending_dead: 1_000, ..Thresholds::default() };
    for (held, told) in [(held(1_000, 9), true), (held(999, 0), false), (held(1_000, 100), false)] {
        let one = Seen { held_back: Some(&held), ..seen(None, None, &stores) };
        let alerts = judge(&one, &limits, &[], Utc::now());
        assert_eq!(severity_of(&alerts, "pending_bloat"), told.then_some(Severity::Warning), "{held:?}");
        assert!(!told || alerts[0].message.contains("session 7 of role report"), "{alerts:?}");
    }
    let slow = [Slow { store: "DynamoDB", over: 3, of: 60, ms_max: 100 }];
    let one = Seen { slow: &slow, ..seen(None, None, &stores) };
    let alerts = judge(&one, &limits, &[], Utc::now());
    assert_eq!(severity_of(&alerts, "latency_budget"), Some(Severity::Warning));
    assert!(alerts[0].message.contains("DynamoDB: 3 of 60") && NAMES.contains(&"latency_budget"));
    assert_eq!(judge(&seen(None, None, &stores), &limits, &[], Utc::now()), Vec::new());
}

fn judged(consistency: f64, accuracy: f64, orphans: f64, before: &[Alert], at: i64) -> Vec<Alert> {
    let now = DateTime::from_timestamp(at, 0).expect("a moment");
    let measured = Measured {
        at: now,
        compared: 1_000,
        orphans: 0,
        consistency_percent: consistency,
        accuracy_percent: accuracy,
        orphans_percent: orphans,
        tables: Vec::new(),
    };
    judge(&seen(Some(&measured), None, &StoresView::default()), &Thresholds::default(), before, now)
}

fn severity_of(alerts: &[Alert], name: &str) -> Option<Severity> {
    alerts.iter().find(|alert| alert.name == name).map(|alert| alert.severity)
}

#[test]
fn each_threshold_of_the_reference_warns_at_its_target_and_alarms_at_its_bound() {
    let good = judged(100.0, 100.0, 0.0, &[], 1);
    assert_eq!(good, Vec::new());
    assert_eq!(health(&good, true).state, HealthState::Healthy);
    for (name, warns, alarms) in [
        ("data_consistency", judged(99.8, 100.0, 0.0, &[], 1), judged(99.4, 100.0, 0.0, &[], 1)),
        ("field_accuracy", judged(100.0, 99.95, 0.0, &[], 1), judged(100.0, 99.8, 0.0, &[], 1)),
        ("orphans", judged(100.0, 100.0, 0.05, &[], 1), judged(100.0, 100.0, 0.2, &[], 1)),
    ] {
        assert_eq!((warns.len(), severity_of(&warns, name)), (1, Some(Severity::Warning)), "{name}");
        assert_eq!((alarms.len(), severity_of(&alarms, name)), (1, Some(Severity::Critical)), "{name}");
        assert_eq!(
            (health(&warns, true).state, health(&alarms, true).state),
            (HealthState::Degraded, HealthState::Broken)
        );
        assert!(NAMES.contains(&name));
    }
}

#[test]
fn an_alert_that_goes_on_keeps_its_beginning() {
    let first = judged(99.0, 100.0, 0.0, &[], 1);
    let later = judged(99.8, 100.0, 0.0, &first, 9);
    assert_eq!(later[0].since, first[0].since);
    assert_eq!(later[0].runbook, "docs/runbook.md#alert-data-consistency");
}

#[test]
fn the_page_has_a_title_for_each_alert() {
    let page = include_str!("../../assets/app/notices.js");
    let titles = page.split("const TITLES = {").nth(1).and_then(|rest| rest.split("};").next());
    let titles = titles.expect("the titles");
    let untitled: Vec<_> = NAMES.iter().filter(|name| !titles.contains(&format!("{name}: '"))).collect();
    assert!(untitled.is_empty(), "no title for {untitled:?}");
}
