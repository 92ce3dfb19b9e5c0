//! Routes that act: what each takes, and what it refuses. `perform` does what is asked.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::HeaderMap;
use lockstep_core::Phase;
use lockstep_core::settings::REASON_CHARS_MAX;
use serde::Deserialize;
use serde_json::Value;

use super::answer::Refusal;
use super::body::{idempotency_key, json_of, parsed, words};
use super::perform::{Answer, How, What, act};
use super::tokens::Right;
use crate::operator::{Compare, Walk};
use crate::shared::Shared;

const ACTOR_CHARS_MAX: usize = 100;
/// Name of the actor where the request names no person.
const UNNAMED: &str = "operate token";
/// Longest wait of one request for the end of what it began.
const WAIT_S_MAX: u64 = 30;
/// Longest key of a row in a request.
const KEY_CHARS_MAX: usize = 1_000;
/// Most rows of a sample, and most keys of a repair.
const SAMPLE_MAX: u64 = 100_000;

/// Fields that every body may hold.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Common {
    actor: Option<String>,
    reason: Option<String>,
    #[serde(default)]
    dry_run: bool,
    #[serde(default)]
    wait_s: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct StepBody {
    to: Option<Phase>,
    force: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ValidateBody {
    mode: Option<Mode>,
    sample: Option<u64>,
    table: Option<String>,
    key: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    Full,
    Incremental,
    Sample,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RepairBody {
    max: Option<u64>,
    #[serde(default)]
    last: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct NothingElse {}

/// Reads a request that acts: who and how, and what is left of its body.
pub(super) async fn read(
    right: Right,
    headers: &HeaderMap,
    body: Body,
    route: &str,
) -> Result<(How, Value), Refusal> {
    if right != Right::Operate {
        return Err(Refusal::forbidden());
    }
    let key = idempotency_key(headers)?;
    let body = json_of(headers, body).await?;
    let Value::Object(mut fields) = body else {
        return Err(Refusal::unprocessable("the body is a JSON object"));
    };
    let request = format!("{route} {}", Value::Object(fields.clone()));
    let common = ["actor", "reason", "dry_run", "wait_s"];
    let taken: serde_json::Map<String, Value> =
        common.into_iter().filter_map(|name| Some((name.to_owned(), fields.remove(name)?))).collect();
    let common: Common = parsed(Value::Object(taken))?;
    if common.wait_s > WAIT_S_MAX {
        return Err(Refusal::unprocessable(format!("`wait_s` is 0 to {WAIT_S_MAX}")));
    }
    let how = How {
        actor: words("actor", common.actor.as_deref(), ACTOR_CHARS_MAX)?
            .unwrap_or_else(|| UNNAMED.to_owned()),
        reason: words("reason", common.reason.as_deref(), REASON_CHARS_MAX)?,
        dry_run: common.dry_run,
        wait: Duration::from_secs(common.wait_s),
        key,
        request,
    };
    Ok((how, Value::Object(fields)))
}

async fn step(shared: Arc<Shared>, right: Right, headers: HeaderMap, body: Body, forward: bool) -> Answer {
    let route = if forward { "advance" } else { "rollback" };
    let (how, rest) = read(right, &headers, body, route).await?;
    let body: StepBody = parsed(rest)?;
    let force = words("force", body.force.as_deref(), REASON_CHARS_MAX)?;
    act(shared, how, What::Walk(Walk { forward, to: body.to, force, decided_in: None })).await
}

type Asking = (State<Arc<Shared>>, Extension<Right>);

pub(super) async fn advance(
    (State(shared), Extension(right)): Asking,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    step(shared, right, headers, body, true).await
}

pub(super) async fn rollback(
    (State(shared), Extension(right)): Asking,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    step(shared, right, headers, body, false).await
}

pub(super) async fn validate(
    (State(shared), Extension(right)): Asking,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let (how, rest) = read(right, &headers, body, "validate").await?;
    let body: ValidateBody = parsed(rest)?;
    let rows = body.sample.unwrap_or(1_000);
    if body.sample.is_some_and(|rows| rows == 0 || rows > SAMPLE_MAX) {
        return Err(Refusal::unprocessable(format!("`sample` must be from 1 to {SAMPLE_MAX}")));
    }
    if let (Some(table), Some(key)) = (&body.table, &body.key) {
        if body.mode.is_some() || body.sample.is_some() {
            return Err(Refusal::unprocessable("`table` and `key` go without `mode` and `sample`"));
        }
        return act(shared.clone(), how, of_key(&shared, table, key)?).await;
    }
    if body.table.is_some() || body.key.is_some() {
        return Err(Refusal::unprocessable("`table` and `key` go together"));
    }
    let what = match (body.mode, body.sample) {
        (None | Some(Mode::Full), None) => Compare::Full,
        (Some(Mode::Incremental), None) => Compare::Incremental,
        (Some(Mode::Sample), _) | (None, Some(_)) => Compare::Sample(rows as usize),
        (Some(_), Some(_)) => return Err(Refusal::unprocessable("`sample` goes with mode `sample` only")),
    };
    act(shared, how, What::Validate(what)).await
}

/// Comparing one row.
pub(super) fn of_key(shared: &Shared, table: &str, key: &str) -> Result<What, Refusal> {
    if !shared.migration.tables.iter().any(|known| known.name() == table) {
        return Err(Refusal::not_found("there is no such table; /v1/tables lists them"));
    }
    let fits = !key.is_empty() && key.chars().count() <= KEY_CHARS_MAX && !key.chars().any(char::is_control);
    if !fits {
        return Err(Refusal::unprocessable(format!(
            "`key` has 1 to {KEY_CHARS_MAX} characters, none of them a control character"
        )));
    }
    Ok(What::Validate(Compare::Key { table: table.to_owned(), key: key.to_owned() }))
}

pub(super) async fn repair(
    (State(shared), Extension(right)): Asking,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let (how, rest) = read(right, &headers, body, "repair").await?;
    let body: RepairBody = parsed(rest)?;
    let max = body.max.unwrap_or(10_000);
    if !(1..=SAMPLE_MAX).contains(&max) {
        return Err(Refusal::unprocessable(format!("`max` must be from 1 to {SAMPLE_MAX}")));
    }
    act(shared, how, What::Repair { max: max as usize, last: body.last }).await
}

pub(super) async fn test_operation(
    (State(shared), Extension(right)): Asking,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let (how, rest) = read(right, &headers, body, "test-operation").await?;
    let NothingElse {} = parsed(rest)?;
    act(shared, how, What::TestOperation).await
}

/// Does what the new route of an alias does, with the fields that every body may hold, and no other: 1. A
/// script asks for a dry run of a step. 2. Were the body left aside, the step would be taken.
pub(super) async fn alias(
    shared: Arc<Shared>,
    right: Right,
    (headers, body): (&HeaderMap, Body),
    route: &str,
    what: What,
) -> Answer {
    let (how, rest) = read(right, headers, body, route).await?;
    let NothingElse {} = parsed(rest)?;
    act(shared, how, what).await
}
