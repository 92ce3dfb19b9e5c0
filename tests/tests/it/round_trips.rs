//! Cost of a write, counted: statements and requests of each kind of write, one round trip each.

use std::sync::Arc;

use lockstep::operation::Operation;
use lockstep::store::{WriteMode, WriteOptions};
use lockstep_core::{Phase, Result};
use lockstep_integration_logs::{IntegrationLogs, OperationLogs};
use lockstep_payments::Payments;
use lockstep_tests::World;
use lockstep_tests::world::rows::{payment, payment_row};

use crate::store::row;

/// Returns what one call sent. What was delivered is acknowledged by a task, off the caller's path, and left
/// out.
fn own(run: Vec<String>) -> Vec<String> {
    const KINDS: [(&str, &str); 9] = [
        ("BEGIN", "begin"),
        ("COMMIT", "commit"),
        ("FROM lockstep.\"insert_", "call"),
        ("INSERT INTO lockstep.intents", "intents"),
        ("DELETE FROM lockstep.intents", "settle"),
        ("FROM unnest", "read what is left"),
        ("INSERT INTO \"public\"", "insert"),
        ("UPDATE \"public\"", "update"),
        ("FOR UPDATE", "lock"),
    ];
    let kind = |sql: &String| {
        let known = KINDS.iter().find(|(part, _)| sql.contains(part));
        known.map_or_else(|| sql.clone(), |(_, kind)| (*kind).to_owned())
    };
    run.iter().filter(|sql| !sql.contains("SKIP LOCKED")).map(kind).collect()
}

/// The least of some calls: the first reads the contract, and a handle without an instance asks for the phase
/// now and then.
async fn sent<F: Future<Output = Result<()>>>(world: &World, call: impl Fn() -> F) -> (Vec<String>, u64) {
    let mut least = (Vec::new(), u64::MAX);
    for n in 0..8 {
        world.source_proxy().record();
        let before = world.proxy().counts().seen_in_all();
        call().await.expect("written");
        let (mut run, asked) =
            (own(world.source_proxy().recorded()), world.proxy().counts().seen_in_all() - before);
        // Two connections: which of two messages that are under way at once comes first is chance.
        run.sort_unstable();
        if n == 0 || (run.len(), asked) < (least.0.len(), least.1) {
            least = (run, asked);
        }
    }
    least
}

fn these(statements: &[&str], requests: u64) -> (Vec<String>, u64) {
    (statements.iter().map(|kind| (*kind).to_owned()).collect(), requests)
}

#[tokio::test]
async fn a_write_takes_these_statements_and_requests_and_no_more() {
    let world = World::behind_both_proxies().await;
    world.sql(&payment(1, 1)).await;
    world.sql("SELECT setval(pg_get_serial_sequence('payments', 'payment_id'), 100)").await;
    world.migrated_to(Phase::HybridRead).await.close().await;
    let best = WriteOptions { hybrid_read: WriteMode::BestEffort, ..WriteOptions::default() };
    let operation = async |app: &lockstep::migration::Migration| {
        let (payments, sink) = (app.store::<Payments>(), Arc::new(OperationLogs::of("count")));
        let done = Operation::run(app, sink, "count", "c", async |operation| {
            operation.insert(&payments, &payment_row(0, 1, "c")).await.map(drop)
        });
        done.await.map(drop)
    };
    for (options, of_insert, of_update, of_operation) in [
        (
            best,
            vec!["call"],
            vec!["begin", "commit", "lock", "read what is left", "update"],
            vec!["begin", "call", "commit", "insert", "insert", "read what is left"],
        ),
        (
            WriteOptions::default(),
            vec!["begin", "call", "commit", "intents", "settle"],
            // Intents become durable while it reads what is left, and it settles while the put is under way:
            // five in a row.
            vec!["begin", "commit", "intents", "lock", "read what is left", "settle", "update"],
            // Six in a row, after the log of the start.
            vec!["begin", "call", "commit", "insert", "insert", "intents", "read what is left", "settle"],
        ),
    ] {
        let app = world.app(options);
        let (payments, logs) = (app.store::<Payments>(), app.store::<IntegrationLogs>());
        let new = row(0, "c");
        assert_eq!(sent(&world, || async { logs.insert(&new).await.map(drop) }).await, these(&of_insert, 1));
        let settle = || async {
            payments.update(1, |p| p.payment_status = format!("{}!", p.payment_status.len())).await.map(drop)
        };
        assert_eq!(sent(&world, settle).await, these(&of_update, 1));
        assert_eq!(sent(&world, || operation(&app)).await, these(&of_operation, 2));
    }
    world.assert_converged().await;
}
