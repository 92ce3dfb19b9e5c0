//! Helpers that several commands need.

use std::sync::Arc;

use lockstep::store::Writer;
use lockstep_coordinator::{
    CanaryRead, Coordinator, MigrationContext, Observer, Progress, Rehearsal, StepOutcome, Watch,
    canary_reads_of_binding, canary_reads_with_indexes, measure_latency,
};
use lockstep_core::Phase;
use lockstep_dynamo::Target;
use lockstep_postgres::{Source, TableBinding, VerdictWord};
use lockstep_validator::{QueryLatency, Report, ValidateOptions};
use tokio_util::sync::CancellationToken;

use super::no_relay::told_beside;
use crate::Context;
use crate::config::{Config, actor};
use crate::evidence::{LagWatch, hash_of};
use crate::exit::Failure;
use crate::stores::Stores;
use crate::ui::{Board, Counter, Sample, Ui};

impl Context {
    /// Returns the tables of this configuration.
    pub(super) fn tables(&self) -> anyhow::Result<Vec<TableBinding>> {
        Ok(self.config.bindings()?)
    }

    /// Returns the migration of this configuration on `stores`.
    pub(super) fn migration(&self, stores: &Stores) -> anyhow::Result<MigrationContext> {
        Ok(self.migration_of(stores, self.tables()?))
    }

    /// Returns the same, of these tables.
    pub(super) fn migration_of(&self, stores: &Stores, tables: Vec<TableBinding>) -> MigrationContext {
        MigrationContext {
            source: stores.source.clone(),
            target: stores.target.clone(),
            tables,
            unread: self.config.declared.left_out().iter().map(|table| table.name.to_owned()).collect(),
            actor: actor(),
            options: self.config.options(),
            watch: Watch::default(),
        }
    }

    /// Opens the coordinator and says what it found half-done.
    pub(super) async fn coordinator(&self, stores: &Stores) -> anyhow::Result<Coordinator> {
        let coordinator = self.unless_cancelled(Coordinator::open(self.migration(stores)?)).await??;
        for settled in coordinator.recovered() {
            self.ui.say(&format!("  An earlier run left something open, and it is settled now: {settled}"));
        }
        Ok(coordinator)
    }

    /// Makes a reader like an application with these settings.
    fn reader(&self, stores: &Stores) -> Writer {
        Writer::new(stores.source.clone(), stores.target.clone(), self.config.writes.clone())
    }

    /// Makes a writer like an application: its triggers find their names where they do in the application.
    pub(crate) fn writer(&self, stores: &Stores) -> Writer {
        Writer::new(stores.source.for_application(), stores.target.clone(), self.config.writes.clone())
    }

    /// Returns the same, with what it tries out before it moves reads to the target (R7, R26). Nothing is
    /// read for it before that step.
    pub(super) async fn stepping_coordinator(&self, stores: &Stores) -> anyhow::Result<Coordinator> {
        Ok(self.rehearsing(self.coordinator(stores).await?, stores))
    }

    /// Returns a coordinator with what it tries out before it moves reads to the target.
    pub(super) fn rehearsing(&self, coordinator: Coordinator, stores: &Stores) -> Coordinator {
        let bindings = coordinator.migration().tables.clone();
        let chooses = Arc::new((
            self.config.clone(),
            bindings,
            stores.source.clone(),
            stores.target.clone(),
            self.reader(stores),
        ));
        let rehearsal = Rehearsal::default().writing().reading(move || {
            let chooses = chooses.clone();
            async move {
                let (config, bindings, source, target, writer) = &*chooses;
                canary_reads(config, bindings, source, target, writer).await
            }
        });
        coordinator.with_rehearsal(rehearsal)
    }

    /// Runs `work` unless the command is told to stop first; only for work that may be dropped at any point.
    ///
    /// # Errors
    /// When the command was told to stop.
    pub async fn unless_cancelled<T>(&self, work: impl Future<Output = T>) -> anyhow::Result<T> {
        self.cancel.run_until_cancelled(work).await.ok_or_else(|| Failure::interrupted(RESUME))
    }

    /// Takes a step, unless the command is told to stop first, by `cancel`; then what there is of it is
    /// undone or finished.
    pub(super) async fn step(
        &self,
        coordinator: &Coordinator,
        to: Phase,
        force: Option<&str>,
        observer: &dyn Observer,
        cancel: &CancellationToken,
    ) -> anyhow::Result<StepOutcome> {
        if let Some(taken) = cancel.run_until_cancelled(coordinator.step(to, force, observer)).await {
            return Ok(taken?);
        }
        self.ui.say("Settling the step that was under way …");
        for settled in coordinator.settle().await? {
            self.ui.say(&format!("  {settled}"));
        }
        Err(Failure::interrupted(RESUME))
    }

    /// Fails if the command was told to stop.
    pub(super) fn check_cancelled(&self) -> anyhow::Result<()> {
        if self.cancel.is_cancelled() { Err(Failure::interrupted(RESUME)) } else { Ok(()) }
    }

    /// Returns why an incremental validation cannot begin now, one sentence a table; empty when it can.
    pub(super) async fn refusals_of_incremental(
        &self,
        stores: &Stores,
        fed_through: bool,
    ) -> anyhow::Result<Vec<String>> {
        let control = stores.source.control().await?;
        let mut refusals = Vec::new();
        let newest = stores.source.latest_verdict().await?;
        if newest.is_some_and(|newest| newest.word() == VerdictWord::Inconsistent) {
            // Gates go on from a finding by a whole comparison alone.
            refusals.push(
                "the newest verdict is not consistent, and only a comparison of everything can answer it; \
                 run `validate` without --incremental first"
                    .to_owned(),
            );
        }
        let tables = self.tables()?;
        let lost = lockstep_coordinator::lost_history(&stores.source, &stores.target, &tables).await?;
        // Deliveries in the time that PostgreSQL lost are noted nowhere.
        refusals.extend(lost.iter().map(|loss| format!("{loss}; run `doctor`")));
        for binding in tables {
            let point = lockstep_validator::starting_point(
                &stores.source,
                &stores.target,
                &binding,
                &control,
                fed_through,
            )
            .await?;
            refusals.extend(point.err());
        }
        Ok(refusals)
    }

    /// Compares both sides and records the verdict under the epoch it was made in.
    pub(super) async fn validate(
        &self,
        stores: &Stores,
        options: &ValidateOptions,
        cancel: &CancellationToken,
    ) -> anyhow::Result<Report> {
        self.validate_and_time(stores, options, 0, cancel).await
    }

    /// Says that operators have paused comparisons, before one waits for the end of that in silence.
    pub(super) async fn tell_of_pause(&self, source: &Source) {
        if source.tuning().await.is_ok_and(|tuning| tuning.validation_paused) {
            self.ui.warn(
                "An operator has paused comparisons: this one reads nothing of DynamoDB until \
                 `cargo xtask set pause.validation default`",
            );
        }
    }

    /// Times queries on both stores, unless `rounds` is 0.
    async fn latency(
        &self,
        stores: &Stores,
        rounds: usize,
        cancel: &CancellationToken,
    ) -> anyhow::Result<Vec<QueryLatency>> {
        if rounds == 0 {
            return Ok(Vec::new());
        }
        self.ui.say(&format!("Timing the same queries on both stores, {rounds} times each"));
        let (tables, writer) = (self.tables()?, self.reader(stores));
        let reads = canary_reads(&self.config, &tables, &stores.source, &stores.target, &writer).await?;
        Ok(measure_latency(&reads, rounds, cancel).await?)
    }

    /// The same, and times queries on both stores the given number of times beside it: before the comparison,
    /// which would slow them.
    pub(super) async fn validate_and_time(
        &self,
        stores: &Stores,
        options: &ValidateOptions,
        rounds: usize,
        cancel: &CancellationToken,
    ) -> anyhow::Result<Report> {
        // The record at the end needs it, and that may be hours from now.
        stores.source.migrate_schema().await?;
        self.tell_of_pause(&stores.source).await;
        let latency = self.latency(stores, rounds, cancel).await?;
        let tables = self.tables()?;
        // 1. A table differs. 2. Another configuration, without it, is compared. 3. "Consistent: every row of
        // both sides was compared" is of the rest.
        stores.source.contract().await?.require_known(&tables, &[])?;
        let progress = lockstep_validator::ValidationProgress::new(&tables);
        let board = self.ui.board("compare", {
            let progress = progress.clone();
            move || progress.snapshot().iter().map(validation_sample).collect()
        });
        // A pass that does not look at everything is nothing to go on from.
        let is_live = options.sample.is_none() && options.exports.is_empty();
        let is_whole = is_live && options.window.is_whole();
        let pass = if is_whole { lockstep_validator::begin(&stores.source).await? } else { None };
        let options = &ValidateOptions { pass, ..options.clone() };
        let lag = LagWatch::start(stores.source.clone(), tables.clone());
        let comparing =
            lockstep_validator::validate(&stores.source, &stores.target, &tables, options, &progress, cancel);
        let mut report = match options.wait_for_pending {
            true => told_beside(self, &stores.source, &tables, comparing).await,
            false => comparing.await,
        };
        board.close().await;
        lockstep_validator::record_found(&stores.source, &tables, &report).await?;
        report.latency = latency;
        report.lag = lag.seen().await;
        report.manifest.configuration_sha256 = Some(hash_of(&self.config)?);
        // One of some days or of a sample, and one that was told to stop, is no verdict of the migration, but
        // what it found is a finding.
        let differs = matches!(report.verdict, lockstep_validator::Verdict::Inconsistent { .. });
        let counts = report.is_found() || (report.is_whole() && (differs || !cancel.is_cancelled()));
        if let (Some(epoch), true) = (report.epoch, counts) {
            // A reader of the journal may have no right to see the rows.
            let json = serde_json::to_value(report.clone().without_values())?;
            stores
                .source
                .record_verdict(lockstep_core::Epoch(epoch), report.verdict.is_consistent(), &json)
                .await?;
        }
        let Stores { source, target, .. } = stores;
        if let Err(error) = lockstep_validator::record_base(source, target, &tables, &report).await {
            tracing::warn!("no later validation can go on from this one: {error}");
        }
        Ok(report)
    }
}

/// Returns the canary reads of every table: through store handles, or of declared tables, which have none,
/// through the table itself.
async fn canary_reads(
    config: &Config,
    bindings: &[TableBinding],
    source: &Source,
    target: &Target,
    writer: &Writer,
) -> lockstep_core::Result<Vec<CanaryRead>> {
    let mut reads = Vec::new();
    for binding in bindings {
        let store = config.tables.canary_store(writer, binding).filter(|_| !config.is_replaced());
        reads.extend(match store {
            Some(store) => canary_reads_with_indexes(&*store, source, target, binding).await?,
            None => canary_reads_of_binding(binding, source, target).await?,
        });
    }
    Ok(reads)
}

/// Words of an interrupted command.
pub(super) const RESUME: &str = "interrupted; run the same command again to resume where it stopped";

/// Shows the progress of a backfill or a relay.
pub(super) fn board(ui: &Ui, title: &str, progress: Arc<Progress>, relay_only: bool) -> Board {
    ui.board(title, move || progress.tables.iter().map(|table| sample(table, relay_only)).collect())
}

fn sample(table: &lockstep_coordinator::TableProgress, relay_only: bool) -> Sample {
    let mut notes = Vec::new();
    let mut note = |number: u64, what: &str| {
        if number > 0 {
            notes.push(format!("{number} {what}"));
        }
    };
    note(table.dead_letters(), "dead letters");
    note(table.throttles(), "throttled");
    note(table.lost_replies(), "replies lost");
    if !relay_only {
        note(table.relayed(), "relayed");
    }
    notes.extend(table.pause_reason().map(|reason| format!("paused: {reason}")));
    notes.extend(table.slowed_by().map(|reason| format!("slowed by {reason}")));
    let resumed = table.rows_resumed();
    let finished = table.rows_written() + table.rows_present() + table.dead_letters();
    let done = if relay_only {
        Counter { now: table.relayed(), ..Counter::default() }
    } else {
        Counter { now: resumed + finished, end: table.rows_expected(), before: resumed }
    };
    Sample {
        name: table.name.to_owned(),
        done,
        bytes: (!relay_only).then(|| table.bytes_read()),
        capacity_units: Some(table.capacity_units()),
        lag: Some((table.pending(), table.oldest_ms())),
        ceiling: table.write_units_ceiling(),
        items: None,
        notes,
    }
}

pub(super) fn validation_sample(table: &lockstep_validator::ProgressSnapshot) -> Sample {
    let mut notes = Vec::new();
    for (number, what) in [(table.suspects, "looked at again"), (table.findings, "FINDINGS")] {
        if number > 0 {
            notes.push(format!("{number} {what}"));
        }
    }
    let done = Counter { now: table.source_rows, end: table.rows_expected, before: table.rows_resumed };
    Sample { name: table.name.to_owned(), done, items: Some(table.target_items), notes, ..Sample::default() }
}
