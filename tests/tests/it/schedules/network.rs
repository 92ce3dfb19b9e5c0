//! Both networks, as bad as a seed has them, and how they heal.

use std::time::Duration;

use lockstep_tests::World;
use lockstep_tests::faults::source::{SourceFault, SourceFaultKind, SourceRule};
use lockstep_tests::faults::{Fault, FaultKind, Gate, Rule};
use lockstep_tests::world::within;

/// Longest that a late message is under way: whoever waits for its locks cannot do what it waits for.
const LATE: Duration = Duration::from_millis(150);

/// The gates at which late messages wait.
#[derive(Clone)]
pub(crate) struct Late {
    to_target: Gate,
    to_source: Gate,
}

/// Scripts both proxies.
pub(crate) fn misbehave(world: &World, seed: u64) -> Late {
    let late = Late { to_target: Gate::new(), to_source: Gate::new() };
    let faults = [
        (Fault::LoseReply, 0.06),
        (Fault::Throttle, 0.05),
        (Fault::Unavailable, 0.05),
        (Fault::Duplicate, 0.04),
        (Fault::ServerError, 0.03),
        (Fault::AnswerThenApplyLate(late.to_target.clone()), 0.04),
    ];
    for (n, (fault, p)) in faults.into_iter().enumerate() {
        let rule = Rule::new(fault).on("PutItem").on("TransactWriteItems").on("BatchExecuteStatement");
        world.proxy().script(rule.probability(p, seed * 100 + n as u64));
    }
    world.proxy().script(Rule::new(Fault::ServerError).on("GetItem").probability(0.05, seed * 100 + 50));
    let faults = [
        (SourceRule::new(SourceFault::LoseReply).on("COMMIT"), 0.05),
        (SourceRule::new(SourceFault::Cut).on("COMMIT"), 0.03),
        (SourceRule::new(SourceFault::CutThenApplyLate(late.to_source.clone())).on("COMMIT"), 0.03),
        (SourceRule::new(SourceFault::LoseReply), 0.004),
        (SourceRule::new(SourceFault::Cut).any_frame(), 0.003),
    ];
    for (n, (rule, p)) in faults.into_iter().enumerate() {
        world.source_proxy().script(rule.probability(p, seed * 100 + 60 + n as u64));
    }
    late
}

impl Late {
    /// Lets late messages arrive, one by one, each a while after its sender has given up. Never ends.
    pub(crate) async fn trickle(self) {
        let (mut to_target, mut to_source) = (0, 0);
        loop {
            tokio::select! {
                () = self.to_target.until_held(to_target + 1) => to_target += 1,
                () = self.to_source.until_held(to_source + 1) => to_source += 1,
            }
            // How long does not matter to any claim.
            tokio::time::sleep(LATE).await;
            self.to_target.release(1);
            self.to_source.release(1);
        }
    }
}

/// PostgreSQL is away for a moment: every connection is lost, and whoever wants a new one waits.
pub(crate) async fn outage(world: &World) {
    world.source_proxy().down().await;
    tokio::time::sleep(LATE).await;
    world.source_proxy().up().await;
}

/// The networks are well again, and everything that was under way has arrived.
pub(crate) async fn heal(world: &World, late: &Late) {
    world.proxy().clear();
    world.source_proxy().clear();
    late.to_target.open();
    late.to_source.open();
    let bound = Duration::from_secs(30);
    within(bound, late.to_target.until_done(world.proxy().counts().injected(FaultKind::AnswerThenApplyLate))).await;
    within(bound, late.to_source.until_done(world.source_proxy().injected(SourceFaultKind::CutThenApplyLate))).await;
}
