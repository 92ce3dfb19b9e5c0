//! One function a remedy. Each may be repeated, and broken off at any point.

use std::time::Duration;

use lockstep_core::{Doing, Epoch, Error as StoreError, Kind, Phase, Result as StoreResult, Side};
use lockstep_postgres::{
    IntentId, KnownMarks, Shape, Source, TableBinding, begin_late_requests, flip_phase, read_control,
    take_exclusive,
};
use lockstep_validator::ValidateOptions;
use serde_json::json;

use super::highest::highest_version;
use super::{follow_target, record, remake_control, return_to_source};
use crate::continuity;
use crate::doctor::Remedy;
use crate::error::{Result, require_shape};
use crate::gate::Observer;
use crate::instances::{self, Leases};
use crate::loss::{Continuity, Found};
use crate::options::Migration;
use crate::reverse_feed::reverse_backfill;
use crate::step;
use tokio_util::sync::CancellationToken;

/// Carries out one remedy. The coordinator's lock is held.
pub(super) async fn apply(
    migration: &Migration,
    id: IntentId,
    remedy: &Remedy,
    options: &ValidateOptions,
    observer: &dyn Observer,
    cancel: &CancellationToken,
) -> Result<()> {
    let segments = options.settings.scan_segments;
    match remedy {
        Remedy::SettleSteps => settle(migration, observer).await,
        Remedy::Recapture { table } => recapture(migration, binding(migration, table)?).await,
        Remedy::TakeShape { table } | Remedy::TakePartitions { table } => {
            Ok(migration.source.take_shape(binding(migration, table)?).await?)
        }
        Remedy::AdoptTarget { table } => adopt(migration, binding(migration, table)?).await,
        Remedy::RaiseEpoch => {
            if migration.source.control_behind_barrier().await?.phase == Phase::DynamoOnly {
                // A step back was decided and is not copied yet: only then there is an epoch to raise.
                settle(migration, observer).await?;
            }
            raise(migration, options, observer).await
        }
        Remedy::RemakeControl => remake_control::remake(migration, id, observer).await,
        Remedy::FollowTarget => follow_target::follow(migration, segments, observer).await,
        Remedy::Refreeze { table } => refreeze(migration, binding(migration, table)?).await,
        Remedy::ReturnToSource => return_to_source::run(migration, segments, observer, cancel).await,
        Remedy::CloseRecord => record::close(migration).await,
        Remedy::LetGoOn => record::let_go_on(migration).await,
        Remedy::ReverseBackfill => {
            for binding in &migration.tables {
                reverse_backfill(migration, binding, false, cancel).await?;
            }
            Ok(())
        }
        Remedy::Backfill | Remedy::Compare | Remedy::List => Ok(()),
    }
}

async fn settle(migration: &Migration, observer: &dyn Observer) -> Result<()> {
    step::recover_all(migration).await?.told.iter().for_each(|settled| observer.note(settled));
    Ok(())
}

fn binding<'a>(migration: &'a Migration, table: &str) -> Result<&'a TableBinding> {
    let found = migration.tables.iter().find(|binding| binding.name() == table);
    found.ok_or_else(|| {
        let message = format!("{table} is not part of this migration");
        StoreError::source(Kind::Misconfigured, "mending the state", message).into()
    })
}

/// Installs the triggers again. From then on everything is captured; the comparison that follows finds what
/// was not.
async fn recapture(migration: &Migration, binding: &TableBinding) -> Result<()> {
    let source = &migration.source;
    let fingerprint = source.fingerprint(binding).await?;
    let captured =
        source.table_state(binding.name()).await?.map(|state| state.fingerprint).unwrap_or_default();
    // Values that were rewritten, and rows that went with a partition, are found by the comparison that
    // follows, as is what was not captured.
    if !matches!(
        Shape::of(&captured, &fingerprint),
        Shape::Rewritten | Shape::Partitions(_) | Shape::Grown(_)
    ) {
        require_shape(binding, &captured, &fingerprint)?;
    }
    // Rows that were inserted meanwhile may lie in ranges that are done.
    source.forget_ranges(binding.name()).await?;
    Ok(source.install_capture(binding, &fingerprint).await?)
}

/// Installs the triggers again while PostgreSQL is frozen. What SQL has written meanwhile is overwritten by
/// the reverse backfill that follows; nothing is copied from here.
async fn refreeze(migration: &Migration, binding: &TableBinding) -> Result<()> {
    let source = &migration.source;
    let fingerprint = source.fingerprint(binding).await?;
    let captured =
        source.table_state(binding.name()).await?.map(|state| state.fingerprint).unwrap_or_default();
    if Shape::of(&captured, &fingerprint) != Shape::Rewritten {
        require_shape(binding, &captured, &fingerprint)?;
    }
    Ok(source.install_capture(binding, &fingerprint).await?)
}

/// Takes the target table that is there for the one in use, and forgets what was copied to the one before.
async fn adopt(migration: &Migration, binding: &TableBinding) -> Result<()> {
    let (source, target) = (&migration.source, &migration.target);
    // One that is there is waited for, and its expiry switched on: a table that was restored has none.
    let there = target.create(&binding.target_name, &binding.table.target(), binding.table.expires()).await?;
    if !there.mismatches.is_empty() {
        let message = format!("{}: {}", binding.target_name, there.mismatches.join("; "));
        return Err(StoreError::target(Kind::Misconfigured, "taking over a target table", message).into());
    }
    source.forget_ranges(binding.name()).await?;
    source.adopt_target(binding.name(), &binding.target_name, there.id.as_deref()).await?;
    Ok(())
}

/// Begins a new epoch above everything that the target has seen, and takes the present history for the right
/// one.
///
/// In DualWrite at most: what the target holds is in doubt, so reads go to the truth until a verdict of the
/// new epoch lets them back. Whatever is pending is pending under a fresh version from then on. 1. A key was
/// marked at version 7 before the moment that the source was restored to. 2. In the time that is lost it was
/// delivered at 9. 3. Under its 7 the row of now would be refused.
async fn raise(migration: &Migration, options: &ValidateOptions, observer: &dyn Observer) -> Result<()> {
    let (source, steps) = (&migration.source, &migration.options.steps);
    let histories = continuity::look(source, &migration.target, &migration.tables).await?;
    let highest = highest_version(migration, &histories, options.settings.scan_segments, observer).await?;
    // What DynamoDB's record has counted since the truth was last there.
    let record = migration.target.control().record().await?;
    if record.is_some_and(|record| record.holds_truth()) {
        return Err(StoreError::target(
            Kind::Refused,
            "raising the epoch",
            "DynamoDB says that it is the truth; run `doctor`",
        )
        .into());
    }
    let counted = record.map_or(Epoch::FIRST, |record| record.epoch);
    // The truth was there once. When it came back is what a source that was set back may have forgotten.
    let late = record.map(|_| migration.target.request_lifetime());
    let least = Epoch(highest.epoch().max(counted).0 + 1);
    let server = source.history().await?;
    let (phase, epoch) =
        steps.while_busy(|| try_raise(migration, &histories, server.as_deref(), least, late)).await?;
    let detail = json!({ "phase": phase, "epoch": epoch, "server": server, "highest_version_in_target": highest, "lost": histories.losses() });
    source.journal_note(&migration.actor, "accept history", &detail).await?;
    // As after every flip: readers of the phase before are over when this returns.
    let unregistered = tokio::time::sleep(steps.phase_lease * 2);
    let leases = Leases::of_both(migration);
    let (waited, ()) = tokio::join!(instances::wait(&leases, epoch, observer), unregistered);
    waited?;
    continuity::mark_now(migration).await
}

async fn try_raise(
    migration: &Migration,
    histories: &Continuity,
    server: Option<&str>,
    least: Epoch,
    late: Option<Duration>,
) -> StoreResult<(Phase, Epoch)> {
    let doing = "raising the epoch";
    let mut transaction = migration.source.begin(doing).await?;
    take_exclusive(&mut transaction, migration.options.steps.lock_timeout).await?;
    let now = read_control(&mut transaction).await?;
    if now.phase == Phase::DynamoOnly {
        return Err(StoreError::source(Kind::Refused, doing, "the phase became DynamoOnly meanwhile"));
    }
    let lost = histories.losses().iter().any(|loss| loss.side() == Side::Source);
    Source::accept_continuity(&mut transaction, server, least, lost).await?;
    for table in &histories.tables {
        let found = match &table.found {
            Found::There { mark: Some(mark), .. } => mark.number,
            _ => 0,
        };
        let marks = KnownMarks { marking: table.known.marking.max(found), marked: 0 };
        Source::accept_marks(&mut transaction, &table.name, marks).await?;
    }
    let phase = now.phase.min(Phase::DualWrite);
    let epoch = flip_phase(&mut transaction, phase).await?;
    if let Some(lifetime) = late {
        begin_late_requests(&mut transaction, lifetime).await?;
    }
    Source::mark_pending_again(&mut transaction).await?;
    transaction.commit().await.doing(doing)?;
    Ok((phase, epoch))
}
