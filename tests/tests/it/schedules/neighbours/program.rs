//! Program of each actor, drawn by the seed: statements that meet the triggers, references and policies, and
//! writes of an application through its stores.

use std::ops::Range;

use lockstep::migration::Migration;
use lockstep::operation::Operation;
use lockstep_integration_logs::{IntegrationLogs, OperationLogs};
use lockstep_payments::Payments;
use lockstep_tests::World;
use lockstep_tests::world::rows::{AT, log_row, outgrow, payment_row};
use rand::RngExt;
use rand::rngs::StdRng;

use super::bounded;

/// Rows that every actor writes.
pub(super) const IDS: Range<i64> = 1..13;

/// Names of services that are awkward in a key, as SQL has them.
const NAMES: [&str; 8] = [
    "'twin'",
    "''",
    "'a#b|c'",
    "E'two\\nlines'",
    "'\"quoted\" ''name'''",
    "repeat('ü', 900)",
    "'Ünïcödé ✓'",
    "(SELECT string_agg(md5(i::text), '') FROM generate_series(1, 50) AS i)",
];

/// Draws one statement of a stranger.
fn statement(rng: &mut StdRng, teller: &str) -> String {
    let (id, other) = (rng.random_range(IDS), rng.random_range(IDS));
    let (token, name) = (rng.random_range(0..1_000), NAMES[rng.random_range(0..NAMES.len())]);
    match rng.random_range(0..20) {
        // The trigger changes the log of the same number.
        0 | 1 => format!(
            "UPDATE payments SET payment_status = 'S{}' WHERE payment_id IN ({id}, {other})",
            token % 3
        ),
        // Trigger before, which moves the key, and after, which writes the row once more.
        2 | 3 => format!(
            "UPDATE integration_logs SET user_id = 'U{token}', service_name = {name}
             WHERE log_id = {id}"
        ),
        4 => format!(
            "UPDATE integration_logs SET user_id = 'U{token}'
             WHERE log_id BETWEEN {id} AND {id} + 3"
        ),
        // Cascades to the logs and to receipts, which stay; or is kept.
        5 | 6 => format!("DELETE FROM payments WHERE payment_id = {id}"),
        7 => format!("UPDATE payments SET payment_method = 'Kept' WHERE payment_id = {id}"),
        8 | 9 => format!(
            "INSERT INTO payments (payment_id, customer_id, loan_id, payment_amount, currency, payment_date,
                 payment_method, payment_status, created_date)
             VALUES ({id}, {other}, 1, {token}, 'EUR', '{AT}', 'Card', 'New', '{AT}') ON CONFLICT DO NOTHING"
        ),
        10 | 11 => format!(
            "INSERT INTO integration_logs (log_id, application_id, log_type, service_name, is_success,
                 log_timestamp, user_id)
             VALUES ({id}, (SELECT max(payment_id) FROM payments WHERE payment_id <= {other}), 'Check',
                 {name}, true, '{AT}', 'U{token}')
             ON CONFLICT (log_id) DO UPDATE SET service_name = excluded.service_name,
                 application_id = excluded.application_id"
        ),
        12 => format!("DELETE FROM integration_logs WHERE log_id = {id}"),
        // A table that stays changes rows that move.
        13 => format!("UPDATE partners SET name = 'op-{token}' WHERE partner_id = 1 + {id} % 2"),
        14 => format!("DELETE FROM partners WHERE partner_id = 1 + {id} % 2 AND {token} % 4 = 0"),
        // Sees half of the rows.
        15 => format!(
            "SET LOCAL ROLE {teller};
             UPDATE payments SET customer_id = 1 + {other} WHERE payment_id <= {id}"
        ),
        16 => format!("SET LOCAL ROLE {teller}; DELETE FROM payments WHERE payment_id = {id}"),
        // No item can hold it, and then one can.
        17 => {
            format!("UPDATE payments SET payment_amount = 'NaN' WHERE payment_id = {id}; {}", outgrow(other))
        }
        18 => format!(
            "UPDATE payments SET payment_amount = {token} WHERE payment_amount = 'NaN';
             UPDATE integration_logs SET error_message = NULL WHERE length(error_message) > 1000"
        ),
        // The parent is another row, and the child comes first.
        _ => format!(
            "DELETE FROM integration_logs WHERE log_id = {id};
             UPDATE integration_logs SET log_id = {id} WHERE log_id = {other};
             UPDATE integration_logs SET application_id = NULL WHERE log_id = {id}"
        ),
    }
}

/// Statements of a stranger; how many PostgreSQL took.
pub(super) async fn strange(world: &World, rng: &mut StdRng, times: usize) -> usize {
    let teller = format!("{}_teller", world.value::<String>("SELECT current_database()::text").await);
    let mut taken = 0;
    for _ in 0..times {
        let sql = statement(rng, &teller);
        match bounded(&sql, world.try_sql(&sql)).await {
            Ok(_) => taken += 1,
            // Refused by a reference, a deadlock, a time-out: nothing was changed.
            Err(sqlx::Error::Database(_)) => {}
            Err(error) => panic!("{sql}: {error}"),
        }
    }
    taken
}

/// Writes of an application; how many were acknowledged.
pub(super) async fn apply(app: &Migration, rng: &mut StdRng, times: usize) -> usize {
    let (logs, payments) = (app.store::<IntegrationLogs>(), app.store::<Payments>());
    let mut acknowledged = 0;
    for _ in 0..times {
        let (id, token) = (rng.random_range(IDS), format!("A{}", rng.random_range(0..1_000)));
        let done = match rng.random_range(0..6) {
            0 => bounded("put of a log", logs.put(&log_row(id, &token))).await.is_ok(),
            1 => bounded("put of a payment", payments.put(&payment_row(id, 1 + id, &token))).await.is_ok(),
            2 => {
                let change = move |log: &mut lockstep_integration_logs::IntegrationLog| {
                    log.user_id = Some(token.clone())
                };
                bounded("update of a log", logs.update(id, change)).await.is_ok()
            }
            3 => bounded("delete of a payment", payments.delete(id)).await.is_ok(),
            4 => bounded("delete of a log", logs.delete(id)).await.is_ok(),
            _ => {
                let sink = std::sync::Arc::new(OperationLogs::of("neighbours"));
                let both = Operation::run(app, sink, "Both", &token, async |operation| {
                    operation.put(&payments, &payment_row(id, 1, &token)).await?;
                    operation.put(&logs, &log_row(id, &token)).await
                });
                bounded("operation", both).await.is_ok()
            }
        };
        acknowledged += usize::from(done);
    }
    acknowledged
}
