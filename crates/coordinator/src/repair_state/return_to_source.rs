//! The truth goes back to PostgreSQL, where the ordinary way back is closed for good.
//!
//! Two states lead here. *PostgreSQL was restored into DynamoOnly, after the truth had come back to it*: it
//! refuses writes, and DynamoDB's record sends every process to it. *A target table was the truth and lost
//! something*: it was restored, or made again, and PostgreSQL may know more of some rows, and the table of
//! others. Either way nothing that is in one store only may be lost: 1. No application writes DynamoDB any
//! more. 2. PostgreSQL, which takes no write but the feed's, reads every item that is newer than what it
//! knows of it. 3. Only then it is the truth, under an epoch above everything that DynamoDB has seen, and in
//! DualWrite, as what DynamoDB answers is in doubt. The differences are listed then, and nothing is
//! overwritten unasked.

use lockstep_core::Advice::{DeadLetters, Doctor};
use lockstep_core::{
    Doing, Epoch, Error as StoreError, Kind, Phase, Result as StoreResult, TargetRecord, Truth, Writes, truth,
};
use lockstep_postgres::reverse::{end_losses, lose as lose_reverse_in, ridden_left};
use lockstep_postgres::sequences::{highest_id_in_use, identity_of, raise_sequences};
use lockstep_postgres::{
    Source, TableBinding, begin_late_requests, flip_phase_at_least, read_control, take_exclusive,
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::highest::{accept_marks, highest_epoch};
use crate::continuity;
use crate::error::{CoordinatorError, Result};
use crate::gate::Observer;
use crate::instances::{self, Leases};
use crate::loss::Continuity;
use crate::options::MigrationContext;
use crate::repair_rows::forget_batches;
use crate::reverse_feed::{bring_back, once_brought_back, reverse_backfill_news};
use crate::truth::raise_source_sequences;

const DOING: &str = "making PostgreSQL the truth again";

/// Makes PostgreSQL the truth. Repeated, it goes on where it stopped.
pub(super) async fn run(
    migration: &MigrationContext,
    segments: usize,
    observer: &dyn Observer,
    cancel: &CancellationToken,
) -> Result<()> {
    let (source, control, steps) = (&migration.source, migration.target.control(), &migration.options.steps);
    let now = source.control_behind_barrier().await?;
    if now.phase != Phase::DynamoOnly {
        return Ok(());
    }
    let record = control.record().await?;
    stop_writes(migration, record.as_ref(), truth(&now, record.as_ref()), observer).await?;
    let histories = continuity::look(source, &migration.target, &migration.tables).await?;
    let highest = highest_epoch(migration, &histories, record.as_ref(), segments, observer).await?;
    forget_batches(migration).await?;
    let server = source.history().await?;
    steps.while_busy(|| accept(migration, &histories, highest, server.as_deref())).await?;
    // The next reading happens only where both stores know each other's history.
    continuity::mark_now(migration).await?;
    for binding in &migration.tables {
        observer.note(&format!("reading every item of {}", binding.target_name));
        reverse_backfill_news(migration, binding, cancel).await?;
    }
    settle_what_waited(migration, observer, cancel).await?;
    // Above the pause as well, and above what a burnt epoch of PostgreSQL has handed out.
    let least = Epoch(highest.max(now.epoch).0 + 2);
    control.close(least, Phase::DualWrite).await?;
    let epoch = once_brought_back(migration, || take_over(migration, least)).await?;
    let detail = json!({ "epoch": epoch, "server": server, "lost": histories.losses() });
    source.journal_note(&migration.actor, "return to the source", &detail).await?;
    // As after every flip: readers of the phase before are over when this returns.
    let unregistered = tokio::time::sleep(steps.phase_lease * 2);
    let leases = Leases::of_both(migration);
    let (waited, ()) = tokio::join!(instances::wait(&leases, epoch, observer), unregistered);
    waited?;
    continuity::mark_now(migration).await
}

/// Reads again what PostgreSQL refused, for as long as that helps: a row may refer to one of a table that was
/// read after its own.
async fn settle_what_waited(
    migration: &MigrationContext,
    observer: &dyn Observer,
    cancel: &CancellationToken,
) -> Result<()> {
    let names: Vec<&str> = migration.tables.iter().map(TableBinding::name).collect();
    let (mut left, mut idle) = (migration.source.reverse_left(&names).await?, 0);
    // A pass takes the thousand least often tried.
    while left > 0 && idle <= left / 1_000 + 2 {
        if cancel.is_cancelled() {
            return Err(CoordinatorError::Interrupted);
        }
        bring_back(migration).await?;
        let now = migration.source.reverse_left(&names).await?;
        idle = if now < left { 0 } else { idle + 1 };
        left = now;
    }
    if left > 0 {
        observer.note(&format!(
            "{left} items cannot be held by PostgreSQL: they are in DynamoDB alone, \
                and stay there; {DeadLetters} lists them"
        ));
    }
    Ok(())
}

/// Stops writes: from when this returns, no application writes DynamoDB as the truth.
async fn stop_writes(
    migration: &MigrationContext,
    record: Option<&TargetRecord>,
    truth: Truth,
    observer: &dyn Observer,
) -> Result<()> {
    let (source, control, steps) = (&migration.source, migration.target.control(), &migration.options.steps);
    if let Some(record) = record.filter(|record| record.holds_truth()) {
        let paused = match record.writes {
            Writes::Paused => record.epoch,
            Writes::Open => {
                source.note_target_epoch(Epoch(record.epoch.0 + 1)).await?;
                control.pause_writes(record.epoch).await?
            }
        };
        let leases = Leases::of_both(migration);
        let others = tokio::time::sleep(instances::unregistered(steps.phase_lease));
        let (waited, ()) = tokio::join!(instances::wait(&leases, paused, observer), others);
        waited?;
    }
    if matches!(truth, Truth::ToTarget(_)) {
        // The leases went with the record.
        observer.note(&format!(
            "waiting {} s: every lease that was lost with the control table is over then",
            steps.lease_max.as_secs()
        ));
        tokio::time::sleep(steps.lease_max).await;
    }
    Ok(())
}

/// Takes the present history for the right one, and everything that DynamoDB has had since for news.
async fn accept(
    migration: &MigrationContext,
    histories: &Continuity,
    highest: Epoch,
    server: Option<&str>,
) -> StoreResult<()> {
    let mut transaction = migration.source.begin(DOING).await?;
    take_exclusive(&mut transaction, migration.options.steps.lock_timeout).await?;
    let now = read_control(&mut transaction).await?;
    if now.phase != Phase::DynamoOnly {
        return Err(StoreError::source(
            Kind::Refused,
            DOING,
            format!("PostgreSQL says {} by now", now.phase),
        ));
    }
    // Before anything is read: 1. The feed has brought version 9 of a row, which waits or rides along. 2. The
    // table is set back to version 5 in place, under the stream that it had. 3. What waits is read again, and
    // version 5 would be put over the only copy of version 9.
    for (table, why) in histories.lost_in_target() {
        lose_reverse_in(&mut transaction, &table, &why).await?;
    }
    accept_marks(&mut transaction, histories).await?;
    Source::accept_continuity(&mut transaction, server, Epoch::FIRST, false).await?;
    Source::follow_target(&mut transaction, now.epoch, highest.max(now.epoch)).await?;
    transaction.commit().await.doing(DOING)
}

/// Ids first, so that none is repeated, then versions, then the phase.
async fn take_over(migration: &MigrationContext, least: Epoch) -> StoreResult<Epoch> {
    let control = migration.target.control();
    let mut transaction = migration.source.begin(DOING).await?;
    take_exclusive(&mut transaction, migration.options.steps.lock_timeout).await?;
    if read_control(&mut transaction).await?.phase != Phase::DynamoOnly {
        let message = format!("the phase was changed meanwhile; run {Doctor}");
        return Err(StoreError::source(Kind::Refused, DOING, message));
    }
    let names: Vec<&str> = migration.tables.iter().map(TableBinding::name).collect();
    let ridden = ridden_left(&mut transaction, &names).await?;
    if ridden > 0 {
        // PostgreSQL has changed them itself, and DynamoDB says otherwise.
        let message = format!(
            "{ridden} rows that a cascade or a trigger changed in PostgreSQL alone \
                cannot be brought back; after five minutes {DeadLetters} lists and \
                acknowledges them, and then the same command goes on"
        );
        return Err(StoreError::source(Kind::Busy, DOING, message));
    }
    raise_source_sequences(&mut transaction, &control, &migration.tables).await?;
    for binding in &migration.tables {
        // The counters may be lost, or older than what PostgreSQL had handed out before it was restored.
        if let Some(sequence) = identity_of(&mut transaction, binding).await? {
            let highest = highest_id_in_use(&mut transaction, binding).await?;
            raise_sequences(&mut transaction, &[(binding, sequence, highest)]).await?;
        }
    }
    let epoch = flip_phase_at_least(&mut transaction, Phase::DualWrite, least).await?;
    // 1. DynamoDB alone has a row that PostgreSQL refuses, and it is listed. 2. A trigger is off. 3. The
    // comparison that follows would put a tombstone over the only copy.
    Source::leave_what_differs(&mut transaction, epoch).await?;
    end_losses(&mut transaction, &names).await?;
    // An application may have given up a request just before its writes were stopped.
    begin_late_requests(&mut transaction, migration.target.request_lifetime()).await?;
    transaction.commit().await.doing(DOING)?;
    migration.source.tell_of_change().await;
    Ok(epoch)
}
