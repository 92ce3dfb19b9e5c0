//! Alerts that were told of: each once when it is raised, once more when it gets worse, and once when it is
//! over, under an id that any daemon of the migration gives it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use crate::alerts::{Alert, NAMES, Severity};
use crate::webhook::Line;

/// An alert that is gone for less than this is not over: what comes and goes is told of once.
const OVER_AFTER: Duration = Duration::from_secs(10);
/// Time after which a message that was given up is told again, if what it says still holds.
const AGAIN_AFTER: Duration = Duration::from_secs(300);
/// Text of an alert that was told of before this process was started.
const OF_BEFORE: &str = "it was told of by a daemon that ran before";

/// One that was told of.
struct Raised {
    alert: Alert,
    /// The id of what was told, and of its end.
    id: String,
    gone_since: Option<Instant>,
    /// Severity that the receiver has heard of.
    heard: Option<Severity>,
    /// Time from which it is told again, as the receiver has not taken it.
    again_at: Option<Instant>,
}

/// The alerts that were told of and are not over, and whom they are told.
pub(crate) struct Told {
    raised: BTreeMap<&'static str, Raised>,
    /// Ends that the receiver has not taken, and from when they are told again.
    owed: BTreeMap<&'static str, (Raised, Instant)>,
    line: Option<Line>,
    /// Name of the migration, from which ids are made.
    migration: String,
    over_after: Duration,
    again_after: Duration,
}

impl Told {
    pub(crate) fn new(line: Option<Line>, migration: String) -> Self {
        let (raised, owed) = (BTreeMap::new(), BTreeMap::new());
        Self { raised, owed, line, migration, over_after: OVER_AFTER, again_after: AGAIN_AFTER }
    }

    /// Gives ids from now on by this name of the migration; those that were given stay.
    pub(crate) fn call(&mut self, migration: String) {
        self.migration = migration;
    }

    /// Tells of what is new, worse or over among the alerts that `is_ours`.
    pub(crate) fn tell(&mut self, now: &[Alert], is_ours: impl Fn(&'static str) -> bool) {
        self.take_given_up();
        let (line, over_after) = (self.line.as_ref(), self.over_after);
        self.raised.retain(|name, known| {
            if !is_ours(name) {
                return true;
            }
            if now.iter().any(|alert| alert.name == *name) {
                known.gone_since = None;
                return true;
            }
            if known.gone_since.get_or_insert_with(Instant::now).elapsed() < over_after {
                return true;
            }
            tracing::warn!(alert = name, "over: {}", known.alert.message);
            send(line, "resolved", &known.id, &known.alert);
            false
        });
        for alert in now.iter().filter(|alert| is_ours(alert.name)) {
            self.owed.remove(alert.name);
            let known = self.raised.get(alert.name);
            let is_due = |known: &Raised| known.again_at.is_some_and(|at| at <= Instant::now());
            if known.is_some_and(|known| known.alert.severity >= alert.severity && !is_due(known)) {
                continue;
            }
            match alert.severity {
                Severity::Warning => tracing::warn!(alert = alert.name, "{}", alert.message),
                Severity::Critical => tracing::error!(alert = alert.name, "{}", alert.message),
            }
            let id = known.map_or_else(|| self.id_of(alert.name), |known| known.id.clone());
            send(self.line.as_ref(), "raised", &id, alert);
            let heard = known.and_then(|known| known.heard);
            let raised = Raised { alert: alert.clone(), id, gone_since: None, heard, again_at: None };
            self.raised.insert(alert.name, raised);
        }
        self.tell_what_is_owed();
    }

    /// The same wherever it is told from: a process that is started, or that takes over, tells of what others
    /// told of under the same id, and ends it under that.
    fn id_of(&self, alert: &str) -> String {
        format!("{}-{alert}", self.migration)
    }

    /// Tells whether an alert was told of here and is not over.
    pub(crate) fn holds(&self, name: &str) -> bool {
        self.raised.contains_key(name)
    }

    /// Takes what was given up for untold. 1. The receiver is away for an hour. 2. It is back, and the alert
    /// still holds, or is over. 3. It would hear of neither.
    fn take_given_up(&mut self) {
        let Some(line) = &self.line else { return };
        let again_at = Instant::now() + self.again_after;
        for message in line.given_up() {
            let text = |name: &str| message.get(name).and_then(Value::as_str).unwrap_or_default();
            let Some(name) = NAMES.into_iter().find(|name| *name == text("alert")) else { continue };
            if text("event") == "raised" {
                if let Some(known) = self.raised.get_mut(name).filter(|known| known.id == text("alert_id")) {
                    known.again_at = Some(again_at);
                }
            } else if !self.raised.contains_key(name) {
                let ended = of_before(name, text("alert_id"), severity_of(text("severity")));
                self.owed.insert(name, (ended, again_at));
            }
        }
    }

    fn tell_what_is_owed(&mut self) {
        let line = self.line.as_ref();
        self.owed.retain(|_, (ended, again_at)| {
            let waits = *again_at > Instant::now();
            if !waits {
                send(line, "resolved", &ended.id, &ended.alert);
            }
            waits
        });
    }

    /// Returns what the receiver has heard of and not the end of, for the daemon that tells after this one,
    /// which tells of the rest.
    pub(crate) fn kept(&mut self) -> Value {
        self.take_given_up();
        let waiting = self.line.as_ref().map(Line::all).unwrap_or_default();
        let waits = |event: &str, id: &str| {
            waiting.iter().any(|message| message["event"] == event && message["alert_id"] == id)
        };
        for known in self.raised.values_mut() {
            if known.again_at.is_none() && !waits("raised", &known.id) {
                known.heard = Some(known.alert.severity);
            }
        }
        let one = |name: &str, id: &str, severity: Severity| {
            let severity = severity.name();
            json!({ "alert": name, "id": id, "severity": severity })
        };
        let raised = self.raised.iter().filter_map(|(name, known)| Some(one(name, &known.id, known.heard?)));
        let owed = self.owed.iter().map(|(name, (ended, _))| one(name, &ended.id, ended.alert.severity));
        let ending = waiting.iter().filter(|message| message["event"] == "resolved").map(|message| {
            json!({ "alert": message["alert"], "id": message["alert_id"], "severity": message["severity"] })
        });
        Value::Array(raised.chain(owed).chain(ending).collect())
    }

    /// Takes over what another daemon, or this one before it was started, has told of.
    pub(crate) fn take_over(&mut self, kept: &Value) {
        for one in kept.as_array().into_iter().flatten() {
            let text = |name: &str| one.get(name).and_then(Value::as_str).unwrap_or_default();
            if let Some(name) = NAMES.into_iter().find(|name| *name == text("alert")) {
                let severity = severity_of(text("severity"));
                self.raised.entry(name).or_insert_with(|| of_before(name, text("id"), severity));
            }
        }
    }
}

fn severity_of(word: &str) -> Severity {
    if word == Severity::Warning.name() { Severity::Warning } else { Severity::Critical }
}

fn of_before(name: &'static str, id: &str, severity: Severity) -> Raised {
    let (since, message) = (Utc::now(), OF_BEFORE.to_owned());
    let runbook = format!("docs/runbook.md#alert-{}", name.replace('_', "-"));
    let alert = Alert { name, severity, since, message, runbook };
    Raised { alert, id: id.to_owned(), gone_since: None, heard: Some(severity), again_at: None }
}

/// The id of an alert stays the same from its first word to its end, and when it comes again; with when it
/// began, event and severity it names one message.
fn send(line: Option<&Line>, event: &str, id: &str, alert: &Alert) {
    let Some(line) = line else { return };
    let now: DateTime<Utc> = Utc::now();
    let since = if event == "raised" { alert.since } else { now };
    line.put(json!({
        "id": format!("{id}-{}-{event}-{}", since.timestamp_millis(), alert.severity.name()),
        "alert_id": id, "event": event, "alert": alert.name,
        "severity": alert.severity, "message": alert.message, "since": alert.since, "at": now,
        "runbook": alert.runbook,
    }));
}

#[cfg(test)]
mod tests;
