//! Statements on `integration_logs`.

use chrono::{DateTime, Utc};
use lockstep_core::Json;
use lockstep_integration_logs::IntegrationLog;
use sqlx::{PgConnection, Postgres, QueryBuilder, Result};

use crate::writers::known::{Effect, Ids};

pub(super) async fn insert(connection: &mut PgConnection, logs: &[IntegrationLog]) -> Result<Effect> {
    let log_ids: Vec<i64> = insertion(logs, None).build_query_scalar().fetch_all(connection).await?;
    Ok(Effect { rows: log_ids.len() as u64, logs_born: log_ids, ..Effect::default() })
}

pub(super) async fn touch(
    connection: &mut PgConnection,
    log_ids: &[i64],
    to: &IntegrationLog,
) -> Result<Effect> {
    let touched: Vec<i64> = sqlx::query_scalar(
        "UPDATE integration_logs SET application_id = $2, response_data = $3::jsonb, status_code = $4, is_success = $5, \
         error_message = $6, processing_time_ms = $7, correlation_id = $8, user_id = $9 \
         WHERE log_id = ANY($1) RETURNING log_id",
    )
    .bind(log_ids)
    .bind(to.application_id)
    .bind(to.response_data.as_ref().map(Json::as_str))
    .bind(&to.status_code)
    .bind(to.is_success)
    .bind(&to.error_message)
    .bind(to.processing_time_ms)
    .bind(&to.correlation_id)
    .bind(&to.user_id)
    .fetch_all(connection)
    .await?;
    let gone = log_ids.iter().copied().filter(|id| !touched.contains(id)).collect();
    Ok(Effect { rows: touched.len() as u64, logs_gone: gone, ..Effect::default() })
}

pub(super) async fn change_key(
    connection: &mut PgConnection,
    log_id: i64,
    service_name: Option<&str>,
    log_timestamp: Option<DateTime<Utc>>,
) -> Result<Effect> {
    let done = sqlx::query(
        "UPDATE integration_logs SET service_name = coalesce($2, service_name), log_timestamp = coalesce($3, log_timestamp) \
         WHERE log_id = $1",
    )
    .bind(log_id)
    .bind(service_name)
    .bind(log_timestamp)
    .execute(connection)
    .await?;
    Ok(of_one(log_id, done.rows_affected()))
}

pub(super) async fn delete(connection: &mut PgConnection, log_id: i64) -> Result<Effect> {
    let done = sqlx::query("DELETE FROM integration_logs WHERE log_id = $1")
        .bind(log_id)
        .execute(connection)
        .await?;
    Ok(Effect { rows: done.rows_affected(), logs_gone: vec![log_id], ..Effect::default() })
}

pub(super) async fn reinsert(
    connection: &mut PgConnection,
    log_id: i64,
    to: &IntegrationLog,
) -> Result<Effect> {
    let gone: Option<(String, DateTime<Utc>)> = sqlx::query_as(
        "DELETE FROM integration_logs WHERE log_id = $1 RETURNING service_name, log_timestamp",
    )
    .bind(log_id)
    .fetch_optional(&mut *connection)
    .await?;
    let Some((service_name, log_timestamp)) = gone else { return Ok(of_one(log_id, 0)) };
    let log = IntegrationLog { service_name, log_timestamp, ..to.clone() };
    insertion(&[log], Some(log_id)).build().execute(connection).await?;
    Ok(of_one(log_id, 2))
}

/// Draws ids from the range that the table covers, and keeps those that exist.
pub(super) async fn known(
    connection: &mut PgConnection,
    draw: &mut impl FnMut(i64, i64) -> Vec<i64>,
) -> Result<Ids> {
    let range: (Option<i64>, Option<i64>) =
        sqlx::query_as("SELECT min(log_id), max(log_id) FROM integration_logs")
            .fetch_one(&mut *connection)
            .await?;
    let (Some(first), Some(last)) = range else { return Ok(Ids::default()) };
    let ids: Vec<i64> =
        sqlx::query_scalar("SELECT log_id FROM integration_logs WHERE log_id = ANY($1) ORDER BY log_id")
            .bind(draw(first, last))
            .fetch_all(connection)
            .await?;
    Ok(Ids::new(ids))
}

fn of_one(log_id: i64, rows: u64) -> Effect {
    Effect { rows, logs_gone: if rows == 0 { vec![log_id] } else { Vec::new() }, ..Effect::default() }
}

/// Returns an `INSERT` of these logs. Their ids come from the sequence, unless one is given, for one log.
fn insertion(logs: &[IntegrationLog], log_id: Option<i64>) -> QueryBuilder<Postgres> {
    let mut sql = QueryBuilder::new(if log_id.is_some() {
        "INSERT INTO integration_logs (log_id, "
    } else {
        "INSERT INTO integration_logs ("
    });
    sql.push(
        "application_id, log_type, service_name, request_data, response_data, status_code, is_success, error_message, \
         processing_time_ms, log_timestamp, correlation_id, user_id) ",
    );
    sql.push_values(logs, |mut values, log| {
        if let Some(log_id) = log_id {
            values.push_bind(log_id);
        }
        values.push_bind(log.application_id).push_bind(&log.log_type).push_bind(&log.service_name);
        for document in [&log.request_data, &log.response_data] {
            values.push_bind(document.as_ref().map(Json::as_str)).push_unseparated("::jsonb");
        }
        values
            .push_bind(&log.status_code)
            .push_bind(log.is_success)
            .push_bind(&log.error_message)
            .push_bind(log.processing_time_ms)
            .push_bind(log.log_timestamp)
            .push_bind(&log.correlation_id)
            .push_bind(&log.user_id);
    });
    sql.push(" RETURNING log_id");
    sql
}
