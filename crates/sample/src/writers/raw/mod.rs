//! Operations in plain SQL, by a program that has never heard of Lockstep.

mod logs;
mod payments;

use sqlx::{Connection, PgConnection, Result};

use super::known::{Effect, Known};
use super::operation::Operation;

/// Does one operation. What `Ok` reports is committed; after an error nothing of a single statement or of a
/// transaction remains, unless the error is a lost connection.
///
/// # Errors
/// PostgreSQL's. The connection may be used again if the error came from the server and did not end the
/// session.
pub(super) async fn execute(connection: &mut PgConnection, operation: &Operation) -> Result<Effect> {
    match operation {
        Operation::InsertLog(log) => logs::insert(connection, std::slice::from_ref(log)).await,
        Operation::InsertLogs(rows) => logs::insert(connection, rows).await,
        Operation::TouchLog { log_id, to } => logs::touch(connection, &[*log_id], to).await,
        Operation::TouchLogs { log_ids, to } => logs::touch(connection, log_ids, to).await,
        Operation::MoveLog { log_id, service_name, log_timestamp } => {
            logs::change_key(connection, *log_id, service_name.as_deref(), *log_timestamp).await
        }
        Operation::DeleteLog { log_id } => logs::delete(connection, *log_id).await,
        Operation::ReinsertLog { log_id, to, together: false } => {
            logs::reinsert(connection, *log_id, to).await
        }
        Operation::ReinsertLog { log_id, to, together: true } => {
            let mut transaction = connection.begin().await?;
            let effect = logs::reinsert(&mut transaction, *log_id, to).await?;
            transaction.commit().await?;
            Ok(effect)
        }
        Operation::InsertPayment(payment) => {
            payments::insert(connection, std::slice::from_ref(payment)).await
        }
        Operation::InsertPayments(rows) => payments::insert(connection, rows).await,
        Operation::TouchPayment { payment_id, to } => payments::touch(connection, *payment_id, to).await,
        Operation::MovePayment { payment_id, customer_id, payment_date } => {
            payments::change_key(connection, *payment_id, *customer_id, *payment_date).await
        }
        Operation::DeletePayment { payment_id } => payments::delete(connection, *payment_id).await,
        Operation::ReinsertPayment { payment_id, to, together: false } => {
            payments::reinsert(connection, *payment_id, to).await
        }
        Operation::ReinsertPayment { payment_id, to, together: true } => {
            let mut transaction = connection.begin().await?;
            let effect = payments::reinsert(&mut transaction, *payment_id, to).await?;
            transaction.commit().await?;
            Ok(effect)
        }
        Operation::PayAndLog { payment, log } => {
            let mut transaction = connection.begin().await?;
            let paid = payments::insert(&mut transaction, std::slice::from_ref(payment)).await?;
            let logged = logs::insert(&mut transaction, std::slice::from_ref(log)).await?;
            transaction.commit().await?;
            Ok(both(paid, logged))
        }
        Operation::SettleAndLog { payment_id, to, log } => {
            let mut transaction = connection.begin().await?;
            let settled = payments::touch(&mut transaction, *payment_id, to).await?;
            let logged = logs::insert(&mut transaction, std::slice::from_ref(log)).await?;
            transaction.commit().await?;
            Ok(both(settled, logged))
        }
        Operation::RollBack { payment, log } => {
            let mut transaction = connection.begin().await?;
            let paid = payments::insert(&mut transaction, std::slice::from_ref(payment)).await?;
            let logged = logs::insert(&mut transaction, std::slice::from_ref(log)).await?;
            transaction.rollback().await?;
            // Done as meant, and no row is left to know of.
            Ok(Effect { rows: paid.rows + logged.rows, ..Effect::default() })
        }
    }
}

/// Rows that exist, out of ids drawn from the range that each table covers.
pub(super) async fn known(
    connection: &mut PgConnection,
    draw: &mut (impl FnMut(i64, i64) -> Vec<i64> + Send),
) -> Result<Known> {
    Ok(Known {
        logs: logs::known(connection, draw).await?,
        payments: payments::known(connection, draw).await?,
    })
}

fn both(a: Effect, b: Effect) -> Effect {
    Effect {
        rows: a.rows + b.rows,
        logs_born: [a.logs_born, b.logs_born].concat(),
        logs_gone: [a.logs_gone, b.logs_gone].concat(),
        payments_born: [a.payments_born, b.payments_born].concat(),
        payments_gone: [a.payments_gone, b.payments_gone].concat(),
    }
}
