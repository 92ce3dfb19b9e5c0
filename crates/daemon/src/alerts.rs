//! What is wrong, judged from one reading. Pure; who is told of it is in `monitor`.

use chrono::{DateTime, Utc};
use lockstep_coordinator::Status;
use lockstep_core::Phase;
use lockstep_postgres::VerdictWord;
use serde::Serialize;

use crate::counted::{Counted, SteppedBack};
use crate::measure::Measured;
use crate::part::{PartState, PartView};
use crate::spend::Spend;
use crate::stores::StoresView;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Severity {
    /// Somebody should look.
    Warning,
    /// Somebody must act now.
    Critical,
}

impl Severity {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Alert {
    pub(crate) name: &'static str,
    pub(crate) severity: Severity,
    pub(crate) since: DateTime<Utc>,
    pub(crate) message: String,
    pub(crate) runbook: String,
}

/// All of it together.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Health {
    pub(crate) state: HealthState,
    pub(crate) reasons: Vec<String>,
}

/// In one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthState {
    /// Nothing is wrong.
    Healthy,
    /// Somebody should look.
    Degraded,
    /// Somebody must act now.
    Broken,
}

impl Default for Health {
    fn default() -> Self {
        Self { state: HealthState::Degraded, reasons: vec!["the stores have not been read yet".to_owned()] }
    }
}

/// Every alert there is, for those who show that one is not raised.
pub(crate) const NAMES: [&str; 20] = [
    "postgresql_down",
    "dynamodb_down",
    "history_lost",
    "capture_broken",
    "pending_age",
    "dead_letters",
    "not_consistent",
    "verdict_incomplete",
    "verdict_old",
    "reverse_feed",
    "part_failing",
    "data_consistency",
    "field_accuracy",
    "orphans",
    "write_success",
    "coordinated_operations",
    "shadow_mismatches",
    "reads_stepped_back",
    "spend_cap",
    "spend_forecast",
];

/// From when on it is wrong.
#[derive(Clone, Debug)]
pub(crate) struct Thresholds {
    /// Age of the oldest pending key, in seconds.
    pub(crate) pending_warning_s: f64,
    pub(crate) pending_critical_s: f64,
    /// Age of the newest verdict while DynamoDB is read, in seconds.
    pub(crate) verdict_warning_s: f64,
    /// What a comparison should come to, and what it must not fall below, in percent: those of the reference
    /// system.
    pub(crate) consistency: (f64, f64),
    pub(crate) accuracy: (f64, f64),
    /// What orphans should stay below, and must not exceed, in percent.
    pub(crate) orphans: (f64, f64),
    /// What applications' writes and coordinated operations should come to, and must not fall below.
    pub(crate) write_success: (f64, f64),
    pub(crate) operations: (f64, f64),
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            pending_warning_s: 60.0,
            pending_critical_s: 300.0,
            verdict_warning_s: 24.0 * 3600.0,
            consistency: (99.9, 99.5),
            accuracy: (99.99, 99.9),
            orphans: (0.01, 0.1),
            write_success: (99.95, 99.9),
            operations: (99.9, 99.5),
        }
    }
}

/// What there is to judge by.
pub(crate) struct Seen<'a> {
    pub(crate) status: Option<&'a Status>,
    pub(crate) measured: Option<&'a Measured>,
    pub(crate) counted: Option<&'a Counted>,
    pub(crate) spend: Option<&'a Spend>,
    pub(crate) stepped_back: Option<&'a SteppedBack>,
    pub(crate) stores: &'a StoresView,
    pub(crate) parts: &'a [PartView],
}

/// How a migration is by its status alone: what `status` ends with where no daemon is asked.
#[must_use]
pub fn health_of(status: &Status) -> (HealthState, Vec<String>) {
    let mut found = Found { before: &[], now: Utc::now(), alerts: Vec::new() };
    if let Some(error) = &status.target_error {
        // Up to PostgresOnly nothing needs it yet; without a schema it alone knows of a completion.
        let needed = status.phase.is_some_and(|phase| phase > Phase::PostgresOnly);
        let severity = if needed { Severity::Critical } else { Severity::Warning };
        let message = format!("DynamoDB could not be read: {error}; run `doctor`");
        found.add("dynamodb_down", severity, message);
    }
    of_migration(status, &Thresholds::default(), &mut found);
    let health = health(&found.alerts, true);
    (health.state, health.reasons)
}

/// What is wrong by what was seen; `before` tells since when.
pub(crate) fn judge(
    seen: &Seen<'_>,
    limits: &Thresholds,
    before: &[Alert],
    now: DateTime<Utc>,
) -> Vec<Alert> {
    let Seen { status, measured, counted, spend, stepped_back, stores, parts } = *seen;
    let mut found = Found { before, now, alerts: Vec::new() };
    for (name, word, store) in [
        ("postgresql_down", "PostgreSQL", &stores.postgresql),
        ("dynamodb_down", "DynamoDB", &stores.dynamodb),
    ] {
        if let Some(down) = store.as_ref().filter(|store| !store.up) {
            let why = down.why.as_deref().unwrap_or("no answer");
            let message =
                format!("{word} does not answer since {}: {why}", down.since.format("%H:%M:%S UTC"));
            found.add(name, Severity::Critical, message);
        }
    }
    for part in parts.iter().filter(|part| part.state == PartState::Restarting) {
        let message = format!(
            "{} fails and is started again by itself: {}",
            part.name,
            part.why.as_deref().unwrap_or("no reason")
        );
        found.add("part_failing", Severity::Warning, message);
    }
    if let Some(status) = status {
        of_migration(status, limits, &mut found);
    }
    if let Some(measured) = measured {
        of_measured(measured, limits, &mut found);
    }
    if let Some(counted) = counted {
        of_counted(counted, limits, &mut found);
    }
    if let Some(spend) = spend.filter(|spend| spend.is_over()) {
        let message = format!(
            "{:.2} dollars are spent, and spend_cap_usd is {:.2}: copying and comparing have stopped; raise the cap with `set`",
            spend.usd,
            spend.cap_usd.unwrap_or(0.0)
        );
        found.add("spend_cap", Severity::Warning, message);
    } else if let Some(spend) = spend
        && let (Some(forecast), Some(cap)) = (spend.forecast_usd, spend.cap_usd)
        && forecast > cap
    {
        let message = format!(
            "{forecast:.2} dollars will have been spent when history is copied, and spend_cap_usd is {cap:.2}: copying will stop before its end"
        );
        found.add("spend_forecast", Severity::Warning, message);
    }
    // It ends with a comparison that came later and found nothing.
    let compared_since = |at: DateTime<Utc>| {
        status.is_some_and(|status| {
            let age_s = status.verdict_age_s.unwrap_or(f64::INFINITY);
            status.verdict_consistent == Some(true) && age_s < (now - at).as_seconds_f64()
        })
    };
    if let Some(back) = stepped_back.filter(|back| !compared_since(back.at)) {
        let message = format!("{}; run `validate`, then `repair`, before HybridRead", back.why);
        found.add("reads_stepped_back", Severity::Critical, message);
    }
    found.alerts
}

fn of_migration(status: &Status, limits: &Thresholds, found: &mut Found<'_>) {
    if !status.lost.is_empty() {
        found.add("history_lost", Severity::Critical, format!("{}; run `doctor`", status.lost.join("; ")));
    }
    let phase = status.phase.unwrap_or(Phase::PostgresOnly);
    for table in &status.tables {
        if phase > Phase::PostgresOnly && table.capture != "on" {
            let message = format!(
                "{}: capture is {}, so changes are not known; run `doctor`",
                table.name, table.capture
            );
            found.add("capture_broken", Severity::Critical, message);
        }
        if table.oldest_s > limits.pending_warning_s {
            let severity = if table.oldest_s > limits.pending_critical_s {
                Severity::Critical
            } else {
                Severity::Warning
            };
            let message = format!(
                "{}: {} changes wait, the oldest for {:.0} s",
                table.name, table.pending, table.oldest_s
            );
            found.add("pending_age", severity, message);
        }
        if table.dead_letters_unacknowledged > 0 {
            let count = table.dead_letters_unacknowledged;
            let message = format!(
                "{}: {count} rows were set aside and are not acknowledged; run `dead-letters`",
                table.name
            );
            found.add("dead_letters", Severity::Warning, message);
        }
        if let Some(alarm) = &table.reverse_alarm {
            found.add("reverse_feed", Severity::Critical, format!("{}: {alarm}", table.name));
        }
    }
    match status.verdict {
        Some(VerdictWord::Inconsistent) => {
            let message =
                "the newest verdict is not consistent; look at /v1/findings, then run `repair`".to_owned();
            found.add("not_consistent", Severity::Critical, message);
        }
        Some(VerdictWord::Incomplete) => {
            let message = "the newest verdict is incomplete: nothing was found, and not everything was \
                           compared; run `validate` again with a relay running";
            found.add("verdict_incomplete", Severity::Warning, message.to_owned());
        }
        Some(VerdictWord::Consistent) | None => {}
    }
    if phase == Phase::HybridRead && status.verdict_age_s.is_none_or(|age| age > limits.verdict_warning_s) {
        let message = "DynamoDB is read, and nothing was compared for a day; run `validate`".to_owned();
        found.add("verdict_old", Severity::Warning, message);
    }
}

/// What applications counted, against the bounds of the reference system.
fn of_counted(counted: &Counted, limits: &Thresholds, found: &mut Found<'_>) {
    let open = counted.operations_open;
    for (name, value, (target, bound), whole, what) in [
        (
            "write_success",
            counted.write_success_percent,
            limits.write_success,
            counted.writes,
            "writes of applications within the hour were made; look at the errors and throttles of both stores".to_owned(),
        ),
        (
            "coordinated_operations",
            counted.operations_completed_percent,
            limits.operations,
            counted.operations,
            format!("coordinated operations within the hour were completed, and {open} began and did not end; read the log rows that they leave"),
        ),
    ] {
        let Some(value) = value.filter(|value| *value < target) else { continue };
        let severity = if value < bound { Severity::Critical } else { Severity::Warning };
        found.add(name, severity, format!("{value:.3} % of {whole} {what}; more than {target} % should"));
    }
    if counted.shadow_differ > 0 {
        let message = format!(
            "{} of {} shadow reads of applications within the hour differ; run `validate`, then `repair`",
            counted.shadow_differ, counted.shadow_reads
        );
        found.add("shadow_mismatches", Severity::Warning, message);
    }
}

/// Percentages against their bounds: below what should be is a warning, below what must be is critical.
fn of_measured(measured: &Measured, limits: &Thresholds, found: &mut Found<'_>) {
    let severity = |below_target: bool, below_bound: bool| match (below_target, below_bound) {
        (_, true) => Some(Severity::Critical),
        (true, _) => Some(Severity::Warning),
        _ => None,
    };
    let what = format!("of {} rows compared at {}", measured.compared, measured.at.format("%H:%M:%S UTC"));
    for (name, word, value, (target, bound)) in [
        ("data_consistency", "agree", measured.consistency_percent, limits.consistency),
        ("field_accuracy", "are equal in every field", measured.accuracy_percent, limits.accuracy),
    ] {
        if let Some(severity) = severity(value < target, value < bound) {
            let message = format!(
                "{value:.3} % {what} {word}; more than {target} % should; run `validate`, then `repair`"
            );
            found.add(name, severity, message);
        }
    }
    let (target, bound) = limits.orphans;
    let value = measured.orphans_percent;
    if let Some(severity) = severity(value > target, value > bound) {
        let message =
            format!("{value:.3} % of items have no row; less than {target} % should; run `orphans`");
        found.add("orphans", severity, message);
    }
}

struct Found<'a> {
    before: &'a [Alert],
    now: DateTime<Utc>,
    alerts: Vec<Alert>,
}

impl Found<'_> {
    /// Adds one; several of a name are one, with the worst of their severities.
    fn add(&mut self, name: &'static str, severity: Severity, message: String) {
        if let Some(known) = self.alerts.iter_mut().find(|alert| alert.name == name) {
            known.severity = known.severity.max(severity);
            known.message = format!("{}; {message}", known.message);
            return;
        }
        let since = self.before.iter().find(|alert| alert.name == name).map_or(self.now, |alert| alert.since);
        let runbook = format!("docs/runbook.md#alert-{}", name.replace('_', "-"));
        self.alerts.push(Alert { name, severity, since, message, runbook });
    }
}

/// The alerts in one word, and why.
pub(crate) fn health(alerts: &[Alert], was_read: bool) -> Health {
    let state = match alerts.iter().map(|alert| alert.severity).max() {
        Some(Severity::Critical) => HealthState::Broken,
        Some(Severity::Warning) => HealthState::Degraded,
        None if was_read => HealthState::Healthy,
        None => return Health::default(),
    };
    Health { state, reasons: alerts.iter().map(|alert| alert.message.clone()).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen<'a>(
        measured: Option<&'a Measured>,
        counted: Option<&'a Counted>,
        stores: &'a StoresView,
    ) -> Seen<'a> {
        Seen { status: None, measured, counted, spend: None, stepped_back: None, stores, parts: &[] }
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
        let back = SteppedBack { at: Utc::now(), why: "11 differences were found".to_owned() };
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
            assert_eq!(
                (severity_of(&alerts, "spend_forecast"), severity_of(&alerts, "spend_cap")),
                (told, None)
            );
        }
    }

    fn judged(consistency: f64, accuracy: f64, orphans: f64, before: &[Alert], at: i64) -> Vec<Alert> {
        let now = DateTime::from_timestamp(at, 0).expect("a moment");
        let measured = Measured {
            at: now,
            compared: 1_000,
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
}
