//! HybridRead → DynamoOnly: PostgreSQL stops being written.
//!
//! In five parts: 1. The reverse feed is begun, and seen through, so that the way back is open before there
//! is anything to bring back.
//! 2. The barrier is closed: no application writes. The relay delivers the pending keys, within the bound. 3.
//! The truth moves: decided in PostgreSQL, copied to DynamoDB, where writes still wait. 4. Ids are counted on
//! from PostgreSQL's, and every instance has acknowledged the phase or its lease is over. 5. Writes go on.
//! Until then everything can be undone, because no application has written: what takes too long is, and so is
//! what a crash leaves.

use lockstep_core::Advice::DeadLetters;
use lockstep_core::{Doing, Epoch, Error as StoreError, Kind};
use lockstep_postgres::{
    CAPTURE_VERSION, IntentId, KeyOrder, SourceTransaction, TableBinding, take_exclusive,
};
use std::time::{Duration, Instant};

use crate::truth::{copy_to_target, flip_to_target, seed_identities};
use tokio_util::sync::CancellationToken;

use super::feed::Feed;
use super::indexed::Indexed;
use super::{Moved, OPEN, Pause, note};
use crate::error::{CoordinatorError, Result};
use crate::gate::Observer;
use crate::instances::{self, InstanceWait, Leases};
use crate::journal::Intent;
use crate::options::MigrationContext;
use crate::progress::Progress;
use crate::records::{require_flippable, take_in_partitions};
use crate::relay::{RelayUntil, relay_in};

const DOING: &str = "moving the truth to DynamoDB";
/// Number of pending keys that can be delivered inside the pause in a few milliseconds.
const PENDING_KEYS_IN_PAUSE_MAX: i64 = 50;
/// Pause between two counts of pending keys.
const LOOK: Duration = Duration::from_millis(50);
/// Time without fewer pending keys after which the step stops waiting for fewer: writers go on.
const NO_FEWER: Duration = Duration::from_secs(1);

/// Takes the step. After an error the caller looks at the records, and settles by them.
pub(crate) async fn to_dynamo(
    migration: &MigrationContext,
    id: IntentId,
    intent: &Intent,
    observer: &dyn Observer,
) -> Result<Moved> {
    note(migration, id, "make the control table").await?;
    // A migration that an earlier version began has none yet. Before writes wait: a table that was made just
    // now may not be protected for minutes. Also where it is there: what made it may have ended before this.
    let control = migration.target.control();
    control.create().await?;
    control.protect().await?;
    let feed = Feed::begin(migration, id).await?;
    let moved = with_feed(migration, id, intent, &feed, observer).await;
    feed.end().await;
    moved
}

async fn with_feed(
    migration: &MigrationContext,
    id: IntentId,
    intent: &Intent,
    feed: &Feed,
    observer: &dyn Observer,
) -> Result<Moved> {
    let steps = &migration.options.steps;
    // A record of an earlier DynamoOnly that is still unread would be taken for news in this one.
    feed.see_through(migration, steps.catch_up_max).await?;
    let mut indexed = Indexed::begin(migration).await?;
    // So that little is left to be delivered once no application writes.
    relay_most(migration).await?;
    indexed.approach(migration, steps.catch_up_max).await?;
    note(migration, id, "stop writes and move the truth").await?;
    let again = |tries: u32, error: CoordinatorError| async move {
        let why = match &error {
            CoordinatorError::Store(error) => error.message.clone(),
            other => other.to_string(),
        };
        observer.note(&format!(
            "the step waits {} ms and tries again (try {tries} of {}): {}",
            steps.lock_pause.as_millis(),
            steps.lock_tries,
            why
        ));
        migration.source.sweep_intents(Duration::ZERO).await?;
        take_in_partitions(migration).await
    };
    let decided = steps.tries(|| close_and_decide(migration, id, intent), again).await;
    let (tries, (mut pause, epoch)) = decided.map_err(|error| steps.barrier_busy(error, intent.to))?;
    let instances = finish(migration, id, epoch, &mut pause, &indexed, observer).await?;
    Ok(Moved { tries, pause: pause.end(), instances })
}

/// Closes the barrier, empties the pending set behind it, and decides. An error leaves everything as it was,
/// unless the commit was sent: the record tells.
async fn close_and_decide(
    migration: &MigrationContext,
    id: IntentId,
    intent: &Intent,
) -> Result<(Pause, Epoch)> {
    let mut transaction = migration.source.begin(DOING).await?;
    // Writers queue behind a transaction that waits for the barrier.
    let mut pause = Pause::begin(intent.to, migration.options.steps.pause_max);
    take_exclusive(&mut transaction, migration.options.steps.lock_timeout).await?;
    pause.ended("the barrier");
    // From here on no write transaction is in flight anywhere (I5), so the set only shrinks.
    pause.within("the pending set to be empty", relay_all(migration)).await?;
    pause.within("a look at the source", check(&mut transaction, migration, id, intent)).await?;
    let control = migration.target.control();
    let decided = async { Ok(flip_to_target(&mut transaction, &control).await?) };
    let epoch = pause.within("DynamoDB's control record", decided).await?;
    transaction.commit().await.doing(DOING)?;
    migration.source.tell_of_change().await;
    pause.ended("the decision");
    Ok((pause, epoch))
}

/// Checks what must hold beside, for this flip alone.
async fn check(
    transaction: &mut SourceTransaction,
    migration: &MigrationContext,
    id: IntentId,
    intent: &Intent,
) -> Result<()> {
    require_flippable(transaction, migration, id, intent, DOING).await?;
    let refused = |kind, message: String| CoordinatorError::Store(StoreError::source(kind, DOING, message));
    let names: Vec<&str> = migration.tables.iter().map(TableBinding::name).collect();
    for (name, found) in names.iter().zip(migration.source.unsettled(&names).await?) {
        // Those of an older one know nothing of DynamoOnly and would let raw writers through.
        if found.capture_version != Some(CAPTURE_VERSION) {
            return Err(refused(Kind::Refused, format!("the triggers of {name} are of an older Lockstep")));
        }
        if found.waiting > 0 {
            // An open intent of a strict write that was rolled back: it can only be resolved with the barrier
            // open.
            return Err(refused(
                Kind::Busy,
                format!("a strict write of {name} was broken off and is not resolved yet"),
            ));
        }
        let unacknowledged = found.unacknowledged;
        if unacknowledged > 0 {
            return Err(refused(
                Kind::Refused,
                format!(
                    "{unacknowledged} rows of {name} cannot be held by DynamoDB; see \
                    {DeadLetters}"
                ),
            ));
        }
    }
    Ok(())
}

/// Delivers until little is pending, or no less will be: while writers go on, it may never be quite empty.
async fn relay_most(migration: &MigrationContext) -> Result<()> {
    let (progress, stop) = (Progress::new(&migration.tables), CancellationToken::new());
    let watch = async {
        let begun = Instant::now();
        let (mut fewest, mut fewest_at) = (i64::MAX, begun);
        while begun.elapsed() < migration.options.steps.catch_up_max && fewest_at.elapsed() < NO_FEWER {
            let keys = pending(migration).await?;
            if keys < fewest {
                (fewest, fewest_at) = (keys, Instant::now());
            }
            if keys <= PENDING_KEYS_IN_PAUSE_MAX {
                break;
            }
            tokio::time::sleep(LOOK).await;
        }
        stop.cancel();
        Ok(())
    };
    let relayed = relay_in(KeyOrder::Descending, migration, RelayUntil::Cancelled, &progress, &stop);
    tokio::try_join!(watch, async { relayed.await.map(drop) }).map(drop)
}

/// Delivers everything that is pending.
async fn relay_all(migration: &MigrationContext) -> Result<()> {
    let (progress, never) = (Progress::new(&migration.tables), CancellationToken::new());
    relay_in(KeyOrder::Descending, migration, RelayUntil::Empty, &progress, &never).await.map(drop)
}

async fn pending(migration: &MigrationContext) -> Result<i64> {
    let names: Vec<&str> = migration.tables.iter().map(TableBinding::name).collect();
    Ok(migration.source.waiting(&names).await?)
}

/// Finishes the step from the decision to the first write: no application writes, so everything can still be
/// undone.
async fn finish(
    migration: &MigrationContext,
    id: IntentId,
    epoch: Epoch,
    pause: &mut Pause,
    indexed: &Indexed,
    observer: &dyn Observer,
) -> Result<Vec<InstanceWait>> {
    let (source, control, steps) = (&migration.source, migration.target.control(), &migration.options.steps);
    let told = async {
        note(migration, id, "tell DynamoDB").await?;
        copy_to_target(source, &control).await?;
        note(migration, id, "count ids on").await?;
        let mut connection = source.pool().acquire().await.doing(DOING)?;
        Ok::<_, CoordinatorError>(seed_identities(&mut connection, &control, &migration.tables).await?)
    };
    // Index reads may lag, and rows without a place are found by an index. The step waits until the newest
    // deliveries are visible in the indexes, and `index_settle` longer for unrecorded ones. And a reader
    // without an instance goes by HybridRead for one lease.
    let others = tokio::time::sleep(steps.index_settle.max(instances::unregistered(steps.phase_lease)));
    let leases = Leases::of_both(migration);
    let waited = async {
        told.await?;
        instances::wait(&leases, epoch, observer).await
    };
    let all = async {
        let (waited, (), shown) = tokio::join!(waited, others, indexed.caught_up(migration));
        shown?;
        waited
    };
    let waited = match tokio::time::timeout(pause.left(), all).await {
        Ok(waited) => waited?,
        Err(_) => {
            let why = match indexed.waits_for() {
                Some(why) => why,
                None => instances::behind(&leases, epoch).await,
            };
            return Err(pause.missed(why));
        }
    };
    pause.ended("instances, ids and indexes");
    note(migration, id, OPEN).await?;
    pause.within("DynamoDB to let writes go on", async { Ok(control.open_writes(epoch).await?) }).await?;
    Ok(waited)
}
