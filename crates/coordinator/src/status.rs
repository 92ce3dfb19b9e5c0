//! Status of a migration, for people and for programs. Reads only.

use chrono::{DateTime, Utc};
use lockstep_core::{Epoch, InstanceRow, Kind, Phase, TargetRecord};
use lockstep_dynamo::{TableStanding, Target};
use lockstep_postgres::reverse::FeedStanding;
use lockstep_postgres::{
    CaptureState, ComparisonProgress, Completed, Entry, RelayRow, Source, TableBinding, TableNumbers,
    VerdictWord, WorkerRow,
};
use serde::Serialize;

use crate::asked::Asked;
use crate::continuity;
use crate::error::Result;
use crate::feed_alarm;
use crate::loss::Continuity;
use crate::{records, waves};

/// The state of a migration.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Status {
    /// Whether Lockstep was ever installed in this source.
    pub installed: bool,
    /// Sentence on the migration that is under way in this source, where that is of other tables: then
    /// nothing of it is shown.
    pub other_under_way: Option<String>,
    /// The other migrations that are complete in this source, a line for each.
    pub earlier: Vec<String>,
    /// Memory that the source has of this one, if it is complete.
    pub completed: Option<Completed>,
    /// The phase of all tables.
    pub phase: Option<Phase>,
    /// The epoch.
    pub epoch: Option<Epoch>,
    /// Time of the last change of phase or epoch.
    pub since: Option<DateTime<Utc>>,
    /// Control record of DynamoDB, which decides in DynamoOnly; `None` also where it did not answer.
    pub target_record: Option<TargetRecord>,
    /// Reason why DynamoDB could not be read; then nothing that is said of it here is known. `None` also
    /// where it was not asked.
    pub target_error: Option<String>,
    /// After the way back: until when a write of DynamoOnly that was given up may still land. Reverse feed
    /// and relay must run.
    pub late_until: Option<DateTime<Utc>>,
    /// Each table.
    pub tables: Vec<TableStatus>,
    /// Registered instances of applications, with the epoch each has acknowledged and what is left of its
    /// lease.
    pub instances: Vec<InstanceRow>,
    /// Processes that move the initial load, live ones first, with the ranges that each one holds.
    pub workers: Vec<WorkerRow>,
    /// Relays that share the pending keys, live ones first, each with its share.
    pub relays: Vec<RelayRow>,
    /// The live worker that moves the fewest rows a second, where there are at least two at work.
    pub slowest_worker: Option<String>,
    /// Comparisons that several processes share, and how far each is.
    pub comparisons: Vec<ComparisonProgress>,
    /// Signs that a store has lost history; then nothing is moved, and a diagnosis says what to do.
    pub lost: Vec<String>,
    /// Steps that a crash left open; the next coordinator settles them.
    pub open_intents: Vec<Entry>,
    /// Whether the newest verdict said consistent; `None` where nothing was validated. `Some(false)` also
    /// where it is incomplete: see `verdict`.
    pub verdict_consistent: Option<bool>,
    /// Word of the newest verdict; `None` where nothing was validated.
    pub verdict: Option<VerdictWord>,
    /// Age of the newest verdict in seconds.
    pub verdict_age_s: Option<f64>,
    /// Word of a verdict that was recorded later and does not answer that one, which stands: it was of a
    /// part, or incremental.
    pub later_verdict: Option<VerdictWord>,
    /// Age of that one in seconds.
    pub later_verdict_age_s: Option<f64>,
    /// Time of the oldest reading of the newest verdict, by the source's clock: an age that was read does
    /// not say before or after what.
    #[serde(skip)]
    pub verdict_as_of: Option<DateTime<Utc>>,
    /// The newest entries of the journal, newest first.
    pub journal: Vec<Entry>,
}

impl Status {
    /// Tells whether PostgreSQL is to follow DynamoDB by the reverse feed. Otherwise the feed rests, and how
    /// long ago it last read grows with every minute and means nothing.
    pub fn feed_follows(&self) -> bool {
        self.phase == Some(Phase::DynamoOnly) || self.late_until.is_some()
    }

    /// Tells whether changes are captured that a relay is to deliver, and none is running as far as this role
    /// may see. In DynamoOnly nothing is captured for one, until the way back.
    pub fn lacks_relay(&self) -> bool {
        let is_captured = |table: &TableStatus| table.capture == "on";
        let has_work = self.phase != Some(Phase::DynamoOnly) || self.late_until.is_some();
        self.installed
            && has_work
            && self.tables.iter().any(is_captured)
            && !self.relays.iter().any(RelayRow::is_live)
    }
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
    /// Rows that the backfill has finished, over all runs.
    pub rows_backfilled: u64,
    /// Those of ranges that are done: what is left is reckoned by them.
    pub rows_of_done_ranges: u64,
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
    /// Standing of the reverse feed; `None` where there was never one.
    pub reverse_feed: Option<FeedStanding>,
    /// Fault of the reverse feed, if any, and what to do.
    pub reverse_alarm: Option<String>,
}

/// Reads the state of a migration.
///
/// # Errors
/// When the source does not answer. Why the target does not is in [`Status::target_error`].
#[crate::boxed]
pub async fn status(source: &Source, target: &Target, tables: &[TableBinding]) -> Result<Status> {
    read(source, Some(target), tables).await
}

/// Returns the same, without a question to the target: for a caller that knows that it does not answer, and
/// would wait for that.
///
/// # Errors
/// When the source does not answer.
#[crate::boxed]
pub async fn status_of_source(source: &Source, tables: &[TableBinding]) -> Result<Status> {
    read(source, None, tables).await
}

async fn read(source: &Source, target: Option<&Target>, tables: &[TableBinding]) -> Result<Status> {
    let mut asked = Asked::of(target);
    let mut has_schema = source.has_schema().await?;
    if let (Some(target), true) = (target, has_schema)
        && let Err(error) = waves::claim(source, target).await
    {
        // A source that is another database than it was says so to what moves something.
        tracing::debug!("whose the control schema is: {error}");
    }
    // It may be known only now that the schema is another migration's.
    has_schema = has_schema && !source.is_aside();
    let earlier = match target {
        Some(target) => waves::earlier(source, target).await?,
        None => Vec::new(),
    };
    if has_schema && let Some(other) = records::other_recorded(source, &records::names(tables)).await? {
        return Ok(Status { other_under_way: Some(other), earlier, ..Status::default() });
    }
    if !has_schema {
        // Schema `lockstep` is gone as well where the migration is complete.
        let target_record = record_of(&mut asked).await;
        let target_error = asked.text().filter(|_| asked.is_away());
        let completed = match target {
            Some(target) if target_record.is_some() => match waves::completion(source, target).await {
                // Who may not read it is told the rest.
                Err(error) if error.kind == Kind::Denied => None,
                found => found?,
            },
            _ => None,
        };
        return Ok(Status { target_record, target_error, earlier, completed, ..Status::default() });
    }
    let control = source.control().await?;
    let verdict = source.latest_verdict().await?;
    let later = match &verdict {
        Some(decides) => source.verdict_after(decides).await?,
        None => None,
    };
    // It is asked in every phase: this is how it shows that it is away.
    let record = record_of(&mut asked).await;
    let target_record = record.filter(|_| control.phase == Phase::DynamoOnly);
    let states = source.table_states().await?;
    let mut of_tables = Vec::with_capacity(tables.len());
    let names: Vec<&str> = tables.iter().map(TableBinding::name).collect();
    let numbers = source.table_numbers(&names).await?;
    let mut feeds = source.reverse_standings(&names).await?;
    let captured = source.capture_states(tables).await?;
    for ((binding, numbers), captured) in tables.iter().zip(&numbers).zip(captured) {
        let relayed = states.get(binding.name()).map_or(0, |state| state.relayed);
        let feed = feeds.remove(binding.name());
        of_tables.push(table(&mut asked, binding, control.phase, (numbers, captured, relayed, feed)).await);
    }
    let mut instances = source.instances().await?;
    if let (Phase::DynamoOnly, Some(target)) = (control.phase, asked.target()) {
        let there = target.control();
        let there = asked.answer(there.instances()).await.unwrap_or_default();
        instances.retain(|row| there.iter().all(|other| other.id != row.id));
        instances.extend(there);
    }
    let workers = source.workers().await?;
    let lost = match (target, asked.silent()) {
        // A store that is away must not hold the status up.
        (Some(_), Some(why)) => said(continuity::look_beside(source, Err(&why), tables, states).await?),
        (Some(target), _) => said(continuity::look_beside(source, Ok(target), tables, states).await?),
        (None, _) => Vec::new(),
    };
    Ok(Status {
        installed: true,
        other_under_way: None,
        earlier,
        completed: None,
        phase: Some(control.phase),
        // Pauses there are epochs of their own.
        epoch: Some(target_record.map_or(control.epoch, |record| record.epoch.max(control.epoch))),
        since: Some(control.changed_at),
        target_record,
        target_error: matters(&asked, control.phase).then(|| asked.text()).flatten(),
        late_until: late_writes_until(source).await?,
        tables: of_tables,
        instances,
        slowest_worker: slowest(&workers),
        workers,
        relays: source.relays().await?,
        comparisons: source.shared_comparisons().await?,
        lost,
        open_intents: source.open_intents().await?,
        verdict_consistent: verdict.as_ref().map(|v| v.consistent),
        verdict: verdict.as_ref().map(lockstep_postgres::VerdictRow::word),
        verdict_age_s: verdict.as_ref().map(lockstep_postgres::VerdictRow::reading_age_s),
        later_verdict: later.as_ref().map(lockstep_postgres::VerdictRow::word),
        later_verdict_age_s: later.as_ref().map(lockstep_postgres::VerdictRow::reading_age_s),
        verdict_as_of: verdict.as_ref().and_then(lockstep_postgres::VerdictRow::as_of),
        journal: source.journal(10).await?,
    })
}

/// Returns the slowest worker of those that hold a range. Idle workers are excluded from the choice.
fn slowest(workers: &[WorkerRow]) -> Option<String> {
    let at_work: Vec<_> = workers.iter().filter(|w| w.is_live() && !w.ranges.is_empty()).collect();
    let slowest = at_work.iter().min_by(|a, b| a.rows_per_s.total_cmp(&b.rows_per_s));
    slowest.filter(|_| at_work.len() > 1).map(|worker| worker.name.clone())
}

fn said(histories: Continuity) -> Vec<String> {
    histories.losses().iter().map(ToString::to_string).collect()
}

async fn record_of(asked: &mut Asked<'_>) -> Option<TargetRecord> {
    let control = asked.target()?.control();
    asked.answer(control.record()).await.flatten()
}

/// Tells whether what kept the target from being read says something of the migration. Before DynamoOnly a
/// record that it answers with, and that is damaged or another's, is for the gates and for a diagnosis.
fn matters(asked: &Asked<'_>, phase: Phase) -> bool {
    asked.is_away() || phase == Phase::DynamoOnly && asked.error().is_some()
}

/// Returns until when a request of DynamoOnly may still land; `None` where none can any more.
pub(crate) async fn late_writes_until(source: &Source) -> Result<Option<DateTime<Utc>>> {
    Ok(source.late_requests().await?.map(|(_, until)| until))
}

async fn table(
    asked: &mut Asked<'_>,
    binding: &TableBinding,
    phase: Phase,
    (numbers, captured, relayed, reverse_feed): (&TableNumbers, CaptureState, i64, Option<FeedStanding>),
) -> TableStatus {
    let capture = match captured {
        CaptureState::On => "on".to_owned(),
        CaptureState::Absent => "absent".to_owned(),
        CaptureState::Broken(how) => how,
    };
    let standing = match asked.target() {
        Some(target) => described(asked, target, binding).await,
        None => None,
    };
    let standing = standing.unwrap_or_else(|| asked.unknown().to_owned());
    // In other phases nothing is written that PostgreSQL has not.
    let reverse_alarm =
        reverse_feed.as_ref().filter(|_| phase == Phase::DynamoOnly).and_then(feed_alarm::alarm);
    TableStatus {
        name: binding.name().to_owned(),
        capture,
        target: format!("{} ({standing})", binding.target_name),
        ranges_done: numbers.ranges_done.unsigned_abs(),
        ranges: numbers.ranges.unsigned_abs(),
        rows_backfilled: numbers.rows_read.unsigned_abs(),
        rows_of_done_ranges: numbers.rows_of_done.unsigned_abs(),
        pending: numbers.pending,
        oldest_s: numbers.oldest_s.max(0.0),
        dead_letters: numbers.dead_letters,
        dead_letters_unacknowledged: numbers.unacknowledged,
        relayed,
        reverse_feed,
        reverse_alarm,
    }
}

/// Checks whether the target table is there, and as it must be; `None` where it does not say.
async fn described(asked: &mut Asked<'_>, target: &Target, binding: &TableBinding) -> Option<String> {
    let schema = binding.table.target();
    Some(match asked.answer(target.describe_lately(&binding.target_name, &schema)).await? {
        TableStanding::Missing => "missing".to_owned(),
        TableStanding::There(there) if there.active && there.mismatches.is_empty() => "ACTIVE".to_owned(),
        TableStanding::There(there) if there.active => there.mismatches.join("; "),
        TableStanding::There(_) => "not ACTIVE".to_owned(),
    })
}
