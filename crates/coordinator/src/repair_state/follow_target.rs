//! DynamoOnly, and PostgreSQL was set back: it is made to say DynamoOnly again, and to take everything that
//! DynamoDB holds.
//!
//! DynamoDB's record need not say so, for the control table may be lost as well, or have been set back: then
//! it is created again after this, above every epoch that is noted here.

use lockstep_postgres::{Source, flip_phase_at_least, read_control, take_exclusive};

use lockstep_core::Advice::Doctor;
use lockstep_core::{
    Control, Doing, Epoch, Error as StoreError, Kind, Phase, Result as StoreResult, TargetRecord, Truth,
    truth,
};
use serde_json::json;

use super::highest::{accept_marks, highest_epoch};
use crate::continuity;
use crate::error::Result;
use crate::gate::Observer;
use crate::loss::Continuity;
use crate::options::MigrationContext;
use crate::repair_rows::forget_batches;

const DOING: &str = "making PostgreSQL follow DynamoDB again";

/// Makes the source's record follow the target's. The reverse backfill that comes after fills the rows.
pub(super) async fn follow(
    migration: &MigrationContext,
    segments: usize,
    observer: &dyn Observer,
) -> Result<()> {
    let steps = &migration.options.steps;
    let histories = continuity::look(&migration.source, &migration.target, &migration.tables).await?;
    let record = migration.target.control().record().await?;
    let now = migration.source.control_behind_barrier().await?;
    require(&now, record.as_ref())?;
    let highest = highest_epoch(migration, &histories, record.as_ref(), segments, observer).await?;
    let server = migration.source.history().await?;
    forget_batches(migration).await?;
    let record = record.as_ref();
    steps.while_busy(|| try_follow(migration, &histories, record, highest, server.as_deref())).await?;
    let detail = json!({ "epoch": highest, "server": server, "lost": histories.losses() });
    migration.source.journal_note(&migration.actor, "follow the target", &detail).await?;
    continuity::mark_now(migration).await
}

/// Refuses where the truth is not in DynamoDB, by what the records say.
fn require(now: &Control, record: Option<&TargetRecord>) -> StoreResult<()> {
    let follows = match (truth(now, record), record) {
        (Truth::InTarget | Truth::ToTarget(_), _) => true,
        (Truth::Lost, Some(record)) => record.holds_truth() && record.epoch > now.epoch,
        _ => false,
    };
    if follows {
        return Ok(());
    }
    let message = format!(
        "PostgreSQL says {} in epoch {}, and DynamoDB does not say that it is the \
            truth since; run {Doctor}",
        now.phase, now.epoch
    );
    Err(StoreError::target(Kind::Refused, DOING, message))
}

async fn try_follow(
    migration: &MigrationContext,
    histories: &Continuity,
    record: Option<&TargetRecord>,
    highest: Epoch,
    server: Option<&str>,
) -> StoreResult<()> {
    let mut transaction = migration.source.begin(DOING).await?;
    take_exclusive(&mut transaction, migration.options.steps.lock_timeout).await?;
    let now = read_control(&mut transaction).await?;
    require(&now, record)?;
    accept_marks(&mut transaction, histories).await?;
    Source::accept_continuity(&mut transaction, server, Epoch::FIRST, false).await?;
    let is_behind = record.is_some_and(|record| record.holds_truth() && record.since > now.epoch);
    let mut to = highest.max(now.epoch);
    if now.phase != Phase::DynamoOnly || is_behind {
        let least = record.map_or(highest, |record| record.epoch);
        to = to.max(flip_phase_at_least(&mut transaction, Phase::DynamoOnly, least).await?);
    }
    // Every item written since the moment that PostgreSQL remembers is news to it, whichever process wrote it
    // then.
    Source::follow_target(&mut transaction, now.epoch, to).await?;
    transaction.commit().await.doing(DOING)?;
    migration.source.tell_of_change().await;
    Ok(())
}
