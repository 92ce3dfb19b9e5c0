//! The plan (R50) as a route: what the move takes, from samples of the source.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, StatusCode};
use chrono::Utc;
use lockstep_coordinator::{Assumptions, COUNTED_PAGES_MAX, estimate};
use lockstep_core::settings::{CANARY_PERCENT, WRITE_UNITS_PER_S_MAX};
use lockstep_core::{Error, Kind};
use serde_json::{Value, json};

use super::answer::{Refusal, ok_json};
use crate::shared::Shared;

/// A plan is reckoned again after this. It reads some hundred rows of each table: 1. Ten pages ask for it
/// every second. 2. The source would be sampled more than it is used.
const FRESH: Duration = Duration::from_secs(60);
/// Longest time that one may take.
const WITHIN: Duration = Duration::from_secs(20);

/// Answers with the plan: the newest one, or a new one that all who wait for it share. DynamoDB is not asked.
pub(super) async fn plan(State(shared): State<Arc<Shared>>) -> Result<Response<Body>, Refusal> {
    let mut kept = shared.plan.lock().await;
    let assumed = assumptions(&shared);
    if let Some((at, of, plan)) = &*kept
        && at.elapsed() < FRESH
        && *of == assumed
    {
        return Ok(ok_json(StatusCode::OK, plan));
    }
    let migration = &shared.migration;
    let reckoning = estimate(&migration.source, &migration.tables, &assumed);
    let estimate = match tokio::time::timeout(WITHIN, reckoning).await {
        Ok(reckoned) => reckoned.map_err(|error| Refusal::of_store(&error))?,
        Err(_) => {
            let why = format!("PostgreSQL did not answer within {} s", WITHIN.as_secs());
            return Err(Refusal::of_store(&Error::source(Kind::Unavailable, "reckoning the plan", why)));
        }
    };
    let mut plan = json!(estimate);
    plan["reckoned_at"] = json!(Utc::now());
    *kept = Some((Instant::now(), assumed, plan.clone()));
    Ok(ok_json(StatusCode::OK, &plan))
}

/// Returns the assumptions of the plan: as everywhere, what operators have turned goes before what is
/// configured.
fn assumptions(shared: &Shared) -> Assumptions {
    let settings = shared.settings.borrow();
    let turned = |name: &str| settings.iter().find(|row| row.name == name).map(|row| &row.value);
    let configured = shared.migration.options.backfill.write_units_per_s_max;
    Assumptions {
        options: shared.monitor.prices.clone(),
        write_units_per_s_max: turned(WRITE_UNITS_PER_S_MAX).and_then(Value::as_u64).or(configured),
        canary_percent: turned(CANARY_PERCENT)
            .and_then(Value::as_f64)
            .unwrap_or(shared.monitor.canary_percent),
        counted_pages_max: COUNTED_PAGES_MAX,
    }
}
