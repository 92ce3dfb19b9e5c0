//! The truth goes to DynamoDB and back while everything around the tables is there and everyone writes:
//! applications, strangers, an instance that sleeps and is killed, relays and feeds that die.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use lockstep::migration::Migration;
use lockstep::store::WriteOptions;
use lockstep_core::Phase;
use lockstep_tests::World;
use lockstep_tests::world::{CutShort, eventually};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::super::model::Model;
use super::super::{machine, sleeper, traveller, watch};
use super::{acknowledge, agree, awkward, bounded, program, sweeping};
use crate::strict::strict;

/// Tries of a step, of which half may die on the way.
const TRIES: usize = 12;
const LEASE: Duration = Duration::from_millis(1_500);
/// Longest pause between two writes of an actor: who is tested needs the machine as well.
const PAUSE_MS_MAX: u64 = 150;
/// Writes that are acknowledged in a phase before it ends.
const WRITES: usize = 30;
/// Awaits of a relay, at most.
const RELAY_POLLS_MAX: usize = 4_000;

/// Everyone who writes and moves rows beside the steps.
struct Around {
    writers: JoinSet<usize>,
    movers: JoinSet<()>,
    apps: Vec<Migration>,
    /// Writers end.
    stop: CancellationToken,
    /// Writers refer no more to what is not there.
    careful: CancellationToken,
    written: Arc<AtomicUsize>,
}

impl Around {
    async fn begin(world: &Arc<World>, model: &Arc<Model>, seed: u64) -> Self {
        let mut around = Self {
            writers: JoinSet::new(),
            movers: JoinSet::new(),
            apps: Vec::new(),
            stop: CancellationToken::new(),
            careful: CancellationToken::new(),
            written: Arc::default(),
        };
        for (actor, mode) in [(1, WriteOptions::default()), (2, strict())] {
            let options = world.app_options(world.source_options(), LEASE).writes(mode).sweeper(sweeping());
            let app = Migration::connect(options).await.expect("both stores are there");
            around.apps.push(app.clone());
            let (stop, careful, written) =
                (around.stop.clone(), around.careful.clone(), around.written.clone());
            around.writers.spawn(async move {
                let (mut rng, mut done) = (StdRng::seed_from_u64(seed * 10 + actor), 0);
                while !stop.is_cancelled() {
                    let token = format!("a{seed}.{actor}.{done}");
                    if awkward::write(&app, &mut rng, &token, !careful.is_cancelled()).await {
                        written.fetch_add(1, Ordering::Relaxed);
                        done += 1;
                    }
                    tokio::time::sleep(Duration::from_millis(rng.random_range(0..PAUSE_MS_MAX))).await;
                }
                done
            });
        }
        for actor in [3, 4] {
            let (world, stop, careful) = (world.clone(), around.stop.clone(), around.careful.clone());
            around.writers.spawn(async move {
                let (mut rng, mut done) = (StdRng::seed_from_u64(seed * 10 + actor), 0);
                while !stop.is_cancelled() && !careful.is_cancelled() {
                    done += program::strange(&world, &mut rng, 1).await;
                    tokio::time::sleep(Duration::from_millis(PAUSE_MS_MAX)).await;
                }
                done
            });
        }
        let (world, model, stop) = (world.clone(), model.clone(), around.stop.clone());
        around.movers.spawn(machine::relay_for_ever(world.clone(), seed, RELAY_POLLS_MAX));
        around.movers.spawn(traveller::feed_for_ever(world.clone(), seed));
        around.writers.spawn(async move {
            sleeper::write_and_sleep(world, model, seed, stop).await;
            1
        });
        around
    }

    /// Waits until as many writes more are acknowledged, in whatever phase it is.
    async fn write(&mut self, phase: Phase) {
        let enough = self.written.load(Ordering::Relaxed) + WRITES;
        let written = self.written.clone();
        let what = format!("{WRITES} writes in {phase}");
        bounded(&what, eventually(&what, || async { written.load(Ordering::Relaxed) >= enough })).await;
        self.look();
    }

    /// Panics with an actor that has.
    fn look(&mut self) {
        while let Some(ended) = self.movers.try_join_next() {
            ended.expect("no panic beside the writers");
        }
        while let Some(ended) = self.writers.try_join_next() {
            ended.expect("no panic in a writer");
        }
    }

    async fn end(mut self) {
        self.stop.cancel();
        while let Some(ended) = bounded("a writer to end", self.writers.join_next()).await {
            ended.expect("no panic in a writer");
        }
        self.look();
        self.movers.shutdown().await;
        for app in self.apps {
            bounded("an application to end", app.shutdown()).await;
        }
    }

    /// Takes a step however often that takes. What keeps it from being taken, a row that waits for another or
    /// a process that sleeps, is gone by the next one.
    async fn step(&mut self, world: &World, rng: &mut StdRng, to: Phase) {
        let mut why = Vec::new();
        for attempt in 0..TRIES {
            let mut migration = world.migration();
            migration.options.steps.pause_max = Duration::from_secs(5);
            migration.options.steps.catch_up_max = Duration::from_secs(5);
            let coordinator = bounded("a coordinator", machine::opened(migration)).await;
            let now = traveller::phase(world).await;
            if now == to {
                return coordinator.close().await;
            }
            acknowledge(world).await;
            if now == Phase::DynamoOnly {
                awkward::keep_references(world, &self.apps[0]).await;
            }
            let polls = if attempt % 2 == 0 { rng.random_range(10..1_500) } else { usize::MAX };
            let taken = CutShort::after(polls, async {
                if to > now && to >= Phase::HybridRead {
                    traveller::trust(world).await?;
                }
                coordinator.step(to, (to < Phase::DynamoOnly).then_some("neighbours"), &()).await
            });
            match bounded(&format!("a step to {to}"), taken).await {
                Some(Err(error)) => {
                    traveller::may_happen(&format!("from {now} to {to}"), &error);
                    why.push(error.to_string());
                }
                None => eprintln!("from {now} to {to}: a coordinator died after {polls} polls"),
                Some(Ok(_)) => {}
            }
            coordinator.close().await;
            self.look();
        }
        panic!("no way to {to}: {why:#?}");
    }
}

/// To DynamoOnly and back, from HybridRead; then everyone rests, and both stores agree.
pub(super) async fn there_and_back(world: &Arc<World>, seed: u64) {
    let (model, mut rng) = (Arc::new(Model::default()), StdRng::seed_from_u64(seed));
    let mut around = Around::begin(world, &model, seed).await;
    around.write(Phase::HybridRead).await;
    around.step(world, &mut rng, Phase::DynamoOnly).await;
    around.write(Phase::DynamoOnly).await;
    around.careful.cancel();
    around.step(world, &mut rng, Phase::HybridRead).await;
    around.write(Phase::HybridRead).await;
    around.end().await;
    // A write that DynamoOnly left behind may have landed since.
    bounded("the feed", world.feed_until_drained()).await;
    agree(world, &format!("back with seed {seed}")).await;
    watch::check_truth(world, &model).await;
}
