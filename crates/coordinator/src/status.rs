//! Where a migration stands, for people and for programs. Reads only.

use chrono::{DateTime, Utc};
use lockstep_core::{Epoch, InstanceRow, Phase, TargetRecord};
use lockstep_dynamo::{TableStanding, Target};
use lockstep_postgres::reverse::FeedStanding;
use lockstep_postgres::{CaptureState, Entry, RelayRow, Source, TableBinding, WorkerRow};
use serde::Serialize;

use crate::error::Result;
use crate::feed_alarm;
use crate::history;

/// The state of a migration.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// Whether Lockstep was ever installed in this source.
    pub installed: bool,
    /// The phase of all tables.
    pub phase: Option<Phase>,
    /// The epoch.
    pub epoch: Option<Epoch>,
    /// Since when.
    pub since: Option<DateTime<Utc>>,
    /// In DynamoOnly: what DynamoDB's control record says, which decides there; `None` also where it did not
    /// answer.
    pub target_record: Option<TargetRecord>,
    /// After the way back: until when a write of DynamoOnly that was given up may still land. Reverse feed
    /// and relay must run.
    pub late_until: Option<DateTime<Utc>>,
    /// Each table.
    pub tables: Vec<TableStatus>,
    /// Registered instances of applications, with the epoch each has acknowledged and what is left of its
    /// lease.
    pub instances: Vec<InstanceRow>,
    /// Processes that move history, live ones first, with the ranges that each one holds.
    pub workers: Vec<WorkerRow>,
    /// Relays that share the pending keys, live ones first, each with its share.
    pub relays: Vec<RelayRow>,
    /// The live worker that moves the fewest rows a second, where there are at least two at work.
    pub slowest_worker: Option<String>,
    /// Signs that a store has lost history; then nothing is moved, and `doctor` says what to do.
    pub lost: Vec<String>,
    /// Steps that a crash left open; the next coordinator settles them.
    pub open_intents: Vec<Entry>,
    /// Whether the newest verdict said consistent; `None` where nothing was validated.
    pub verdict_consistent: Option<bool>,
    /// Its age in seconds.
    pub verdict_age_s: Option<f64>,
    /// The newest entries of the journal, newest first.
    pub journal: Vec<Entry>,
}

/// The state of one table.
#[derive(Clone, Debug, Serialize)]
pub struct TableStatus {
    /// Table name.
    pub name: String,
    /// `on`, `absent`, or what broke it.
    pub capture: String,
    /// Target table, and whether it is there.
    pub target: String,
    /// Ranges done, of how many.
    pub ranges_done: u64,
    /// Ranges of the plan; 0 before there is one.
    pub ranges: u64,
    /// Rows settled by the backfill, over all runs.
    pub rows_backfilled: u64,
    /// Pending keys.
    pub pending: i64,
    /// Age of the oldest, in seconds.
    pub oldest_s: f64,
    /// Dead letters.
    pub dead_letters: i64,
    /// Dead letters that no operator has acknowledged.
    pub dead_letters_unacknowledged: i64,
    /// Changes that relays have delivered, over all runs.
    pub relayed: i64,
    /// Where the reverse feed stands; `None` where there was never one.
    pub reverse_feed: Option<FeedStanding>,
    /// What is wrong with the reverse feed, if anything, and what to do.
    pub reverse_alarm: Option<String>,
}

/// Reads the state of a migration.
///
/// # Errors
/// When a store does not answer.
#[crate::boxed]
pub async fn status(source: &Source, target: &Target, tables: &[TableBinding]) -> Result<Status> {
    read(source, Some(target), tables).await
}

/// The same, without a question to the target: for a caller that knows that it does not answer, and would
/// wait for that.
///
/// # Errors
/// When the source does not answer.
#[crate::boxed]
pub async fn status_of_source(source: &Source, tables: &[TableBinding]) -> Result<Status> {
    read(source, None, tables).await
}

async fn read(source: &Source, target: Option<&Target>, tables: &[TableBinding]) -> Result<Status> {
    if !source.has_schema().await? {
        // Schema `lockstep` is gone as well where the migration is complete.
        let target_record = record_of(target).await;
        return Ok(Status {
            installed: false,
            phase: None,
            epoch: None,
            since: None,
            target_record,
            late_until: None,
            tables: Vec::new(),
            instances: Vec::new(),
            workers: Vec::new(),
            slowest_worker: None,
            relays: Vec::new(),
            lost: Vec::new(),
            open_intents: Vec::new(),
            verdict_consistent: None,
            verdict_age_s: None,
            journal: Vec::new(),
        });
    }
    let control = source.control().await?;
    let verdict = source.latest_verdict().await?;
    let mut of_tables = Vec::with_capacity(tables.len());
    for binding in tables {
        of_tables.push(table(source, target, binding, control.phase).await?);
    }
    let mut instances = source.instances().await?;
    let mut target_record = None;
    if control.phase == Phase::DynamoOnly {
        // The status of the source is worth showing while the target is away.
        target_record = record_of(target).await;
        let there = match target {
            Some(target) => target.control().instances().await.unwrap_or_default(),
            None => Vec::new(),
        };
        instances.retain(|row| there.iter().all(|other| other.id != row.id));
        instances.extend(there);
    }
    let workers = source.workers().await?;
    let lost = match target {
        Some(target) => {
            history::look(source, target, tables).await?.losses().iter().map(ToString::to_string).collect()
        }
        None => Vec::new(),
    };
    Ok(Status {
        installed: true,
        phase: Some(control.phase),
        // Pauses there are epochs of their own.
        epoch: Some(target_record.map_or(control.epoch, |record| record.epoch.max(control.epoch))),
        since: Some(control.changed_at),
        target_record,
        late_until: late_writes_until(source).await?,
        tables: of_tables,
        instances,
        slowest_worker: slowest(&workers),
        workers,
        relays: source.relays().await?,
        lost,
        open_intents: source.open_intents().await?,
        verdict_consistent: verdict.as_ref().map(|v| v.consistent),
        verdict_age_s: verdict.as_ref().map(|v| v.age_s),
        journal: source.journal(10).await?,
    })
}

/// Of those that hold something: one that waits is slow by no fault of its own.
fn slowest(workers: &[WorkerRow]) -> Option<String> {
    let at_work: Vec<_> = workers.iter().filter(|w| w.is_live() && !w.ranges.is_empty()).collect();
    let slowest = at_work.iter().min_by(|a, b| a.rows_per_s.total_cmp(&b.rows_per_s));
    slowest.filter(|_| at_work.len() > 1).map(|worker| worker.name.clone())
}

async fn record_of(target: Option<&Target>) -> Option<TargetRecord> {
    target?.control().record().await.ok().flatten()
}

/// Entries of the journal in which the newest way back is looked for.
const LOOKED_BACK: i64 = 200;

/// Until when a request of DynamoOnly may still land; `None` where none can any more.
pub(crate) async fn late_writes_until(source: &Source) -> Result<Option<DateTime<Utc>>> {
    let now = source.clock().await?;
    Ok(late_until(&source.journal(LOOKED_BACK).await?).filter(|until| *until > now))
}

/// Until when the newest way back said that a write could still land.
fn late_until(journal: &[Entry]) -> Option<DateTime<Utc>> {
    journal.iter().find_map(|entry| entry.detail.get("late_until")?.as_str()?.parse().ok())
}

async fn table(
    source: &Source,
    target: Option<&Target>,
    binding: &TableBinding,
    phase: Phase,
) -> Result<TableStatus> {
    let name = binding.name();
    let ranges = source.ranges(name).await?;
    let lag = source.lag(name).await?;
    let (dead_letters, unacknowledged) = source.count_dead_letters(name).await?;
    let relayed = source.table_state(name).await?.map_or(0, |state| state.relayed);
    let capture = match source.capture_state(binding).await? {
        CaptureState::On => "on".to_owned(),
        CaptureState::Absent => "absent".to_owned(),
        CaptureState::Broken(how) => how,
    };
    let standing = match target {
        Some(target) => described(target, binding).await,
        None => "not asked".to_owned(),
    };
    let reverse_feed = source.reverse_standing(name).await?;
    // In other phases nothing is written that PostgreSQL has not.
    let reverse_alarm =
        reverse_feed.as_ref().filter(|_| phase == Phase::DynamoOnly).and_then(feed_alarm::alarm);
    Ok(TableStatus {
        name: name.to_owned(),
        capture,
        target: format!("{} ({standing})", binding.target_name),
        ranges_done: ranges.iter().filter(|range| range.done).count() as u64,
        ranges: ranges.len() as u64,
        rows_backfilled: ranges.iter().map(|range| range.rows_read as u64).sum(),
        pending: lag.keys,
        oldest_s: lag.oldest_s,
        dead_letters,
        dead_letters_unacknowledged: unacknowledged,
        relayed,
        reverse_feed,
        reverse_alarm,
    })
}

/// Whether the target table is there, and as it must be.
async fn described(target: &Target, binding: &TableBinding) -> String {
    match target.describe_lately(&binding.target_name, &binding.table.target()).await {
        Ok(TableStanding::Missing) => "missing".to_owned(),
        Ok(TableStanding::There(there)) if there.active && there.mismatches.is_empty() => "ACTIVE".to_owned(),
        Ok(TableStanding::There(there)) if there.active => there.mismatches.join("; "),
        Ok(TableStanding::There(_)) => "not ACTIVE".to_owned(),
        // The status of the source is worth showing while the target is away.
        Err(e) => e.to_string(),
    }
}
