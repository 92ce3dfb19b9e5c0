//! Random schedules over the store handles, by a seed: two applications in two modes, strangers, relays,
//! sweeps, a backfill and steps, all at once, while both networks fail and callers die. While it goes on, and
//! when it is over, a naive model says what may be seen: I1, I2, I3, I5, I7, I8, I10.
//!
//! This file goes to and fro up to HybridRead, with stores that are not registered; `whole` goes through all
//! phases, to DynamoOnly and back, with instances, of which one is stopped and killed.
//!
//! `LOCKSTEP_TEST_SEEDS=17` repeats a seed, `LOCKSTEP_TEST_SEEDS=1-50` runs all of these; `cargo xtask soak`
//! runs them for a night. What a seed fixes is the program of each actor and the draws of each fault; which
//! of them meet is the machine's choice.
//!
//! In reading order: `model`, `actors`, `network`, `machine` (what moves data and phases), `watch` (who
//! looks); then `whole` and its `traveller` (steps through all phases) and `sleeper` (an instance that is
//! stopped and killed); `neighbours` (what an application has around its tables, also to DynamoOnly and
//! back).

mod actors;
mod machine;
mod model;
mod neighbours;
mod network;
mod recorded;
mod sleeper;
mod traveller;
mod watch;
mod whole;

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use lockstep::store::{WriteMode, WriteOptions};
use lockstep::sweeper::SweeperOptions;
use lockstep_tests::World;
use lockstep_tests::faults::source::SourceFaultKind;
use lockstep_tests::seeds::seeds_or;
use lockstep_tests::world::rows::{logs, payments};
use lockstep_tests::world::{LOGS, PAYMENTS, WorldOptions, within};
use tokio::task::JoinSet;

use actors::{Actor, SHARED};
use model::{Key, Model};

/// Rows of history, the shared ones among them.
const ROWS: i64 = 40;
/// Writes of each actor of an application, and of each stranger.
const WRITES: usize = 40;
/// Longest that one schedule may take; most take seconds, those through all phases minutes on a busy machine.
const SCHEDULE: Duration = Duration::from_secs(480);

/// Seeds that run each time.
const SEEDS: RangeInclusive<u64> = 1..=3;

async fn world() -> World {
    let options = WorldOptions {
        proxied: true,
        source_proxied: true,
        recorded: true,
        connect_timeout: Duration::from_secs(2),
        ..WorldOptions::default()
    };
    let world = World::with(options).await;
    world.sql(&logs(1, ROWS)).await;
    world.sql(&payments(1, ROWS)).await;
    for (table, key) in [("integration_logs", "log_id"), ("payments", "payment_id")] {
        world.sql(&format!("SELECT setval(pg_get_serial_sequence('{table}', '{key}'), 10000)")).await;
    }
    world
}

/// Returns one way of writing for each application; which, the seed says.
fn modes(seed: u64) -> [WriteOptions; 2] {
    let quick = WriteOptions {
        inline_timeout_ms: 400,
        retry_delay_ms: 2,
        retry_delay_ms_max: 20,
        ..WriteOptions::default()
    };
    let strict = WriteOptions {
        dual_write: WriteMode::Strict,
        continue_on_write_failure: seed.is_multiple_of(4),
        batch_rows_max: 2,
        ..quick.clone()
    };
    [quick, strict]
}

fn sweeping() -> SweeperOptions {
    SweeperOptions { every_ms: 25, age_ms_min: 50 }
}

/// A world with capture on, and the model that knows its rows; every change of it is kept for the audit.
async fn stage() -> (Arc<World>, Arc<Model>) {
    let (world, model) = (Arc::new(world().await), Arc::new(Model::default()));
    for id in 1..=ROWS {
        model.starts_with(Key(LOGS, id), "first");
        model.starts_with(Key(PAYMENTS, id), "first");
    }
    world.prepared().await.close().await;
    watch::audit(&world).await;
    recorded::record(&world).await;
    (world, model)
}

/// Starts what goes on around the writers of every schedule: the watchers, two relays that die, and late
/// messages that arrive.
fn spawn_around(
    others: &mut JoinSet<()>,
    world: &Arc<World>,
    model: &Arc<Model>,
    seed: u64,
    relay_polls_max: usize,
    late: &network::Late,
) {
    let (w, m) = (world.clone(), model.clone());
    others.spawn(async move { watch::watch_truth(&w, &m).await });
    let w = world.clone();
    others.spawn(async move { watch::watch_versions(&w).await });
    for n in [1, 2] {
        others.spawn(machine::relay_for_ever(world.clone(), seed * 10 + n, relay_polls_max));
    }
    others.spawn(late.clone().trickle());
}

async fn schedule(seed: u64) {
    eprintln!("schedule with seed {seed}");
    let (world, model) = stage().await;
    let mut apps = Vec::new();
    for mode in modes(seed) {
        apps.push(world.app_of(world.another_source().await, mode, sweeping()));
    }
    let late = network::misbehave(&world, seed, 1.0);
    let mut writers = JoinSet::new();
    for name in 1..=4 {
        let (mut actor, app) = (Actor::new(name, seed, &world, &model), apps[name % 2].clone());
        writers.spawn(async move { actor.apply(&app, WRITES).await });
    }
    for name in 5..=6 {
        let mut actor = Actor::new(name, seed, &world, &model);
        writers.spawn(async move { actor.apply_raw(2 * WRITES).await });
    }
    let mut others = JoinSet::new();
    spawn_around(&mut others, &world, &model, seed, 200, &late);
    others.spawn(machine::backfill_and_wander(world.clone(), seed));

    let mut ended = 0;
    while ended < 6 {
        tokio::select! {
            Some(writer) = writers.join_next() => {
                writer.expect("no panic in a writer");
                ended += 1;
                if ended == 2 && seed.is_multiple_of(2) {
                    network::outage(&world).await;
                }
            }
            Some(other) = others.join_next() => other.expect("no panic beside the writers"),
        }
    }
    // Relays, steps and a coordinator die where they stand.
    others.shutdown().await;
    network::heal(&world, &late).await;
    for app in apps {
        app.shutdown().await;
    }
    world.until_nobody_writes().await;
    machine::recover(&world).await;
    watch::check_known(&world).await;
    world.assert_converged().await;
    assert_eq!(world.intents().await, 0, "I10");
    watch::check_truth(&world, &model).await;
    watch::check_audit(&world, &model).await;
    recorded::check(&world).await;
    for kind in [SourceFaultKind::LoseReply, SourceFaultKind::Cut] {
        assert!(world.source_proxy().injected(kind) > 0, "{kind:?} never happened with seed {seed}");
    }
    let shared = model.keys().into_iter().filter(|Key(_, id)| SHARED.contains(id)).count();
    assert_eq!(shared, 2 * SHARED.count(), "all actors met");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_order_things_happen_in_nothing_acknowledged_is_lost_and_nothing_refused_is_seen() {
    for seed in seeds_or(SEEDS) {
        within(SCHEDULE, schedule(seed)).await;
    }
}
