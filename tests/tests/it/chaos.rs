//! Everything at once, by a seed: writers by both ways, relays, a backfill, steps to and fro, and a network
//! that fails. Then the network heals, and I10 must hold without an operator's help.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use lockstep_coordinator::{Coordinator, CoordinatorError, Progress, RelayUntil, relay};
use lockstep_core::{Phase, Retry};
use lockstep_integration_logs::IntegrationLog;
use lockstep_payments::Payment;
use lockstep_sample::writers::{Counts, WriterOptions, write_until};
use lockstep_tests::World;
use lockstep_tests::faults::{Fault, FaultKind, Gate, Rule};
use lockstep_tests::world::rows::{logs, payments};
use lockstep_tests::world::within;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const ROWS: i64 = 800;
/// Changes of the phase while everything goes on.
const STEPS: usize = 3;

/// The network, as bad as `seed` has it. Requests that are lost to their senders wait at the gate.
fn misbehave(world: &World, seed: u64, late: &Gate) {
    let faults = [
        (Fault::LoseReply, 0.04),
        (Fault::Throttle, 0.04),
        (Fault::Unavailable, 0.03),
        (Fault::Duplicate, 0.04),
        (Fault::ServerError, 0.02),
        (Fault::AnswerThenApplyLate(late.clone()), 0.02),
    ];
    for (n, (fault, p)) in faults.into_iter().enumerate() {
        let throttles = matches!(fault, Fault::Throttle);
        let rule = Rule::new(fault).on("PutItem").probability(p, seed * 100 + n as u64);
        // Each throttled batch halves the speed of the backfill, and minutes would prove no more than
        // seconds.
        world.proxy().script(if throttles { rule } else { rule.on("BatchExecuteStatement") });
    }
    world.proxy().script(Rule::new(Fault::ThrottleStatements(5)).after(9).times(1));
}

fn raw_writer(world: &World, seed: u64, stop: &CancellationToken) -> JoinHandle<Counts> {
    let options = WriterOptions { seed, per_second: NonZeroU32::new(120).expect("not zero") };
    tokio::spawn(write_until(world.connect_options(), options, stop.clone()))
}

/// Writes rows of low ids through the stores, the same ones again and again.
fn store_writer(world: &World, seed: u64, stop: &CancellationToken) -> JoinHandle<u64> {
    let (logs, payments, stop) = (world.log_store(), world.payment_store(), stop.clone());
    tokio::spawn(async move {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut written = 0;
        while !stop.is_cancelled() {
            let id: i64 = rng.random_range(1..60);
            let text = format!("{seed}-{written}");
            let done = match rng.random_range(0..6) {
                0 => logs
                    .update(id, |log: &mut IntegrationLog| {
                        log.service_name = format!("moved-{}", written % 3)
                    })
                    .await
                    .map(drop),
                1 => payments.update(id, |p: &mut Payment| p.customer_id = 1 + written % 40).await.map(drop),
                2 => payments.delete(id).await.map(drop),
                3 => match logs.get_source(id).await {
                    Ok(Some(log)) => async {
                        logs.delete(id).await?;
                        logs.put(&log).await
                    }
                    .await
                    .map(drop),
                    read => read.map(drop),
                },
                4 => payments
                    .update(id, |p: &mut Payment| p.transaction_reference = Some(text.clone()))
                    .await
                    .map(drop),
                _ => logs
                    .update(id, |log: &mut IntegrationLog| log.user_id = Some(text.clone()))
                    .await
                    .map(drop),
            };
            done.unwrap_or_else(|error| assert_ne!(error.kind.retry(), Retry::Never, "{error}"));
            written += 1;
        }
        written as u64
    })
}

fn relaying(world: &World, stop: &CancellationToken) -> JoinHandle<()> {
    let (migration, stop) = (world.migration(), stop.clone());
    tokio::spawn(async move {
        let progress = Progress::new(&migration.tables);
        while !stop.is_cancelled() {
            if let Err(error) = relay(&migration, RelayUntil::Cancelled, &progress, &stop).await {
                passing(&error);
            }
        }
    })
}

/// An error after which the same command is run again; any other is a bug.
#[track_caller]
pub(crate) fn passing(error: &CoordinatorError) {
    match error {
        CoordinatorError::Store(e) if e.kind.retry() != Retry::Never => {}
        CoordinatorError::BarrierBusy { .. } => {}
        other => panic!("not of the kind that passes: {other}"),
    }
}

async fn backfill(coordinator: &Coordinator) {
    while let Err(error) = coordinator.backfill(&CancellationToken::new()).await {
        passing(&error);
    }
}

/// Goes to and fro. Gates about verdicts and lag are overruled: what must hold does not depend on them.
async fn wander(coordinator: &Coordinator, rng: &mut StdRng) {
    for _ in 0..STEPS {
        let now = coordinator.migration().source.control().await.expect("a phase").phase;
        let to = match now {
            Phase::PostgresOnly => Phase::DualWrite,
            Phase::DualWrite if rng.random_bool(0.7) => Phase::HybridRead,
            Phase::DualWrite => Phase::PostgresOnly,
            _ => Phase::DualWrite,
        };
        if let Err(error) = coordinator.step(to, Some("chaos"), &()).await {
            passing(&error);
        }
    }
}

async fn check(seed: u64) {
    eprintln!("chaos with seed {seed}");
    let world = Arc::new(World::behind_proxy().await);
    world.sql(&logs(1, ROWS)).await;
    world.sql(&payments(1, ROWS / 2)).await;
    for (table, key) in [("integration_logs", "log_id"), ("payments", "payment_id")] {
        world.sql(&format!("SELECT setval(pg_get_serial_sequence('{table}', '{key}'), {ROWS})")).await;
    }
    let stop = CancellationToken::new();
    let raw = [1, 2].map(|n| raw_writer(&world, seed * 10 + n, &stop));
    let coordinator = world.prepared().await;
    let late = Gate::new();
    misbehave(&world, seed, &late);
    let stores = [3, 4].map(|n| store_writer(&world, seed * 10 + n, &stop));
    let relays = [relaying(&world, &stop), relaying(&world, &stop)];
    let mut rng = StdRng::seed_from_u64(seed);
    backfill(&coordinator).await;
    wander(&coordinator, &mut rng).await;
    // Late requests arrive in the middle of it all, and those of the second half after it.
    late.release(10);
    wander(&coordinator, &mut rng).await;
    stop.cancel();
    for writer in raw {
        let counts = writer.await.expect("no panic");
        assert!(counts.total().done > 20 && counts.total().refused == 0, "{counts:?}");
    }
    for writer in stores {
        assert!(writer.await.expect("no panic") > 20);
    }
    for relay in relays {
        relay.await.expect("no panic");
    }
    let counts = world.proxy().counts();
    world.proxy().clear();
    late.open();
    let held_late = counts.injected(FaultKind::AnswerThenApplyLate);
    within(Duration::from_secs(20), late.until_done(held_late)).await;
    for kind in [
        FaultKind::LoseReply,
        FaultKind::Throttle,
        FaultKind::Unavailable,
        FaultKind::Duplicate,
        FaultKind::AnswerThenApplyLate,
    ] {
        assert!(counts.injected(kind) > 0, "{kind:?} never happened with seed {seed}");
    }
    world.assert_converged().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_happens_together_both_stores_agree_once_it_is_over() {
    for seed in [1, 2] {
        within(Duration::from_mins(3), check(seed)).await;
    }
}
