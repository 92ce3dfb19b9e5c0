//! Traveller that takes the steps through all phases, dying now and then, and the feed of PostgreSQL
//! meanwhile.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lockstep_coordinator::{Coordinator, CoordinatorError, FeedUntil};
use lockstep_core::{Kind, Phase, Retry};
use lockstep_tests::World;
use lockstep_tests::world::CutShort;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::machine::{caught_up, coordinator, opened};
use super::model::{Model, Told};

/// Writes that are acknowledged in DynamoOnly before it goes back.
const WRITES_THERE: usize = 25;
const LOOK: Duration = Duration::from_millis(5);
/// Longest that a step may keep writers waiting.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Feeds PostgreSQL, and is killed again and again. Never ends.
pub(super) async fn feed_for_ever(world: Arc<World>, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    loop {
        let cancel = CancellationToken::new();
        let feeding = world.feed(FeedUntil::Cancelled, &cancel);
        if let Some(Err(error)) = CutShort::after(rng.random_range(50..2_000), feeding).await {
            may_happen("the reverse feed", &error);
        }
        // A step may have the feed's lock.
        tokio::time::sleep(LOOK).await;
    }
}

/// Moves history, then goes from phase to phase, until the truth has been in the target and back a number of
/// times. About half of the coordinators die on the way.
pub(super) async fn travel(world: Arc<World>, model: Arc<Model>, seed: u64, rounds: usize) {
    let mut rng = StdRng::seed_from_u64(seed);
    let (mut moved, mut is_there, mut rounds_left) = (false, false, rounds);
    let mut steps_left = rng.random_range(0..4);
    loop {
        let mut migration = world.migration();
        // What keeps a pause from ending here, a fault or a process that sleeps, is met again by the next step.
        migration.options.steps.pause_max = PAUSE_MAX;
        let coordinator = opened(migration).await;
        let now = phase(&world).await;
        if is_there && now != Phase::DynamoOnly && rounds_left > 0 {
            rounds_left -= 1;
        }
        is_there = now == Phase::DynamoOnly;
        if rounds_left == 0 {
            // Where it ends is chance, and so is whether the last coordinator dies.
            match steps_left {
                0 => return coordinator.close().await,
                _ => steps_left -= 1,
            }
        }
        let polls = if rng.random_bool(0.5) { rng.random_range(10..1_500) } else { usize::MAX };
        let taken = CutShort::after(polls, async {
            if !moved {
                let begun = Instant::now();
                coordinator.backfill(&CancellationToken::new()).await?;
                eprintln!("history in {:?}", begun.elapsed());
                moved = true;
            }
            one_step(&world, &model, &coordinator, now, &mut rng).await
        });
        let begun = Instant::now();
        match taken.await {
            None => eprintln!("from {now}: a coordinator died after {polls} polls, {:?}", begun.elapsed()),
            Some(Ok(to)) => eprintln!("from {now} to {to} in {:?}", begun.elapsed()),
            Some(Err(error)) => may_happen(&format!("from {now}, after {:?}", begun.elapsed()), &error),
        }
        coordinator.close().await;
    }
}

async fn one_step(
    world: &World,
    model: &Model,
    coordinator: &Coordinator,
    now: Phase,
    rng: &mut StdRng,
) -> lockstep_coordinator::Result<Phase> {
    let to = match now {
        Phase::PostgresOnly => Phase::DualWrite,
        Phase::DualWrite if rng.random_bool(0.8) => Phase::HybridRead,
        Phase::DualWrite => Phase::PostgresOnly,
        Phase::HybridRead if rng.random_bool(0.8) => Phase::DynamoOnly,
        Phase::HybridRead => Phase::DualWrite,
        Phase::DynamoOnly => {
            let enough = model.count(Told::AcknowledgedByTarget) + WRITES_THERE;
            while model.count(Told::AcknowledgedByTarget) < enough {
                tokio::time::sleep(LOOK).await;
            }
            Phase::HybridRead
        }
    };
    if to > now && to >= Phase::HybridRead {
        trust(world).await?;
    }
    coordinator.step(to, (to < Phase::DynamoOnly).then_some("schedules"), &()).await.map(|done| done.phase)
}

/// Waits until a step forward may be taken, and records a verdict that no comparison has reached: this
/// claim does not rest on one, and nothing may be lost if it was wrong.
pub(super) async fn trust(world: &World) -> lockstep_coordinator::Result<()> {
    let begun = Instant::now();
    caught_up(world).await;
    eprintln!("caught up in {:?}", begun.elapsed());
    let tables: Vec<_> = world.tables().iter().map(|table| json!({ "name": table.name() })).collect();
    let epoch = world.source.control().await?.epoch;
    let report = json!({ "tables": tables, "began": world.source.draw_number().await? });
    Ok(world.source.record_verdict(epoch, true, &report).await?)
}

pub(super) async fn phase(world: &World) -> Phase {
    world.value::<String>("SELECT phase::text FROM lockstep.control").await.parse().expect("a phase")
}

/// Accepts what an operator would try again after a while; anything else is a bug.
#[track_caller]
pub(super) fn may_happen(what: &str, error: &CoordinatorError) {
    eprintln!("{what}: {error}");
    match error {
        CoordinatorError::Store(e) if e.kind.retry() != Retry::Never || e.kind == Kind::Refused => {}
        // The session that holds the coordinator's lock was cut.
        CoordinatorError::Interrupted
        | CoordinatorError::BarrierBusy { .. }
        | CoordinatorError::PauseMissed { .. }
        | CoordinatorError::Refused(_)
        | CoordinatorError::Unsettled { .. } => {}
        other => panic!("{what}: not of the kind that passes: {other}"),
    }
}

/// With both networks well and every actor at rest: what was broken off is settled, and from DynamoOnly there
/// is a way back at once.
pub(super) async fn go_home(world: &World) {
    let coordinator = coordinator(world).await;
    if phase(world).await == Phase::DynamoOnly {
        world.feed_until_drained().await;
        world.assert_fed().await;
        assert_eq!(world.step_to(&coordinator, Phase::HybridRead).await.phase, Phase::HybridRead);
    }
    // A write that DynamoOnly left behind may have landed since.
    world.feed_until_drained().await;
    coordinator.close().await;
}
