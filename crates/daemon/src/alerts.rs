//! Alerts, judged from one reading. Pure; who is told of it is in `monitor`.
//!
//! In reading order: this file (an alert, and what is judged), `bounds` (from when on it is wrong),
//! `migration` (by the status), `measured` (by what was counted and compared).

mod bounds;
mod measured;
mod migration;

pub(crate) use bounds::Thresholds;

use chrono::{DateTime, Utc};
use lockstep_coordinator::Status;
use lockstep_core::Phase;
use lockstep_postgres::{HeldBack, control_schema};
use serde::Serialize;

use crate::counted::{Counted, SteppedBack};
use crate::latencies::Slow;
use crate::measure::Measured;
use crate::part::{PartState, PartView};
use crate::spend::Spend;
use crate::stores::StoresView;
use measured::{of_counted, of_measured};
use migration::of_migration;

/// Severity of an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Severity {
    /// An operator should look.
    Warning,
    /// An operator must act now.
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

/// Health in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthState {
    /// Nothing is wrong.
    Healthy,
    /// An operator should look.
    Degraded,
    /// An operator must act now.
    Broken,
}

impl Default for Health {
    fn default() -> Self {
        Self { state: HealthState::Degraded, reasons: vec!["the stores have not been read yet".to_owned()] }
    }
}

/// Every alert there is, for those who show that one is not raised.
pub(crate) const NAMES: [&str; 22] = [
    "postgresql_down",
    "dynamodb_down",
    "history_lost",
    "capture_broken",
    "pending_age",
    "pending_bloat",
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
    "latency_budget",
];

/// Facts to judge by.
pub(crate) struct Seen<'a> {
    pub(crate) status: Option<&'a Status>,
    pub(crate) measured: Option<&'a Measured>,
    pub(crate) counted: Option<&'a Counted>,
    pub(crate) spend: Option<&'a Spend>,
    pub(crate) stepped_back: Option<&'a SteppedBack>,
    pub(crate) held_back: Option<&'a HeldBack>,
    pub(crate) slow: &'a [Slow],
    pub(crate) stores: &'a StoresView,
    pub(crate) parts: &'a [PartView],
}

/// Judges a migration by its status alone: the judgement where no daemon is asked.
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

/// Returns what is wrong by what was seen; `before` tells since when.
pub(crate) fn judge(
    seen: &Seen<'_>,
    limits: &Thresholds,
    before: &[Alert],
    now: DateTime<Utc>,
) -> Vec<Alert> {
    let Seen { status, measured, counted, spend, stepped_back, held_back, slow, stores, parts } = *seen;
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
            "{forecast:.2} dollars will have been spent when the initial load is copied, and spend_cap_usd \
             is {cap:.2}: copying will stop before its end"
        );
        found.add("spend_forecast", Severity::Warning, message);
    }
    for slow in slow {
        let message = format!(
            "{}: {} of {} answers within five minutes took longer than latency_ms_max, {} ms; look at the \
             load of the store",
            slow.store, slow.over, slow.of, slow.ms_max
        );
        found.add("latency_budget", Severity::Warning, message);
    }
    if let Some(held) = held_back.filter(|held| held.is_bloated(limits.pending_dead)) {
        found.add("pending_bloat", Severity::Warning, bloat(held));
    }
    if let Some(back) = stepped_back
        && let Some(what_next) = of_step_back(back, status)
    {
        found.add("reads_stepped_back", Severity::Critical, format!("{}; {what_next}", back.why));
    }
    found.alerts
}

/// Returns what is in the way of every look at the pending set, and whose it is.
fn bloat(held: &HeldBack) -> String {
    let by = match (&held.by, held.for_s) {
        (Some(by), Some(for_s)) => format!("kept for {by}, at work for {for_s:.0} s: end it"),
        (Some(by), None) => format!("kept for {by}: see that it goes on"),
        (None, _) => {
            let schema = control_schema();
            format!("kept for a session that this role may not see; look at autovacuum of {schema}.pending")
        }
    };
    format!(
        "{} delivered marks are not taken out of the pending set, beside {} that wait; {by}",
        held.dead, held.live
    )
}

/// Returns what is left to do after a step back, or `None` where it is over: a comparison found nothing of
/// which each reading is later. One that had begun before, and ended after, may have read before what was
/// wrong.
fn of_step_back(back: &SteppedBack, status: Option<&Status>) -> Option<&'static str> {
    let is_under_way = status
        .is_some_and(|status| status.phase == Some(Phase::HybridRead) && status.epoch == Some(back.epoch));
    if is_under_way {
        return Some(
            "stepping back to DualWrite, which has not ended yet: /v1/operations says how far it is",
        );
    }
    let is_compared = status.is_some_and(|status| {
        status.verdict_consistent == Some(true) && status.verdict_as_of.is_some_and(|as_of| as_of > back.at)
    });
    (!is_compared).then_some("run `validate`, then `repair`, before HybridRead")
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

/// Returns the alerts in one word, and why.
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
mod tests;
