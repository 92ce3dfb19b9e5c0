//! DynamoOnly → HybridRead: PostgreSQL is the truth again, and has every write that was made meanwhile.
//!
//! In four parts: 1. The reverse feed is seen through, and what came through it is compared, while writers go
//! on. 2. Writes are paused in DynamoDB's record; no barrier reaches them there, so every instance
//! acknowledges, or its lease is over. 3. The feed is seen through past the pause, on every shard; nothing
//! was lost; source and target hold the same. 4. The truth moves: decided in DynamoDB, copied to PostgreSQL,
//! whose sequences of ids are set above the counters first. Until the decision, writes are let go on when
//! something is not as it must be.

use lockstep_core::Advice::ReverseBackfill;
use lockstep_core::{Epoch, Error as StoreError, Kind, Phase, TargetRecord, Writes};
use lockstep_postgres::{IntentId, Shape, TableBinding};

use crate::truth::flip_to_source;

use super::feed::Feed;
use super::level::Level;
use super::{Moved, Pause, STOP, note};
use crate::error::{CoordinatorError, Result};
use crate::feed_alarm;
use crate::gate::Observer;
use crate::instances::{self, InstanceWait, Leases};
use crate::options::MigrationContext;
use crate::records::take_in_partitions;

const DOING: &str = "moving the truth back to PostgreSQL";

/// Takes the step. After an error the caller looks at the records, and settles by them.
pub(crate) async fn to_postgres(
    migration: &MigrationContext,
    id: IntentId,
    observer: &dyn Observer,
) -> Result<Moved> {
    let feed = Feed::begin(migration, id).await?;
    let moved = with_feed(migration, id, &feed, observer).await;
    feed.end().await;
    moved
}

async fn with_feed(
    migration: &MigrationContext,
    id: IntentId,
    feed: &Feed,
    observer: &dyn Observer,
) -> Result<Moved> {
    let (steps, control) = (&migration.options.steps, migration.target.control());
    // All of that again in the pause; what takes long, takes long here.
    feed.see_through(migration, steps.catch_up_max).await?;
    nothing_lost(migration).await?;
    let level = Level::approach(migration, observer).await?;
    let open = open_record(migration).await?;
    note(migration, id, STOP).await?;
    // Before an instance may write under it: if the pause is given up, writes go on in its epoch.
    migration.source.note_target_epoch(Epoch(open.epoch.0 + 1)).await?;
    let mut pause = Pause::begin(Phase::HybridRead, steps.pause_max);
    let paused = pause
        .within("DynamoDB to pause writes", async { Ok(control.pause_writes(open.epoch).await?) })
        .await?;
    let instances = stopped(migration, paused, &mut pause, observer).await?;
    if let Some(why) = feed.missing(migration, pause.left()).await? {
        return Err(pause.missed(why));
    }
    pause.ended("the reverse feed to be through");
    nothing_lost(migration).await?;
    if let Some(why) = pause.within("a comparison of what changed last", level.finish(migration)).await? {
        return Err(CoordinatorError::Store(StoreError::source(Kind::Refused, DOING, why)));
    }
    note(migration, id, "move the truth").await?;
    let moving = flip_to_source(&migration.source, &control, &migration.tables, paused, steps.lock_timeout);
    pause.within("the truth to move", async { Ok(moving.await?) }).await?;
    Ok(Moved { tries: 1, pause: pause.end(), instances })
}

/// Returns the record as it must be to begin with.
async fn open_record(migration: &MigrationContext) -> Result<TargetRecord> {
    let record = migration.target.control().record().await?;
    record.filter(|record| record.holds_truth() && record.writes == Writes::Open).ok_or_else(|| {
        let message =
            format!("DynamoDB's control record says {record:?}; run the command again, which settles what was broken off");
        CoordinatorError::Store(StoreError::target(Kind::Refused, DOING, message))
    })
}

/// Waits until no application writes any more, requests under way included.
async fn stopped(
    migration: &MigrationContext,
    paused: Epoch,
    pause: &mut Pause,
    observer: &dyn Observer,
) -> Result<Vec<InstanceWait>> {
    let leases = Leases::of_both(migration);
    let others = tokio::time::sleep(instances::unregistered(migration.options.steps.phase_lease));
    let both = async { tokio::join!(instances::wait(&leases, paused, observer), others).0 };
    let waited = match tokio::time::timeout(pause.left(), both).await {
        Ok(waited) => waited?,
        Err(_) => return Err(pause.missed(instances::behind(&leases, paused).await)),
    };
    pause.ended("instances to stop writing");
    Ok(waited)
}

/// Refuses where the feed does not have everything: then PostgreSQL has not either (I7). Nor has it what went
/// with a partition.
pub(crate) async fn nothing_lost(migration: &MigrationContext) -> Result<()> {
    take_in_partitions(migration).await?;
    let refused =
        |message: String| CoordinatorError::Store(StoreError::source(Kind::Refused, DOING, message));
    let shapes = migration.source.shapes(&migration.tables).await?;
    let names: Vec<&str> = migration.tables.iter().map(TableBinding::name).collect();
    let standings = migration.source.reverse_standings(&names).await?;
    for (binding, shape) in migration.tables.iter().zip(shapes) {
        if matches!(shape, Shape::Partitions(_) | Shape::Grown(_)) {
            let wrong = shape.wrong().unwrap_or_default();
            return Err(refused(format!("{}: {wrong}; {}", binding.relation, shape.next())));
        }
        let why = match standings.get(binding.name()) {
            None => Some(format!("it was never fed: run {ReverseBackfill}")),
            Some(standing) => feed_alarm::closed(standing),
        };
        if let Some(why) = why {
            return Err(refused(format!("{}: {why}", binding.name())));
        }
    }
    Ok(())
}
