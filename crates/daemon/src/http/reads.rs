//! Routes that read. Most of them answer from the newest reading; the others ask the source.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{Response, StatusCode, Uri};
use lockstep_core::Phase;
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::{Refusal, ok_json, raw_json};
use super::body::query;
use super::events::stream_to;
use crate::shared::Shared;
use crate::snapshot::Snapshot;
use crate::view::entry;

type Answer = Result<Response<Body>, Refusal>;

fn ok(value: &Value) -> Answer {
    Ok(ok_json(StatusCode::OK, value))
}

fn newest(shared: &Shared) -> Arc<Snapshot> {
    shared.snapshot.borrow().clone()
}

/// Refuses where there is no schema to read.
fn installed(shared: &Shared) -> Result<(), Refusal> {
    match &newest(shared).status {
        Some(status) if status.installed => Ok(()),
        Some(_) => Err(Refusal::conflict(
            "Lockstep is not installed in this source yet; run `migrate`, or `backfill`",
        )),
        None => Err(Refusal::not_read_yet()),
    }
}

pub(super) async fn status(State(shared): State<Arc<Shared>>) -> Answer {
    let snapshot = newest(&shared);
    if snapshot.json.is_empty() {
        return Err(Refusal::not_read_yet());
    }
    Ok(raw_json(StatusCode::OK, snapshot.json.clone()))
}

pub(super) async fn events(State(shared): State<Arc<Shared>>) -> Answer {
    stream_to(shared)
}

pub(super) async fn health(State(shared): State<Arc<Shared>>) -> Answer {
    let snapshot = newest(&shared);
    let role = shared.role.borrow().name();
    ok(&json!({
        "state": snapshot.health.state, "reasons": snapshot.health.reasons, "stores": snapshot.stores, "role": role,
        "alerts": snapshot.alerts,
    }))
}

fn tables_of(snapshot: &Snapshot) -> Vec<Value> {
    let tables = snapshot.status.iter().flat_map(|status| &status.tables);
    let described = tables.map(|table| {
        let mut view = json!(table);
        view["rates"] = json!(snapshot.rates.iter().find(|rate| rate.table == table.name));
        view
    });
    described.collect()
}

pub(super) async fn tables(State(shared): State<Arc<Shared>>) -> Answer {
    ok(&json!({ "tables": tables_of(&newest(&shared)) }))
}

pub(super) async fn table(
    State(shared): State<Arc<Shared>>,
    name: Result<Path<String>, PathRejection>,
) -> Answer {
    let name = name.map_err(|_| Refusal::bad_request("the name of the table does not read"))?.0;
    match tables_of(&newest(&shared)).into_iter().find(|table| table["name"] == name) {
        Some(table) => ok(&table),
        None => Err(Refusal::not_found("there is no such table; /v1/tables lists them")),
    }
}

pub(super) async fn instances(State(shared): State<Arc<Shared>>) -> Answer {
    let snapshot = newest(&shared);
    ok(
        &json!({ "instances": snapshot.status.as_ref().map(|status| &status.instances).unwrap_or(&Vec::new()) }),
    )
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Limit {
    limit: Option<i64>,
}

/// Most entries and letters of one answer.
const LIMIT_MAX: i64 = 500;

fn limit(asked: Option<i64>, default: i64) -> Result<i64, Refusal> {
    let limit = asked.unwrap_or(default);
    if (1..=LIMIT_MAX).contains(&limit) {
        Ok(limit)
    } else {
        Err(Refusal::unprocessable(format!("`limit` must be from 1 to {LIMIT_MAX}")))
    }
}

pub(super) async fn journal(State(shared): State<Arc<Shared>>, uri: Uri) -> Answer {
    let limit = limit(query::<Limit>(&uri)?.limit, 50)?;
    installed(&shared)?;
    let entries = shared.migration.source.journal(limit).await.map_err(|error| Refusal::of_store(&error))?;
    ok(&json!({ "entries": entries.iter().map(entry).collect::<Vec<_>>() }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Letters {
    table: Option<String>,
    limit: Option<i64>,
}

pub(super) async fn dead_letters(State(shared): State<Arc<Shared>>, uri: Uri) -> Answer {
    let asked: Letters = query(&uri)?;
    let limit = limit(asked.limit, 100)?;
    let tables: Vec<&'static str> = shared.migration.tables.iter().map(|table| table.name()).collect();
    let chosen: Vec<&str> =
        tables.into_iter().filter(|name| asked.table.as_deref().is_none_or(|asked| asked == *name)).collect();
    if chosen.is_empty() {
        return Err(Refusal::not_found("there is no such table; /v1/tables lists them"));
    }
    installed(&shared)?;
    let mut letters = Vec::new();
    for name in chosen {
        letters.extend(
            shared
                .migration
                .source
                .dead_letters(name, limit)
                .await
                .map_err(|error| Refusal::of_store(&error))?,
        );
    }
    ok(&json!({ "dead_letters": letters }))
}

/// Returns the newest verdict without its lists.
pub(super) async fn verdicts(State(shared): State<Arc<Shared>>) -> Answer {
    installed(&shared)?;
    let verdict =
        shared.migration.source.latest_verdict().await.map_err(|error| Refusal::of_store(&error))?;
    let verdict = verdict.map(|verdict| {
        json!({
            "at": verdict.at, "age_s": verdict.age_s, "epoch": verdict.epoch, "consistent": verdict.consistent,
            "report": crate::report::summary(&verdict.report),
        })
    });
    ok(&json!({ "verdict": verdict }))
}

/// Answers with what the newest verdict found: which keys and which columns, never what is in them.
pub(super) async fn findings(State(shared): State<Arc<Shared>>) -> Answer {
    installed(&shared)?;
    let verdict =
        shared.migration.source.latest_verdict().await.map_err(|error| Refusal::of_store(&error))?;
    let of = verdict.as_ref().map(|verdict| verdict.at);
    let findings = verdict.map(|verdict| crate::report::findings(&verdict.report)).unwrap_or_default();
    ok(&json!({ "findings": findings, "of": of }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct To {
    to: Option<String>,
}

/// Answers with what the next step, or the one to `to`, still waits for.
pub(super) async fn gates(State(shared): State<Arc<Shared>>, uri: Uri) -> Answer {
    let asked: To = query(&uri)?;
    let to = match asked.to {
        Some(name) => {
            let known = serde_json::from_value::<Phase>(Value::from(name));
            known.map_err(|_| {
                Refusal::unprocessable("`to` is PostgresOnly, DualWrite, HybridRead or DynamoOnly")
            })?
        }
        None => match newest(&shared).phase().and_then(Phase::next) {
            Some(next) => next,
            None => return Err(Refusal::conflict("there is no step further from here")),
        },
    };
    installed(&shared)?;
    let report = super::perform::gates(&shared, to).await?;
    ok(&json!({ "to": to, "passed": report.passed(), "gates": report.results }))
}

/// Answers with what was spent, and what will have been.
pub(super) async fn cost(State(shared): State<Arc<Shared>>) -> Answer {
    ok(&json!({ "spend": *shared.spend.borrow() }))
}

pub(super) async fn operations(State(shared): State<Arc<Shared>>) -> Answer {
    ok(&json!({ "operations": shared.operations.newest() }))
}

pub(super) async fn operation(
    State(shared): State<Arc<Shared>>,
    id: Result<Path<String>, PathRejection>,
) -> Answer {
    let id = id.map_err(|_| Refusal::bad_request("the id of the operation does not read"))?.0;
    match shared.operations.get(&id) {
        Some(operation) => ok(&json!(operation)),
        None => Err(Refusal::not_found(
            "this daemon knows of no such operation; /v1/operations lists the newest, the journal all",
        )),
    }
}
