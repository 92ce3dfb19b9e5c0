//! Another PostgreSQL of this migration that is in use while this one is to be repaired.
//!
//! 1. A rehearsal runs on a copy of the database, with the settings of the original. 2. The original has gone
//! on, and DynamoDB has seen more than the copy knows: as a source that was set back. 3. The repair of that
//! raises the epoch of the copy, whose rows then go over those of the original. What tells the two apart is
//! that the original still makes its marks.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use lockstep_core::Advice::UninstallCopy;
use lockstep_core::{Error as StoreError, Kind, Side};
use lockstep_dynamo::Backoff;

use crate::continuity;
use crate::error::Result;
use crate::gate::Observer;
use crate::loss::Continuity;
use crate::options::MigrationContext;

/// Age from which the newest mark is of a PostgreSQL that makes none any more: it makes one a minute while
/// anything of the migration runs.
const MARKED_LATELY: TimeDelta = TimeDelta::seconds(75);

/// Times that a table which does not tell its history is looked at again, and the pause before each.
const LOOKS: u32 = 5;
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Refuses where marks of a source that has lost history are still made. Its own processes make none.
///
/// # Errors
/// [`Kind::Refused`]; the target's, also where it does not answer.
pub(super) async fn require_alone(
    migration: &MigrationContext,
    histories: &Continuity,
    observer: &dyn Observer,
) -> Result<()> {
    if !is_source_lost(migration, histories).await? {
        return Ok(());
    }
    // Before it is read: marks of now would be old by the time at which a throttled table has answered.
    let asked_at = Utc::now();
    let before = marks(migration).await?;
    let newest = before.values().map(|(_, at)| *at).max();
    if newest.is_none_or(|at| at < asked_at - MARKED_LATELY) {
        return Ok(());
    }
    let watched = migration.watch.for_others();
    observer.note(&format!(
        "looking for {:.1} s whether another PostgreSQL of this migration is in use",
        watched.as_secs_f64()
    ));
    tokio::time::sleep(watched).await;
    let after = marks(migration).await?;
    let moved = after
        .iter()
        .find(|(table, (number, _))| before.get(*table).is_none_or(|(earlier, _)| earlier < number));
    let Some((table, _)) = moved else { return Ok(()) };
    let message = format!(
        "{table} in DynamoDB was marked a moment ago by another PostgreSQL of this migration. That one is in \
         use, and this is a copy of it, whose rows would go over those of the other. Nothing was changed. In \
         the copy: {UninstallCopy}. If this is the one to keep, end all that runs on the other first"
    );
    Err(StoreError::source(Kind::Refused, "looking for another PostgreSQL of this migration", message).into())
}

/// Tells whether the source has lost history. A table that did not tell when it was looked at is looked at
/// again: it may be the one of which the source knows too little.
async fn is_source_lost(migration: &MigrationContext, histories: &Continuity) -> Result<bool> {
    let is_lost = |found: &Continuity| found.losses().iter().any(|loss| loss.side() == Side::Source);
    let (mut lost, mut untold) = (is_lost(histories), histories.untold().next().is_some());
    for _ in 0..LOOKS {
        if lost || !untold {
            break;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
        let found = continuity::look(&migration.source, &migration.target, &migration.tables).await?;
        (lost, untold) = (is_lost(&found), found.untold().next().is_some());
    }
    // What is still not told may be the loss: whether another source is in use is asked then as well, and it
    // is that question that has to be answered.
    Ok(lost || untold)
}

/// Newest mark of each target table, by the names of the tables. A table that is not there shows none. One
/// that does not answer is asked again, and ends this where it goes on so: 1. DynamoDB throttles the one
/// table that the other PostgreSQL has marked. 2. By what is not heard no other is in use, and the copy is
/// taken for the original.
async fn marks(migration: &MigrationContext) -> Result<BTreeMap<&str, (i64, DateTime<Utc>)>> {
    let mut found = BTreeMap::new();
    for binding in &migration.tables {
        let (target, schema) = (&migration.target, binding.table.target());
        let asked = || target.continuity_mark(&binding.target_name, &schema);
        if let Some(mark) = Backoff::patient().retry(asked).await? {
            found.insert(binding.name(), (mark.number, mark.at));
        }
    }
    Ok(found)
}
