//! Writes of an application in DynamoOnly, where nothing asks what PostgreSQL will be asked when it comes
//! back: references to rows that are gone, long and odd keys, rows that move, names that a trigger would
//! change.

use std::collections::BTreeSet;

use lockstep::migration::Migration;
use lockstep::operation::Operation;
use lockstep_core::{MigratableTable, is_tombstone};
use lockstep_integration_logs::{IntegrationLog, IntegrationLogs, OperationLogs};
use lockstep_payments::Payments;
use lockstep_tests::World;
use lockstep_tests::world::rows::{log_row, payment_row};
use lockstep_tests::world::{LOGS, PAYMENTS};
use rand::RngExt;
use rand::rngs::StdRng;

use super::bounded;
use super::program::IDS;

/// Services, as `program` has them in SQL.
fn name(rng: &mut StdRng) -> String {
    match rng.random_range(0..8) {
        0 => "twin".to_owned(),
        1 => String::new(),
        2 => "a#b|c".to_owned(),
        3 => "two\nlines".to_owned(),
        4 => "\"quoted\" 'name'".to_owned(),
        5 => "ü".repeat(900),
        6 => "Ünïcödé ✓".to_owned(),
        _ => "0123456789abcdef".repeat(100),
    }
}

/// A log with every reference that there is, to a row that may be there or not.
fn log(rng: &mut StdRng, id: i64, token: &str) -> IntegrationLog {
    IntegrationLog {
        application_id: rng.random_bool(0.5).then(|| rng.random_range(IDS) as i32),
        correlation_id: rng.random_bool(0.5).then(|| format!("op-{}", rng.random_range(0..2))),
        service_name: name(rng),
        ..log_row(id, token)
    }
}

/// One write of an application, whatever its phase is; whether it was acknowledged. `breaks` says whether it
/// may refer to what is not there, or take away what is referred to.
pub(super) async fn write(app: &Migration, rng: &mut StdRng, token: &str, breaks: bool) -> bool {
    let (logs, payments) = (app.store::<IntegrationLogs>(), app.store::<Payments>());
    let id = rng.random_range(IDS);
    match rng.random_range(0..if breaks { 9 } else { 4 }) {
        0 => bounded("put of a payment", payments.put(&payment_row(id, 1 + id, token))).await.is_ok(),
        1 => {
            let customer_id = rng.random_range(IDS);
            let moves = move |payment: &mut lockstep_payments::Payment| payment.customer_id = customer_id;
            bounded("a payment that moves", payments.update(id, moves)).await.is_ok()
        }
        2 => {
            let (service_name, user_id) = (name(rng), token.to_owned());
            let moves = move |log: &mut IntegrationLog| {
                (log.service_name, log.user_id) = (service_name.clone(), Some(user_id.clone()));
            };
            bounded("a log that moves", logs.update(id, moves)).await.is_ok()
        }
        3 => {
            let method = if rng.random_bool(0.5) { "Kept" } else { "Card" };
            let kept = move |payment: &mut lockstep_payments::Payment| {
                payment.payment_method = method.to_owned();
            };
            bounded("a payment that is kept", payments.update(id, kept)).await.is_ok()
        }
        // What is logged of it refers to a partner that there never was.
        4 => {
            let sink = std::sync::Arc::new(OperationLogs::of("neighbours"));
            let both = Operation::run(app, sink, "Both", token, async |operation| {
                operation.put(&payments, &payment_row(id, 1, token)).await?;
                operation.put(&logs, &log_row(id, token)).await
            });
            bounded("operation", both).await.is_ok()
        }
        5 => bounded("delete of a payment", payments.delete(id)).await.is_ok(),
        6 => bounded("delete of a log", logs.delete(id)).await.is_ok(),
        _ => bounded("put of a log", logs.put(&log(rng, id, token))).await.is_ok(),
    }
}

/// Keeps references as an application does where nothing asks about them: a log that refers to what is gone
/// refers to nothing.
pub(super) async fn keep_references(world: &World, app: &Migration) {
    let partners = sqlx::query_scalar("SELECT name FROM partners").fetch_all(world.strangers());
    let partners: BTreeSet<String> = partners.await.expect("the source reads").into_iter().collect();
    let alive = async |table| world.items(table).await.into_iter().filter(|item| !is_tombstone(item));
    let payments: BTreeSet<i64> = alive(PAYMENTS)
        .await
        .filter_map(|item| Payments::decode(&item).ok())
        .map(|row| row.payment_id)
        .collect();
    let store = app.store::<IntegrationLogs>();
    for item in alive(LOGS).await {
        let log = IntegrationLogs::decode(&item).expect("an item decodes");
        let is_kept = log.application_id.is_none_or(|id| payments.contains(&i64::from(id)))
            && log.correlation_id.as_ref().is_none_or(|name| partners.contains(name));
        if is_kept {
            continue;
        }
        let freed = store.update(log.log_id, |log| (log.application_id, log.correlation_id) = (None, None));
        // One that was fenced for a moment is found again when the step is tried again.
        if let Err(error) = bounded("a log to be freed", freed).await {
            eprintln!("log {}: {error}", log.log_id);
        }
    }
}
