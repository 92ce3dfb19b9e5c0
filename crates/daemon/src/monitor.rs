//! Watching: a sample of rows now and then, and telling of each alert once when it is raised, and once when
//! it is over.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::Utc;
use lockstep_coordinator::Observer;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::alerts::{Alert, Severity};
use crate::measure::measure;
use crate::operator::{Act, Compare};
use crate::part::{PartState, Role};
use crate::shared::Shared;
use crate::webhook::{self, Line};

/// An alert that is gone for less than this is not over: what comes and goes is told of once.
const OVER_AFTER: Duration = Duration::from_secs(10);

/// One that was told of.
struct Raised {
    alert: Alert,
    /// The id of what was told, and of its end.
    id: String,
    gone_since: Option<Instant>,
}

/// Tells of alerts until the daemon ends. Only the leader does.
pub(crate) async fn run(shared: Arc<Shared>) {
    let line = shared.monitor.webhook.clone().map(|webhook| {
        let (line, work) = webhook::line(webhook, shared.stop.clone());
        // It ends with the daemon.
        drop(tokio::spawn(work));
        line
    });
    let mut snapshots = shared.snapshot.subscribe();
    let mut raised: BTreeMap<&'static str, Raised> = BTreeMap::new();
    loop {
        if shared.stop.run_until_cancelled(snapshots.changed()).await.is_none_or(|changed| changed.is_err()) {
            return;
        }
        let role = shared.role.borrow().clone();
        // The leader tells. An alert that still holds when this one leads is told then; one that was told
        // here stays known, so that a leader who was away for a moment tells nothing twice.
        if let Role::Standby(why) = role {
            shared.note("monitor", PartState::Standby, Some(why));
            continue;
        }
        shared.note("monitor", PartState::Running, None);
        let now: Vec<Alert> = snapshots.borrow_and_update().alerts.clone();
        tell(now, &mut raised, line.as_ref());
    }
}

fn tell(now: Vec<Alert>, raised: &mut BTreeMap<&'static str, Raised>, line: Option<&Line>) {
    raised.retain(|name, known| {
        if now.iter().any(|alert| alert.name == *name) {
            known.gone_since = None;
            return true;
        }
        if known.gone_since.get_or_insert_with(Instant::now).elapsed() < OVER_AFTER {
            return true;
        }
        tracing::warn!(alert = name, "over: {}", known.alert.message);
        send(line, "resolved", &known.id, &known.alert);
        false
    });
    for alert in now {
        let known = raised.get(alert.name);
        if known.is_some_and(|known| known.alert.severity >= alert.severity) {
            continue;
        }
        match alert.severity {
            Severity::Warning => tracing::warn!(alert = alert.name, "{}", alert.message),
            Severity::Critical => tracing::error!(alert = alert.name, "{}", alert.message),
        }
        let id = known.map_or_else(
            || format!("{}-{:016x}", alert.name, rand::random::<u64>()),
            |known| known.id.clone(),
        );
        send(line, "raised", &id, &alert);
        raised.insert(alert.name, Raised { alert, id, gone_since: None });
    }
}

/// The id stays the same from the first word of an alert to its end; with event and severity it names one
/// message.
fn send(line: Option<&Line>, event: &str, id: &str, alert: &Alert) {
    let Some(line) = line else { return };
    line.put(json!({
        "id": format!("{id}-{event}-{}", alert.severity.name()), "alert_id": id, "event": event, "alert": alert.name,
        "severity": alert.severity, "message": alert.message, "since": alert.since, "at": Utc::now(), "runbook": alert.runbook,
    }));
}

/// Compares a sample now and then.
pub(crate) async fn sample(shared: Arc<Shared>, stop: CancellationToken) -> Result<(), String> {
    let Some(every) = shared.monitor.serve.sample_every() else { return Ok(()) };
    loop {
        // A comparison that an operator asked for says more, and both would take from the stores.
        if shared.operations.running().is_none() {
            let observer: Arc<dyn Observer> = Arc::new(());
            let act = Act { actor: "monitor via serve".to_owned(), observer, cancel: stop.clone() };
            let sample = Compare::Sample(shared.monitor.serve.sample_rows);
            let compared = shared.operator.validate(&sample, &act).await;
            if stop.is_cancelled() {
                return Ok(());
            }
            let report: Value = compared.map_err(|why| why.message)?;
            if let Some(measured) = measure(&report, Utc::now()) {
                let found: Vec<(&str, &str, u64)> = measured
                    .tables
                    .iter()
                    .map(|table| (table.name.as_str(), "sample.differ", table.differ))
                    .collect();
                let counted = shared.migration.source.count_up(&found).await;
                counted.map_err(|error| error.to_string())?;
                shared.measured.send_replace(Some(measured));
                shared.look.notify_one();
            }
        }
        if stop.run_until_cancelled(tokio::time::sleep(every)).await.is_none() {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alert(severity: Severity) -> Alert {
        Alert {
            name: "pending_age",
            severity,
            since: Utc::now(),
            message: "it waits".to_owned(),
            runbook: "docs/runbook.md#alert-pending-age".to_owned(),
        }
    }

    #[test]
    fn an_alert_is_told_once_again_when_it_gets_worse_and_is_not_over_at_once() {
        let mut raised = BTreeMap::new();
        tell(vec![alert(Severity::Warning)], &mut raised, None);
        let first = raised["pending_age"].id.clone();
        tell(vec![alert(Severity::Warning)], &mut raised, None);
        assert_eq!(raised["pending_age"].id, first);
        tell(vec![alert(Severity::Critical)], &mut raised, None);
        assert_eq!(
            (raised["pending_age"].id == first, raised["pending_age"].alert.severity),
            (true, Severity::Critical)
        );
        tell(Vec::new(), &mut raised, None);
        assert!(raised.contains_key("pending_age"), "it may be back in a moment");
    }
}
