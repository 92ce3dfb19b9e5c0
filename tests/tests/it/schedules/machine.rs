//! Actors that move data and phases, dying now and then, and what is done when it is over.

use std::sync::Arc;
use std::time::Duration;

use lockstep_coordinator::{Coordinator, CoordinatorError, MigrationContext, Progress, RelayUntil, relay};
use lockstep_core::{Phase, Retry};
use lockstep_tests::World;
use lockstep_tests::world::CutShort;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio_util::sync::CancellationToken;

use crate::chaos::passing;

/// Relays, and is killed again and again, after `polls_max` awaits at most. Never ends.
pub(crate) async fn relay_for_ever(world: Arc<World>, seed: u64, polls_max: usize) {
    let mut rng = StdRng::seed_from_u64(seed);
    let migration = world.migration();
    loop {
        let (progress, cancel) = (Progress::new(&migration.tables), CancellationToken::new());
        let relaying = relay(&migration, RelayUntil::Cancelled, &progress, &cancel);
        if let Some(Err(error)) = CutShort::after(rng.random_range(20..polls_max), relaying).await {
            passing(&error);
            tokio::task::yield_now().await;
        }
    }
}

/// A coordinator, as soon as there can be one. What the last one left half-done is finished or undone by
/// opening it.
pub(super) async fn coordinator(world: &World) -> Coordinator {
    opened(world.migration()).await
}

/// The same, of a migration of your own making.
pub(super) async fn opened(migration: MigrationContext) -> Coordinator {
    loop {
        match Coordinator::open(migration.clone()).await {
            Ok(coordinator) => return coordinator,
            // The session of the one before may not have ended yet.
            Err(CoordinatorError::Store(e)) if e.kind.retry() != Retry::Never => {
                tokio::time::sleep(Duration::from_millis(5)).await
            }
            Err(error) => panic!("a coordinator cannot be opened: {error}"),
        }
    }
}

/// Moves history, then changes the phase to and fro; each coordinator dies after a while. Never ends.
pub(crate) async fn backfill_and_wander(world: Arc<World>, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut moved = false;
    loop {
        let coordinator = coordinator(&world).await;
        let polls = rng.random_range(10..400);
        let done = CutShort::after(polls, async {
            if !moved {
                coordinator.backfill(&CancellationToken::new()).await?;
                moved = true;
            }
            loop {
                let now = world.value::<String>("SELECT phase::text FROM lockstep.control").await;
                let to = match now.as_str() {
                    "PostgresOnly" => Phase::DualWrite,
                    "DualWrite" if rng.random_bool(0.75) => {
                        caught_up(&world).await;
                        Phase::HybridRead
                    }
                    "DualWrite" => Phase::PostgresOnly,
                    _ => Phase::DualWrite,
                };
                coordinator.step(to, Some("schedules"), &()).await?;
            }
        });
        // Without an end but by an error or by death.
        let done: Option<Result<std::convert::Infallible, CoordinatorError>> = done.await;
        if let Some(Err(error)) = done {
            passing(&error);
        }
        coordinator.close().await;
    }
}

/// Waits until nothing that was written in an earlier phase is pending, as an operator would before reads
/// move. A gate asks for less, and that is overruled here. But of a write in PostgresOnly no store remembers
/// that the target lacks it, so reading one's writes begins with DualWrite.
pub(super) async fn caught_up(world: &World) {
    let behind = "SELECT EXISTS (SELECT 1 FROM lockstep.pending p, lockstep.control c WHERE p.version >> 40 < c.epoch)";
    while world.value::<bool>(behind).await {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Finishes what was begun: history, if it has not been moved, and a step half-done.
pub(crate) async fn recover(world: &World) {
    let coordinator = coordinator(world).await;
    lockstep_tests::world::backfill(&coordinator).await;
    coordinator.close().await;
}
