//! Completing a migration: there is no way back from here, and applications go on with DynamoDB alone.
//!
//! What is decided where: one write to the control record in DynamoDB completes the migration. Before it,
//! everything is as it was, and a run that is broken off is begun again. After it, everything left to do is
//! tidying, and a run goes on with what it finds not done: in the source all of it is one transaction.
//!
//! For applications nothing changes. The record still says DynamoOnly, and says besides since when the
//! migration is complete. Their stores go on as before, versions included: a version is not only what a
//! migration orders by, but what an update is conditional on, so without it one of two updates at once would
//! be lost. The control table stays for the same reason: it has their leases, their ids, and the places of
//! their rows. Tombstones that they leave from now on have an expiry, which is switched on here.
//!
//! In reading order: `gates` (whether it may be done), this file (doing it), `purge` (taking out what only a
//! migration needs), `cleanup` (the source tables).

mod cleanup;
mod gates;
mod purge;

pub use cleanup::{Dropped, Unprotected, drop_source};
pub use purge::{PurgeOptions, PurgeProgress, Purged, purge};

use std::time::Duration;

use lockstep_core::Advice::{ControlTable, Doctor};
use lockstep_core::{Epoch, Error as StoreError, Kind, Phase, TargetRecord};
use lockstep_dynamo::Backoff;
use lockstep_postgres::{Ending, Entry, EntryKind, IntentId, LockTries, control_schema};
use lockstep_validator::{Report, ValidateOptions, ValidationProgress, validate};
use serde::Serialize;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::error::{CoordinatorError, Result};
use crate::gate::{GateReport, Observer};
use crate::journal::COMPLETE;
use crate::moving::Feed;
use crate::options::MigrationContext;
use crate::{records, waves};

/// Longest wait for a reverse feed of another process to see that it is over.
const FEED_ENDS_WITHIN: Duration = Duration::from_secs(15);

/// Keeps what the journal says, somewhere outside of both stores, durably; says where. Called before the
/// decision, and again by a run that is begun again: what it kept before may be written over by the same, and
/// longer.
pub trait Archive: Send + Sync {
    /// Keeps these lines.
    ///
    /// # Errors
    /// When they could not be kept: then nothing is completed.
    fn keep(&self, epoch: Epoch, journal: &[Entry]) -> std::io::Result<String>;
}

/// Record of what was done.
#[derive(Debug, Serialize)]
pub struct Completion {
    /// The epoch that began with it.
    pub epoch: Epoch,
    /// Whether an earlier run had decided it.
    pub resumed: bool,
    /// The gates, unless an earlier run had passed them.
    pub gates: Option<GateReport>,
    /// The last comparison, unless an earlier run had made it.
    pub report: Option<Report>,
    /// File in which the journal was kept.
    pub journal_file: String,
}

/// Completes a migration that is in DynamoOnly, or goes on with what an earlier run left. Of `options`, those
/// count that say how to compare: what is compared is everything.
///
/// # Errors
/// [`CoordinatorError::Refused`] by a gate; [`Kind::Busy`] when a lock could not be acquired;
/// [`Kind::Misconfigured`] where the control table is another migration's; [`Kind::Refused`] where only
/// DynamoDB says that it is complete; the stores'.
///
/// # Cancel safety
/// Run it again.
#[crate::boxed]
pub async fn complete(
    migration: &MigrationContext,
    options: &ValidateOptions,
    archive: &dyn Archive,
    observer: &dyn Observer,
    cancel: &CancellationToken,
) -> Result<Completion> {
    waves::claim(&migration.source, &migration.target).await?;
    let control = migration.target.control();
    if let Some((record, since)) =
        control.record().await?.and_then(|record| Some((record, record.completed_at?)))
    {
        require_decided_here(migration, record.epoch).await?;
        // 1. A run dies once it is decided. 2. A process that leaves a table out goes on. 3. The schema goes,
        // and that table takes writes that no application will read.
        migration.source.contract().await?.require_all(&migration.tables)?;
        observer.note(&format!(
            "the migration is complete since {}; going on with what is left to do",
            since.format("%Y-%m-%d %H:%M:%S UTC")
        ));
        let journal_file = tidy(migration, &record, archive, observer).await?;
        return Ok(Completion {
            epoch: record.epoch,
            resumed: true,
            gates: None,
            report: None,
            journal_file,
        });
    }
    if !migration.source.has_schema().await? {
        return Err(StoreError::source(
            Kind::Misconfigured,
            COMPLETE,
            "Lockstep was never installed in this source",
        )
        .into());
    }
    records::refuse_a_second(&migration.source, &records::names(&migration.tables)).await?;
    let lock = migration.source.lock_coordinator().await?;
    let proven = prove(migration, options, archive, observer, cancel).await;
    let (gates, report, record) = match proven {
        Ok(proven) => proven,
        Err(error) => {
            lock.release().await;
            return Err(error);
        }
    };
    let journal_file = tidy(migration, &record, archive, observer).await;
    lock.release().await;
    Ok(Completion {
        epoch: record.epoch,
        resumed: false,
        gates: Some(gates),
        report: Some(report),
        journal_file: journal_file?,
    })
}

/// Refuses to tidy up in a source that does not itself stand where the completion was decided.
///
/// 1. The control table is another migration's, of a version that wrote no identity into it, and that one
/// completes. 2. The completion of this one, in DualWrite, finds the record. 3. It takes triggers and pending
/// changes out of a source that is the truth.
async fn require_decided_here(migration: &MigrationContext, epoch: Epoch) -> Result<()> {
    let source = &migration.source;
    let found = match source.has_schema().await? {
        true => match source.control().await?.phase {
            Phase::DynamoOnly => return Ok(()),
            phase => format!("PostgreSQL says {phase}"),
        },
        false if waves::named_completion(migration, epoch).await?.is_some() => return Ok(()),
        false => "PostgreSQL knows nothing of it".to_owned(),
    };
    let message = format!(
        "DynamoDB's control table {} says that the migration is complete, and \
            {found}: the table is another migration's, or PostgreSQL was restored to \
            before DynamoOnly. Nothing was changed. If the table is another's, set \
            {ControlTable} to a name of this migration's own; else see {Doctor}",
        migration.target.control().table()
    );
    Err(StoreError::source(Kind::Refused, COMPLETE, message).into())
}

/// Proves that both stores hold the same, keeps the journal, and decides.
async fn prove(
    migration: &MigrationContext,
    options: &ValidateOptions,
    archive: &dyn Archive,
    observer: &dyn Observer,
    cancel: &CancellationToken,
) -> Result<(GateReport, Report, TargetRecord)> {
    let source = &migration.source;
    let (gates, record) = gates::check(migration, observer).await?;
    let id = intent(migration).await?;
    let Some(record) = record.filter(|_| gates.passed()) else {
        source
            .journal_outcome(&migration.actor, id, EntryKind::Refused, COMPLETE, &json!({ "gates": gates }))
            .await?;
        return Err(CoordinatorError::Refused(gates));
    };
    let feed = Feed::begin(migration, id).await?;
    let decided = with_feed(migration, &feed, &record, (options, archive), observer, cancel).await;
    feed.end().await;
    match decided {
        Ok((report, record)) => Ok((gates, report, record)),
        Err(CoordinatorError::Refused(refused)) => {
            source
                .journal_outcome(
                    &migration.actor,
                    id,
                    EntryKind::Refused,
                    COMPLETE,
                    &json!({ "gates": refused }),
                )
                .await?;
            Err(CoordinatorError::Refused(refused))
        }
        Err(error) => Err(error),
    }
}

/// Returns the intent of this step, or the one of a run that was broken off.
async fn intent(migration: &MigrationContext) -> Result<IntentId> {
    let open = migration.source.open_intents().await?.into_iter().find(|entry| entry.step == COMPLETE);
    match open {
        Some(entry) => Ok(IntentId(entry.id)),
        None => Ok(migration.source.journal_intent(&migration.actor, COMPLETE, &json!({})).await?),
    }
}

async fn with_feed(
    migration: &MigrationContext,
    feed: &Feed,
    record: &TargetRecord,
    (options, archive): (&ValidateOptions, &dyn Archive),
    observer: &dyn Observer,
    cancel: &CancellationToken,
) -> Result<(Report, TargetRecord)> {
    let (source, control) = (&migration.source, migration.target.control());
    observer.note("seeing the reverse feed through");
    feed.see_through(migration, migration.options.steps.catch_up_max).await?;
    observer.note("comparing both stores whole, one last time");
    let progress = ValidationProgress::new(&migration.tables);
    let everything = options.clone().of_everything();
    let report = validate(source, &migration.target, &migration.tables, &everything, &progress, cancel).await;
    if cancel.is_cancelled() {
        return Err(CoordinatorError::Interrupted);
    }
    let verdict = gates::verdict(&report);
    observer.gate(&verdict);
    let mut gates = GateReport::default();
    gates.results.push(verdict);
    let json = json!(report.clone().without_values());
    source
        .record_verdict(Epoch(report.epoch.unwrap_or_default()), report.verdict.is_consistent(), &json)
        .await?;
    if !gates.passed() {
        return Err(CoordinatorError::Refused(gates));
    }
    let kept = keep(migration, archive, Epoch(record.epoch.0 + 1)).await?;
    observer.note(&format!("the journal is in {kept}"));
    // Should the feed still read a write of the new epoch, it must not take it for one of a store that lost
    // history.
    source.note_target_epoch(Epoch(record.epoch.0 + 1)).await?;
    let completed = control.complete(record.epoch).await?;
    observer.note("the migration is complete: there is no way back from here");
    Ok((report, completed))
}

async fn keep(migration: &MigrationContext, archive: &dyn Archive, epoch: Epoch) -> Result<String> {
    let journal = migration.source.whole_journal().await?;
    archive.keep(epoch, &journal).map_err(|error| {
        let message = format!("{error}; nothing was completed");
        StoreError::source(Kind::Misconfigured, "keeping the journal", message).into()
    })
}

/// Does what is left once the completion is decided. Each part is done already, or is done now.
async fn tidy(
    migration: &MigrationContext,
    record: &TargetRecord,
    archive: &dyn Archive,
    observer: &dyn Observer,
) -> Result<String> {
    let source = &migration.source;
    if let Some(file) = tidied(migration, record).await? {
        return Ok(file);
    }
    observer.note("waiting for the reverse feed to end");
    let feed_lock = feed_is_over(migration).await?;
    // 1. Two runs go on with a completion, and one waits for the other's lock. 2. That one ends, and a second
    // migration begins. 3. This one would keep the journal of the second as that of the first.
    waves::claim(source, &migration.target).await?;
    if let Some(file) = tidied(migration, record).await? {
        feed_lock.release().await;
        return Ok(file);
    }
    let id = intent(migration).await?;
    let detail = json!({ "epoch": record.epoch, "completed_at": record.completed_at });
    source.journal_outcome(&migration.actor, id, EntryKind::Done, COMPLETE, &detail).await?;
    // With its last entry.
    let journal_file = keep(migration, archive, record.epoch).await?;
    for binding in &migration.tables {
        let (name, schema) = (&binding.target_name, binding.table.target());
        Backoff::brief().retry(|| migration.target.remove_continuity_mark(name, &schema)).await?;
    }
    for binding in &migration.tables {
        // Tombstones of from now on have one (`retire` in crates/lockstep). It is decided already, so a right
        // that is missing keeps nothing from its end.
        if let Err(error) = migration.target.ensure_expiry(&binding.target_name).await {
            observer.note(&format!(
                "WARNING: expiry of {} could not be switched on ({error}): tombstones of \
                 rows that are deleted from now on stay. Switch it on by hand, on attribute `{}`",
                binding.target_name,
                binding.table.names().expiry
            ));
        }
    }
    observer.note(&format!("taking triggers and schema {} out of PostgreSQL", control_schema()));
    let steps = &migration.options.steps;
    let ending = Ending {
        control_table: migration.target.control().table().to_owned(),
        epoch: record.epoch,
        actor: migration.actor.clone(),
        journal_file,
    };
    let archive = || source.archive(&migration.tables, &ending, steps.lock_timeout);
    let others = steps.while_busy(archive).await?;
    if !others.is_empty() {
        observer.note(&format!(
            "WARNING: this depended on schema {}, and went with it: {}",
            control_schema(),
            others.join(", ")
        ));
    }
    feed_lock.release().await;
    Ok(ending.journal_file)
}

/// Returns where the journal was kept, if everything was taken out of the source by an earlier run.
async fn tidied(migration: &MigrationContext, record: &TargetRecord) -> Result<Option<String>> {
    if migration.source.has_schema().await? {
        return Ok(None);
    }
    Ok(waves::named_completion(migration, record.epoch).await?.map(|done| done.journal_file))
}

/// Holds the feed's lock: a feed that runs elsewhere ends by itself once the record says that it is over.
async fn feed_is_over(migration: &MigrationContext) -> Result<lockstep_postgres::FeedLock> {
    let tries = LockTries::within(FEED_ENDS_WITHIN, Duration::from_millis(100));
    Ok(tries.repeat(|| migration.source.lock_reverse_feed()).await?)
}
