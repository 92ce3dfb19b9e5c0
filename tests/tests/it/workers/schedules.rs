//! The lease of a range in any order of events: claim, deliver, acknowledge, split, stall, die, wake. The
//! source is real; the target is a set of keys, and time is the source's clock, moved by hand.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use lockstep_core::Window;
use lockstep_postgres::{HeldRange, KeyBound, Pulse, RangePlan, RangeProgress, Registering};
use lockstep_tests::World;
use lockstep_tests::seeds::seed;
use lockstep_tests::world::LOGS;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};

const WORKERS: usize = 4;
/// Keys of each range, and ranges.
const KEYS: i64 = 12;
const RANGES: i64 = 3;
const LEASE: Duration = Duration::from_secs(300);

#[derive(Clone, Copy, Debug)]
enum Event {
    /// It takes a range, if it has none.
    Claim(usize),
    /// It reads and writes this number of rows; nothing is acknowledged by that.
    Deliver(usize, i64),
    /// It acknowledges what it has delivered.
    Acknowledge(usize),
    /// It gives the second half of what it has not read away.
    Split(usize),
    /// It is stopped: its lease ends, and it does not know.
    Stall(usize),
    /// It is gone, with all that it knew. Its lease ends later.
    Die(usize),
    /// It renews its lease, and begins again where that is over.
    Wake(usize),
}

fn event() -> impl Strategy<Value = Event> {
    let worker = 0..WORKERS;
    prop_oneof![
        4 => worker.clone().prop_map(Event::Claim),
        6 => (worker.clone(), 1..7_i64).prop_map(|(worker, rows)| Event::Deliver(worker, rows)),
        5 => worker.clone().prop_map(Event::Acknowledge),
        1 => worker.clone().prop_map(Event::Split),
        2 => worker.clone().prop_map(Event::Stall),
        1 => worker.clone().prop_map(Event::Die),
        2 => worker.prop_map(Event::Wake),
    ]
}

/// Knowledge of one worker.
struct Worker {
    id: i64,
    held: Option<HeldRange>,
    /// The last key that it has read, and how many rows it has delivered since it last acknowledged.
    read: i64,
    unacknowledged: i64,
}

struct Stage<'a> {
    world: &'a World,
    workers: Vec<Worker>,
    next_id: i64,
    target: BTreeSet<i64>,
    delivered: HashMap<i64, u32>,
    refused: u32,
}

fn bound(key: i64) -> KeyBound {
    vec![key.to_string()]
}

fn number(bound: Option<&KeyBound>) -> Option<i64> {
    bound.map(|bound| bound[0].parse().expect("a number"))
}

impl<'a> Stage<'a> {
    async fn set(world: &'a World) -> Stage<'a> {
        world.sql("DELETE FROM lockstep.workers").await;
        world.source.forget_ranges(LOGS).await.expect("forgotten");
        let lower = |n: i64| (n > 0).then(|| bound(n * KEYS));
        let ranges: Vec<_> = (0..RANGES).map(|n| (lower(n), Some(bound((n + 1) * KEYS)))).collect();
        world.source.plan_ranges(LOGS, &Window::default(), &RangePlan::Keys(ranges)).await.expect("planned");
        let mut stage = Stage {
            world,
            workers: Vec::new(),
            next_id: 1,
            target: BTreeSet::new(),
            delivered: HashMap::new(),
            refused: 0,
        };
        for _ in 0..WORKERS {
            let worker = stage.registered().await;
            stage.workers.push(worker);
        }
        stage
    }

    async fn registered(&mut self) -> Worker {
        let id = self.next_id;
        self.next_id += 1;
        let who = Registering { id, name: "random", coordinator: false, lease: LEASE };
        self.world.source.register_worker(&who).await.expect("registered");
        Worker { id, held: None, read: 0, unacknowledged: 0 }
    }

    async fn happens(&mut self, event: Event) {
        let source = &self.world.source;
        match event {
            Event::Claim(w) if self.workers[w].held.is_none() => {
                let held =
                    source.claim_range(self.workers[w].id, &[LOGS], &Window::default()).await.expect("asked");
                self.workers[w].took(held);
            }
            Event::Deliver(w, rows) => {
                let worker = &mut self.workers[w];
                let Some(held) = &worker.held else { return };
                let end = number(held.range.upper.as_ref()).expect("ranges end");
                for key in (worker.read + 1)..=(worker.read + rows).min(end) {
                    self.target.insert(key);
                    *self.delivered.entry(key).or_default() += 1;
                    (worker.read, worker.unacknowledged) = (key, worker.unacknowledged + 1);
                }
            }
            Event::Acknowledge(w) => self.acknowledge(w).await,
            Event::Split(w) => {
                let worker = &mut self.workers[w];
                let Some(held) = &mut worker.held else { return };
                let end = number(held.range.upper.as_ref()).expect("ranges end");
                let middle = bound(worker.read + (end - worker.read) / 2);
                if end - worker.read >= 3 && source.split_range(held, &middle).await.expect("asked") {
                    held.range.upper = Some(middle);
                }
            }
            Event::Stall(w) => self.ends(w).await,
            Event::Die(w) => {
                self.ends(w).await;
                self.workers[w] = self.registered().await;
            }
            Event::Wake(w) => {
                let id = self.workers[w].id;
                if !source.renew_worker(id, LEASE, Pulse::default()).await.expect("asked") {
                    self.workers[w] = self.registered().await;
                }
            }
            Event::Claim(_) => {}
        }
    }

    /// The lease of a worker is over, by the source's clock.
    async fn ends(&self, w: usize) {
        let id = self.workers[w].id;
        let sql = format!(
            "UPDATE lockstep.workers SET lease_until = clock_timestamp() - interval '1 ms' WHERE id = {id}"
        );
        self.world.sql(&sql).await;
    }

    async fn acknowledge(&mut self, w: usize) {
        let worker = &mut self.workers[w];
        let Some(held) = &worker.held else { return };
        let end = number(held.range.upper.as_ref()).expect("ranges end");
        let add = RangeProgress { rows_read: worker.unacknowledged, ..RangeProgress::default() };
        let (key, done) = (bound(worker.read), worker.read == end);
        let moved = self.world.source.move_watermark(held, Some(&key), done, add).await.expect("asked");
        worker.unacknowledged = 0;
        if moved.is_none() {
            self.refused += 1;
        }
        if moved.is_none() || done {
            worker.held = None;
        }
    }

    /// Checks that what is acknowledged is in the target, each row counted once, and no range has two live
    /// holders.
    async fn check(&self) -> Result<(), TestCaseError> {
        let ranges = self.world.source.ranges(LOGS).await.expect("ranges");
        let mut covered = BTreeSet::new();
        for range in &ranges {
            let from = number(range.lower.as_ref()).unwrap_or(0);
            let upper = number(range.upper.as_ref()).expect("ranges end");
            let to = number(range.watermark.as_ref()).unwrap_or(from);
            prop_assert!((from..=upper).contains(&to), "a watermark outside of its range: {range:?}");
            prop_assert!(
                ((from + 1)..=to).all(|key| self.target.contains(&key)),
                "acknowledged in vain: {range:?}"
            );
            prop_assert_eq!(range.rows_read, to - from, "a row was acknowledged twice, or not: {:?}", range);
            prop_assert!(!range.done || to == upper, "done before its end: {range:?}");
            for key in (from + 1)..=upper {
                prop_assert!(covered.insert(key), "key {} is in two ranges", key);
            }
        }
        prop_assert_eq!(covered.len() as i64, KEYS * RANGES, "no key is in none");
        Ok(())
    }
}

impl Worker {
    fn took(&mut self, held: Option<HeldRange>) {
        let from = held.as_ref().and_then(|held| held.range.watermark.as_ref().or(held.range.lower.as_ref()));
        (self.read, self.unacknowledged) = (number(from).unwrap_or(0), 0);
        self.held = held;
    }
}

/// Plays the events, and then a worker that ends what is left, whatever is in its way.
async fn play(world: &World, events: &[Event]) -> Result<(), TestCaseError> {
    let mut stage = Stage::set(world).await;
    for event in events {
        stage.happens(*event).await;
        stage.check().await?;
    }
    for w in 0..WORKERS {
        stage.ends(w).await;
    }
    let last = stage.registered().await;
    stage.workers[0] = last;
    for _ in 0..100 {
        for event in [Event::Claim(0), Event::Deliver(0, KEYS), Event::Acknowledge(0)] {
            stage.happens(event).await;
        }
    }
    stage.check().await?;
    let ranges = world.source.ranges(LOGS).await.expect("ranges");
    prop_assert!(ranges.iter().all(|range| range.done), "a state from which no worker leads on: {ranges:?}");
    prop_assert_eq!(stage.target.len() as i64, KEYS * RANGES);
    prop_assert_eq!(ranges.iter().map(|range| range.rows_read).sum::<i64>(), KEYS * RANGES);
    Ok(())
}

#[test]
fn in_any_order_of_events_each_range_is_acknowledged_exactly_up_to_what_is_in_the_target() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("threads");
    let world = runtime.block_on(async {
        let world = World::start().await;
        world.prepared().await.close().await;
        world
    });
    let config = Config {
        cases: 48,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(seed()),
        ..Config::default()
    };
    let schedules = proptest::collection::vec(event(), 1..60);
    TestRunner::new(config)
        .run(&schedules, |events| runtime.block_on(play(&world, &events)))
        .unwrap_or_else(|error| panic!("{error}"));
    runtime.block_on(async move { drop(world) });
}

#[tokio::test]
async fn a_worker_that_wakes_after_its_lease_acknowledges_nothing_even_where_no_other_came() {
    let world = World::start().await;
    world.prepared().await.close().await;
    let mut stage = Stage::set(&world).await;
    for event in [Event::Claim(0), Event::Deliver(0, 5), Event::Stall(0), Event::Acknowledge(0)] {
        stage.happens(event).await;
    }
    assert_eq!(stage.refused, 1);
    let ranges = world.source.ranges(LOGS).await.expect("ranges");
    assert!(ranges.iter().all(|range| range.rows_read == 0 && range.watermark.is_none()), "{ranges:?}");
    // It does not get it back by asking, either.
    let id = stage.workers[0].id;
    assert!(!world.source.renew_worker(id, LEASE, Pulse::default()).await.expect("asked"));
    assert!(
        world.source.claim_range(id, &[LOGS], &Window::default()).await.expect("asked").is_none(),
        "nor does it get another"
    );
}

#[tokio::test]
async fn a_lease_of_a_plan_that_was_forgotten_acknowledges_nothing_in_the_next() {
    let world = World::start().await;
    world.prepared().await.close().await;
    let mut stage = Stage::set(&world).await;
    stage.happens(Event::Claim(0)).await;
    stage.happens(Event::Deliver(0, 5)).await;
    let held = stage.workers[0].held.take().expect("held");
    // The same numbers, in a new plan; the same worker holds that range again, under another lease.
    world.source.forget_ranges(LOGS).await.expect("forgotten");
    let whole = vec![(None, Some(bound(KEYS * RANGES)))];
    world.source.plan_ranges(LOGS, &Window::default(), &RangePlan::Keys(whole)).await.expect("planned");
    let again = world
        .source
        .claim_range(held.worker, &[LOGS], &Window::default())
        .await
        .expect("asked")
        .expect("free");
    assert!(again.token > held.token, "{} and {}", again.token, held.token);
    let add = RangeProgress { rows_read: 5, ..RangeProgress::default() };
    let mut old = held.clone();
    old.range.number = again.range.number;
    assert!(world.source.move_watermark(&old, Some(&bound(5)), false, add).await.expect("asked").is_none());
    assert!(world.source.move_watermark(&again, Some(&bound(5)), false, add).await.expect("asked").is_some());
}
