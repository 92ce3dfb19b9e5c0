//! Statements on `payments`.

use chrono::{DateTime, Utc};
use lockstep_payments::Payment;
use sqlx::{PgConnection, Postgres, QueryBuilder, Result};

use crate::writers::known::{Effect, Ids};

pub(super) async fn insert(connection: &mut PgConnection, payments: &[Payment]) -> Result<Effect> {
    let payment_ids: Vec<i64> = insertion(payments, None).build_query_scalar().fetch_all(connection).await?;
    Ok(Effect { rows: payment_ids.len() as u64, payments_born: payment_ids, ..Effect::default() })
}

pub(super) async fn touch(connection: &mut PgConnection, payment_id: i64, to: &Payment) -> Result<Effect> {
    let done = sqlx::query(
        "UPDATE payments SET payment_amount = $2, payment_method = $3, payment_status = $4, transaction_reference = $5, \
         processed_date = CASE WHEN $6::timestamptz IS NOT NULL THEN greatest($6, created_date) END, \
         updated_date = CASE WHEN $7::timestamptz IS NOT NULL THEN greatest($7, created_date) END \
         WHERE payment_id = $1",
    )
    .bind(payment_id)
    .bind(to.payment_amount.get())
    .bind(&to.payment_method)
    .bind(&to.payment_status)
    .bind(&to.transaction_reference)
    .bind(to.processed_date)
    .bind(to.updated_date)
    .execute(connection)
    .await?;
    Ok(of_one(payment_id, done.rows_affected()))
}

pub(super) async fn change_key(
    connection: &mut PgConnection,
    payment_id: i64,
    customer_id: Option<i64>,
    payment_date: Option<DateTime<Utc>>,
) -> Result<Effect> {
    let done = sqlx::query(
        "UPDATE payments SET customer_id = coalesce($2, customer_id), payment_date = coalesce($3, payment_date) \
         WHERE payment_id = $1",
    )
    .bind(payment_id)
    .bind(customer_id)
    .bind(payment_date)
    .execute(connection)
    .await?;
    Ok(of_one(payment_id, done.rows_affected()))
}

pub(super) async fn delete(connection: &mut PgConnection, payment_id: i64) -> Result<Effect> {
    let done = sqlx::query("DELETE FROM payments WHERE payment_id = $1")
        .bind(payment_id)
        .execute(connection)
        .await?;
    Ok(Effect { rows: done.rows_affected(), payments_gone: vec![payment_id], ..Effect::default() })
}

pub(super) async fn reinsert(connection: &mut PgConnection, payment_id: i64, to: &Payment) -> Result<Effect> {
    let gone: Option<(i64, DateTime<Utc>)> =
        sqlx::query_as("DELETE FROM payments WHERE payment_id = $1 RETURNING customer_id, payment_date")
            .bind(payment_id)
            .fetch_optional(&mut *connection)
            .await?;
    let Some((customer_id, payment_date)) = gone else { return Ok(of_one(payment_id, 0)) };
    let payment = Payment { customer_id, payment_date, ..to.clone() };
    insertion(&[payment], Some(payment_id)).build().execute(connection).await?;
    Ok(of_one(payment_id, 2))
}

/// Draws ids from the range that the table covers, and keeps those that exist.
pub(super) async fn known(
    connection: &mut PgConnection,
    draw: &mut impl FnMut(i64, i64) -> Vec<i64>,
) -> Result<Ids> {
    let range: (Option<i64>, Option<i64>) =
        sqlx::query_as("SELECT min(payment_id), max(payment_id) FROM payments")
            .fetch_one(&mut *connection)
            .await?;
    let (Some(first), Some(last)) = range else { return Ok(Ids::default()) };
    let ids: Vec<i64> =
        sqlx::query_scalar("SELECT payment_id FROM payments WHERE payment_id = ANY($1) ORDER BY payment_id")
            .bind(draw(first, last))
            .fetch_all(connection)
            .await?;
    Ok(Ids::new(ids))
}

fn of_one(payment_id: i64, rows: u64) -> Effect {
    Effect { rows, payments_gone: if rows == 0 { vec![payment_id] } else { Vec::new() }, ..Effect::default() }
}

/// Returns an `INSERT` of these payments. Their ids come from the sequence, unless one is given, for one
/// payment.
fn insertion(payments: &[Payment], payment_id: Option<i64>) -> QueryBuilder<Postgres> {
    let mut sql = QueryBuilder::new(if payment_id.is_some() {
        "INSERT INTO payments (payment_id, "
    } else {
        "INSERT INTO payments ("
    });
    sql.push(
        "customer_id, loan_id, payment_amount, currency, payment_date, payment_method, payment_status, \
         transaction_reference, processed_date, created_date, updated_date) ",
    );
    sql.push_values(payments, |mut values, payment| {
        if let Some(payment_id) = payment_id {
            values.push_bind(payment_id);
        }
        values
            .push_bind(payment.customer_id)
            .push_bind(payment.loan_id)
            .push_bind(payment.payment_amount.get())
            .push_bind(&payment.currency)
            .push_bind(payment.payment_date)
            .push_bind(&payment.payment_method)
            .push_bind(&payment.payment_status)
            .push_bind(&payment.transaction_reference)
            .push_bind(payment.processed_date)
            .push_bind(payment.created_date)
            .push_bind(payment.updated_date);
    });
    sql.push(" RETURNING payment_id");
    sql
}
