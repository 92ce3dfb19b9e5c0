//! What is wrong, judged from one reading. Pure; who is told of it is in `monitor`.

use chrono::{DateTime, Utc};
use lockstep_coordinator::Status;
use lockstep_core::Phase;
use serde::Serialize;

use crate::measure::Measured;
use crate::part::{PartState, PartView};
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
pub(crate) enum HealthState {
    Healthy,
    Degraded,
    Broken,
}

impl Default for Health {
    fn default() -> Self {
        Self { state: HealthState::Degraded, reasons: vec!["the stores have not been read yet".to_owned()] }
    }
}

/// Every alert there is, for those who show that one is not raised.
pub(crate) const NAMES: [&str; 13] = [
    "postgresql_down",
    "dynamodb_down",
    "history_lost",
    "capture_broken",
    "pending_age",
    "dead_letters",
    "not_consistent",
    "verdict_old",
    "reverse_feed",
    "part_failing",
    "data_consistency",
    "field_accuracy",
    "orphans",
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
        }
    }
}

/// What is wrong by a reading; `before` tells since when.
pub(crate) fn judge(
    status: Option<&Status>,
    measured: Option<&Measured>,
    stores: &StoresView,
    parts: &[PartView],
    limits: &Thresholds,
    before: &[Alert],
    now: DateTime<Utc>,
) -> Vec<Alert> {
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
    if status.verdict_consistent == Some(false) {
        let message =
            "the newest verdict is not consistent; look at /v1/findings, then run `repair`".to_owned();
        found.add("not_consistent", Severity::Critical, message);
    }
    if phase == Phase::HybridRead && status.verdict_age_s.is_none_or(|age| age > limits.verdict_warning_s) {
        let message = "DynamoDB is read, and nothing was compared for a day; run `validate`".to_owned();
        found.add("verdict_old", Severity::Warning, message);
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

    fn judged(consistency: f64, accuracy: f64, orphans: f64, before: &[Alert], at: i64) -> Vec<Alert> {
        let now = DateTime::from_timestamp(at, 0).expect("a moment");
        let measured = Measured {
            at: now,
            compared: 1_000,
            consistency_percent: consistency,
            accuracy_percent: accuracy,
            orphans_percent: orphans,
        };
        judge(None, Some(&measured), &StoresView::default(), &[], &Thresholds::default(), before, now)
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
