//! What is wrong, judged from one reading. Pure; who is told of it is in `monitor`.

use chrono::{DateTime, Utc};
use lockstep_coordinator::Status;
use lockstep_core::Phase;
use serde::Serialize;

use crate::shared::{PartState, PartView};
use crate::snapshot::StoresView;

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
    pub(crate) runbook: &'static str,
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
pub(crate) const NAMES: [&str; 10] = [
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
];

/// From when on it is wrong.
#[derive(Clone, Debug)]
pub(crate) struct Thresholds {
    /// Age of the oldest pending key, in seconds.
    pub(crate) pending_warning_s: f64,
    pub(crate) pending_critical_s: f64,
    /// Age of the newest verdict while DynamoDB is read, in seconds.
    pub(crate) verdict_warning_s: f64,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self { pending_warning_s: 60.0, pending_critical_s: 300.0, verdict_warning_s: 24.0 * 3600.0 }
    }
}

/// What is wrong by a reading; `before` tells since when.
pub(crate) fn judge(
    status: Option<&Status>,
    stores: &StoresView,
    parts: &[PartView],
    limits: &Thresholds,
    before: &[Alert],
    now: DateTime<Utc>,
) -> Vec<Alert> {
    let mut found = Found { before, now, alerts: Vec::new() };
    for (name, word, store) in
        [("postgresql_down", "PostgreSQL", &stores.postgresql), ("dynamodb_down", "DynamoDB", &stores.dynamodb)]
    {
        if let Some(down) = store.as_ref().filter(|store| !store.up) {
            let why = down.why.as_deref().unwrap_or("no answer");
            let message = format!("{word} does not answer since {}: {why}", down.since.format("%H:%M:%S UTC"));
            found.add(name, Severity::Critical, message, "docs/runbook.md");
        }
    }
    for part in parts.iter().filter(|part| part.state == PartState::Restarting) {
        let message =
            format!("{} fails and is started again by itself: {}", part.name, part.why.as_deref().unwrap_or("no reason"));
        found.add("part_failing", Severity::Warning, message, "docs/runbook.md");
    }
    if let Some(status) = status {
        of_migration(status, limits, &mut found);
    }
    found.alerts
}

fn of_migration(status: &Status, limits: &Thresholds, found: &mut Found<'_>) {
    if !status.lost.is_empty() {
        found.add("history_lost", Severity::Critical, format!("{}; run `doctor`", status.lost.join("; ")), "docs/runbook.md");
    }
    let phase = status.phase.unwrap_or(Phase::PostgresOnly);
    for table in &status.tables {
        if phase > Phase::PostgresOnly && table.capture != "on" {
            let message = format!("{}: capture is {}, so changes are not known; run `doctor`", table.name, table.capture);
            found.add("capture_broken", Severity::Critical, message, "docs/runbook.md");
        }
        if table.oldest_s > limits.pending_warning_s {
            let severity = if table.oldest_s > limits.pending_critical_s { Severity::Critical } else { Severity::Warning };
            let message = format!("{}: {} changes wait, the oldest for {:.0} s", table.name, table.pending, table.oldest_s);
            found.add("pending_age", severity, message, "docs/runbook.md");
        }
        if table.dead_letters_unacknowledged > 0 {
            let count = table.dead_letters_unacknowledged;
            let message =
                format!("{}: {count} rows were set aside and nobody has said what to do; run `dead-letters`", table.name);
            found.add("dead_letters", Severity::Warning, message, "docs/runbook.md");
        }
        if let Some(alarm) = &table.reverse_alarm {
            found.add("reverse_feed", Severity::Critical, format!("{}: {alarm}", table.name), "docs/runbook.md");
        }
    }
    if status.verdict_consistent == Some(false) {
        let message = "the newest verdict is not consistent; look at /v1/findings, then run `repair`".to_owned();
        found.add("not_consistent", Severity::Critical, message, "docs/runbook.md");
    }
    if phase == Phase::HybridRead && status.verdict_age_s.is_none_or(|age| age > limits.verdict_warning_s) {
        let message = "DynamoDB is read, and nothing was compared for a day; run `validate`".to_owned();
        found.add("verdict_old", Severity::Warning, message, "docs/runbook.md");
    }
}

struct Found<'a> {
    before: &'a [Alert],
    now: DateTime<Utc>,
    alerts: Vec<Alert>,
}

impl Found<'_> {
    /// Adds one; several of a name are one, with the worst of their severities.
    fn add(&mut self, name: &'static str, severity: Severity, message: String, runbook: &'static str) {
        if let Some(known) = self.alerts.iter_mut().find(|alert| alert.name == name) {
            known.severity = known.severity.max(severity);
            known.message = format!("{}; {message}", known.message);
            return;
        }
        let since = self.before.iter().find(|alert| alert.name == name).map_or(self.now, |alert| alert.since);
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
