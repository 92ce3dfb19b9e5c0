//! Doing what a route asks: journalled with who and why before it begins, in a task of its own, and polled.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode};
use chrono::{DateTime, Utc};
use lockstep_coordinator::{GateReport, ready};
use lockstep_core::Phase;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::answer::{Refusal, ok_json};
use crate::operations::{Asked, Begun, Kind, Notes, Operation, State as OperationState};
use crate::operator::{Act, Compare, Unsuccessful, Walk};
use crate::part::Role;
use crate::shared::Shared;
use crate::snapshot::Snapshot;
use crate::stores::StoresView;

pub(super) type Answer = Result<Response<Body>, Refusal>;

/// Longest wait for a comparison that gives way to a step back.
const WAY_WITHIN: Duration = Duration::from_secs(20);
/// Gates that were asked within this are answered again.
const GATES_FRESH: Duration = Duration::from_secs(1);
/// Longest wait for gates, and for the ones before them.
const GATES_WITHIN: Duration = Duration::from_secs(30);
/// Longest wait of a request for the reading that shows what an operation did.
const SHOWN_WITHIN: Duration = Duration::from_secs(2);

/// Subject of a request, besides its actor and manner.
#[derive(Clone, Debug)]
pub(super) enum What {
    Walk(Walk),
    Validate(Compare),
    Repair { max: usize, last: bool },
    TestOperation,
}

/// Actor of a request, and how it is to be done.
#[derive(Debug)]
pub(super) struct How {
    pub(super) actor: String,
    pub(super) reason: Option<String>,
    pub(super) dry_run: bool,
    pub(super) wait: Duration,
    pub(super) key: Option<String>,
    /// The request in words, by which a repetition is told from another one.
    pub(super) request: String,
}

fn kind_of(what: &What) -> Kind {
    match what {
        What::Walk(walk) if walk.forward => Kind::Advance,
        What::Walk(_) => Kind::Rollback,
        What::Validate(_) => Kind::Validate,
        What::Repair { .. } => Kind::Repair,
        What::TestOperation => Kind::TestOperation,
    }
}

pub(super) fn require_leader(shared: &Shared) -> Result<(), Refusal> {
    match &*shared.role.borrow() {
        Role::Leader => Ok(()),
        Role::Standby(why) => Err(Refusal::standby(why)),
    }
}

/// Returns the gates of a step, asked now or a moment ago. A step back to PostgreSQL's reads is asked nothing
/// that a store has to answer: it waits for no others, and for no DynamoDB that is away.
pub(super) async fn gates(shared: &Shared, to: Phase) -> Result<GateReport, Refusal> {
    let (phase, stores) = {
        let snapshot = shared.snapshot.borrow();
        (snapshot.phase(), snapshot.stores.clone())
    };
    if phase.is_some_and(|phase| to < phase && phase != Phase::DynamoOnly) {
        return ready(&shared.migration, to).await.map_err(|error| Refusal::of_coordinator(&error));
    }
    // 1. DynamoDB is away, and the gates wait for it. 2. More of them queue behind. 3. A person looks at a
    // page that says nothing for minutes.
    if StoresView::is_down(stores.dynamodb.as_ref()) {
        return Err(Refusal::target_away());
    }
    let asking = tokio::time::timeout(GATES_WITHIN, asked_now(shared, to));
    asking.await.unwrap_or_else(|_| Err(Refusal::gates_late(GATES_WITHIN)))
}

async fn asked_now(shared: &Shared, to: Phase) -> Result<GateReport, Refusal> {
    let mut asked = shared.gates.lock().await;
    // 1. The gates are asked. 2. A comparison ends, and says consistent. 3. Within the second the answer of
    // before would say that nothing was compared.
    let changes = *shared.operations.changes().borrow();
    if let Some((at, after, of, report)) = &*asked
        && (*of, *after) == (to, changes)
        && at.elapsed() < GATES_FRESH
    {
        return Ok(report.clone());
    }
    let report = ready(&shared.migration, to).await.map_err(|error| Refusal::of_coordinator(&error))?;
    *asked = Some((Instant::now(), changes, to, report.clone()));
    Ok(report)
}

pub(super) async fn act(shared: Arc<Shared>, how: How, what: What) -> Answer {
    require_leader(&shared)?;
    let kind = kind_of(&what);
    if how.dry_run {
        return dry_run(&shared, &what).await;
    }
    // The key comes before the way: 1. The last step forward is taken, and its answer is lost. 2. The request
    // comes again, and there is no step further from here.
    let key = how.key.clone().map(|key| (key, how.request.clone()));
    match shared.operations.known(key.as_ref()) {
        Some(Begun::Known(operation)) => return answered(&shared, &operation.id, how.wait).await,
        Some(_) => return Err(Refusal::other_request()),
        None => {}
    }
    if let Some(key) = &how.key
        && let Some(answer) = journalled(&shared, key).await?
    {
        return Ok(answer);
    }
    if let What::Walk(walk) = &what {
        path_of(&shared, walk)?;
    }
    let cancel = shared.stop.child_token();
    let asked =
        Asked { kind, actor: how.actor.clone(), reason: how.reason.clone(), key, cancel: cancel.clone() };
    let is_named = matches!(&what, What::Walk(walk) if walk.to.is_some());
    let id = match begin(&shared, asked, is_named).await {
        Begun::New(id) => id,
        Begun::Known(operation) => return answered(&shared, &operation.id, how.wait).await,
        Begun::OtherRequest => return Err(Refusal::other_request()),
        Begun::Busy(id) => return Err(Refusal::busy(id)),
    };
    // From here on it is under way, whether the client waits or not.
    let span = tracing::error_span!("operation", operation = %id, kind = kind.name());
    let (id_of_it, actor, reason, key) = (id.clone(), how.actor, how.reason, how.key);
    let working = run(shared.clone(), Begins { id: id_of_it, cancel, actor, reason, key }, what);
    drop(tokio::spawn(working.instrument(span)));
    answered(&shared, &id, how.wait).await
}

/// Answers with an operation, once it has ended or `wait` is over.
async fn answered(shared: &Shared, id: &str, wait: Duration) -> Answer {
    if !wait.is_zero() {
        // That it takes longer is no error: it is polled then.
        if tokio::time::timeout(wait, shared.operations.ended(id)).await.is_ok() {
            shown(shared).await;
        }
    }
    let Some(operation) = shared.operations.get(id) else {
        return Err(Refusal::not_found("the operation has ended and is forgotten; the journal has it"));
    };
    let status =
        if operation.state == OperationState::Running { StatusCode::ACCEPTED } else { StatusCode::OK };
    Ok(found(status, &operation))
}

/// Waits for a reading that began after now: 1. A step back succeeds. 2. Its caller asks for the status,
/// which is of a second ago. 3. It says that nothing was done.
async fn shown(shared: &Shared) {
    let mut snapshot = shared.snapshot.subscribe();
    let (now, before) = (Instant::now(), snapshot.borrow().number);
    shared.look.notify_one();
    let is_shown = |seen: &Arc<Snapshot>| {
        seen.number > before && seen.read_at.is_some_and(|(at, _)| at >= now) || shared.stop.is_cancelled()
    };
    // A store that does not answer is told of by the status itself.
    let _ = tokio::time::timeout(SHOWN_WITHIN, snapshot.wait_for(is_shown)).await;
}

/// Begins an operation. A comparison that is under way is told to end for a step back, and waited for, and so
/// is a step forward where the way back names where it leads: `is_named`. 1. A step to HybridRead waits for a
/// gate. 2. A person wants it back, from DualWrite. 3. Without a name that would be a step to PostgresOnly.
async fn begin(shared: &Shared, asked: Asked, is_named: bool) -> Begun {
    let begun = shared.operations.begin(asked.clone());
    let Begun::Busy(id) = &begun else { return begun };
    if asked.kind != Kind::Rollback || !shared.operations.give_way(id, is_named) {
        return begun;
    }
    // One that does not end in time is in the way as any other operation is.
    let _ = tokio::time::timeout(WAY_WITHIN, shared.operations.ended(id)).await;
    shared.operations.begin(asked)
}

/// Begins a walk that no person has asked for; says whether it begins. Another operation may be under way.
pub(crate) async fn begin_by_itself(shared: &Arc<Shared>, actor: &str, reason: &str, walk: Walk) -> bool {
    let what = What::Walk(walk);
    let actor = actor.trim_end_matches(" via serve").to_owned();
    let (kind, reason, cancel) = (kind_of(&what), Some(reason.to_owned()), shared.stop.child_token());
    let asked =
        Asked { kind, actor: actor.clone(), reason: reason.clone(), key: None, cancel: cancel.clone() };
    let Begun::New(id) = begin(shared, asked, false).await else { return false };
    drop(tokio::spawn(run(shared.clone(), Begins { id, cancel, actor, reason, key: None }, what)));
    true
}

/// Operation that begins.
struct Begins {
    id: String,
    cancel: CancellationToken,
    actor: String,
    reason: Option<String>,
    key: Option<String>,
}

fn found(status: StatusCode, operation: &Operation) -> Response<Body> {
    let mut response = ok_json(status, operation);
    if let Ok(place) = HeaderValue::from_str(&format!("/v1/operations/{}", operation.id)) {
        response.headers_mut().insert("location", place);
    }
    response
}

/// Answers what was asked under this key of a daemon that is gone; of this one's, the operation itself is
/// answered.
async fn journalled(shared: &Shared, key: &str) -> Result<Option<Response<Body>>, Refusal> {
    if !is_installed(shared) {
        return Ok(None);
    }
    let noted = shared.migration.source.noted_under(key).await.map_err(|error| Refusal::of_store(&error))?;
    let Some(entry) = noted else { return Ok(None) };
    if entry.detail.get("operation").is_none() {
        return Err(Refusal::other_request());
    }
    let known =
        entry.detail.get("operation").and_then(Value::as_str).and_then(|id| shared.operations.get(id));
    if known.is_some() {
        return Ok(None);
    }
    let asked = json!({
        "id": entry.detail.get("operation"), "state": "unknown", "actor": entry.actor, "began_at": entry.at,
        "error": "this was asked of another daemon, or before this one was started; the journal says how it ended",
    });
    Ok(Some(ok_json(StatusCode::OK, &asked)))
}

pub(super) fn is_installed(shared: &Shared) -> bool {
    shared.snapshot.borrow().status.as_ref().is_some_and(|status| status.installed)
}

async fn run(shared: Arc<Shared>, begins: Begins, what: What) {
    let Begins { id, cancel, actor, reason, key } = begins;
    let who = format!("{actor} via serve");
    let mut detail = json!({ "operation": id, "reason": reason, "idempotency_key": key });
    if let What::Walk(walk) = &what {
        (detail["to"], detail["force"]) = (json!(walk.to), json!(walk.force));
    }
    let step = format!("asked to {}", kind_of(&what).name());
    if is_installed(&shared)
        && let Err(error) = shared.migration.source.journal_note(&who, &step, &detail).await
    {
        // An act that cannot be journalled is not done.
        let message = format!("nothing was done, because it could not be journalled: {error}");
        return shared
            .operations
            .end(&id, Err(Unsuccessful { refused: false, cancelled: false, message, gates: None }));
    }
    let observer = Arc::new(Notes { operations: shared.operations.clone(), id: id.clone() });
    let act = Act { actor: who, observer, cancel: cancel.clone() };
    let operator = shared.operator.clone();
    let is_repair = matches!(what, What::Repair { .. });
    let working = async move {
        match what {
            What::Walk(walk) => operator.walk(&walk, &act).await,
            What::Validate(what) => operator.validate(&what, &act).await,
            What::Repair { max, last } => operator.repair(max, last, &act).await,
            What::TestOperation => operator.test_operation(&act).await,
        }
    };
    let working = tokio::spawn(working.in_current_span());
    let ended = working.await.unwrap_or_else(|_| {
        let message = format!("a bug ended it, {}; run `status` and try again", lockstep_core::PANICKED);
        Err(Unsuccessful { refused: false, cancelled: false, message, gates: None })
    });
    let gave_way = cancel.is_cancelled() && !shared.stop.is_cancelled();
    let ended = ended.map_err(|why| match gave_way && why.cancelled {
        true => Unsuccessful { message: GAVE_WAY.to_owned(), ..why },
        false => why,
    });
    if is_repair && ended.is_ok() {
        // What an earlier sample found is mended, mostly: another one says what is left.
        shared.sample_now.notify_one();
    }
    shared.operations.end(&id, ended);
    shared.look.notify_one();
}

const GAVE_WAY: &str = "it was broken off for a step back, which goes first; ask for it again after that";

/// Returns the phases that a walk would visit, or why there is no such way.
fn path_of(shared: &Shared, walk: &Walk) -> Result<(Phase, Vec<Phase>), Refusal> {
    let Some(from) = shared.snapshot.borrow().phase() else {
        return Err(Refusal::conflict(
            "Lockstep is not installed in this source yet; run `migrate`, or `backfill`",
        ));
    };
    let next = |phase: Phase| if walk.forward { phase.next() } else { phase.previous() };
    let Some(to) = walk.to.or(next(from)) else {
        return Err(Refusal::conflict(format!("the phase is {from}: there is no step further that way")));
    };
    if (walk.forward && to < from) || (!walk.forward && to > from) {
        let other = if walk.forward { "rollback" } else { "advance" };
        return Err(Refusal::conflict(format!("the phase is {from}: to get to {to}, use /v1/{other}")));
    }
    let mut path = Vec::new();
    let mut at = from;
    while at != to {
        let Some(phase) = next(at) else { break };
        path.push(phase);
        at = phase;
    }
    Ok((from, path))
}

/// Answers with what would be done, without doing it.
async fn dry_run(shared: &Shared, what: &What) -> Answer {
    let would = match what {
        What::Walk(walk) => {
            let (from, path) = path_of(shared, walk)?;
            let report = match path.first() {
                Some(first) => gates(shared, *first).await?,
                None => GateReport::default(),
            };
            let to = path.last().copied().unwrap_or(from);
            let would = json!({ "from": from, "to": to, "path": path });
            // A step that moves reads tries reads and a write as well, and each later one asks its own.
            let answer = json!({
                "dry_run": true, "would": would, "gates_of": path.first(), "passed": report.passed(),
                "gates": report.results,
            });
            return Ok(ok_json(StatusCode::OK, &answer));
        }
        What::Validate(Compare::Full) => {
            "compare every row and every item, and record the verdict".to_owned()
        }
        What::Validate(Compare::Days(days)) => {
            let moment = |at: Option<DateTime<Utc>>| at.map(|at| at.to_rfc3339()).unwrap_or_default();
            format!("compare the rows and items from {} to {}", moment(days.start), moment(days.end))
        }
        What::Validate(Compare::Incremental) => {
            "compare what changed since everything was compared, and record the verdict".to_owned()
        }
        What::Validate(Compare::Key { table, .. }) => format!("compare one row of {table} with its item"),
        What::Validate(Compare::Sample(rows)) => format!("compare {rows} rows and items of each table"),
        What::Repair { max, last } => repair_of(shared, *max, *last)?,
        What::TestOperation => {
            "try the way of a write in both stores, where no row can be, and leave nothing".to_owned()
        }
    };
    Ok(ok_json(StatusCode::OK, &json!({ "dry_run": true, "would": would })))
}

/// Returns what a repair would do, in words; refused where one would be.
fn repair_of(shared: &Shared, max: usize, last: bool) -> Result<String, Refusal> {
    match shared.snapshot.borrow().phase() {
        Some(Phase::DualWrite | Phase::HybridRead) => {}
        Some(phase) => {
            return Err(Refusal::conflict(format!(
                "the phase is {phase}: keys are repaired while PostgreSQL is the truth and both stores are \
                 written"
            )));
        }
        None => return Err(Refusal::not_read_yet()),
    }
    let of = if last { "the newest verdict found" } else { "a comparison of everything finds" };
    Ok(format!(
        "mark the keys that {of}, at most {max}, so that the relay writes them once more, and read them again"
    ))
}
