//! A reading as the JSON that every client is given.

use std::collections::BTreeMap;

use bytes::Bytes;
use chrono::Utc;
use lockstep_coordinator::Status;
use lockstep_core::{Phase, printable_json};
use lockstep_postgres::Entry;
use serde_json::{Map, Value, json};

use crate::part::Role;
use crate::shared::Shared;
use crate::snapshot::Snapshot;

/// Writes the JSON of a reading.
pub(crate) fn render(snapshot: &mut Snapshot, shared: &Shared) {
    let mut view = snapshot.status.as_ref().map_or_else(unknown, of_status);
    view.insert("daemon".to_owned(), of_daemon(snapshot, shared));
    // Made printable, as all JSON of a status: names and reasons are of other roles.
    snapshot.json = Bytes::from(printable_json(&Value::Object(view).to_string()).into_owned());
}

fn of_daemon(snapshot: &Snapshot, shared: &Shared) -> Value {
    let role = shared.role.borrow().clone();
    let why = match &role {
        Role::Leader => None,
        Role::Standby(why) => Some(why),
    };
    let phase = snapshot.phase();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "now": Utc::now(),
        "started_at": shared.started_at,
        "role": role.name(),
        "standby_because": why,
        "demo": shared.demo,
        "polled_at": snapshot.read_at.map(|(_, at)| at),
        "stores": snapshot.stores,
        "health": snapshot.health,
        "parts": shared.parts(),
        "next": { "forward": phase.and_then(Phase::next), "back": phase.and_then(Phase::previous) },
        "rates": snapshot.rates,
        "measured": *shared.measured.borrow(),
        "paused": *shared.pauses.borrow(),
        "settings": *shared.settings.borrow(),
        "counted": *shared.counted.borrow(),
        "spend": *shared.spend.borrow(),
        "stepped_back": *shared.stepped_back.borrow(),
        "alerts": snapshot.alerts,
        "operations": shared.operations.newest(),
        "history": null,
    })
}

/// Returns the JSON of a status of which nothing is known.
fn unknown() -> Map<String, Value> {
    let nothing = json!({
        "installed": false, "phase": null, "epoch": null, "since": null, "target_record": null, "target_error": null, "late_until": null, "tables": [],
        "instances": [], "lost": [], "open_intents": [], "verdict_consistent": null, "verdict": null,
        "verdict_age_s": null, "later_verdict": null, "later_verdict_age_s": null, "journal": [],
    });
    match nothing {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

fn of_status(status: &Status) -> Map<String, Value> {
    let Ok(Value::Object(mut view)) = serde_json::to_value(status) else { return unknown() };
    for (name, entries) in [("journal", &status.journal), ("open_intents", &status.open_intents)] {
        view.insert(name.to_owned(), entries.iter().map(entry).collect());
    }
    view
}

/// Longest text of an entry that is shown.
const TEXT_CHARS_MAX: usize = 300;
/// Fields of an entry's detail that are shown: those that say how it went. Keys of rows may be in the others.
const SHOWN: [&str; 21] = [
    "from",
    "to",
    "phase",
    "epoch",
    "force",
    "why",
    "table",
    "marked",
    "verified",
    "reason",
    "operation",
    "late_until",
    "parts",
    "for_s",
    "idempotency_key",
    "mode",
    "max",
    "last",
    "name",
    "value",
    "was",
];

/// Returns an entry of the journal without what may be a key or a value.
pub(crate) fn entry(entry: &Entry) -> Value {
    let shown: BTreeMap<&str, Value> = SHOWN
        .into_iter()
        .filter_map(|name| match entry.detail.get(name)? {
            Value::String(text) => {
                Some((name, Value::from(text.chars().take(TEXT_CHARS_MAX).collect::<String>())))
            }
            scalar @ (Value::Number(_) | Value::Bool(_)) => Some((name, scalar.clone())),
            Value::Array(words) if words.iter().all(Value::is_string) && name == "parts" => {
                Some((name, Value::from(words.clone())))
            }
            _ => None,
        })
        .collect();
    json!({
        "id": entry.id, "at": entry.at, "actor": entry.actor, "kind": entry.kind, "intent": entry.intent, "step": entry.step,
        "detail": shown,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_shows_how_it_went_and_no_key() {
        let journalled = Entry {
            id: 7,
            at: chrono::DateTime::UNIX_EPOCH,
            actor: "ann".to_owned(),
            kind: "done".to_owned(),
            intent: Some(6),
            step: "repair keys".to_owned(),
            detail: json!({ "table": "payments", "keys": [["'secret'"]], "marked": 3, "gates": { "results": [] } }),
        };
        let shown = entry(&journalled);
        assert_eq!(shown["detail"], json!({ "table": "payments", "marked": 3 }));
        assert!(!shown.to_string().contains("secret"));
    }
}
