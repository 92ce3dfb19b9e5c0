//! A new epoch, above everything that the target has seen.

use std::time::Duration;

use lockstep_core::Advice::Doctor;
use lockstep_core::{Doing, Epoch, Error as StoreError, Kind, Phase, Result as StoreResult};
use lockstep_postgres::{KnownMarks, Source, begin_late_requests, flip_phase, read_control, take_exclusive};
use lockstep_validator::ValidateOptions;
use serde_json::json;

use super::highest::highest_version;
use super::undecided::{self, Undecided};
use crate::continuity;
use crate::error::Result;
use crate::gate::Observer;
use crate::instances::{self, Leases};
use crate::loss::{Continuity, Found};
use crate::options::MigrationContext;
use crate::repair_rows::forget_batches;

/// Begins a new epoch above everything that the target has seen, and takes the present history for the right
/// one.
///
/// In DualWrite at most: what the target holds is in doubt, so reads go to the truth until a verdict of the
/// new epoch lets them back. Every pending key is pending under a fresh version from then on. 1. A key was
/// marked at version 7 before the moment that the source was restored to. 2. In the time that is lost it was
/// delivered at 9. 3. Under its 7 the row of now would be refused.
pub(super) async fn raise(
    migration: &MigrationContext,
    options: &ValidateOptions,
    observer: &dyn Observer,
) -> Result<()> {
    let (source, steps) = (&migration.source, &migration.options.steps);
    let histories = continuity::look(source, &migration.target, &migration.tables).await?;
    let highest = highest_version(migration, &histories, options.settings.scan_segments, observer).await?;
    // Epochs that DynamoDB's record has counted since the truth was last there.
    let record = migration.target.control().record().await?;
    if record.is_some_and(|record| record.holds_truth()) {
        return Err(StoreError::target(
            Kind::Refused,
            "raising the epoch",
            format!("DynamoDB says that it is the truth; run {Doctor}"),
        )
        .into());
    }
    let counted = record.map_or(Epoch::FIRST, |record| record.epoch);
    // The truth was there once. When it came back is what a source that was set back may have forgotten.
    let late = record.map(|_| migration.target.request_lifetime());
    let least = Epoch(highest.epoch().max(counted).0 + 1);
    let server = source.history().await?;
    forget_batches(migration).await?;
    let undecided = undecided::of(migration, &histories).await?;
    let (phase, epoch) = steps
        .while_busy(|| try_raise(migration, &histories, server.as_deref(), least, late, undecided.as_ref()))
        .await?;
    let left = undecided.map_or(0, |undecided| undecided.marks.len());
    if left > 0 {
        observer.note(&format!(
            "{left} changes that waited when PostgreSQL was set back are left: DynamoDB has newer states of \
             the time that is lost, and the comparison lists them"
        ));
    }
    let detail = json!({
        "phase": phase, "epoch": epoch, "server": server, "highest_version_in_target": highest,
        "lost": histories.losses(), "changes_left": left
    });
    source.journal_note(&migration.actor, "accept history", &detail).await?;
    // As after every flip: readers of the phase before are over when this returns.
    let unregistered = tokio::time::sleep(steps.phase_lease * 2);
    let leases = Leases::of_both(migration);
    let (waited, ()) = tokio::join!(instances::wait(&leases, epoch, observer), unregistered);
    waited?;
    continuity::mark_now(migration).await
}

async fn try_raise(
    migration: &MigrationContext,
    histories: &Continuity,
    server: Option<&str>,
    least: Epoch,
    late: Option<Duration>,
    undecided: Option<&Undecided>,
) -> StoreResult<(Phase, Epoch)> {
    let doing = "raising the epoch";
    let mut transaction = migration.source.begin(doing).await?;
    take_exclusive(&mut transaction, migration.options.steps.lock_timeout).await?;
    let now = read_control(&mut transaction).await?;
    if now.phase == Phase::DynamoOnly {
        return Err(StoreError::source(Kind::Refused, doing, "the phase became DynamoOnly meanwhile"));
    }
    Source::accept_continuity(&mut transaction, server, least, undecided.is_some()).await?;
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
    if let Some(Undecided { marks, until }) = undecided {
        Source::leave_undecided(&mut transaction, marks, *until).await?;
    }
    Source::mark_pending_again(&mut transaction).await?;
    transaction.commit().await.doing(doing)?;
    migration.source.tell_of_change().await;
    Ok((phase, epoch))
}
