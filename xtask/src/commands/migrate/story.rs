//! What happens in a whole run, in order.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lockstep_coordinator::{BackfillSummary, Coordinator, StepOutcome};
use lockstep_core::Phase;
use lockstep_validator::{Report, ValidateOptions};
use tokio_util::sync::CancellationToken;

use super::live::Live;
use super::relay::{BackgroundRelay, drain};
use super::{Args, FinalValidation, interrupted};
use crate::Context;
use crate::commands::seed;
use crate::commands::shared::board;
use crate::commands::step::describe;
use crate::report::{LiveWrites, MigrateReport, MigrateTable, Stage, verdict_line};
use crate::stores::Stores;
use crate::ui::seconds;

/// Writes a second on the embedded stores, unless set otherwise.
const LIVE_WRITES_PER_S: u32 = 100;
/// Longest wait for the pending set to empty. On stores that others write it may never be quite empty, and need not be.
const DRAIN_WITHIN: Duration = Duration::from_secs(30);

/// Runs everything on `stores`, and reports.
pub(super) async fn tell(context: &Context, stores: &Stores, args: &Args, begun: Instant) -> anyhow::Result<MigrateReport> {
    let rows = args.rows;
    let mut stages = Stages::since(begun);
    if stores.are_embedded() {
        stages.end("start");
        seed::fill(context, &stores.source, rows).await?;
        stages.end("seed");
    }
    let default_rate = if stores.are_embedded() { LIVE_WRITES_PER_S } else { 0 };
    let rate = context.config.migrate.live_writes_per_s.unwrap_or(default_rate);
    let coordinator = Arc::new(context.stepping_coordinator(stores).await?);
    let live = Live::start(context, stores, rate, rows.seed)?;
    if live.is_some() {
        context.ui.say(&format!("Writers make {rate} changes a second from here on: inserts, updates, deletes, moved keys"));
    }
    // Whoever is told to stop, or fails, stops the others through this.
    let cancel = context.cancel.child_token();
    let relay = BackgroundRelay::start(coordinator.clone(), cancel.clone());
    let story = Story { context, stores, coordinator: &coordinator, cancel: &cancel, last: args.validate };
    let result = story.run(&relay, live, &mut stages).await;
    let relayed = relay.stop().await;
    let recovered = coordinator.recovered().to_vec();
    if let Some(coordinator) = Arc::into_inner(coordinator) {
        coordinator.close().await;
    }
    // Where the relay failed, the rest was merely cancelled.
    relayed?;
    let Ended { history, steps, live_writes, validation } = result?;

    let tables = context.tables()?;
    let status = lockstep_coordinator::status(&stores.source, &stores.target, &tables).await?;
    let mut of_tables = Vec::new();
    for (table, of_table) in status.tables.iter().zip(&validation.tables) {
        if let Some(backfill) = history.iter().find(|summary| summary.table == table.name) {
            of_tables.push(MigrateTable::of(backfill, &stores.source.ranges(&table.name).await?, table, &validation, of_table));
        }
    }
    let control = stores.source.control().await?;
    Ok(MigrateReport {
        incremental: validation.incremental,
        verdict: validation.verdict,
        phase: control.phase,
        epoch: control.epoch,
        duration_s: begun.elapsed().as_secs_f64(),
        stages: stages.ended,
        tables: of_tables,
        steps,
        recovered,
        live_writes,
        kept: None,
    })
}

struct Story<'a> {
    context: &'a Context,
    stores: &'a Stores,
    coordinator: &'a Coordinator,
    cancel: &'a CancellationToken,
    last: FinalValidation,
}

struct Ended {
    history: Vec<BackfillSummary>,
    steps: Vec<StepOutcome>,
    live_writes: Option<LiveWrites>,
    validation: Report,
}

impl Story<'_> {
    async fn run(&self, relay: &BackgroundRelay, live: Option<Live>, stages: &mut Stages) -> anyhow::Result<Ended> {
        let ui = &self.context.ui;
        ui.say("Preflight:");
        self.unless_cancelled(self.coordinator.prepare(ui)).await??;
        stages.end("prepare");

        ui.say("Backfill of all tables, changes delivered beside it:");
        let shown = board(ui, "backfill", self.coordinator.progress(), false);
        let history = self.coordinator.backfill(self.cancel).await;
        shown.close().await;
        let history = history?;
        relay.history_is_moved();
        stages.end("backfill");
        self.catch_up().await?;
        stages.end("catch-up");

        let steps = self.walk(stages).await?;

        let live_writes = match live {
            Some(live) => {
                let writes = live.stop().await?;
                ui.say("Writers have stopped");
                Some(writes)
            }
            None => None,
        };
        self.catch_up().await?;
        stages.end("drain");
        let incremental =
            self.last == FinalValidation::Incremental && self.context.refusals_of_incremental(self.stores).await?.is_empty();
        ui.say(if incremental {
            "Comparing every key that changed since everything was compared:"
        } else {
            "Comparing every row of both sides once more:"
        });
        // On stores that are not ours, others may be writing, whatever we have stopped.
        let validation = self.validate(self.stores.are_embedded(), incremental).await?;
        stages.end("final validation");
        Ok(Ended { history, steps, live_writes, validation })
    }

    /// From the phase it is in to the one that is wanted; nowhere if it is there or further.
    async fn walk(&self, stages: &mut Stages) -> anyhow::Result<Vec<StepOutcome>> {
        let (ui, through) = (&self.context.ui, self.context.config.migrate.through);
        let mut phase = self.stores.source.control().await?.phase;
        if phase > through {
            ui.say(&format!("The phase is {phase} already; `rollback --to {through}` goes back"));
        }
        let mut steps = Vec::new();
        while let Some(next) = phase.next().filter(|next| *next <= through) {
            if next == Phase::HybridRead {
                ui.say("Comparing every row of both sides while writers go on:");
                let report = self.validate(false, false).await?;
                ui.say(&format!("  {}", verdict_line(&report.verdict, false).replace('\n', "\n  ")));
                stages.end("validation");
            }
            ui.say(&format!("Step to {next}:"));
            let step = self.unless_cancelled(self.coordinator.step(next, None, ui)).await??;
            ui.say(&format!("  {}", describe(&step)));
            phase = step.phase;
            steps.push(step);
            stages.end(if phase == Phase::DualWrite { "step to DualWrite" } else { "step to HybridRead" });
        }
        Ok(steps)
    }

    async fn validate(&self, quiescent: bool, incremental: bool) -> anyhow::Result<Report> {
        let options =
            ValidateOptions { quiescent, incremental, wait_for_pending: true, ..self.context.config.validate_options() };
        let report = self.context.validate(self.stores, &options, self.cancel).await?;
        if self.cancel.is_cancelled() { Err(interrupted()) } else { Ok(report) }
    }

    async fn catch_up(&self) -> anyhow::Result<()> {
        let begun = Instant::now();
        let shown = board(&self.context.ui, "catch up", self.coordinator.progress(), true);
        let drained = drain(self.coordinator, DRAIN_WITHIN, self.cancel).await;
        shown.close().await;
        let drained = drained?;
        if self.cancel.is_cancelled() {
            return Err(interrupted());
        }
        let took = seconds(begun.elapsed().as_secs_f64());
        self.context.ui.say(&if drained {
            format!("  Caught up in {took}: nothing was pending")
        } else {
            format!("  After {took} changes are still pending; they are delivered as they come")
        });
        Ok(())
    }

    /// Like the context's, but also when the relay has failed.
    async fn unless_cancelled<T>(&self, work: impl Future<Output = T>) -> anyhow::Result<T> {
        self.cancel.run_until_cancelled(work).await.ok_or_else(interrupted)
    }
}

/// Measures the parts of a run.
struct Stages {
    last: Instant,
    ended: Vec<Stage>,
}

impl Stages {
    fn since(begun: Instant) -> Self {
        Self { last: begun, ended: Vec::new() }
    }

    fn end(&mut self, name: &'static str) {
        let now = Instant::now();
        self.ended.push(Stage { name, duration_s: (now - self.last).as_secs_f64() });
        self.last = now;
    }
}
