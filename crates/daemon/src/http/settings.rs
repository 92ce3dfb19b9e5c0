//! Settings, ramps and pauses that operators turn while everything runs, each with who, why and until when.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, StatusCode};
use lockstep_core::settings::{PAUSE, RAMP, Ramp, Takes, known, of_name};
use lockstep_postgres::{SettingRow, Turn};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::acts::read;
use super::answer::{Refusal, ok_json};
use super::body::parsed;
use super::perform::{Answer, How, is_installed, require_leader};
use super::tokens::Right;
use crate::part::{PAUSABLE, PAUSED_BY_DEFAULT};
use crate::shared::Shared;

/// Longest that something is turned for: ten years are for good, and later moments are none to PostgreSQL.
const FOR_S_MAX: u64 = 10 * 365 * 24 * 3600;

/// Bytes of a request's digest that are kept: enough that no two requests of a person are alike.
const DIGEST_BYTES: usize = 16;

type Asking = (State<Arc<Shared>>, Extension<Right>);

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct PauseBody {
    parts: Option<Vec<String>>,
    for_s: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct SettingsBody {
    #[serde(default)]
    set: Map<String, Value>,
    for_s: Option<u64>,
    ramp: Option<RampBody>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RampBody {
    name: String,
    steps: Vec<f64>,
    hold_s: u64,
}

/// Changes, by name; `None` takes one back.
type Changes = Vec<(String, Option<Value>)>;

fn seconds(for_s: Option<u64>) -> Result<Option<Duration>, Refusal> {
    match for_s {
        Some(s) if s == 0 || s > FOR_S_MAX => {
            Err(Refusal::unprocessable(format!("`for_s` must be from 1 to {FOR_S_MAX}")))
        }
        s => Ok(s.map(Duration::from_secs)),
    }
}

pub(super) async fn pause(
    (State(shared), Extension(right)): Asking,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    set_pauses(shared, right, headers, body, true).await
}

pub(super) async fn resume(
    (State(shared), Extension(right)): Asking,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    set_pauses(shared, right, headers, body, false).await
}

async fn set_pauses(
    shared: Arc<Shared>,
    right: Right,
    headers: HeaderMap,
    body: Body,
    pause: bool,
) -> Answer {
    let route = if pause { "pause" } else { "resume" };
    let (how, rest) = read(right, &headers, body, route).await?;
    let body: PauseBody = parsed(rest)?;
    let default = || {
        // A resume that names no part is of everything that may rest.
        let parts: &[&str] = if pause { &PAUSED_BY_DEFAULT } else { &PAUSABLE };
        parts.iter().map(|part| (*part).to_owned()).collect()
    };
    let parts: Vec<String> = body.parts.unwrap_or_else(default);
    if let Some(unknown) = parts.iter().find(|part| !PAUSABLE.contains(&part.as_str())) {
        return Err(Refusal::unprocessable(format!(
            "`{unknown}` cannot be paused; these can: {}",
            PAUSABLE.join(", ")
        )));
    }
    let set =
        parts.iter().map(|part| (format!("{PAUSE}{part}"), pause.then_some(Value::Bool(true)))).collect();
    let would = would(&set);
    turn(&shared, &how, set, seconds(body.for_s)?, None).await?;
    let paused = shared.migration.source.settings().await.map_err(|error| Refusal::of_store(&error))?;
    let paused: Vec<Value> = paused
        .iter()
        .filter_map(|row| {
            let part = row.name.strip_prefix(PAUSE)?;
            Some(json!({ "part": part, "actor": row.actor, "reason": row.reason, "until": row.until }))
        })
        .collect();
    Ok(ok_json(
        StatusCode::OK,
        &json!({ "dry_run": how.dry_run, "would": how.dry_run.then_some(would), "paused": paused }),
    ))
}

/// Answers with what is in force, and what there is to set.
pub(super) async fn list(State(shared): State<Arc<Shared>>) -> Answer {
    Ok(ok_json(StatusCode::OK, &json!({ "settings": by_name(&shared.settings.borrow()), "known": known() })))
}

pub(super) async fn settings(
    (State(shared), Extension(right)): Asking,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let (how, rest) = read(right, &headers, body, "settings").await?;
    let body: SettingsBody = parsed(rest)?;
    let during = seconds(body.for_s)?;
    let mut set = Changes::new();
    for (name, value) in body.set {
        let knob = of_name(&name).map_err(Refusal::unprocessable)?;
        let value = match (knob.takes, value) {
            (_, Value::Null) | (Takes::Yes, Value::Bool(false)) => None,
            (_, value) => Some(knob.checked(&value).map_err(Refusal::unprocessable)?),
        };
        if knob.takes == Takes::Percent {
            // Turned by hand, it is not led any more.
            set.push((format!("{RAMP}{name}"), None));
        }
        set.push((name, value));
    }
    let would = would(&set);
    turn(&shared, &how, set, during, body.ramp).await?;
    let rows = shared.migration.source.settings().await.map_err(|error| Refusal::of_store(&error))?;
    Ok(ok_json(
        StatusCode::OK,
        &json!({ "dry_run": how.dry_run, "would": how.dry_run.then_some(would), "settings": by_name(&rows) }),
    ))
}

/// Returns what a request would set, by name; `null` takes one back.
fn would(set: &Changes) -> Value {
    let named = set.iter().map(|(name, value)| (name.clone(), value.clone().unwrap_or(Value::Null)));
    json!({ "set": named.collect::<Map<String, Value>>() })
}

fn by_name(rows: &[SettingRow]) -> Map<String, Value> {
    rows.iter().map(|row| (row.name.clone(), json!(row))).collect()
}

async fn of_ramp(shared: &Shared, asked: RampBody, during: Option<Duration>) -> Result<Changes, Refusal> {
    let knob = of_name(&asked.name).map_err(Refusal::unprocessable)?;
    if knob.takes != Takes::Percent || during.is_some() {
        return Err(Refusal::unprocessable(
            "a ramp leads a percentage, and takes no `for_s`: it ends with its last step",
        ));
    }
    let now = shared.migration.source.clock().await.map_err(|error| Refusal::of_store(&error))?;
    let ramp = Ramp::new(asked.steps, asked.hold_s, now.timestamp_millis() as f64 / 1_000.0);
    let ramp = ramp.map_err(Refusal::unprocessable)?;
    Ok(vec![
        (knob.name.to_owned(), Some(Value::from(ramp.percent()))),
        (format!("{RAMP}{}", knob.name), Some(json!(ramp))),
    ])
}

/// Changes settings, with who and why in the journal, and once where a key names the request: 1. A resume is
/// asked for, and its answer is lost. 2. An operator pauses. 3. The request comes again, and would lift a
/// pause that it never meant.
async fn turn(
    shared: &Shared,
    how: &How,
    mut set: Changes,
    during: Option<Duration>,
    ramp: Option<RampBody>,
) -> Result<(), Refusal> {
    require_leader(shared)?;
    if !is_installed(shared) {
        return Err(Refusal::conflict(
            "Lockstep is not installed in this source yet; run `migrate`, or `backfill`",
        ));
    }
    // Two that come at once under one key are one.
    let _one_by_one = shared.turning.lock().await;
    if !how.dry_run && is_repeated(shared, how).await? {
        return Ok(());
    }
    if let Some(ramp) = ramp {
        set.extend(of_ramp(shared, ramp, during).await?);
    }
    if how.dry_run || set.is_empty() {
        return Ok(());
    }
    let turns: Vec<Turn<'_>> = set
        .iter()
        .map(|(name, value)| Turn { name, value: value.as_ref(), during, ..Turn::default() })
        .collect();
    let more = match &how.key {
        Some(key) => json!({ "idempotency_key": key, "asked": digest(&how.request) }),
        None => json!({}),
    };
    let who = format!("{} via serve", how.actor);
    let turned = shared.migration.source.turn(&turns, &who, how.reason.as_deref(), &more).await;
    turned.map_err(|error| Refusal::of_store(&error))?;
    shared.look.notify_one();
    Ok(())
}

/// Tells whether the same was turned under this key already, by whichever daemon.
async fn is_repeated(shared: &Shared, how: &How) -> Result<bool, Refusal> {
    let Some(key) = &how.key else { return Ok(false) };
    let request = (key.clone(), how.request.clone());
    if shared.operations.known(Some(&request)).is_some() {
        return Err(Refusal::other_request());
    }
    let noted = shared.migration.source.noted_under(key).await.map_err(|error| Refusal::of_store(&error))?;
    let Some(entry) = noted else { return Ok(false) };
    // A version of before noted the key alone.
    let asked = entry.detail.get("asked");
    let is_same = asked.is_none_or(|asked| *asked == digest(&how.request));
    if entry.detail.get("operation").is_some() || !is_same {
        return Err(Refusal::other_request());
    }
    Ok(true)
}

/// Returns what stands for a request in the journal, where its words may be long.
fn digest(request: &str) -> String {
    hex::encode(&ring::digest::digest(&ring::digest::SHA256, request.as_bytes()).as_ref()[..DIGEST_BYTES])
}
