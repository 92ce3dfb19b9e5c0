//! Taking out of the target what only a migration needs, page by page, at a bounded rate, and resumed where
//! it stopped.
//!
//! Only what is older than the completion: tombstones of before it outrank only requests of before it, and
//! those are dead once the request lifetime is over. A tombstone that an application makes later stays.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::stream::{self, TryStreamExt};
use lockstep_core::Advice::Complete;
use lockstep_core::{Epoch, Error as StoreError, Kind, TargetKey, Version};
use lockstep_dynamo::{Backoff, Purge};
use lockstep_postgres::TableBinding;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::error::{CoordinatorError, Result};
use crate::options::MigrationContext;
use crate::rate::Rate;
use crate::waves;

/// Writes in flight at once.
const REQUESTS_IN_FLIGHT: usize = 16;

/// Options for what is purged, and how fast.
#[derive(Clone, Copy, Debug)]
pub struct PurgeOptions {
    /// Kind of thing that is purged.
    pub what: Purge,
    /// Most writes a second; `None` takes what the target gives.
    pub writes_per_s_max: Option<u64>,
}

/// Progress of a purge; counters of this run.
#[derive(Debug, Default)]
pub struct PurgeProgress {
    /// Items looked at.
    pub looked_at: AtomicU64,
    /// Items that were taken out, or lost their version.
    pub purged: AtomicU64,
}

/// Counts of what was purged of one table.
#[derive(Clone, Debug, Serialize)]
pub struct Purged {
    /// The table.
    pub table: String,
    /// Items looked at by this run.
    pub looked_at: u64,
    /// Items that were taken out, or lost their version, by this run.
    pub purged: u64,
    /// Whether an earlier run had begun.
    pub resumed: bool,
}

/// Purges every table of a migration that is complete.
///
/// # Errors
/// [`Kind::Refused`] where it is not complete, while a request of before could still arrive, and, for
/// versions, while an application holds a lease; [`CoordinatorError::Interrupted`] when cancelled; the
/// target's.
///
/// # Cancel safety
/// Run it again: it goes on with the page where it stopped.
pub async fn purge(
    migration: &MigrationContext,
    options: PurgeOptions,
    progress: &PurgeProgress,
    cancel: &CancellationToken,
) -> Result<Vec<Purged>> {
    let (record, since) = completed(migration).await?;
    let alive = alive(migration).await?;
    // An item that was read before the completion leaves within the one, signed, and arrives within the
    // other.
    let target = &migration.target;
    let lifetime = target.request_lifetime().saturating_add(target.state_leaves_within());
    // By the clock that is behind, where PostgreSQL still answers: one that is ahead ends the wait early.
    let _ = migration.source.clock().await;
    may_begin(options.what, since, migration.source.now_at_least(), lifetime, alive)?;
    let rate = Rate::new(options.writes_per_s_max);
    let mut purged = Vec::new();
    for binding in &migration.tables {
        purged.push(table(migration, binding, record, options, &rate, progress, cancel).await?);
    }
    Ok(purged)
}

/// Counts the instances of applications that hold leases.
async fn alive(migration: &MigrationContext) -> Result<usize> {
    let rows = migration.target.control().instances().await?;
    Ok(rows.into_iter().filter(|row| row.lease_left_ms > 0).count())
}

async fn completed(migration: &MigrationContext) -> Result<(Epoch, DateTime<Utc>)> {
    waves::claim(&migration.source, &migration.target).await?;
    let record = migration.target.control().record().await?;
    record
        .and_then(|record| Some((record.epoch, record.completed_at?)))
        .ok_or_else(|| refused(format!("the migration is not complete; {Complete} comes first")))
}

fn refused(message: impl Into<String>) -> CoordinatorError {
    StoreError::target(Kind::Refused, "purging", message).into()
}

/// Checks whether it may begin now. Pure.
fn may_begin(
    what: Purge,
    since: DateTime<Utc>,
    now: DateTime<Utc>,
    request_lifetime: Duration,
    alive: usize,
) -> Result<()> {
    let lifetime = chrono::Duration::from_std(request_lifetime).unwrap_or(chrono::Duration::MAX);
    let from = since.checked_add_signed(lifetime).unwrap_or(DateTime::<Utc>::MAX_UTC);
    if now < from {
        return Err(refused(format!(
            "a request from before the completion could still arrive until {}, and \
                only a tombstone refuses it; run {Complete} again then",
            from.format("%Y-%m-%d %H:%M:%S UTC")
        )));
    }
    if what == Purge::Versions { needs_no_versions(alive) } else { Ok(()) }
}

fn needs_no_versions(alive: usize) -> Result<()> {
    if alive == 0 {
        return Ok(());
    }
    Err(refused(format!(
        "{alive} instances of applications hold leases, and their stores need the versions: an update is \
         conditional on one. Stop them \
         for good, or keep the versions"
    )))
}

async fn table(
    migration: &MigrationContext,
    binding: &TableBinding,
    epoch: Epoch,
    options: PurgeOptions,
    rate: &Rate,
    progress: &PurgeProgress,
    cancel: &CancellationToken,
) -> Result<Purged> {
    let (target, control, name) = (&migration.target, migration.target.control(), &binding.target_name);
    // An item that an application has written since has a version of the new epoch.
    let below = match options.what {
        Purge::Tombstones => Version(epoch.floor()),
        Purge::Versions => Version(i64::MAX),
    };
    let cursor = control.purge_cursor(binding.name(), options.what).await?;
    let mut done =
        Purged { table: binding.name().to_owned(), looked_at: 0, purged: 0, resumed: cursor.is_some() };
    let mut start = cursor.map(|key| key.to_attributes());
    loop {
        if cancel.is_cancelled() {
            return Err(CoordinatorError::Interrupted);
        }
        // One that was started meanwhile, or while this process slept.
        if options.what == Purge::Versions {
            needs_no_versions(alive(migration).await?)?;
        }
        let page =
            Backoff::patient().retry(|| target.purge_page(name, options.what, below, start.clone())).await?;
        let all = page
            .found
            .iter()
            .map(|(key, version)| Ok(one(migration, name, options.what, key, *version, rate)));
        let gone: Vec<bool> =
            stream::iter(all).try_buffer_unordered(REQUESTS_IN_FLIGHT).try_collect().await?;
        let gone = gone.into_iter().filter(|gone| *gone).count() as u64;
        (done.looked_at, done.purged) = (done.looked_at + page.looked_at, done.purged + gone);
        progress.looked_at.fetch_add(page.looked_at, Relaxed);
        progress.purged.fetch_add(gone, Relaxed);
        start = page.next;
        let next = start.as_ref().and_then(TargetKey::of);
        control.set_purge_cursor(binding.name(), options.what, next.as_ref()).await?;
        if start.is_none() {
            return Ok(done);
        }
    }
}

async fn one(
    migration: &MigrationContext,
    name: &str,
    what: Purge,
    key: &TargetKey,
    version: Version,
    rate: &Rate,
) -> Result<bool> {
    rate.acquire(1.0).await;
    Ok(Backoff::patient().retry(|| migration.target.purge_one(name, what, key, version)).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_purged_that_a_request_or_an_application_may_still_need() {
        let (since, lifetime) = (DateTime::UNIX_EPOCH, Duration::from_secs(900));
        let at = |s: i64| since + chrono::Duration::seconds(s);
        let says = |what, now, alive| {
            may_begin(what, since, now, lifetime, alive)
                .err()
                .map(|error| error.to_string())
                .unwrap_or_default()
        };
        assert!(says(Purge::Tombstones, at(899), 0).contains("could still arrive"));
        assert_eq!(says(Purge::Tombstones, at(900), 3), "");
        assert!(says(Purge::Versions, at(900), 1).contains("need the versions"));
        assert_eq!(says(Purge::Versions, at(900), 0), "");
    }
}
