//! What `advance` and `rollback` share: one step after the other, in one direction.

use std::cmp::Ordering;

use lockstep_coordinator::{Coordinator, StepOutcome};
use lockstep_core::{Epoch, Phase};
use lockstep_validator::{Report, ValidateOptions};
use serde_json::json;

use crate::Context;
use crate::exit::{Exit, Failure};
use crate::report::{exit_of_verdict, print, print_json, validation};
use crate::stores::Stores;

/// Which way to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Forward,
    Back,
}

impl Direction {
    fn next(self, from: Phase) -> Option<Phase> {
        match self {
            Self::Forward => from.next(),
            Self::Back => from.previous(),
        }
    }

    /// Steps from one phase to another; `None` if they lie the other way.
    fn path(self, from: Phase, to: Phase) -> Option<Vec<Phase>> {
        let ahead = match self {
            Self::Forward => Ordering::Greater,
            Self::Back => Ordering::Less,
        };
        match to.cmp(&from) {
            Ordering::Equal => Some(Vec::new()),
            way if way == ahead => Some(
                std::iter::successors(self.next(from), |phase| if *phase == to { None } else { self.next(*phase) }).collect(),
            ),
            _ => None,
        }
    }
}

/// What is asked for.
pub(super) struct Asked {
    /// Where to go; the neighbour by default.
    pub(super) to: Option<Phase>,
    /// The reason for which gates are overruled.
    pub(super) force: Option<String>,
    /// Whether to look afterwards at what was written.
    pub(super) post_check: bool,
}

/// Takes the steps, looks at what was written since, and reports.
pub(super) async fn run(context: Context, way: Direction, asked: Asked) -> anyhow::Result<Exit> {
    let stores = Stores::configured(&context.config).await?;
    let coordinator = context.stepping_coordinator(&stores).await?;
    let result = walk(&context, &coordinator, way, asked.to, asked.force.as_deref()).await;
    coordinator.close().await;
    let (steps, phase, epoch) = result?;
    let check = if asked.post_check && !steps.is_empty() { post_check(&context, &stores, phase).await? } else { None };
    if context.json {
        print_json(&json!({ "phase": phase, "epoch": epoch, "steps": steps, "post_check": check }));
    } else {
        for step in &steps {
            print(&describe(step));
        }
        print(&format!("Phase: {phase} (epoch {epoch})"));
        check.iter().for_each(|check| print(&validation(check)));
    }
    stores.close(false).await?;
    Ok(check.map_or(Exit::Consistent, |check| exit_of_verdict(&check.verdict)))
}

/// Compares what was written since the newest full validation, where there is one to go on from and both stores are written
/// (R7). The steps stand, whatever it finds.
async fn post_check(context: &Context, stores: &Stores, phase: Phase) -> anyhow::Result<Option<Report>> {
    if phase == Phase::PostgresOnly {
        return Ok(None);
    }
    let refusals = context.refusals_of_incremental(stores).await?;
    if !refusals.is_empty() {
        context.ui.say(&format!("What was written since is not compared:\n  {}", refusals.join("\n  ")));
        return Ok(None);
    }
    context.ui.say("Comparing every key that changed since everything was compared:");
    let options = ValidateOptions { incremental: true, ..context.config.validate_options() };
    context.validate(stores, &options, &context.cancel).await.map(Some)
}

async fn walk(
    context: &Context,
    coordinator: &Coordinator,
    way: Direction,
    to: Option<Phase>,
    force: Option<&str>,
) -> anyhow::Result<(Vec<StepOutcome>, Phase, Epoch)> {
    let control = coordinator.migration().source.control().await?;
    let from = control.phase;
    let to = match to.or(way.next(from)) {
        Some(to) => to,
        None => return Err(Failure::usage(format!("the phase is {from}: there is no step further that way"))),
    };
    let path = way.path(from, to).ok_or_else(|| {
        let other = if way == Direction::Forward { "rollback" } else { "advance" };
        Failure::usage(format!("the phase is {from}: to get to {to}, use `{other} --to {to}`"))
    })?;
    let mut steps = Vec::new();
    for to in path {
        context.ui.say(&format!("Step to {to}:"));
        steps.push(context.unless_cancelled(coordinator.step(to, force, &context.ui)).await??);
    }
    let control = coordinator.migration().source.control().await?;
    Ok((steps, control.phase, control.epoch))
}

/// A step in one line.
pub(super) fn describe(step: &StepOutcome) -> String {
    let tries = if step.tries == 1 { "first try".to_owned() } else { format!("{} tries", step.tries) };
    format!("{} → {}: epoch {}, {tries}, writers held for {:.1} ms", step.from, step.phase, step.epoch, step.barrier_held_ms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use Phase::{DualWrite, DynamoOnly, HybridRead, PostgresOnly};

    #[track_caller]
    fn check(way: Direction, from: Phase, to: Phase, expected: Option<&[Phase]>) {
        assert_eq!(way.path(from, to).as_deref(), expected);
    }

    #[test]
    fn every_phase_between_is_visited_and_only_that_way() {
        check(Direction::Forward, PostgresOnly, HybridRead, Some(&[DualWrite, HybridRead]));
        check(Direction::Forward, PostgresOnly, DynamoOnly, Some(&[DualWrite, HybridRead, DynamoOnly]));
        check(Direction::Back, HybridRead, PostgresOnly, Some(&[DualWrite, PostgresOnly]));
        check(Direction::Back, DualWrite, DualWrite, Some(&[]));
        check(Direction::Forward, HybridRead, DualWrite, None);
        check(Direction::Back, PostgresOnly, DualWrite, None);
    }
}
