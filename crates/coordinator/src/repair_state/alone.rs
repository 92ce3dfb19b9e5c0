//! Another PostgreSQL of this migration that is in use while this one is to be repaired.
//!
//! 1. A rehearsal runs on a copy of the database, with the settings of the original. 2. The original has gone
//! on, and DynamoDB has seen more than the copy knows: as a source that was set back. 3. The repair of that
//! raises the epoch of the copy, whose rows then go over those of the original. What tells the two apart is
//! that the original still makes its marks.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use lockstep_core::Advice::UninstallCopy;
use lockstep_core::{Error as StoreError, Kind, Side};

use crate::error::Result;
use crate::gate::Observer;
use crate::loss::Continuity;
use crate::options::MigrationContext;

/// Age from which the newest mark is of a PostgreSQL that makes none any more: it makes one a minute while
/// anything of the migration runs.
const MARKED_LATELY: TimeDelta = TimeDelta::seconds(75);

/// Refuses where marks of a source that has lost history are still made. Its own processes make none.
///
/// # Errors
/// [`Kind::Refused`]; the target's.
pub(super) async fn require_alone(
    migration: &MigrationContext,
    histories: &Continuity,
    observer: &dyn Observer,
) -> Result<()> {
    if histories.losses().iter().all(|loss| loss.side() == Side::Target) {
        return Ok(());
    }
    let before = marks(migration).await?;
    let newest = before.values().map(|(_, at)| *at).max();
    if newest.is_none_or(|at| at < Utc::now() - MARKED_LATELY) {
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

/// Newest mark of each target table, by the names of the tables. One that does not answer shows none.
async fn marks(migration: &MigrationContext) -> Result<BTreeMap<&str, (i64, DateTime<Utc>)>> {
    let mut found = BTreeMap::new();
    for binding in &migration.tables {
        let schema = binding.table.target();
        let asked = migration.target.continuity_mark(&binding.target_name, &schema);
        if let Ok(Some(mark)) = asked.await {
            found.insert(binding.name(), (mark.number, mark.at));
        }
    }
    Ok(found)
}
