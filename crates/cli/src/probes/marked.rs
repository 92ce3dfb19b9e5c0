//! The marked rows of the coordinated check (R26).
//!
//! Ids are reserved: the greatest there are, which no sequence reaches. A payment must belong to a loan and a customer that
//! exist, so it is the check's own payment of one hundredth, pending, on some loan, for a few milliseconds.

use chrono::{DateTime, SubsecRound, Utc};
use lockstep::store::Writer;
use lockstep_coordinator::{Marked, MarkedRow};
use lockstep_core::{Doing, Scaled};
use lockstep_dynamo::Target;
use lockstep_integration_logs::IntegrationLog;
use lockstep_payments::Payment;
use lockstep_postgres::{Source, TableBinding};
use sqlx::AssertSqlSafe;
use sqlx::types::Decimal;

use super::handles::{Handle, handle};
use crate::registry::Tables;

/// Primary key of each marked row.
pub const RESERVED_ID: i64 = i64::MAX;
/// What says in every text column that this is no business of anybody's.
pub const MARK: &str = "lockstep-test-operation";

/// The marked row of each table, and why a table has none.
pub type MarkedRows = (Vec<Box<dyn MarkedRow>>, Vec<String>);

/// Makes the marked rows.
///
/// # Errors
/// When the source does not answer.
pub async fn marked_rows(
    tables: &Tables,
    bindings: &[TableBinding],
    stores: (&Source, &Target),
    writer: &Writer,
) -> anyhow::Result<MarkedRows> {
    let (mut rows, mut left_out): MarkedRows = Default::default();
    let at = Utc::now().trunc_subsecs(0);
    for binding in bindings {
        let (target, name) = (stores.1.clone(), binding.target_name.clone());
        match handle(tables, binding, writer) {
            Some(Handle::Logs(store)) => rows.push(Box::new(Marked::new(store, target, name, RESERVED_ID, log(at)))),
            Some(Handle::Payments(store)) => match some_loan(stores.0, binding).await? {
                Some(loan) => rows.push(Box::new(Marked::new(store, target, name, RESERVED_ID, payment(at, loan)?))),
                None => left_out.push(format!("{}: there is no loan that a payment could belong to", binding.name())),
            },
            None => left_out.push(format!("{}: no marked row is defined for it", binding.name())),
        }
    }
    Ok((rows, left_out))
}

/// A loan and its customer: of a payment, or, before the first one, from where the sample keeps loans.
async fn some_loan(source: &Source, payments: &TableBinding) -> anyhow::Result<Option<(i64, i64)>> {
    let doing = "looking for a loan";
    for relation in [payments.relation.sql(), "loans".to_owned()] {
        // What is not there is the gates' to refuse.
        let there: bool = sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL")
            .bind(&relation)
            .fetch_one(source.pool())
            .await
            .doing(doing)?;
        let sql = format!("SELECT loan_id::bigint, customer_id::bigint FROM {relation} LIMIT 1");
        if there && let Some(loan) = sqlx::query_as(AssertSqlSafe(sql)).fetch_optional(source.pool()).await.doing(doing)? {
            return Ok(Some(loan));
        }
    }
    Ok(None)
}

fn log(at: DateTime<Utc>) -> IntegrationLog {
    IntegrationLog {
        log_id: RESERVED_ID,
        application_id: None,
        log_type: MARK.to_owned(),
        service_name: MARK.to_owned(),
        request_data: None,
        response_data: None,
        status_code: Some("TEST".to_owned()),
        is_success: true,
        error_message: None,
        processing_time_ms: None,
        log_timestamp: at,
        correlation_id: Some(MARK.to_owned()),
        user_id: None,
    }
}

fn payment(at: DateTime<Utc>, (loan_id, customer_id): (i64, i64)) -> anyhow::Result<Payment> {
    Ok(Payment {
        payment_id: RESERVED_ID,
        customer_id,
        loan_id,
        payment_amount: Scaled::new(Decimal::new(1, 2))?,
        currency: "EUR".to_owned(),
        payment_date: at,
        payment_method: MARK.to_owned(),
        payment_status: "Pending".to_owned(),
        transaction_reference: Some(MARK.to_owned()),
        processed_date: None,
        created_date: at,
        updated_date: None,
    })
}
