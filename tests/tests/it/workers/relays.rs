//! Shares of the pending keys in any order of events: join, deliver, acknowledge, change, stall, die, wake.
//! The source is real; the target is the newest version of each key, and time is the source's clock, moved
//! by hand.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::DateTime;
use lockstep_coordinator::{CoordinatorError, Progress, RelaySummary, RelayUntil, relay, status_of_source};
use lockstep_core::{SourceKey, Version};
use lockstep_postgres::{Delivered, JoiningRelay, KeyOrder, RelayShare};
use lockstep_tests::World;
use lockstep_tests::seeds::seed;
use lockstep_tests::world::rows::logs;
use lockstep_tests::world::{LOGS, eventually, within};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const RELAYS: usize = 3;
const ROWS: i64 = 24;
const LEASE: Duration = Duration::from_secs(300);

#[derive(Clone, Copy, Debug)]
enum Event {
    /// It asks for a share, if it has none.
    Join(usize),
    /// It reads some keys of its share, as it knows it, and writes them; nothing is acknowledged by that.
    Deliver(usize),
    /// It acknowledges what it has delivered.
    Acknowledge(usize),
    /// An application changes a row.
    Change(i64),
    /// It is stopped: its lease ends, and it does not know.
    Stall(usize),
    /// It is gone, with all that it knew. Its lease ends later.
    Die(usize),
    /// It renews its lease, and hears what its share is.
    Wake(usize),
    /// It gives its share back.
    Leave(usize),
}

fn event() -> impl Strategy<Value = Event> {
    let relay = 0..RELAYS;
    prop_oneof![
        4 => relay.clone().prop_map(Event::Join),
        6 => relay.clone().prop_map(Event::Deliver),
        5 => relay.clone().prop_map(Event::Acknowledge),
        4 => (1..=ROWS).prop_map(Event::Change),
        2 => relay.clone().prop_map(Event::Stall),
        1 => relay.clone().prop_map(Event::Die),
        3 => relay.clone().prop_map(Event::Wake),
        1 => relay.prop_map(Event::Leave),
    ]
}

/// Knowledge of one relay.
#[derive(Default)]
struct Relay {
    share: Option<RelayShare>,
    delivered: Vec<Delivered>,
}

struct Stage<'a> {
    world: &'a World,
    relays: Vec<Relay>,
    next_id: i64,
    /// First two bytes of the digest of each key.
    parts: BTreeMap<String, i64>,
    target: BTreeMap<String, Version>,
    newest: BTreeMap<String, Version>,
}

impl<'a> Stage<'a> {
    async fn set(world: &'a World) -> Stage<'a> {
        world.sql("DELETE FROM lockstep.relays").await;
        world.sql("UPDATE integration_logs SET user_id = 'changed'").await;
        let digest = "sha256(convert_to(key::text, 'UTF8'))";
        let parts: String = world
            .value(&format!(
                "SELECT string_agg(key::text || '=' || get_byte({digest}, 0) * 256
                     + get_byte({digest}, 1), ';')
                 FROM lockstep.pending WHERE table_name = 'integration_logs'"
            ))
            .await;
        let parts = parts.split(';').map(|part| {
            let (key, part) = part.rsplit_once('=').expect("a pair");
            (SourceKey::parse(key).expect("a key").to_json(), part.parse().expect("a number"))
        });
        Stage {
            world,
            relays: (0..RELAYS).map(|_| Relay::default()).collect(),
            next_id: 1,
            parts: parts.collect(),
            target: BTreeMap::new(),
            newest: pending(world).await,
        }
    }

    async fn happens(&mut self, event: Event) -> Result<(), TestCaseError> {
        let source = &self.world.source;
        match event {
            Event::Join(r) if self.relays[r].share.is_none() => {
                let joining = JoiningRelay { id: self.next_id, name: "random", lease: LEASE };
                self.next_id += 1;
                self.relays[r].share = source.join_relays(&joining).await.expect("asked");
                prop_assert!(self.relays[r].share.is_some());
            }
            Event::Deliver(r) => {
                let Some(share) = self.relays[r].share else { return Ok(()) };
                let table = self.world.logs_table();
                let read = source.read_pending(Some(&share), &table, KeyOrder::Ascending, None, 8).await;
                for row in read.expect("reads").rows {
                    let held = self.target.entry(row.key.to_json()).or_insert(row.version);
                    *held = row.version.max(*held);
                    self.relays[r].delivered.push(Delivered { key: row.key.clone(), version: row.version });
                }
            }
            Event::Acknowledge(r) => self.acknowledge(r).await?,
            Event::Change(n) => {
                let sql = format!("UPDATE integration_logs SET user_id = 'again' WHERE log_id = {n}");
                self.world.sql(&sql).await;
                self.newest.extend(pending(self.world).await);
            }
            Event::Stall(r) => self.ends(r).await,
            Event::Die(r) => {
                self.ends(r).await;
                self.relays[r] = Relay::default();
            }
            Event::Wake(r) => {
                let Some(share) = self.relays[r].share else { return Ok(()) };
                self.relays[r].share = source.renew_relay(share.relay, LEASE).await.expect("asked");
            }
            Event::Leave(r) => {
                if let Some(share) = self.relays[r].share.take() {
                    source.leave_relays(share.relay).await.expect("left");
                }
            }
            Event::Join(_) => {}
        }
        Ok(())
    }

    /// The lease of a relay is over, by the source's clock.
    async fn ends(&self, r: usize) {
        let Some(share) = self.relays[r].share else { return };
        let sql = format!(
            "UPDATE lockstep.relays SET lease_until = clock_timestamp() - interval '1 ms' WHERE id = {}",
            share.relay
        );
        self.world.sql(&sql).await;
    }

    /// Nothing leaves the set but what is in this relay's share now, under a lease that is not over.
    async fn acknowledge(&mut self, r: usize) -> Result<(), TestCaseError> {
        let Some(share) = self.relays[r].share else { return Ok(()) };
        let delivered = std::mem::take(&mut self.relays[r].delivered);
        let held: String = self
            .world
            .value(&format!(
                "SELECT coalesce((SELECT lower || '-' || upper FROM lockstep.relays
                     WHERE id = {} AND lease_until > clock_timestamp()), '0-0')",
                share.relay
            ))
            .await;
        let held = bounds(&held);
        let before = pending(self.world).await;
        let source = &self.world.source;
        let count = source.acknowledge_of(Some(&share), LOGS, &delivered, DateTime::UNIX_EPOCH).await;
        let after = pending(self.world).await;
        let gone: Vec<&String> = before.keys().filter(|key| !after.contains_key(*key)).collect();
        prop_assert_eq!(count.expect("asked"), gone.len() as u64);
        for key in gone {
            let part = self.parts[key];
            prop_assert!((held.0..held.1).contains(&part), "{part} was another's than {held:?}'s");
        }
        Ok(())
    }

    /// Checks that what is not pending is in the target, and the shares are the whole set, without meeting.
    async fn check(&self) -> Result<(), TestCaseError> {
        let pending = pending(self.world).await;
        for (key, version) in self.newest.iter().filter(|(key, _)| !pending.contains_key(*key)) {
            prop_assert!(self.target.get(key).is_some_and(|held| held >= version), "acknowledged in vain");
        }
        let shares: String = self
            .world
            .value(
                "SELECT coalesce(string_agg(lower || '-' || upper, ',' ORDER BY lower), '0-65536')
                 FROM lockstep.relays",
            )
            .await;
        let mut reached = 0;
        for (lower, upper) in shares.split(',').map(bounds) {
            prop_assert_eq!(lower, reached, "keys of none, or of two: {}", shares);
            reached = upper;
        }
        prop_assert_eq!(reached, 65536, "keys of none: {}", shares);
        Ok(())
    }
}

/// Reads the pending keys as keys are written here, and not as PostgreSQL writes them.
async fn pending(world: &World) -> BTreeMap<String, Version> {
    let of_key = |key: String| SourceKey::parse(&key).expect("a key").to_json();
    world.pending(LOGS).await.into_iter().map(|(key, version)| (of_key(key), version)).collect()
}

fn bounds(text: &str) -> (i64, i64) {
    let (lower, upper) = text.split_once('-').expect("two bounds");
    (lower.parse().expect("a number"), upper.parse().expect("a number"))
}

/// Plays the events, and then a relay that delivers what is left, whatever is in its way.
async fn play(world: &World, events: &[Event]) -> Result<(), TestCaseError> {
    let mut stage = Stage::set(world).await;
    for event in events {
        stage.happens(*event).await?;
        stage.check().await?;
    }
    for r in 0..RELAYS {
        stage.ends(r).await;
    }
    world.sql("UPDATE lockstep.relays SET lease_until = clock_timestamp() - interval '1 ms'").await;
    stage.relays[0] = Relay::default();
    stage.happens(Event::Join(0)).await?;
    prop_assert!(stage.relays[0].share.is_some_and(|share| share.is_whole()), "it alone is left");
    for _ in 0..=ROWS / 8 {
        stage.happens(Event::Deliver(0)).await?;
        stage.happens(Event::Acknowledge(0)).await?;
    }
    stage.check().await?;
    prop_assert!(world.pending(LOGS).await.is_empty(), "a state from which no relay leads on");
    Ok(())
}

#[test]
fn in_any_order_of_events_a_mark_is_taken_out_only_by_the_relay_that_has_its_share() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("threads");
    let world = runtime.block_on(async {
        let world = World::start().await;
        world.prepared().await.close().await;
        world.sql(&logs(1, ROWS)).await;
        world
    });
    let config = Config {
        cases: 16,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(seed()),
        ..Config::default()
    };
    let schedules = proptest::collection::vec(event(), 1..40);
    TestRunner::new(config)
        .run(&schedules, |events| runtime.block_on(play(&world, &events)))
        .unwrap_or_else(|error| panic!("{error}"));
    runtime.block_on(async move { drop(world) });
}

#[tokio::test]
async fn a_relay_that_wakes_after_its_lease_acknowledges_nothing_even_where_no_other_came() {
    let world = World::start().await;
    world.prepared().await.close().await;
    world.sql(&logs(1, 6)).await;
    let mut stage = Stage::set(&world).await;
    for event in [Event::Join(0), Event::Deliver(0), Event::Stall(0), Event::Acknowledge(0)] {
        stage.happens(event).await.expect("as it should");
    }
    assert_eq!(world.pending(LOGS).await.len(), 6);
    // None has its keys meanwhile, so it goes on once it has renewed its lease.
    for event in [Event::Wake(0), Event::Deliver(0), Event::Acknowledge(0)] {
        stage.happens(event).await.expect("as it should");
    }
    assert!(world.pending(LOGS).await.is_empty());
}

fn started(world: &World, stop: &CancellationToken) -> JoinHandle<Result<RelaySummary, CoordinatorError>> {
    let (migration, stop) = (world.migration(), stop.clone());
    tokio::spawn(async move {
        let progress = Progress::new(&migration.tables);
        relay(&migration, RelayUntil::Cancelled, &progress, &stop).await
    })
}

async fn delivered(relay: JoinHandle<Result<RelaySummary, CoordinatorError>>) -> u64 {
    within(Duration::from_secs(20), relay).await.expect("no panic").expect("it ends well").delivered
}

#[tokio::test]
async fn two_relays_deliver_each_key_once_between_them_and_one_that_ends_gives_its_share_back() {
    let world = World::start().await;
    world.prepared().await.close().await;
    let stop = [CancellationToken::new(), CancellationToken::new()];
    let [first, second] = [&stop[0], &stop[1]].map(|stop| started(&world, stop));
    let renewed = "SELECT coalesce(extract(epoch FROM min(lease_until)), 0)::float8 FROM lockstep.relays";
    for _ in 0..2 {
        // Each has heard of the other once both have renewed after both had joined, and said so once more.
        eventually("two have joined", || async { world.source.relays().await.expect("asked").len() == 2 })
            .await;
        let before: f64 = world.value(renewed).await;
        eventually("both renew", || async { world.value::<f64>(renewed).await > before }).await;
    }
    world.sql(&logs(1, 400)).await;
    eventually("all is delivered", || async { world.pending(LOGS).await.is_empty() }).await;
    let status = status_of_source(&world.source, &world.tables()).await.expect("a status");
    let shares: Vec<f64> = status.relays.iter().map(|relay| relay.share_percent).collect();
    assert_eq!(shares, [50.0, 50.0]);
    stop[1].cancel();
    let by_second = delivered(second).await;
    let left = world.source.relays().await.expect("asked");
    assert_eq!(left.iter().map(|relay| relay.share_percent).collect::<Vec<_>>(), [100.0]);
    stop[0].cancel();
    let by_first = delivered(first).await;
    assert_eq!(by_first + by_second, 400, "{by_first} and {by_second}");
    assert!(by_first > 100 && by_second > 100, "{by_first} and {by_second}");
    assert!(world.source.relays().await.expect("asked").is_empty());
    world.assert_converged().await;
}
