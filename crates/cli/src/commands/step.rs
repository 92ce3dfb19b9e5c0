//! Code that `advance` and `rollback` share: one step after the other, in one direction.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use lockstep_coordinator::{
    Coordinator, FeedProgress, Observer, Progress, RelayUntil, StepOutcome, keep_feeding, relay, silence,
};
use lockstep_core::{Epoch, Phase};
use lockstep_validator::{Report, ValidateOptions};
use serde_json::json;

use super::direction::{Direction, path};
use super::errand::Errand;
use crate::Context;
use crate::declared::LeftOut;
use crate::exit::{Exit, Failure, exit_of};
use crate::report::{exit_of_report, print, print_json, validation};
use crate::stores::Stores;

/// Arguments of the command.
pub(super) struct Asked {
    /// Phase to go to; the neighbour by default.
    pub(super) to: Option<Phase>,
    /// The reason for which gates are overruled.
    pub(super) force: Option<String>,
    /// Whether to look afterwards at what was written.
    pub(super) post_check: bool,
    /// Whether to feed after the way back for as long as a write of DynamoOnly could still land.
    pub(super) wait: bool,
}

/// Takes the steps, looks at what was written since, and reports.
pub(super) async fn run(context: Context, way: Direction, asked: Asked) -> anyhow::Result<Exit> {
    if way == Direction::Back {
        context.config.declared.do_without();
    }
    let stores = Stores::configured(&context.config, &context.ui).await?;
    let left_out = left_out(&context, &stores).await?;
    let coordinator = context.stepping_coordinator(&stores).await?;
    let walked = walk(&context, &coordinator, way, asked.to, asked.force.as_deref(), &context.ui).await;
    coordinator.close().await;
    let Walked { steps, phase, epoch, errand, late_until } = walked?;
    let moved = !steps.is_empty() || errand.goes_on();
    if steps.is_empty() && errand.goes_on() {
        context.ui.say(&format!("  {}", errand.is_done()));
    }
    // What is left out would be missing in it.
    let is_whole = left_out.is_empty();
    let check = if asked.post_check && moved && is_whole {
        post_check(&context, &stores, phase).await?
    } else {
        None
    };
    if context.json {
        print_json(&json!({
            "phase": phase, "epoch": epoch, "steps": steps, "finishes_earlier_run": errand.goes_on(), "post_check": check
        }));
    } else {
        for step in &steps {
            print(&describe(step));
        }
        print(&format!("Phase: {phase} (epoch {epoch})"));
        check.iter().for_each(|check| print(&validation(check)));
    }
    if phase == Phase::DynamoOnly && moved {
        context.ui.say(
            "PostgreSQL follows only while a reverse feed runs: keep `cargo xtask reverse-feed` running.",
        );
    } else if let Some(until) = late_until.filter(|_| asked.wait) {
        feed_until(&context, &stores, until).await?;
    } else if let Some(until) = late_until {
        context
            .ui
            .warn(&format!("Keep `cargo xtask reverse-feed` and `cargo xtask relay` running until {until}."));
    }
    // Only now: broken off before this, the same command goes on here.
    errand.end(&stores.source).await?;
    stores.close(false).await?;
    Ok(check.map_or(Exit::Done, |check| exit_of_report(&check)))
}

/// Returns the tables that the way back does without, each told of.
///
/// # Errors
/// In DynamoOnly, from which every table has to come back.
async fn left_out(context: &Context, stores: &Stores) -> anyhow::Result<Vec<LeftOut>> {
    let left_out = context.config.declared.left_out();
    if left_out.is_empty() {
        return Ok(left_out);
    }
    let whys: Vec<&str> = left_out.iter().map(|table| table.why.as_str()).collect();
    if stores.source.control().await?.phase == Phase::DynamoOnly {
        return Err(Failure::usage(whys.join("; ")));
    }
    for why in whys {
        context.ui.warn(&format!("note: {why}. All tables go back, this one with what DynamoDB had of it"));
    }
    Ok(left_out)
}

/// Feeds and relays until nothing of DynamoOnly can land any more: such a write was given up by its caller,
/// and its key is marked and written again.
async fn feed_until(context: &Context, stores: &Stores, until: DateTime<Utc>) -> anyhow::Result<()> {
    // By this process's own clock from here on: no clock that is set shortens it.
    let left = stores.source.late_requests().await?.map_or(Duration::ZERO, |(left, _)| left);
    context.ui.say(&format!(
        "A request of DynamoOnly whose caller has given it up could still land until {}: feeding and \
         delivering until then. Broken off, give the same command again: it takes no further step, and goes \
         on with that",
        until.format("%H:%M:%S UTC")
    ));
    let migration = context.migration(stores)?;
    let stop = context.cancel.child_token();
    let (fed, delivered) = (Arc::new(FeedProgress::new(&migration.tables)), Progress::new(&migration.tables));
    let waited = async {
        let _ = context.cancel.run_until_cancelled(tokio::time::sleep(left)).await;
        stop.cancel();
        Ok(())
    };
    let fed = keep_feeding(&migration, &migration.options.reverse_feed, &fed, &stop);
    let relayed = async { relay(&migration, RelayUntil::Cancelled, &delivered, &stop).await.map(drop) };
    tokio::try_join!(waited, fed, relayed)?;
    context.check_cancelled()
}

/// Compares what was written since the newest full validation, where there is one to go on from and both
/// stores are written (R7). The steps stand, whatever it finds.
pub(super) async fn post_check(
    context: &Context,
    stores: &Stores,
    phase: Phase,
) -> anyhow::Result<Option<Report>> {
    if phase == Phase::PostgresOnly {
        return Ok(None);
    }
    // The way back must not end in a comparison that waits for it.
    if let Some(why) = silence(&stores.target).await {
        context.ui.warn(&format!(
            "What was written since is not compared, for DynamoDB does not answer ({why}). The step stands; \
             run `cargo xtask validate` when it does"
        ));
        return Ok(None);
    }
    let refusals = context.refusals_of_incremental(stores, false).await?;
    if !refusals.is_empty() {
        context.ui.say(&format!("What was written since is not compared:\n  {}", refusals.join("\n  ")));
        return Ok(None);
    }
    context.ui.say("Comparing every key that changed since everything was compared:");
    let options = ValidateOptions { incremental: true, ..context.config.validate_options() };
    context.validate(stores, &options, &context.cancel).await.map(Some)
}

/// Outcome of a walk.
pub(super) struct Walked {
    pub(super) steps: Vec<StepOutcome>,
    pub(super) phase: Phase,
    pub(super) epoch: Epoch,
    /// Errand of the walk, to be ended when the command is.
    pub(super) errand: Errand,
    /// Until when a request of DynamoOnly may still land, where this command has gone back from there, or
    /// goes on with one that has.
    late_until: Option<DateTime<Utc>>,
}

/// The phase that a walk came to before a step of it was not taken. 1. Two steps are asked for. 2. The first
/// is taken, and the gates of the second refuse. 3. "Refused" alone says that everything is as it was.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reached(Phase);

impl std::fmt::Display for Reached {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the phase is {} by now, and the next step was not taken", self.0)
    }
}

/// Takes one step after the other, and tells the observer.
///
/// # Errors
/// The step's that was not taken; in the context of [`Reached`] where steps were taken before it.
pub(super) async fn walk(
    context: &Context,
    coordinator: &Coordinator,
    way: Direction,
    to: Option<Phase>,
    force: Option<&str>,
    observer: &dyn Observer,
) -> anyhow::Result<Walked> {
    let source = &coordinator.migration().source;
    let from = source.control().await?.phase;
    let errand = Errand::of(coordinator, way, to, from).await?;
    let to = errand.to();
    let path = path(way, from, to)?;
    let errand = errand.begun(coordinator).await?;
    let mut steps = Vec::new();
    for to in path {
        context.ui.say(&format!("Step to {to}:"));
        match context.step(coordinator, to, force, observer, &context.cancel).await {
            Ok(step) => steps.push(step),
            Err(error) => {
                // Nothing is under way any more, and a step that is asked for later is another one.
                if matches!(exit_of(&error), Exit::Refused | Exit::Usage) {
                    errand.end(source).await?;
                }
                let Some(last) = steps.last() else { return Err(error) };
                steps.iter().for_each(|step| observer.note(&describe(step)));
                return Err(error.context(Reached(last.phase)));
            }
        }
    }
    let control = source.control().await?;
    let mut late_until = steps.iter().filter_map(|step| step.late_until).max();
    if way == Direction::Back && control.phase != Phase::DynamoOnly && (errand.goes_on() || steps.is_empty())
    {
        late_until = late_until.max(coordinator.late_until().await?);
    }
    Ok(Walked { steps, phase: control.phase, epoch: control.epoch, errand, late_until })
}

/// A step in one line.
pub(super) fn describe(step: &StepOutcome) -> String {
    let tries = if step.tries == 1 { "first try".to_owned() } else { format!("{} tries", step.tries) };
    let Some(pause) = &step.pause else {
        return format!(
            "{} → {}: epoch {}, {tries}, writers held for {:.1} ms",
            step.from, step.phase, step.epoch, step.barrier_held_ms
        );
    };
    let parts: Vec<String> =
        pause.parts.iter().map(|part| format!("{} {:.0} ms", part.what, part.took_ms)).collect();
    format!(
        "{} → {}: epoch {}, {tries}, writes were paused for {:.0} ms of {} ms allowed ({})",
        step.from,
        step.phase,
        step.epoch,
        pause.took_ms,
        pause.allowed_ms,
        parts.join(", ")
    )
}
