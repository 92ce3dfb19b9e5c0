//! One function a remedy. Each may be repeated, and broken off at any point.

use lockstep_core::{Error as StoreError, Kind, Phase};
use lockstep_postgres::{IntentId, Shape, TableBinding};
use lockstep_validator::ValidateOptions;

use super::raise::raise;
use super::{columns, follow_target, record, remake_control, return_to_source};
use crate::error::{Result, require_shape};
use crate::gate::Observer;
use crate::options::MigrationContext;
use crate::remedy::Remedy;
use crate::reverse_feed::reverse_backfill_in_repair;
use crate::step;
use tokio_util::sync::CancellationToken;

/// Carries out one remedy; `plan` has all of this repair, those too that are done. The coordinator's lock is
/// held.
pub(super) async fn apply(
    migration: &MigrationContext,
    id: IntentId,
    remedy: &Remedy,
    plan: &[Remedy],
    options: &ValidateOptions,
    observer: &dyn Observer,
    cancel: &CancellationToken,
) -> Result<()> {
    let segments = options.settings.scan_segments;
    match remedy {
        Remedy::SettleSteps => settle(migration, observer).await,
        Remedy::Recapture { table } => recapture(migration, binding(migration, table)?).await,
        Remedy::TakeColumns { table, .. } => columns::take(migration, binding(migration, table)?).await,
        Remedy::BringColumns { table, columns, whole } => {
            let binding = binding(migration, table)?;
            columns::bring(migration, binding, columns, *whole, observer, cancel).await
        }
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
        Remedy::SwitchExpiryOn { table } => {
            let name = &binding(migration, table)?.target_name;
            if let Err(error) = migration.target.ensure_expiry(name).await {
                // A right that is missing holds up nothing of what comes after; it is found again.
                observer.note(&format!("expiry of {name} is not on: {error}"));
            }
            Ok(())
        }
        Remedy::ReverseBackfill => {
            for binding in &migration.tables {
                // 1. Triggers were off, and SQL put a row in, or one back whose deletion was delivered. 2. It
                // has no item, so no item overwrites it. 3. After the way back it would be the truth.
                let refilled = is_refilled(plan, binding.name());
                let read = reverse_backfill_in_repair(migration, binding, refilled, cancel).await?;
                if refilled {
                    let (name, deleted) = (binding.name(), read.deleted);
                    observer
                        .note(&format!("{name}: {deleted} rows that DynamoDB does not have were deleted"));
                }
            }
            Ok(())
        }
        Remedy::Backfill | Remedy::Compare | Remedy::List => Ok(()),
    }
}

/// Tells whether SQL could write a table past its triggers, so that it may have rows that DynamoDB never had.
fn is_refilled(plan: &[Remedy], name: &str) -> bool {
    plan.iter().any(|remedy| match remedy {
        Remedy::Refreeze { table } | Remedy::TakeShape { table } => table == name,
        _ => false,
    })
}

async fn settle(migration: &MigrationContext, observer: &dyn Observer) -> Result<()> {
    step::recover_all(migration).await?.told.iter().for_each(|settled| observer.note(settled));
    Ok(())
}

fn binding<'a>(migration: &'a MigrationContext, table: &str) -> Result<&'a TableBinding> {
    let found = migration.tables.iter().find(|binding| binding.name() == table);
    found.ok_or_else(|| {
        let message = format!("{table} is not part of this migration");
        StoreError::source(Kind::Misconfigured, "repairing the state", message).into()
    })
}

/// Installs the triggers again. From then on everything is captured; the comparison that follows finds what
/// was not.
async fn recapture(migration: &MigrationContext, binding: &TableBinding) -> Result<()> {
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

/// Installs the triggers again while PostgreSQL is frozen. The reverse backfill that follows overwrites what
/// SQL has written meanwhile, and deletes what it has put in; nothing is copied from here.
async fn refreeze(migration: &MigrationContext, binding: &TableBinding) -> Result<()> {
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
async fn adopt(migration: &MigrationContext, binding: &TableBinding) -> Result<()> {
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
