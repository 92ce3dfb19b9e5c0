//! Notes and questions of a feed about all its tables at once.
//!
//! 1. Fifty tables are fed, and no application writes. 2. Each table's task notes once a second that its
//! shards had nothing, and asks every two seconds what is to be read again. 3. PostgreSQL answers a hundred
//! and fifty statements a second, for nothing. So tasks say here what they have seen, and one task notes it
//! by one statement, asks by two, and wakes the tables that have something to do.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lockstep_core::Phase;
use lockstep_dynamo::Backoff;
use lockstep_postgres::TableBinding;
use lockstep_postgres::reverse::Touched;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::error::Result;
use crate::feed_alarm::alarm;
use crate::options::MigrationContext;

/// Interval at which the feed notes that shards have nothing new: what the lag is measured by.
const TOUCH_EVERY: Duration = Duration::from_secs(1);

/// Some seconds, for what passes at once. Then the feed tells of it, and begins again from what was saved.
pub(super) fn briefly() -> Backoff {
    Backoff::new(Duration::from_millis(25), Duration::from_secs(2), 10)
}

/// Parts that the tasks of a feed and its rounds share.
#[derive(Debug)]
pub(super) struct Rounds {
    /// Shards that PostgreSQL knows, and when each was seen to be empty since the last round.
    shards: Mutex<HashMap<Shard, Option<Instant>>>,
    /// Wakers of the tables' tasks that read items again, in the order of the migration.
    again: Vec<(&'static str, Notify)>,
}

/// A table, and a shard of its stream.
type Shard = (&'static str, String);

impl Rounds {
    /// Makes them for the tables of a feed that begins.
    pub(super) fn new(tables: &[TableBinding]) -> Self {
        let again = tables.iter().map(|binding| (binding.name(), Notify::new())).collect();
        Self { shards: Mutex::default(), again }
    }

    /// Returns what wakes a table that has items to read again.
    pub(super) fn again(&self, table: &str) -> &Notify {
        let found = self.again.iter().find(|(name, _)| *name == table);
        &found.expect("a feed has every table of the migration").1
    }

    /// Notes for the next round that a shard had nothing. Says no where PostgreSQL does not know the shard:
    /// then it has to be noted by itself, before [`Rounds::known`].
    pub(super) fn saw_nothing(&self, table: &'static str, shard: &str) -> bool {
        match self.shards().get_mut(&(table, shard.to_owned())) {
            Some(seen) => {
                *seen = Some(Instant::now());
                true
            }
            None => false,
        }
    }

    /// Notes that PostgreSQL knows the shard.
    pub(super) fn known(&self, table: &'static str, shard: &str) {
        self.shards().insert((table, shard.to_owned()), None);
    }

    /// Notes that it does not know it any more, or that the shard is at its end.
    pub(super) fn forget(&self, table: &'static str, shard: &str) {
        self.shards().remove(&(table, shard.to_owned()));
    }

    /// Takes what was seen since the last round.
    fn take(&self) -> Vec<Touched> {
        let mut shards = self.shards();
        let seen = shards.iter_mut().filter_map(|((table, shard), seen)| {
            Some(Touched { table, shard: shard.clone(), at: seen.take()? })
        });
        seen.collect()
    }

    fn shards(&self) -> MutexGuard<'_, HashMap<Shard, Option<Instant>>> {
        self.shards.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One round after the other until told to stop; what is to be read again is asked for every so often.
    ///
    /// # Errors
    /// The source's, where it lasts.
    pub(super) async fn run(
        self: Arc<Self>,
        migration: MigrationContext,
        again_every: Duration,
        stop: CancellationToken,
    ) -> Result<()> {
        let mut asked_at = Instant::now();
        while !stop.is_cancelled() {
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(TOUCH_EVERY.min(again_every)) => {}
            }
            self.note(&migration).await?;
            if asked_at.elapsed() >= again_every {
                asked_at = Instant::now();
                self.wake(&migration).await?;
            }
        }
        Ok(())
    }

    /// Notes which shards had nothing.
    async fn note(&self, migration: &MigrationContext) -> Result<()> {
        let seen = self.take();
        if seen.is_empty() {
            return Ok(());
        }
        let unknown = briefly().retry(|| migration.source.touch_reverse_together(&seen)).await?;
        for (table, shard) in unknown {
            self.shards().retain(|known, _| known.0 != table || known.1 != shard);
        }
        Ok(())
    }

    /// Wakes the tables of which items are to be read again, or whose shape is to be recorded: a partition
    /// that was made for rows of now is known before long, and one that goes again is missed.
    async fn wake(&self, migration: &MigrationContext) -> Result<()> {
        let (source, tables) = (&migration.source, &migration.tables);
        let names: Vec<&str> = tables.iter().map(TableBinding::name).collect();
        for name in briefly().retry(|| source.reverse_to_read(&names)).await? {
            self.again(&name).notify_one();
        }
        for at in briefly().retry(|| source.shapes_to_record(tables)).await? {
            self.again(tables[at].name()).notify_one();
        }
        Ok(())
    }
}

/// Warns while a feed is so far behind that the stream could lose what it has not read.
pub(super) async fn raise_alarms(migration: &MigrationContext) -> Result<()> {
    // In other phases nothing is written that PostgreSQL has not.
    if migration.source.control().await.is_ok_and(|control| control.phase != Phase::DynamoOnly) {
        return Ok(());
    }
    let names: Vec<&str> = migration.tables.iter().map(TableBinding::name).collect();
    // A source that is away is the tables' to report.
    let Ok(standings) = migration.source.reverse_standings(&names).await else { return Ok(()) };
    for name in names {
        if let Some(alarm) = standings.get(name).and_then(alarm) {
            tracing::warn!(table = name, "the reverse feed: {alarm}");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(shards: &[Touched]) -> Vec<&str> {
        shards.iter().map(|one| one.shard.as_str()).collect()
    }

    #[test]
    fn a_shard_is_noted_by_rounds_only_while_the_source_knows_it() {
        let rounds = Rounds { shards: Mutex::default(), again: Vec::new() };
        assert!(!rounds.saw_nothing("payments", "1"), "its first note makes it known, by itself");
        rounds.known("payments", "1");
        assert_eq!(of(&rounds.take()), Vec::<&str>::new(), "that was noted already");
        assert!(rounds.saw_nothing("payments", "1") && !rounds.saw_nothing("logs", "1"));
        assert_eq!(of(&rounds.take()), ["1"]);
        assert_eq!(of(&rounds.take()), Vec::<&str>::new(), "a shard that hangs is not said to be read");
        assert!(rounds.saw_nothing("payments", "1"));
        rounds.forget("payments", "1");
        assert_eq!(of(&rounds.take()), Vec::<&str>::new(), "a lost shard does not come back by a late note");
        assert!(!rounds.saw_nothing("payments", "1"));
    }
}
