//! A world with awkward neighbours: triggers of the application's before and after, cascades between the
//! tables that move and to ones that stay, a policy, a database with time-outs, another migration in the same
//! account, long and odd keys, rows that no item can hold, a change of the table between verdict and step,
//! and a source that is restored. The naive checker judges.
//!
//! It ends for sure: each round is a number of statements, and all that may block has a deadline that says
//! what it waits for.

//!
//! In reading order: `stage` (what is around the tables), `program` (who writes up to HybridRead), `awkward`
//! (what is written in DynamoOnly), `travel` (to DynamoOnly and back).

mod awkward;
mod program;
mod stage;
mod travel;

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use lockstep::store::WriteOptions;
use lockstep_coordinator::{Progress, RelayUntil, relay};
use lockstep_core::{Kind, Phase};
use lockstep_tests::World;
use lockstep_tests::world::{LOGS, PAYMENTS, backfill, eventually};
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{seeds_or, sweeping};
use crate::history::{diagnosis, mended, repair_rows};
use crate::strict::strict;

/// Seeds that run each time.
const SEEDS: RangeInclusive<u64> = 1..=1;
/// Statements of each actor in a round.
const WRITES: usize = 25;
/// Longest wait for any one thing; a machine under load needs a fraction of it.
const PATIENCE: Duration = Duration::from_secs(30);

/// Awaits `future` for at most [`PATIENCE`].
///
/// # Panics
/// With what it waited for.
async fn bounded<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("waited {PATIENCE:?} for: {what}"))
}

/// Two strangers and an application write beside a relay, and then both stores agree.
async fn round(world: &Arc<World>, seed: u64, number: u64) {
    let (mut writers, cancel) = (JoinSet::new(), CancellationToken::new());
    let rng = move |actor: u64| StdRng::seed_from_u64(seed * 1_000 + number * 10 + actor);
    for actor in [1, 2] {
        let (world, mut rng) = (world.clone(), rng(actor));
        writers.spawn(async move { program::strange(&world, &mut rng, WRITES).await });
    }
    let mut apps = Vec::new();
    for (actor, mode) in [(3, WriteOptions::default()), (4, strict())] {
        let app = world.app_of(world.another_source().await, mode, sweeping());
        let (application, mut own) = (app.clone(), rng(actor));
        writers.spawn(async move { program::apply(&application, &mut own, WRITES).await });
        apps.push(app);
    }
    let migration = world.migration();
    let progress = Progress::new(&migration.tables);
    let relaying = relay(&migration, RelayUntil::Cancelled, &progress, &cancel);
    let writing = async {
        let mut done = Vec::new();
        while let Some(ended) = writers.join_next().await {
            done.push(ended.expect("no panic in a writer"));
        }
        cancel.cancel();
        done
    };
    let (relayed, done) = bounded("a round", async { tokio::join!(relaying, writing) }).await;
    relayed.expect("the relay goes on");
    assert!(done.iter().all(|taken| *taken > WRITES / 4), "most was refused: {done:?}");
    for app in apps {
        bounded("an application to end", app.shutdown()).await;
    }
    agree(world, &format!("round {number} with seed {seed}")).await;
}

/// With every process at rest both stores hold the same, by the naive checker.
async fn agree(world: &World, when: &str) {
    bounded("writers to end", world.until_nobody_writes()).await;
    let swept = eventually("strict writes are settled", || async {
        world.source.sweep_intents(Duration::ZERO).await.expect("swept");
        world.intents().await == 0
    });
    bounded("a sweep", swept).await;
    bounded("the relay", world.relay_until_empty()).await;
    let wrong = bounded("the naive checker", world.disagreements()).await;
    assert!(wrong.is_empty(), "{when}:\n{}", wrong.join("\n"));
}

/// Accepts what the operator has seen and takes: rows that no item can hold.
async fn acknowledge(world: &World) {
    for table in [LOGS, PAYMENTS] {
        // Its locks wait no longer than those of any other session here.
        while let Err(error) = lockstep_tests::world::acknowledge(&world.source, table, "test").await {
            assert_eq!(error.kind, Kind::Busy, "{error}");
        }
    }
}

async fn step(world: &World, to: Phase) {
    acknowledge(world).await;
    bounded(&format!("the step to {to}"), world.stepped_to(to)).await;
}

/// Names and types are what they were, and the values are not: the step is refused, and what `doctor` names
/// leads on.
async fn rewritten_between_verdict_and_step(world: &World, to: Phase) {
    acknowledge(world).await;
    let report = bounded("a verdict", world.record_verdict()).await;
    assert!(report.verdict.is_consistent(), "{report:#?}");
    world
        .sql(
            "ALTER TABLE payments ALTER COLUMN payment_amount TYPE numeric(18,2)
                 USING round(payment_amount * 1.19, 2)",
        )
        .await;
    let coordinator = world.coordinator().await;
    let stepped = bounded("a step that is refused", coordinator.step(to, None, &())).await;
    assert!(stepped.is_err(), "over a table that was rewritten since the verdict");
    coordinator.close().await;
    let found = bounded("the doctor", diagnosis(world)).await;
    assert!(!found.sound, "{found:?}");
    let mended = bounded("the repair", mended(world)).await;
    assert!(mended.left.expect("looked at").sound);
}

/// PostgreSQL is set back to before a round that DynamoDB has seen: it is noticed, what `doctor` names leads
/// on, and the operator decides for PostgreSQL.
async fn restored(mut world: World, seed: u64) {
    let backup = world.back_up_source().await;
    stage::limit(&world).await;
    let shared = Arc::new(world);
    round(&shared, seed, 4).await;
    for binding in shared.tables() {
        shared.make_mark(&binding).await;
    }
    world = Arc::into_inner(shared).expect("every writer has ended");
    world.restore_source(backup).await;
    stage::limit(&world).await;
    assert!(!bounded("the doctor", diagnosis(&world)).await.sound, "a round is lost");
    let mended = bounded("the repair", mended(&world)).await;
    assert!(mended.left.expect("looked at").sound);
    bounded("the decision", repair_rows(&world)).await;
    let world = Arc::new(world);
    agree(&world, &format!("restored with seed {seed}")).await;
    round(&world, seed, 5).await;
}

/// The world of a schedule, with its history moved.
async fn moved() -> Arc<World> {
    let world = Arc::new(stage::stage().await);
    let coordinator = bounded("preparation", world.prepared()).await;
    bounded("the backfill", backfill(&coordinator)).await;
    coordinator.close().await;
    world
}

async fn schedule(seed: u64) {
    eprintln!("neighbours with seed {seed}");
    let world = moved().await;
    round(&world, seed, 1).await;
    step(&world, Phase::DualWrite).await;
    round(&world, seed, 2).await;
    rewritten_between_verdict_and_step(&world, Phase::HybridRead).await;
    agree(&world, "after the repair").await;
    step(&world, Phase::HybridRead).await;
    round(&world, seed, 3).await;
    restored(Arc::into_inner(world).expect("every writer has ended"), seed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_an_application_has_around_its_tables_both_stores_agree() {
    for seed in seeds_or(SEEDS) {
        schedule(seed).await;
    }
}

async fn schedule_through_all_phases(seed: u64) {
    eprintln!("neighbours through all phases with seed {seed}");
    let world = moved().await;
    for to in [Phase::DualWrite, Phase::HybridRead] {
        step(&world, to).await;
    }
    round(&world, seed, 1).await;
    // The reference of a table that stays is refused, by name, and the operator does as the gate says.
    let coordinator = world.coordinator().await;
    let refused =
        coordinator.step(Phase::DynamoOnly, None, &()).await.expect_err("a table that stays refers");
    assert!(refused.to_string().contains("receipts_payment_id_fkey"), "{refused}");
    coordinator.close().await;
    world.sql("ALTER TABLE receipts DROP CONSTRAINT receipts_payment_id_fkey").await;
    travel::there_and_back(&world, seed * 10 + 1).await;
    step(&world, Phase::DualWrite).await;
    round(&world, seed, 2).await;
    step(&world, Phase::HybridRead).await;
    travel::there_and_back(&world, seed * 10 + 2).await;
    round(&world, seed, 3).await;
    restored(Arc::into_inner(world).expect("every writer has ended"), seed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_an_application_has_around_its_tables_the_truth_goes_to_dynamo_db_and_back_and_again() {
    for seed in seeds_or(SEEDS) {
        schedule_through_all_phases(seed).await;
    }
}
