//! Through all phases, to DynamoOnly and back, in two stages. First safety: everything fails, and what is
//! seen is held against the model all the time. Then the networks heal, and without an operator's help every
//! actor can write again, the open step is settled, and both stores agree.

use std::ops::RangeInclusive;
use std::time::Duration;

use lockstep::migration::Migration;
use lockstep_tests::faults::source::SourceFaultKind;
use lockstep_tests::world::within;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::actors::Actor;
use super::model::Told;
use super::{
    SCHEDULE, machine, modes, network, recorded, seeds_or, sleeper, spawn_around, stage, sweeping, traveller,
    watch,
};

/// Seeds that run each time.
const SEEDS: RangeInclusive<u64> = 1..=1;
/// Times that the truth goes to the target and back while everything fails.
const ROUNDS: usize = 1;
/// See `network`.
const SHARE: f64 = 0.05;
/// Awaits of a relay, at most: enough for it to deliver what is written meanwhile.
const RELAY_POLLS_MAX: usize = 4_000;
const LEASE: Duration = Duration::from_millis(1_500);
/// Longest pause between two writes of an actor: who is tested needs the machine as well.
const PAUSE_MS_MAX: u64 = 10;
/// Longest that an instance may take to write again once everything is well.
const WELL_AGAIN: Duration = Duration::from_secs(30);

async fn schedule(seed: u64) {
    eprintln!("schedule through all phases with seed {seed}");
    let (world, model) = stage().await;
    let mut apps = Vec::new();
    for mode in modes(seed) {
        let options = world.app_options(world.source_options(), LEASE).writes(mode).sweeper(sweeping());
        apps.push(Migration::connect(options).await.expect("both stores are there"));
    }
    let late = network::misbehave(&world, seed, SHARE);
    let stop = CancellationToken::new();
    let mut writers = JoinSet::new();
    for name in 1..=4 {
        let (mut actor, app) = (Actor::new(name, seed, &world, &model), apps[name % 2].clone());
        let (stop, mut rng) = (stop.clone(), StdRng::seed_from_u64(seed + name as u64));
        writers.spawn(async move {
            while !stop.is_cancelled() {
                actor.apply(&app, 1).await;
                tokio::time::sleep(Duration::from_millis(rng.random_range(0..PAUSE_MS_MAX))).await;
            }
        });
    }
    let (mut stranger, until) = (Actor::new(5, seed, &world, &model), stop.clone());
    writers.spawn(async move {
        while !until.is_cancelled() {
            stranger.apply_raw(1).await;
            tokio::time::sleep(Duration::from_millis(PAUSE_MS_MAX)).await;
        }
    });
    writers.spawn(sleeper::write_and_sleep(world.clone(), model.clone(), seed, stop.clone()));

    let mut others = JoinSet::new();
    spawn_around(&mut others, &world, &model, seed, RELAY_POLLS_MAX, &late);
    let w = world.clone();
    others.spawn(async move { network::outages(&w, seed).await });
    others.spawn(traveller::feed_for_ever(world.clone(), seed));
    let mut travelling = tokio::spawn(traveller::travel(world.clone(), model.clone(), seed, ROUNDS));
    loop {
        tokio::select! {
            travelled = &mut travelling => break travelled.expect("no panic in a coordinator"),
            Some(writer) = writers.join_next() => writer.map(|()| panic!("a writer ended")).expect("no panic in a writer"),
            Some(other) = others.join_next() => other.expect("no panic beside the writers"),
        }
    }
    stop.cancel();
    while let Some(writer) = writers.join_next().await {
        writer.expect("no panic in a writer");
    }
    // Relays and feeds die where they stand.
    others.shutdown().await;
    // A store that was away when that happened is there again.
    world.source_proxy().up().await;
    network::heal(&world, &late).await;
    // Opening a coordinator settles what the last one left.
    machine::coordinator(&world).await.close().await;
    // Under names of their own: a token that an actor of before has written says nothing of who wrote it.
    for (name, app) in (11..).zip(&apps) {
        within(WELL_AGAIN, Actor::new(name, seed, &world, &model).apply_one(app)).await;
    }
    for app in apps {
        app.shutdown().await;
    }
    world.until_nobody_writes().await;
    watch::check_truth(&world, &model).await;
    traveller::go_home(&world).await;
    watch::check_known(&world).await;
    world.assert_converged().await;
    assert_eq!(world.intents().await, 0, "I10");
    watch::check_truth(&world, &model).await;
    watch::check_audit(&world, &model).await;
    recorded::check(&world).await;
    // At this share the shortest of them meet only some of the kinds.
    let kinds = [
        SourceFaultKind::LoseReply,
        SourceFaultKind::Cut,
        SourceFaultKind::CutThenApplyLate,
        SourceFaultKind::DelayReply,
    ];
    let injected: u64 = kinds.into_iter().map(|kind| world.source_proxy().injected(kind)).sum();
    assert!(injected > 0, "PostgreSQL's network was well all the time with seed {seed}");
    let (here, there) = (model.count(Told::Acknowledged), model.count(Told::AcknowledgedByTarget));
    println!("seed {seed}: {here} writes acknowledged here, {there} in DynamoOnly");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn to_dynamo_only_and_back_whatever_fails_nothing_acknowledged_is_lost() {
    for seed in seeds_or(SEEDS) {
        within(SCHEDULE, schedule(seed)).await;
    }
}
