//! Operations that were asked of the daemon: one at a time, each with what is known of it, the newest kept.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};
use lockstep_coordinator::{GateResult, Observer};
use serde::Serialize;
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::operator::Unsuccessful;

/// Operations that are kept, and how many of them the status shows.
const KEPT: usize = 200;
const SHOWN: usize = 20;
/// Notes and gates of one operation that are kept.
const NOTES_MAX: usize = 200;

/// Kind of operation that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    Advance,
    Rollback,
    Validate,
    Repair,
    TestOperation,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Advance => "advance",
            Self::Rollback => "rollback",
            Self::Validate => "validate",
            Self::Repair => "repair",
            Self::TestOperation => "test-operation",
        }
    }

    /// Tells whether it ends for a way back, one that names where it leads: 1. An operator compares
    /// everything, which takes hours, or a step forward waits for a store. 2. Readers are given wrong
    /// answers. A comparison that is broken off costs its time, and changes nothing; a step is settled.
    fn gives_way(self, is_named: bool) -> bool {
        matches!(self, Self::Validate | Self::Repair) || self == Self::Advance && is_named
    }
}

/// State of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    Running,
    Succeeded,
    Failed,
    Refused,
    Cancelled,
}

impl State {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Refused => "refused",
            Self::Cancelled => "cancelled",
        }
    }
}

/// One operation.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Operation {
    pub(crate) id: String,
    pub(crate) kind: Kind,
    pub(crate) state: State,
    actor: String,
    reason: Option<String>,
    began_at: DateTime<Utc>,
    ended_at: Option<DateTime<Utc>>,
    notes: Vec<String>,
    gates: Vec<GateResult>,
    result: Option<Value>,
    error: Option<String>,
    /// Key it was asked under, and what was asked, to tell a repetition from another request.
    #[serde(skip)]
    key: Option<(String, String)>,
    #[serde(skip)]
    cancel: CancellationToken,
}

/// Request for an operation, before it has begun.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) kind: Kind,
    pub(crate) actor: String,
    pub(crate) reason: Option<String>,
    /// The idempotency key, and the request in words that are the same for the same request.
    pub(crate) key: Option<(String, String)>,
    /// Ends this operation alone; cancelled when the daemon ends.
    pub(crate) cancel: CancellationToken,
}

/// Answer to a request for an operation.
#[derive(Debug)]
pub(crate) enum Begun {
    /// It begins now.
    New(String),
    /// It was asked before under the same key.
    Known(Box<Operation>),
    /// The key was used for something else.
    OtherRequest,
    /// This one is under way.
    Busy(String),
}

/// The operations of this process.
#[derive(Debug)]
pub(crate) struct Operations {
    /// The newest first.
    list: Mutex<VecDeque<Operation>>,
    changed: watch::Sender<u64>,
}

impl Operations {
    pub(crate) fn new() -> Self {
        Self { list: Mutex::default(), changed: watch::Sender::new(0) }
    }

    fn list(&self) -> MutexGuard<'_, VecDeque<Operation>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins an operation, unless one is under way or it is known by its key.
    pub(crate) fn begin(&self, asked: Asked) -> Begun {
        let id = {
            let mut list = self.list();
            if let Some(known) = known_in(&list, asked.key.as_ref()) {
                return known;
            }
            if let Some(running) = list.iter().find(|o| o.state == State::Running) {
                return Begun::Busy(running.id.clone());
            }
            let id = format!("op-{:016x}", rand::random::<u64>());
            list.push_front(Operation {
                id: id.clone(),
                kind: asked.kind,
                state: State::Running,
                actor: asked.actor,
                reason: asked.reason,
                began_at: Utc::now(),
                ended_at: None,
                notes: Vec::new(),
                gates: Vec::new(),
                result: None,
                error: None,
                key: asked.key,
                cancel: asked.cancel,
            });
            list.truncate(KEPT);
            id
        };
        self.tell();
        Begun::New(id)
    }

    /// Returns what was asked under a key before, if anything was.
    pub(crate) fn known(&self, key: Option<&(String, String)>) -> Option<Begun> {
        known_in(&self.list(), key)
    }

    /// Tells the operation of this id to end, where it gives way to a step back; says whether it does.
    pub(crate) fn give_way(&self, id: &str, is_named: bool) -> bool {
        let cancel = {
            let list = self.list();
            let running = list.iter().find(|o| o.id == id && o.state == State::Running);
            running.filter(|o| o.kind.gives_way(is_named)).map(|o| o.cancel.clone())
        };
        // What it wakes may look at the operations.
        cancel.map(|cancel| cancel.cancel()).is_some()
    }

    /// Records how it ended.
    pub(crate) fn end(&self, id: &str, ended: Result<Value, Unsuccessful>) {
        self.with(id, |operation| {
            operation.ended_at = Some(Utc::now());
            match ended {
                Ok(result) => {
                    operation.state = State::Succeeded;
                    operation.result = Some(result);
                }
                Err(why) => {
                    operation.state = match (why.refused, why.cancelled) {
                        (true, _) => State::Refused,
                        (_, true) => State::Cancelled,
                        _ => State::Failed,
                    };
                    operation.error = Some(why.message);
                    if let Some(gates) = why.gates {
                        operation.gates = gates.results;
                    }
                }
            }
            metrics::counter!("lockstep_operations_total", "kind" => operation.kind.name(), "state" => operation.state.name())
                .increment(1);
        });
    }

    /// Returns one of them.
    pub(crate) fn get(&self, id: &str) -> Option<Operation> {
        self.list().iter().find(|operation| operation.id == id).cloned()
    }

    /// Returns the newest, newest first. Every client that listens is sent them again and again, so only the
    /// newest has its gates, and results are without lists; one by its id has all of it.
    pub(crate) fn newest(&self) -> Vec<Operation> {
        let list = self.list();
        let shown = list.iter().take(SHOWN).enumerate().map(|(n, operation)| Operation {
            gates: if n == 0 { operation.gates.clone() } else { Vec::new() },
            notes: if n == 0 { operation.notes.clone() } else { Vec::new() },
            result: operation.result.as_ref().map(scalars),
            ..operation.clone()
        });
        shown.collect()
    }

    /// Returns the operation that is under way, if one is.
    pub(crate) fn running(&self) -> Option<String> {
        self.list().iter().find(|o| o.state == State::Running).map(|o| o.id.clone())
    }

    /// Told of each change of any of them.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Waits until it has ended; only its end or dropping this ends the wait.
    ///
    /// # Cancel safety
    /// It only looks.
    pub(crate) async fn ended(&self, id: &str) {
        let mut changes = self.changes();
        loop {
            changes.borrow_and_update();
            if self.get(id).is_none_or(|operation| operation.state != State::Running)
                || changes.changed().await.is_err()
            {
                return;
            }
        }
    }

    fn with(&self, id: &str, change: impl FnOnce(&mut Operation)) {
        if let Some(operation) = self.list().iter_mut().find(|operation| operation.id == id) {
            change(operation);
        }
        self.tell();
    }

    fn tell(&self) {
        self.changed.send_modify(|n| *n += 1);
    }
}

fn known_in(list: &VecDeque<Operation>, key: Option<&(String, String)>) -> Option<Begun> {
    let (key, request) = key?;
    let known = list.iter().find(|o| o.key.as_ref().is_some_and(|(of, _)| of == key))?;
    let same = known.key.as_ref().is_some_and(|(_, of)| of == request);
    Some(if same { Begun::Known(Box::new(known.clone())) } else { Begun::OtherRequest })
}

/// Returns the words and numbers of a result.
fn scalars(result: &Value) -> Value {
    match result {
        Value::Object(fields) => {
            let kept = fields.iter().filter(|(_, value)| !value.is_object() && !value.is_array());
            Value::Object(kept.map(|(name, value)| (name.clone(), value.clone())).collect())
        }
        other => other.clone(),
    }
}

/// Puts what an operation says of itself to it.
pub(crate) struct Notes {
    pub(crate) operations: std::sync::Arc<Operations>,
    pub(crate) id: String,
}

impl Observer for Notes {
    fn gate(&self, gate: &GateResult) {
        self.operations.with(&self.id, |operation| {
            if operation.gates.len() < NOTES_MAX {
                operation.gates.push(gate.clone());
            }
        });
    }

    fn note(&self, text: &str) {
        self.operations.with(&self.id, |operation| {
            if operation.notes.len() < NOTES_MAX {
                operation.notes.push(text.to_owned());
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(key: Option<(&str, &str)>) -> Asked {
        let key = key.map(|(key, request)| (key.to_owned(), request.to_owned()));
        of_kind(Kind::Advance, key)
    }

    fn of_kind(kind: Kind, key: Option<(String, String)>) -> Asked {
        Asked { kind, actor: "ann".to_owned(), reason: None, key, cancel: CancellationToken::new() }
    }

    fn id_of(begun: Begun) -> String {
        match begun {
            Begun::New(id) => id,
            other => panic!("it should have begun: {other:?}"),
        }
    }

    #[test]
    fn one_operation_is_under_way_at_a_time() {
        let operations = Operations::new();
        let first = id_of(operations.begin(asked(None)));
        assert!(matches!(operations.begin(asked(None)), Begun::Busy(id) if id == first));
        operations.end(&first, Ok(Value::Null));
        id_of(operations.begin(asked(None)));
    }

    #[test]
    fn a_comparison_is_told_to_end_for_a_way_back_and_nothing_else_is() {
        for (kind, gives_way) in [
            (Kind::Validate, true),
            (Kind::Repair, true),
            (Kind::Advance, false),
            (Kind::Rollback, false),
            (Kind::TestOperation, false),
        ] {
            let operations = Operations::new();
            let asked = of_kind(kind, None);
            let cancel = asked.cancel.clone();
            let id = id_of(operations.begin(asked));
            assert!(!operations.give_way("op-of-another-day", true));
            let told = operations.give_way(&id, false);
            assert_eq!((told, cancel.is_cancelled()), (gives_way, gives_way), "{kind:?}");
            let told = operations.give_way(&id, true);
            assert_eq!(told, gives_way || kind == Kind::Advance, "{kind:?}: it is named where to");
            operations.end(&id, Ok(Value::Null));
            assert!(!operations.give_way(&id, true), "it has ended");
        }
    }

    #[test]
    fn the_same_key_is_the_same_operation_and_never_begins_a_second_one() {
        let operations = Operations::new();
        let first = id_of(operations.begin(asked(Some(("k", "advance {}")))));
        assert!(
            matches!(operations.begin(asked(Some(("k", "advance {}")))), Begun::Known(known) if known.id == first)
        );
        operations.end(&first, Ok(Value::Null));
        assert!(
            matches!(operations.begin(asked(Some(("k", "advance {}")))), Begun::Known(known) if known.id == first)
        );
        assert!(matches!(operations.begin(asked(Some(("k", "rollback {}")))), Begun::OtherRequest));
    }
}
