//! Routes of the reference application, for scripts that know them. Each does what a route of `/v1` does,
//! under the same tokens.

use std::str::FromStr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Extension, Path, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use chrono::{DateTime, TimeDelta, Utc};
use lockstep_core::{Moment, Phase, Window};
use serde::Deserialize;
use serde_json::json;

use super::acts::{alias, of_key};
use super::answer::{Refusal, ok_json};
use super::body::query;
use super::perform::{Answer, What};
use super::tokens::Right;
use crate::operator::{Compare, Walk};
use crate::shared::Shared;

type Asking = (State<Arc<Shared>>, Extension<Right>);

fn to(phase: Phase) -> What {
    What::Walk(Walk { forward: true, to: Some(phase), force: None, decided_in: None })
}

pub(super) async fn enable_dual_write(
    (State(shared), Extension(right)): Asking,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    alias(shared, right, (&headers, body), "enable-dual-write", to(Phase::DualWrite)).await
}

pub(super) async fn switch_to_dynamo_reads(
    (State(shared), Extension(right)): Asking,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    alias(shared, right, (&headers, body), "switch-to-dynamo-reads", to(Phase::HybridRead)).await
}

pub(super) async fn disable_sql_writes(
    (State(shared), Extension(right)): Asking,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    alias(shared, right, (&headers, body), "disable-sql-writes", to(Phase::DynamoOnly)).await
}

pub(super) async fn test_dual_write(
    (State(shared), Extension(right)): Asking,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    alias(shared, right, (&headers, body), "test-dual-write", What::TestOperation).await
}

/// Days as the reference's scripts name them.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Days {
    start_date: Option<String>,
    end_date: Option<String>,
}

/// Compares the days that are named, and the last one where none is, as the reference does. No gate takes it
/// for a verdict.
pub(super) async fn validate_consistency(
    (State(shared), Extension(right)): Asking,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let days: Days = query(&uri)?;
    let window = window(&days, Utc::now()).map_err(|why| Refusal::bad_request(&why))?;
    alias(shared, right, (&headers, body), "validate-consistency", What::Validate(Compare::Days(window)))
        .await
}

fn window(days: &Days, now: DateTime<Utc>) -> Result<Window, String> {
    let moment = |text: &Option<String>| text.as_deref().map(Moment::from_str).transpose();
    let (start, end) = (moment(&days.start_date)?.map(|at| at.0), moment(&days.end_date)?.map(|at| at.0));
    let start = start.or_else(|| Some(end.unwrap_or(now) - TimeDelta::days(1)));
    if start.zip(end).is_some_and(|(start, end)| start >= end) {
        return Err("startDate is not before endDate".to_owned());
    }
    Ok(Window { start, end })
}

/// Compares the row of the path with its item.
pub(super) async fn validate_sync(
    (State(shared), Extension(right)): Asking,
    place: Result<Path<(String, String)>, PathRejection>,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let Path((table, key)) = place.map_err(|_| Refusal::bad_request("the table or the key does not read"))?;
    if right != Right::Operate {
        return Err(Refusal::forbidden());
    }
    let what = of_key(&shared, &table, &key)?;
    alias(shared, right, (&headers, body), "validate-sync", what).await
}

pub(super) async fn metrics(
    State(shared): State<Arc<Shared>>,
) -> Result<axum::http::Response<Body>, Refusal> {
    let snapshot = shared.snapshot.borrow().clone();
    let tables = snapshot.status.as_ref().map(|status| &status.tables);
    Ok(ok_json(
        StatusCode::OK,
        &json!({ "tables": tables, "rates": snapshot.rates, "health": snapshot.health }),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_day_is_compared_where_none_is_named_and_days_the_wrong_way_round_are_refused() {
        let now = DateTime::from_timestamp(1_700_000_000, 0).expect("a moment");
        let of = |start: Option<&str>, end: Option<&str>| {
            let days = Days { start_date: start.map(str::to_owned), end_date: end.map(str::to_owned) };
            window(&days, now).map(|window| (window.start.map(|at| at.to_rfc3339()), window.end))
        };
        let day = |text: &str| Some(format!("{text}+00:00"));
        assert_eq!(of(None, None), Ok((day("2023-11-13T22:13:20"), None)));
        assert_eq!(of(Some("2023-11-01"), None), Ok((day("2023-11-01T00:00:00"), None)));
        let (start, end) = of(None, Some("2023-11-03")).expect("the day before");
        assert_eq!(
            (start, end.map(|at| at.to_rfc3339())),
            (day("2023-11-02T00:00:00"), day("2023-11-03T00:00:00"))
        );
        for (start, end) in
            [("2023-11-03", "2023-11-03"), ("2023-11-04", "2023-11-03"), ("yesterday", "2023-11-03")]
        {
            assert!(of(Some(start), Some(end)).is_err(), "{start} {end}");
        }
    }
}
