//! The coordinator: one process at a time that prepares, backfills and steps.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use lockstep_core::{Kind, Phase};
use lockstep_dynamo::{TableStanding, TargetTable};
use lockstep_postgres::{CaptureState, CoordinatorLock, EntryKind, TableBinding};
use serde_json::json;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::backfill::{self, BackfillSummary};
use crate::continuity;
use crate::error::{CoordinatorError, Result};
use crate::estimate;
use crate::gate::{GateReport, Observer};
use crate::gates;
use crate::import;
use crate::journal::CHANGE_PHASE;
use crate::options::MigrationContext;
use crate::progress::Progress;
use crate::records;
use crate::rehearsal::Rehearsal;
use crate::relay::{RelaySummary, RelayUntil, relay};
use crate::step::{self, Recovered, StepOutcome};
use crate::waves;

/// Time between two looks of the coordinator at its lock.
const LOCK_CHECK: Duration = Duration::from_secs(1);

/// The one process that may backfill and change the phase. Close it when done; dropping it gives the lock
/// back as well, as soon as PostgreSQL notices.
pub struct Coordinator {
    migration: Arc<MigrationContext>,
    progress: Arc<Progress>,
    lock_lost: CancellationToken,
    keeper: JoinHandle<()>,
    closing: DropGuard,
    recovered: Recovered,
    rehearsal: Rehearsal,
}

impl Coordinator {
    /// Creates schema `lockstep` if need be, takes the coordinator's lock, and finishes or undoes what a
    /// crash left.
    ///
    /// # Errors
    /// [`lockstep_core::Kind::Busy`] when another coordinator is at work; [`lockstep_core::Kind::Refused`]
    /// where a migration of other tables is under way in this database; [`CoordinatorError::HistoryLost`].
    #[crate::boxed]
    pub async fn open(migration: MigrationContext) -> Result<Self> {
        waves::claim(&migration.source, &migration.target).await?;
        records::require_going_on(&migration).await?;
        waves::refuse_completed(&migration).await?;
        let known = migration.target.has_owner();
        migration.source.migrate_schema().await?;
        waves::claim(&migration.source, &migration.target).await?;
        if !known {
            // With the schema came the identity, by which a record of another migration is told from ours.
            records::require_going_on(&migration).await?;
        }
        records::refuse_a_second(&migration.source, &records::names(&migration.tables)).await?;
        let lock = migration.source.lock_coordinator().await?;
        let (lock_lost, closing) = (CancellationToken::new(), CancellationToken::new());
        // From the beginning: to settle a step takes as long as a lease.
        let keeper = tokio::spawn(keep(lock, lock_lost.clone(), closing.clone()));
        let closing = closing.drop_guard();
        let recovered = match Self::settled(&migration).await {
            Ok(recovered) => recovered,
            Err(error) => {
                drop(closing);
                // The lock is given back before the caller hears of the failure.
                let _ = keeper.await;
                return Err(error);
            }
        };
        let progress = Arc::new(Progress::new(&migration.tables));
        let (migration, rehearsal) = (Arc::new(migration), Rehearsal::default());
        Ok(Self { migration, progress, lock_lost, keeper, closing, recovered, rehearsal })
    }

    async fn brought_up(migration: &MigrationContext, binding: &TableBinding) -> lockstep_core::Result<()> {
        // Capture that an older version installed knows nothing of DynamoOnly.
        migration.source.refresh_capture(binding).await?;
        migration.source.know_triggers(binding).await?;
        migration.source.record_shape(binding).await?;
        migration.source.note_expiry(binding).await?;
        let state = migration.source.table_state(binding.name()).await?;
        if state.is_some_and(|state| state.cold_open) {
            // The process that ran the cold load is gone. Its last requests may still be under way.
            migration.source.end_cold(binding.name(), Some(migration.target.request_lifetime())).await?;
        }
        Ok(())
    }

    /// Settles what a crash left, and brings what an older version made up to date.
    async fn settled(migration: &MigrationContext) -> Result<Recovered> {
        // Once more, under the lock: another may have begun its tables since.
        records::refuse_a_second(&migration.source, &records::names(&migration.tables)).await?;
        continuity::require_kept(migration).await?;
        migration.source.replace_times_ahead().await?;
        let recovered = step::recover_all(migration).await?;
        for binding in &migration.tables {
            match Self::brought_up(migration, binding).await {
                // Told by the gates of whatever touches the table. 1. In HybridRead a column is dropped.
                // 2. The step back, which touches no table, was refused for it.
                Err(error) if error.kind == Kind::Misconfigured => {
                    tracing::warn!("{} is not as it was captured: {error}", binding.name());
                }
                done => done?,
            }
        }
        Ok(recovered)
    }

    /// Makes the step to HybridRead wait until all of this has passed.
    pub fn with_rehearsal(mut self, rehearsal: Rehearsal) -> Self {
        self.rehearsal = rehearsal;
        self
    }

    /// Returns what was finished or undone at the start, one sentence each.
    pub fn recovered(&self) -> &[String] {
        &self.recovered.told
    }

    /// Returns the steps among these that were finished, as from where to where: the phase has changed by
    /// them, and who asks for the next phase has perhaps asked for this one.
    pub fn finished(&self) -> &[(Phase, Phase)] {
        &self.recovered.finished
    }

    /// Returns until when a request of DynamoOnly may still land, by the newest way back; `None` where none
    /// can any more.
    ///
    /// # Errors
    /// The source's.
    #[crate::boxed]
    pub async fn late_until(&self) -> Result<Option<DateTime<Utc>>> {
        crate::status::late_writes_until(&self.migration.source).await
    }

    /// Counts the steps that were done since entry `id` of the journal.
    ///
    /// # Errors
    /// The source's.
    #[crate::boxed]
    pub async fn steps_since(&self, id: i64) -> Result<i64> {
        Ok(self.migration.source.done_since(id, CHANGE_PHASE).await?)
    }

    /// Live counters.
    pub fn progress(&self) -> Arc<Progress> {
        self.progress.clone()
    }

    /// Returns the migration that this coordinator works on.
    pub fn migration(&self) -> &MigrationContext {
        &self.migration
    }

    /// Runs preflight, makes the control table, installs capture, and creates or adopts the target tables.
    /// Safe to repeat.
    ///
    /// # Errors
    /// [`CoordinatorError::Refused`] when a gate says no; nothing has been touched then.
    /// [`lockstep_core::Kind::Misconfigured`] where the control table is another migration's; no table has
    /// been touched then.
    #[crate::boxed]
    pub async fn prepare(&self, observer: &dyn Observer) -> Result<GateReport> {
        let report = gates::preflight(&self.migration, observer).await?;
        if !report.passed() {
            return Err(CoordinatorError::Refused(report));
        }
        self.take_no_table_too_late().await?;
        self.control_table(observer).await?;
        for binding in &self.migration.tables {
            self.capture(binding, observer).await?;
            if !import::takes(&self.migration, binding, observer).await? {
                self.target_table(binding, observer).await?;
            }
        }
        continuity::mark(&self.migration).await?;
        Ok(report)
    }

    /// Makes the control table, which nothing asks before the step to DynamoOnly, and claims it for this
    /// migration. First of all: that it is another one's is told before anything is touched, and not on the
    /// day of the cut-over.
    async fn control_table(&self, observer: &dyn Observer) -> Result<()> {
        let control = self.migration.target.control();
        control.create().await?;
        if control.claim().await? {
            observer.note(&format!("control table {} is this migration's", control.table()));
        }
        Ok(control.protect().await?)
    }

    /// Refuses a table that joins while others are past PostgresOnly: the phase is one for all, so the new
    /// one would be read from a target that is half full, or frozen before it was moved.
    async fn take_no_table_too_late(&self) -> Result<()> {
        let phase = self.migration.source.control().await?.phase;
        let contract = self.migration.source.contract().await?;
        let new =
            self.migration.tables.iter().map(TableBinding::name).filter(|name| contract.of(name).is_none());
        let new: Vec<&str> = new.collect();
        if phase == Phase::PostgresOnly || contract.tables.is_empty() || new.is_empty() {
            return Ok(());
        }
        let message = format!(
            "{} would join a migration that is in {phase}, and the phase is one for all its tables: take it out of the configuration, \
             or go back to PostgresOnly and begin with it from there",
            new.join(" and ")
        );
        Err(lockstep_core::Error::source(
            lockstep_core::Kind::Refused,
            "taking a table into the migration",
            message,
        )
        .into())
    }

    async fn capture(&self, binding: &TableBinding, observer: &dyn Observer) -> Result<()> {
        let source = &self.migration.source;
        let state = source.capture_state(binding).await?;
        if state == CaptureState::Absent {
            let step = format!("install capture on {}", binding.relation);
            let id = source
                .journal_intent(&self.migration.actor, &step, &json!({ "table": binding.name() }))
                .await?;
            source.install_capture(binding, &source.fingerprint(binding).await?).await?;
            source.journal_outcome(&self.migration.actor, id, EntryKind::Done, &step, &json!({})).await?;
            observer
                .note(&format!("capture is on for {}: every change from here on is known", binding.relation));
            return Ok(());
        }
        Ok(state.require_on(binding.name())?)
    }

    async fn target_table(&self, binding: &TableBinding, observer: &dyn Observer) -> Result<()> {
        let (source, target) = (&self.migration.source, &self.migration.target);
        let name = &binding.target_name;
        let adopted =
            source.table_state(binding.name()).await?.is_some_and(|state| state.target_name.is_some());
        if adopted {
            if binding.table.expires()
                && let Err(error) = target.ensure_expiry(name).await
            {
                observer.note(&format!("{name} may keep its items for ever: {error}"));
            }
            target.protect(name).await?;
            return Ok(());
        }
        let step = format!("create target table {name}");
        let id =
            source.journal_intent(&self.migration.actor, &step, &json!({ "table": binding.name() })).await?;
        let schema = binding.table.target();
        let there: TargetTable = match target.describe(name, &schema).await? {
            TableStanding::There(there) => {
                if binding.table.expires() {
                    target.ensure_expiry(name).await?;
                }
                target.protect(name).await?;
                there
            }
            TableStanding::Missing => target.create(name, &schema, binding.table.expires()).await?,
        };
        source.adopt_target(binding.name(), name, there.id.as_deref()).await?;
        source
            .journal_outcome(
                &self.migration.actor,
                id,
                EntryKind::Done,
                &step,
                &json!({ "table_id": there.id }),
            )
            .await?;
        observer.note(&format!("target table {name} is ACTIVE"));
        Ok(())
    }

    /// Copies the initial load of every table; resumes where an earlier run stopped.
    ///
    /// # Errors
    /// See [`CoordinatorError`]; [`CoordinatorError::Interrupted`] when cancelled, or when the
    /// coordinator's lock was lost.
    ///
    /// # Cancel safety
    /// Cancelling, dropping and killing are all safe: what is not behind a watermark is read again.
    #[crate::boxed]
    pub async fn backfill(&self, cancel: &CancellationToken) -> Result<Vec<BackfillSummary>> {
        let source = &self.migration.source;
        for binding in &self.migration.tables {
            source.capture_state(binding).await?.require_on(binding.name())?;
        }
        continuity::require_kept(&self.migration).await?;
        source.require_contract(&self.migration.tables).await?;
        estimate::note_plan(&self.migration).await;
        let step = "backfill";
        let id = source.journal_intent(&self.migration.actor, step, &json!({})).await?;
        let stop = cancel.child_token();
        let run = backfill::run(&self.migration, &self.progress, &stop);
        tokio::pin!(run);
        let result = tokio::select! {
            result = &mut run => result,
            () = self.lock_lost.cancelled() => {
                stop.cancel();
                run.await.and(Err(CoordinatorError::Interrupted))
            }
        };
        let (kind, detail) = match &result {
            Ok(summaries) => (EntryKind::Done, json!({ "tables": summaries })),
            Err(error) => (EntryKind::Undone, json!({ "why": error.to_string() })),
        };
        let recorded = source.journal_outcome(&self.migration.actor, id, kind, step, &detail).await;
        // The cause matters more than that it could not be recorded.
        let summaries = result?;
        recorded?;
        let names: Vec<&str> = self.migration.tables.iter().map(|binding| binding.name()).collect();
        source.note_load_ended(&names).await?;
        Ok(summaries)
    }

    /// Forgets the plan of every table's backfill, so that the next one starts over, possibly with another
    /// window.
    ///
    /// # Errors
    /// The source's.
    #[crate::boxed]
    pub async fn restart_backfill(&self) -> Result<()> {
        for binding in &self.migration.tables {
            self.migration.source.forget_ranges(binding.name()).await?;
            self.migration.source.forget_planned(binding.name()).await?;
            import::restart(&self.migration, binding).await?;
        }
        self.migration.source.journal_note(&self.migration.actor, "restart backfill", &json!({})).await?;
        Ok(())
    }

    /// Delivers pending changes; see [`relay`].
    ///
    /// # Errors
    /// See [`relay`].
    #[crate::boxed]
    pub async fn relay(&self, until: RelayUntil, cancel: &CancellationToken) -> Result<RelaySummary> {
        relay(&self.migration, until, &self.progress, cancel).await
    }

    /// Takes all tables one phase forward or back, or leaves everything as it was and says why.
    ///
    /// # Errors
    /// [`CoordinatorError::Refused`] by a gate, unless `force` gives a reason, which the journal keeps;
    /// [`CoordinatorError::BarrierBusy`] when a write transaction stayed open;
    /// [`CoordinatorError::NotAdjacent`].
    ///
    /// # Cancel safety
    /// A step broken off is finished or undone by the next [`Coordinator::open`].
    #[crate::boxed]
    pub async fn step(&self, to: Phase, force: Option<&str>, observer: &dyn Observer) -> Result<StepOutcome> {
        let taken = step::step(&self.migration, to, force, &self.rehearsal, observer);
        let from = self.migration.source.control().await?.phase;
        if from == Phase::DynamoOnly || to == Phase::DynamoOnly {
            // Half way no application can write, so it goes on to its end. Once another coordinator has
            // settled it, no part of it is begun any more (`lockstep_postgres`, parts), and each change of
            // the records has its condition.
            return taken.await;
        }
        // A step that another coordinator may have called undone is not taken after that.
        match self.lock_lost.run_until_cancelled(taken).await {
            Some(taken) => taken,
            None => Err(CoordinatorError::Interrupted),
        }
    }

    /// Finishes or undoes a step whose future was dropped, as [`Coordinator::open`] does after a crash; says
    /// what was settled. A caller that drops one calls this: in the middle of a step that moves the truth no
    /// application can write.
    ///
    /// # Errors
    /// The stores'; then the next [`Coordinator::open`] does it.
    #[crate::boxed]
    pub async fn settle(&self) -> Result<Vec<String>> {
        Ok(step::recover_all(&self.migration).await?.told)
    }

    /// Gives the lock back.
    #[crate::boxed]
    pub async fn close(self) {
        drop(self.closing);
        // The keeper has nothing left to fail at.
        let _ = self.keeper.await;
    }
}

/// Holds the lock until told to close, and says so when it is lost: work under it must then stop.
async fn keep(mut lock: CoordinatorLock, lost: CancellationToken, closing: CancellationToken) {
    loop {
        tokio::select! {
            () = closing.cancelled() => return lock.release().await,
            () = tokio::time::sleep(LOCK_CHECK) => {}
        }
        if let Err(error) = lock.check().await {
            tracing::error!(
                "the coordinator's lock is lost: what is under way stops, but for a step that moves the \
                truth, which goes on to its end: {error}"
            );
            lost.cancel();
            return;
        }
    }
}
