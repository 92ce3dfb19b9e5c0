//! Both networks, as bad as a seed has them, and how they heal.

use std::time::Duration;

use futures::future::join_all;
use lockstep_tests::World;
use lockstep_tests::faults::source::{SourceFault, SourceFaultKind, SourceRule};
use lockstep_tests::faults::{Fault, FaultKind, Gate, Rule};
use lockstep_tests::world::within;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Longest that a late message is under way: a session that waits for its locks cannot do what it waits for.
const LATE: Duration = Duration::from_millis(150);
/// Other requests to the target and its streams.
const OTHERS: [&str; 6] =
    ["GetItem", "Query", "GetRecords", "GetShardIterator", "DescribeStream", "UpdateItem"];

/// The gates at which messages wait: those whose senders have given up, and those that are only slow.
#[derive(Clone)]
pub(crate) struct Late {
    to_target: Gate,
    to_source: Gate,
    slow_target: Gate,
    slow_source: Gate,
}

/// Scripts both proxies. Of what can go wrong before PostgreSQL, and with what is only read, this `share`
/// does: a step to DynamoOnly is hundreds of statements, and one that never ends proves nothing.
pub(crate) fn misbehave(world: &World, seed: u64, share: f64) -> Late {
    let late = Late {
        to_target: Gate::new(),
        to_source: Gate::new(),
        slow_target: Gate::new(),
        slow_source: Gate::new(),
    };
    let faults = [
        (Fault::LoseReply, 0.06),
        (Fault::Throttle, 0.05),
        (Fault::Unavailable, 0.05),
        (Fault::Duplicate, 0.04),
        (Fault::ServerError, 0.03),
        (Fault::AnswerThenApplyLate(late.to_target.clone()), 0.04),
        (Fault::Delay(late.slow_target.clone()), 0.02),
    ];
    for (n, (fault, p)) in faults.into_iter().enumerate() {
        let rule = Rule::new(fault).on("PutItem").on("TransactWriteItems").on("BatchExecuteStatement");
        world.proxy().script(rule.probability(p, seed * 100 + n as u64));
    }
    for (n, fault) in [Fault::ServerError, Fault::Throttle, Fault::LoseReply].into_iter().enumerate() {
        let rule = OTHERS.into_iter().fold(Rule::new(fault), Rule::on);
        world.proxy().script(rule.probability(0.02 * share, seed * 100 + 50 + n as u64));
    }
    let faults = [
        (SourceRule::new(SourceFault::LoseReply).on("COMMIT"), 0.05),
        (SourceRule::new(SourceFault::Cut).on("COMMIT"), 0.03),
        (SourceRule::new(SourceFault::CutThenApplyLate(late.to_source.clone())).on("COMMIT"), 0.03),
        (SourceRule::new(SourceFault::DelayReply(late.slow_source.clone())), 0.004),
        (SourceRule::new(SourceFault::LoseReply), 0.004),
        (SourceRule::new(SourceFault::Cut).any_frame(), 0.003),
    ];
    for (n, (rule, p)) in faults.into_iter().enumerate() {
        world.source_proxy().script(rule.probability(p * share, seed * 100 + 60 + n as u64));
    }
    late
}

impl Late {
    /// Lets late messages arrive, one by one, each a while after its sender has given up, and slow ones.
    /// Never ends.
    pub(crate) async fn trickle(self) {
        let gates = [&self.to_target, &self.to_source, &self.slow_target, &self.slow_source];
        join_all(gates.map(let_through)).await;
    }
}

async fn let_through(gate: &Gate) {
    for held in 1.. {
        gate.when_held(held).await;
        // How long does not matter to any claim.
        tokio::time::sleep(LATE).await;
        gate.release(1);
    }
}

/// PostgreSQL is away for a moment: every connection is lost, and a client that wants a new one waits.
pub(crate) async fn outage(world: &World) {
    world.source_proxy().down().await;
    tokio::time::sleep(LATE).await;
    world.source_proxy().up().await;
}

/// Now and then a store is away for a moment, or every connection is cut. Never ends.
pub(crate) async fn outages(world: &World, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    loop {
        tokio::time::sleep(Duration::from_millis(rng.random_range(1_000..8_000))).await;
        match rng.random_range(0..3) {
            0 => outage(world).await,
            1 => world.source_proxy().cut_all().await,
            _ => world.proxy().script(Rule::new(Fault::Unavailable).times(rng.random_range(10..60))),
        }
    }
}

/// The networks are well again, and everything that was under way has arrived.
pub(crate) async fn heal(world: &World, late: &Late) {
    world.proxy().clear();
    world.source_proxy().clear();
    [&late.to_target, &late.to_source, &late.slow_target, &late.slow_source].into_iter().for_each(Gate::open);
    let bound = Duration::from_secs(30);
    within(bound, late.to_target.until_done(world.proxy().counts().injected(FaultKind::AnswerThenApplyLate)))
        .await;
    within(
        bound,
        late.to_source.until_done(world.source_proxy().injected(SourceFaultKind::CutThenApplyLate)),
    )
    .await;
}
