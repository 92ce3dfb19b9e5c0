//! Events of a whole run, in order.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lockstep_coordinator::{BackfillSummary, Coordinator, StepOutcome};
use lockstep_core::Phase;
use lockstep_validator::{Report, ValidateOptions};
use tokio_util::sync::CancellationToken;

use super::feed::{BackgroundFeed, see_through};
use super::live;
use super::relay::{BackgroundRelay, drain};
use super::{Args, FinalValidation, LIVE_WRITES_PER_S, interrupted};
use crate::Context;
use crate::commands::seed;
use crate::commands::shared::board;
use crate::commands::step::describe;
use crate::report::{Leg, LiveWrites, MigrateReport, MigrateTable, Stage, verdict_line};
use crate::stores::Stores;
use crate::ui::seconds;

/// For how long a change may have waited where writers go on.
const LAG: Duration = Duration::from_secs(1);
/// Longest wait for the pending set to empty. On stores that others write it may never be quite empty, and
/// need not be.
const DRAIN_WITHIN: Duration = Duration::from_secs(30);

/// The legs of a round trip.
const ROUND_TRIP: [Phase; 3] = [Phase::DynamoOnly, Phase::PostgresOnly, Phase::DynamoOnly];

/// Runs everything on `stores`, and reports.
pub(super) async fn tell(
    context: &Context,
    stores: &Stores,
    args: &Args,
    begun: Instant,
) -> anyhow::Result<MigrateReport> {
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
    if rate > 0 {
        context.ui.say(&format!(
            "Writers make {rate} changes a second from here on: inserts, updates, deletes, moved keys"
        ));
    }
    // A task that is told to stop, or fails, stops the others through this.
    let cancel = context.cancel.child_token();
    let relay = BackgroundRelay::start(coordinator.clone(), cancel.clone());
    let mut story = Story {
        context,
        stores,
        coordinator: &coordinator,
        cancel: &cancel,
        last: args.validate,
        legs: if args.round_trip { ROUND_TRIP.to_vec() } else { vec![goes_to(context, stores)] },
        writers: (rate, rows.seed),
        feed: None,
    };
    let result = story.run(&relay, &mut stages).await;
    let feed = story.feed.take();
    let relayed = relay.stop().await;
    let fed = match feed {
        Some(feed) => feed.stop().await,
        None => Ok(()),
    };
    let recovered = coordinator.recovered().to_vec();
    if let Some(coordinator) = Arc::into_inner(coordinator) {
        coordinator.close().await;
    }
    // Where the relay or the feed failed, the rest was merely cancelled.
    relayed?;
    fed?;
    let Ended { backfills, steps, live_writes, validation, legs } = result?;

    let tables = context.tables()?;
    let status = lockstep_coordinator::status(&stores.source, &stores.target, &tables).await?;
    let mut of_tables = Vec::new();
    for (table, of_table) in status.tables.iter().zip(&validation.tables) {
        if let Some(backfill) = backfills.iter().find(|summary| summary.table == table.name) {
            of_tables.push(MigrateTable::of(
                backfill,
                &stores.source.ranges(&table.name).await?,
                table,
                &validation,
                of_table,
            ));
        }
    }
    let control = stores.source.control().await?;
    Ok(MigrateReport {
        incremental: validation.incremental,
        legs,
        cut_short: validation.is_cut_short(),
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

/// Returns the phase to stop in. Where the stores are an operator's, nothing goes further than what leaves
/// reads and truth where they are, unless it was asked for by name.
fn goes_to(context: &Context, stores: &Stores) -> Phase {
    let unasked = if stores.are_embedded() { Phase::DynamoOnly } else { Phase::DualWrite };
    context.config.migrate.through.unwrap_or(unasked)
}

struct Story<'a> {
    context: &'a Context,
    stores: &'a Stores,
    coordinator: &'a Coordinator,
    cancel: &'a CancellationToken,
    last: FinalValidation,
    /// Phases to go to, one after the other.
    legs: Vec<Phase>,
    /// Writes a second, and their seed.
    writers: (u32, u64),
    feed: Option<BackgroundFeed>,
}

struct Ended {
    backfills: Vec<BackfillSummary>,
    steps: Vec<StepOutcome>,
    live_writes: Option<LiveWrites>,
    validation: Report,
    legs: Vec<Leg>,
}

impl Story<'_> {
    async fn run(&mut self, relay: &BackgroundRelay, stages: &mut Stages) -> anyhow::Result<Ended> {
        let ui = &self.context.ui;
        let (rate, seed) = self.writers;
        let mut writers = live::start(self.context, self.stores, rate, seed)?;
        ui.say("Preflight:");
        self.unless_cancelled(self.coordinator.prepare(ui)).await??;
        stages.end("prepare");

        ui.say("Backfill of all tables, changes delivered beside it:");
        let shown = board(ui, "backfill", self.coordinator.progress(), false);
        let backfills = self.coordinator.backfill(self.cancel).await;
        shown.close().await;
        let backfills = backfills?;
        relay.initial_load_is_moved();
        stages.end("backfill");
        self.catch_up(LAG).await?;
        stages.end("catch-up");

        let (mut steps, mut legs, mut live_writes) = (Vec::new(), Vec::new(), None::<LiveWrites>);
        let mut remaining = self.legs.clone().into_iter().peekable();
        loop {
            let Some(to) = remaining.next() else { return Err(anyhow::anyhow!("a run goes somewhere")) };
            let taken = self.walk(to, stages).await?;
            legs.push(Leg { to, steps: taken.len(), consistent: false });
            steps.extend(taken);
            if let Some(writers) = writers.take() {
                let writes = writers.stop().await?;
                live_writes = Some(live_writes.take().map_or(writes.clone(), |before| before.plus(&writes)));
                ui.say("Writers have stopped");
            }
            let validation = self.prove(stages).await?;
            let consistent = validation.verdict.is_consistent();
            legs.last_mut().expect("it was just pushed").consistent = consistent;
            if remaining.peek().is_none() || !consistent {
                return Ok(Ended { backfills, steps, live_writes, validation, legs });
            }
            ui.say(&format!("  {}", verdict_line(&validation.verdict, false).replace('\n', "\n  ")));
            writers =
                live::start(self.context, self.stores, rate, seed.wrapping_add(1_000 * legs.len() as u64))?;
        }
    }

    /// Brings everything that is on its way to the other store, and compares.
    async fn prove(&self, stages: &mut Stages) -> anyhow::Result<Report> {
        let ui = &self.context.ui;
        let frozen = self.stores.source.control().await?.phase == Phase::DynamoOnly;
        let fed_through = if frozen {
            let through = see_through(self.coordinator.migration(), DRAIN_WITHIN).await?;
            ui.say(if through {
                "  Everything written to DynamoDB is in PostgreSQL"
            } else {
                "  The reverse feed is still behind"
            });
            through && self.stores.are_embedded()
        } else {
            self.catch_up(Duration::ZERO).await?;
            false
        };
        stages.end("drain");
        let incremental = self.legs.len() == 1
            && self.last == FinalValidation::Incremental
            && self.context.refusals_of_incremental(self.stores, fed_through).await?.is_empty();
        ui.say(if incremental {
            "Comparing every key that changed since everything was compared:"
        } else {
            "Comparing every row of both sides once more:"
        });
        // On stores that are not ours, others may be writing, whatever we have stopped.
        let validation = self.validate(self.stores.are_embedded(), incremental, fed_through).await?;
        stages.end("final validation");
        Ok(validation)
    }

    /// Goes from the phase it is in to another one, forward or back; without --round-trip never back.
    async fn walk(&mut self, to: Phase, stages: &mut Stages) -> anyhow::Result<Vec<StepOutcome>> {
        let ui = self.context.ui.clone();
        let mut phase = self.stores.source.control().await?.phase;
        if phase == Phase::DynamoOnly {
            self.feed();
        }
        if phase > to && self.legs.len() == 1 {
            ui.say(&format!("The phase is {phase} already; `rollback --to {to}` goes back"));
            return Ok(Vec::new());
        }
        let mut steps = Vec::new();
        while phase != to {
            let forward = to > phase;
            let Some(next) = (if forward { phase.next() } else { phase.previous() }) else { break };
            if forward && next >= Phase::HybridRead {
                self.verdict_for(next).await?;
                stages.end("validation");
            }
            ui.say(&format!("Step to {next}:"));
            let step = self.context.step(self.coordinator, next, None, &self.context.ui, self.cancel).await?;
            ui.say(&format!("  {}", describe(&step)));
            phase = step.phase;
            if phase == Phase::DynamoOnly {
                self.feed();
            }
            steps.push(step);
            stages.end(match phase {
                Phase::PostgresOnly => "step to PostgresOnly",
                Phase::DualWrite => "step to DualWrite",
                Phase::HybridRead => "step to HybridRead",
                Phase::DynamoOnly => "step to DynamoOnly",
            });
        }
        Ok(steps)
    }

    /// Makes the verdict that the gate of a step asks for.
    async fn verdict_for(&self, next: Phase) -> anyhow::Result<()> {
        let ui = &self.context.ui;
        let incremental = next == Phase::DynamoOnly
            && self.context.refusals_of_incremental(self.stores, false).await?.is_empty();
        ui.say(if incremental {
            "Comparing every key that changed since everything was compared, while writers go on:"
        } else {
            "Comparing every row of both sides while writers go on:"
        });
        let report = self.validate(false, incremental, false).await?;
        ui.say(&format!("  {}", verdict_line(&report.verdict, incremental).replace('\n', "\n  ")));
        Ok(())
    }

    /// Makes sure that a feed runs from here on.
    fn feed(&mut self) {
        if self.feed.is_none() {
            self.feed =
                Some(BackgroundFeed::start(self.coordinator.migration().clone(), self.cancel.clone()));
        }
    }

    async fn validate(
        &self,
        quiescent: bool,
        incremental: bool,
        fed_through: bool,
    ) -> anyhow::Result<Report> {
        let options = ValidateOptions {
            quiescent,
            incremental,
            fed_through,
            wait_for_pending: true,
            ..self.context.config.validate_options()
        };
        let report = self.context.validate(self.stores, &options, self.cancel).await?;
        if self.cancel.is_cancelled() { Err(interrupted()) } else { Ok(report) }
    }

    async fn catch_up(&self, lag: Duration) -> anyhow::Result<()> {
        let begun = Instant::now();
        let shown = board(&self.context.ui, "catch up", self.coordinator.progress(), true);
        let drained = drain(self.coordinator, lag, DRAIN_WITHIN, self.cancel).await;
        shown.close().await;
        let drained = drained?;
        if self.cancel.is_cancelled() {
            return Err(interrupted());
        }
        let took = seconds(begun.elapsed().as_secs_f64());
        self.context.ui.say(&if drained {
            format!("  Caught up in {took}")
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
