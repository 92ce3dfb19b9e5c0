//! Acts of the daemon: the same calls that the commands make, with the result as JSON without values of rows.

use async_trait::async_trait;
use lockstep_coordinator::{Coordinator, MigrationContext, find_repairs, repair, repairs_of};
use lockstep_core::Phase;
use lockstep_daemon::{Act, Compare, Operator, Unsuccessful, Walk, summary};
use lockstep_validator::{Report, Sample, ValidateOptions};
use serde_json::{Value, json};

use crate::Context;
use crate::commands::direction::Direction;
use crate::commands::shared::RESUME;
use crate::commands::step::{self, Walked};
use crate::commands::validate::{is_same, one_key};
use crate::exit::{Exit, Failure, exit_of};
use crate::report::sentence;
use crate::stores::Stores;

/// The commands, on the stores of the daemon.
pub(super) struct Commands {
    context: Context,
    stores: Stores,
}

impl Commands {
    pub(super) fn new(context: Context, stores: Stores) -> Self {
        Self { context, stores }
    }

    /// Returns the context of one act: told to stop by its token.
    fn context_of(&self, act: &Act) -> Context {
        Context { cancel: act.cancel.clone(), ..self.context.clone() }
    }

    fn migration_of(&self, act: &Act) -> anyhow::Result<MigrationContext> {
        Ok(MigrationContext { actor: act.actor.clone(), ..self.context.migration(&self.stores)? })
    }

    async fn try_walk(&self, ask: &Walk, act: &Act) -> anyhow::Result<Value> {
        let context = self.context_of(act);
        let opened = context.unless_cancelled(Coordinator::open(self.migration_of(act)?)).await??;
        for settled in opened.recovered() {
            act.observer.note(&format!("an earlier step was left open, and it is settled now: {settled}"));
        }
        // No other step is taken from here on.
        if let Some((phase, epoch)) = ask.decided_in {
            let now = self.stores.source.control().await?;
            if (now.phase, now.epoch) != (phase, epoch) {
                opened.close().await;
                anyhow::bail!(
                    "nothing was done: it was decided in {phase}, and the phase is {} since",
                    now.phase
                );
            }
        }
        let coordinator = context.rehearsing(opened, &self.stores);
        let way = if ask.forward { Direction::Forward } else { Direction::Back };
        let walked =
            step::walk(&context, &coordinator, way, ask.to, ask.force.as_deref(), &*act.observer).await;
        coordinator.close().await;
        let Walked { steps, phase, epoch, errand, .. } = walked?;
        // Relay, reverse feed and comparison are the daemon's own: nothing is left of it.
        errand.end(&self.stores.source).await?;
        if steps.is_empty() && errand.goes_on() {
            act.observer.note(&errand.is_done());
        }
        for step in &steps {
            act.observer.note(&step::describe(step));
        }
        let check = match steps.is_empty() || phase == Phase::PostgresOnly {
            true => None,
            false => step::post_check(&context, &self.stores, phase).await?,
        };
        let check = check.map(reported).transpose()?;
        Ok(json!({ "phase": phase, "epoch": epoch, "steps": steps, "post_check": check }))
    }

    async fn try_validate(&self, what: &Compare, act: &Act) -> anyhow::Result<Value> {
        let context = self.context_of(act);
        let spending = Some(context.config.spending());
        let options = ValidateOptions { spending, ..context.config.validate_options() };
        let options = match what {
            Compare::Key { table, key } => {
                let report = one_key(&context, &self.stores, &format!("{table}/{key}"), &options).await?;
                let verdict = if is_same(&report) { "consistent" } else { "inconsistent" };
                return Ok(json!({
                    "verdict": verdict, "table": table, "complete": report.complete, "findings": report.findings_total(),
                    "failure": report.failure,
                }));
            }
            Compare::Full => options,
            Compare::Days(window) => ValidateOptions { window: window.clone(), ..options },
            Compare::Incremental => {
                let refusals = context.refusals_of_incremental(&self.stores, false).await?;
                if !refusals.is_empty() {
                    return Err(Failure { exit: Exit::Refused, message: refusals.join("; ") }.into());
                }
                ValidateOptions { incremental: true, ..options }
            }
            // Another choice each time: that is what a rolling sample is for.
            Compare::Sample(rows) => {
                let seed = chrono::Utc::now().timestamp_millis();
                ValidateOptions { sample: Some(Sample { rows: *rows, seed }), ..options }
            }
        };
        let options = ValidateOptions { wait_for_pending: true, ..options };
        let report = context.validate(&self.stores, &options, &act.cancel).await?;
        context.check_cancelled()?;
        reported(report)
    }

    async fn try_repair(&self, max: usize, last: bool, act: &Act) -> anyhow::Result<Value> {
        let (context, migration) = (self.context_of(act), self.migration_of(act)?);
        if self.stores.source.is_loss_undecided().await? {
            return Err(Failure::usage(
                "history was lost, or PostgreSQL refused what was accepted to stay behind, and no comparison \
                 of everything has agreed since: what differs may be the only copy of what PostgreSQL forgot \
                 or refused. Decide about each finding by the command `repair`",
            ));
        }
        let options =
            ValidateOptions { wait_for_pending: false, quality: false, ..context.config.validate_options() };
        let found = match last {
            true => match self.stores.source.latest_verdict().await? {
                Some(verdict) => {
                    repairs_of(&migration, &serde_json::from_value::<Report>(verdict.report)?).await?
                }
                None => {
                    return Err(Failure::usage(
                        "no verdict was recorded yet; validate first, or repair without `last`",
                    ));
                }
            },
            false => find_repairs(&migration, &options, &act.cancel).await?,
        };
        context.check_cancelled()?;
        // Rows that DynamoDB says were deleted are a person's to decide, by the command.
        let within: Vec<_> =
            found.repairable.iter().filter(|key| key.deletion.is_none()).take(max).cloned().collect();
        let deleted = found.repairable.iter().filter(|key| key.deletion.is_some()).count();
        let repaired = repair(&migration, &within, &options, &act.cancel).await?;
        context.check_cancelled()?;
        Ok(json!({
            "repairable": found.repairable.len(), "deleted": deleted,
            "unrepairable": found.unrepairable.len(), "unlisted": found.unlisted,
            "not_compared": found.failures, "marked": repaired.marked, "verified": repaired.verified,
            "unverified": repaired.unverified.len(),
        }))
    }

    async fn try_test_operation(&self, act: &Act) -> anyhow::Result<Value> {
        if !self.stores.source.has_schema().await? {
            return Err(Failure::usage(
                "Lockstep was never installed in this source, so there is nothing to test",
            ));
        }
        Ok(serde_json::to_value(lockstep_coordinator::test_operation(&self.migration_of(act)?).await?)?)
    }
}

fn reported(report: Report) -> anyhow::Result<Value> {
    Ok(summary(&serde_json::to_value(report.without_values())?))
}

fn unsuccessful(error: anyhow::Error) -> Unsuccessful {
    let gates = error.chain().find_map(|cause| {
        match cause.downcast_ref::<lockstep_coordinator::CoordinatorError>() {
            Some(lockstep_coordinator::CoordinatorError::Refused(report)) => Some(report.clone()),
            _ => None,
        }
    });
    let exit = exit_of(&error);
    let cancelled = exit == Exit::Interrupted;
    let message = sentence(&error);
    let message = if message == RESUME {
        "the daemon is ending; ask again, and it goes on where it stopped".to_owned()
    } else {
        message
    };
    let refused = exit == Exit::Refused && error.downcast_ref::<step::Reached>().is_none();
    Unsuccessful { refused, cancelled, message, gates }
}

#[async_trait]
impl Operator for Commands {
    async fn walk(&self, ask: &Walk, act: &Act) -> Result<Value, Unsuccessful> {
        self.try_walk(ask, act).await.map_err(unsuccessful)
    }

    async fn validate(&self, what: &Compare, act: &Act) -> Result<Value, Unsuccessful> {
        self.try_validate(what, act).await.map_err(unsuccessful)
    }

    async fn repair(&self, max: usize, last: bool, act: &Act) -> Result<Value, Unsuccessful> {
        self.try_repair(max, last, act).await.map_err(unsuccessful)
    }

    async fn test_operation(&self, act: &Act) -> Result<Value, Unsuccessful> {
        self.try_test_operation(act).await.map_err(unsuccessful)
    }
}
