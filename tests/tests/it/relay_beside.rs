//! Tables beside one another: one with much to deliver, or whose target takes little, holds up no other.

use std::sync::Arc;
use std::time::Duration;

use lockstep_coordinator::{Progress, RelayUntil, relay};
use lockstep_tests::World;
use lockstep_tests::faults::{Fault, FaultKind, Rule};
use lockstep_tests::world::rows::{logs, payments};
use lockstep_tests::world::{LOGS, PAYMENTS, WorldOptions, eventually, within};
use tokio_util::sync::CancellationToken;

/// Runs a relay that runs until it is told to stop beside `other`.
async fn beside_a_relay(world: &World, other: impl AsyncFnOnce(&Progress)) {
    let (migration, stop) = (world.migration(), CancellationToken::new());
    let (until, progress) = (stop.clone(), Arc::new(Progress::new(&migration.tables)));
    let of_relay = Arc::clone(&progress);
    let relaying =
        tokio::spawn(async move { relay(&migration, RelayUntil::Cancelled, &of_relay, &until).await });
    other(&progress).await;
    stop.cancel();
    relaying.await.expect("the relay ends").expect("the relay ends well");
}

async fn delivered(world: &World, table: &'static str) {
    let is_empty = async || world.pending(table).await.is_empty();
    // Far below the minute after which what was read is read again.
    within(Duration::from_secs(30), eventually("it is delivered", is_empty)).await;
}

/// 1. A relay went through one table after the other. 2. The first had a target that throttled. 3. Changes of
/// the second were not looked at until the first was through, though its target took everything.
#[tokio::test]
async fn a_table_whose_target_takes_nothing_holds_up_no_other() {
    let as_it_is_by_default = Duration::from_mins(1);
    let world = World::with(WorldOptions {
        proxied: true,
        request_lifetime: as_it_is_by_default,
        ..WorldOptions::default()
    })
    .await;
    world.prepared().await.close().await;
    for (round, (held, free)) in [(LOGS, PAYMENTS), (PAYMENTS, LOGS)].into_iter().enumerate() {
        for fault in [Fault::Throttle, Fault::Unavailable] {
            let (kind, first) = (fault.kind(), 1 + 10_000 * world.proxy().seen("PutItem") as i64);
            let rows = |table: &str, first| match table {
                LOGS => logs(first, first + 99),
                _ => payments(first, first + 99),
            };
            let before = world.proxy().counts().injected(kind);
            world.proxy().script(Rule::new(fault).on("PutItem").on("BatchExecuteStatement").table(held));
            world.sql(&rows(held, first)).await;
            beside_a_relay(&world, async |_| {
                world.proxy().until(|counts| counts.injected(kind) > before + 10).await;
                for again in 1..=3 {
                    world.sql(&rows(free, first + 1_000 * again)).await;
                    delivered(&world, free).await;
                    assert_eq!(world.pending(held).await.len(), 100, "round {round}: its target takes none");
                }
                world.proxy().clear();
                delivered(&world, held).await;
            })
            .await;
        }
    }
    assert!(world.proxy().counts().injected(FaultKind::Throttle) > 0);
    world.assert_converged().await;
}

/// 1. A target answered nothing. 2. What was read was too old before the tries were used up, and was read
/// again. 3. That was no failure: the relay said that all was well, and delivered nothing.
#[tokio::test]
async fn a_target_that_answers_nothing_is_told_of_although_what_was_read_is_too_old_by_then() {
    // The world's own, two seconds: less than all tries take.
    let world = World::behind_proxy().await;
    world.prepared().await.close().await;
    world.proxy().script(Rule::new(Fault::Unavailable).on("PutItem").on("BatchExecuteStatement").table(LOGS));
    world.sql(&logs(1, 60)).await;
    beside_a_relay(&world, async |progress| {
        let of_logs = progress.tables.iter().find(|table| table.name == LOGS).expect("the logs");
        eventually("it is told", || async { of_logs.pause_reason().is_some() }).await;
        world.proxy().clear();
        delivered(&world, LOGS).await;
        eventually("it is over", || async { of_logs.pause_reason().is_none() }).await;
    })
    .await;
    world.assert_converged().await;
}
