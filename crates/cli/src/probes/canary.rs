//! The canary reads of both tables: every kind of query, with the arguments of rows that there are.

use std::sync::Arc;

use chrono::TimeDelta;
use lockstep::store::{Selection, Store, Writer};
use lockstep_coordinator::CanaryRead;
use lockstep_core::{Doing, MigratableTable};
use lockstep_integration_logs::{IntegrationLog, IntegrationLogs, LogQueries};
use lockstep_payments::{Payment, PaymentQueries, Payments};
use lockstep_postgres::{Source, TableBinding};
use sqlx::AssertSqlSafe;

use super::handles::{Handle, handle};
use crate::registry::Tables;

/// Most rows that one read compares.
const ROWS_MAX: usize = 50;

/// Makes the reads: for each table, from its first row, its last one and one between.
///
/// # Errors
/// When the source does not answer.
pub async fn canary_reads(
    tables: &Tables,
    bindings: &[TableBinding],
    source: &Source,
    writer: &Writer,
) -> anyhow::Result<Vec<CanaryRead>> {
    let mut reads = Vec::new();
    for binding in bindings {
        let ids = some_ids(source, binding).await?;
        match handle(tables, binding, writer) {
            Some(Handle::Logs(store)) => {
                for id in ids {
                    reads.extend(store.get_source(id).await?.iter().flat_map(|row| of_log(&store, row)));
                }
            }
            Some(Handle::Payments(store)) => {
                for id in ids {
                    reads.extend(store.get_source(id).await?.iter().flat_map(|row| of_payment(&store, row)));
                }
            }
            None => {}
        }
    }
    Ok(reads)
}

fn of_log(store: &Store<IntegrationLogs>, row: &IntegrationLog) -> Vec<CanaryRead> {
    let (at, hour) = (row.log_timestamp, TimeDelta::hours(1));
    let mut reads = vec![by_key(store, IntegrationLogs::key(row))];
    reads.extend(row.application_id.map(|id| canary("by application", store.by_application(id))));
    reads.extend(row.correlation_id.as_deref().map(|id| canary("by correlation", store.by_correlation(id))));
    reads.extend(store.by_service(&row.service_name, at - hour..at + hour).ok().map(|of| canary("by service and time", of)));
    reads.push(canary("errors of a day", store.errors_of_day(at.date_naive())));
    reads
}

fn of_payment(store: &Store<Payments>, row: &Payment) -> Vec<CanaryRead> {
    let around = || row.payment_date - TimeDelta::days(1)..row.payment_date + TimeDelta::days(1);
    vec![
        by_key(store, Payments::key(row)),
        canary("by customer", store.by_customer(row.customer_id, ..)),
        canary("by loan", store.by_loan(row.loan_id)),
        canary("by status and date", store.by_status(&row.payment_status, around())),
        canary("by method and date", store.by_method(&row.payment_method, around())),
    ]
}

fn canary<T: MigratableTable>(query: &'static str, selection: Selection<T>) -> CanaryRead {
    let selection = Arc::new(selection);
    let (in_source, in_target) = (selection.clone(), selection.clone());
    let read = CanaryRead::new(T::NAME, query, move || {
        let selection = selection.clone();
        async move { selection.compare(ROWS_MAX).await }
    });
    read.timed(
        move || {
            let selection = in_source.clone();
            async move { selection.ask_source(ROWS_MAX).await.map(|rows| rows as u64) }
        },
        move || {
            let selection = in_target.clone();
            async move { selection.ask_target(ROWS_MAX).await.map(|rows| rows as u64) }
        },
    )
}

fn by_key<T: MigratableTable>(store: &Store<T>, key: T::Key) -> CanaryRead {
    let one = Arc::new((store.clone(), key));
    let (in_source, in_target) = (one.clone(), one.clone());
    let read = CanaryRead::new(T::NAME, "by key", move || {
        let one = one.clone();
        async move { one.0.compare(&one.1).await }
    });
    read.timed(
        move || {
            let one = in_source.clone();
            async move { one.0.ask_source(&one.1).await.map(u64::from) }
        },
        move || {
            let one = in_target.clone();
            async move { one.0.ask_target(&one.1).await.map(u64::from) }
        },
    )
}

/// Primary keys of up to three rows, apart from each other.
async fn some_ids(source: &Source, binding: &TableBinding) -> anyhow::Result<Vec<i64>> {
    let doing = "choosing rows for canary reads";
    let (relation, id) = (binding.relation.sql(), binding.primary_key().next().unwrap_or_default());
    // What is not there is the gates' to refuse.
    let there: bool =
        sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL").bind(&relation).fetch_one(source.pool()).await.doing(doing)?;
    if !there {
        return Ok(Vec::new());
    }
    let sql = format!(
        "SELECT DISTINCT unnest(ARRAY[
             lo, hi, (SELECT min({id}) FROM {relation} WHERE {id} >= lo + (hi - lo) / 2)])::bigint
         FROM (SELECT min({id}) AS lo, max({id}) AS hi FROM {relation}) AS ends WHERE lo IS NOT NULL"
    );
    Ok(sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(source.pool()).await.doing(doing)?)
}
