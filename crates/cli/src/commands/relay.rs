//! `relay`: deliver pending changes until told to stop.

use std::sync::Arc;
use std::time::Duration;

use lockstep_coordinator::{MigrationContext, Progress, RelaySummary, RelayUntil, Spent};
use lockstep_core::Error as StoreError;
use lockstep_postgres::CaptureState;
use tokio_util::sync::CancellationToken;

use super::shared::board;
use crate::exit::{Exit, Failure};
use crate::report::{print, print_json};
use crate::stores::Stores;
use crate::ui::count;
use crate::{Context, help};

/// Interval at which what cannot deliver yet looks again.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Delivers captured changes to DynamoDB, until interrupted or until none are left
///
/// Keep one running from the moment capture is on until the migration has ended: it is what brings the writes
/// of others (scripts, other services, psql) and deferred writes of applications to the target. Several may
/// run beside each other and beside everything else. It may be killed at any time: what was not delivered
/// stays pending.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = help!(
    "  cargo xtask relay                 until Ctrl-C, which ends it with code 0\n  \
       cargo xtask relay --until-empty   until nothing is pending, for scripts"
))]
pub struct Args {
    /// End as soon as nothing is pending
    #[arg(long)]
    pub until_empty: bool,
}

/// Interval at which it is noted what delivering costs, for the bill and the cap.
const NOTED_EVERY: Duration = Duration::from_secs(10);

/// Runs it.
///
/// # Errors
/// When capture was never installed, a store fails for good, or it is stopped before the set was empty.
pub async fn run(context: Context, args: Args) -> anyhow::Result<Exit> {
    let stores = Stores::configured(&context.config, &context.ui).await?;
    let migration = context.migration(&stores)?;
    if !stores.source.has_schema().await? {
        return Err(Failure::usage(
            "Lockstep was never installed in this source, so nothing is captured; run `backfill` first",
        ));
    }
    // An older version of Lockstep may have made it.
    stores.source.migrate_schema().await?;
    for binding in &migration.tables {
        stores.source.capture_state(binding).await?.require_on(binding.name())?;
    }
    // In a calm its lines say 0, which a reader takes for a command that does nothing.
    let until = if args.until_empty { "until none are left" } else { "as they come, until it is stopped" };
    context.ui.say(&format!("Delivering changes to DynamoDB, {until}"));
    let progress = Arc::new(Progress::new(&migration.tables));
    let board = board(&context.ui, "relay", progress.clone(), true);
    let until = if args.until_empty { RelayUntil::Empty } else { RelayUntil::Cancelled };
    let result = deliver(&migration, until, &progress, &context.cancel).await;
    board.close().await;
    let summary = result?;
    if context.json {
        print_json(&summary);
    } else {
        print(&format!(
            "{} changes delivered, {} rows set aside",
            count(summary.delivered),
            count(summary.dead_letters)
        ));
    }
    stores.close(false).await?;
    // To be stopped is how a relay without an end ends.
    if args.until_empty {
        context.check_cancelled()?;
    }
    Ok(Exit::Done)
}

/// The same beside other work, from when every table is captured, for as long as that work lasts. A reason
/// that keeps this process from delivering is said, and does not end the other work.
pub(super) async fn relay_beside(
    context: &Context,
    migration: &MigrationContext,
    stop: &CancellationToken,
) -> RelaySummary {
    let progress = Progress::new(&migration.tables);
    let (mut all, mut said) = (RelaySummary::default(), String::new());
    loop {
        match relay_once_captured(migration, &progress, stop).await {
            Ok(did) => {
                all.delivered += did.delivered;
                all.dead_letters += did.dead_letters;
                all.passes += did.passes;
            }
            Err(error) => {
                let why = error.to_string();
                if why != said {
                    context.ui.say(&format!("  this process delivers no changes: {why}"));
                    said = why;
                }
            }
        }
        if stop.run_until_cancelled(tokio::time::sleep(LOOK_AGAIN)).await.is_none() {
            return all;
        }
    }
}

async fn relay_once_captured(
    migration: &MigrationContext,
    progress: &Progress,
    stop: &CancellationToken,
) -> anyhow::Result<RelaySummary> {
    if !is_captured(migration).await? {
        return Ok(RelaySummary::default());
    }
    deliver(migration, RelayUntil::Cancelled, progress, stop).await
}

/// Relays, and notes meanwhile what that spends.
async fn deliver(
    migration: &MigrationContext,
    until: RelayUntil,
    progress: &Progress,
    stop: &CancellationToken,
) -> anyhow::Result<RelaySummary> {
    let mut spent = Spent::default();
    let relaying = lockstep_coordinator::relay(migration, until, progress, stop);
    Ok(noted(relaying, async || spent.note(&migration.source, progress).await).await?)
}

/// Works, and notes what that spends: now and then, and at its end.
pub(super) async fn noted<T>(work: impl Future<Output = T>, mut note: impl AsyncFnMut()) -> T {
    let noting = async {
        loop {
            tokio::time::sleep(NOTED_EVERY).await;
            note().await;
        }
    };
    let done = tokio::select! {
        done = work => done,
        () = noting => unreachable!("it is noted for ever"),
    };
    note().await;
    done
}

/// Tells whether the backfill has put capture on every table.
async fn is_captured(migration: &MigrationContext) -> Result<bool, StoreError> {
    let source = &migration.source;
    if !source.has_schema().await? {
        return Ok(false);
    }
    for binding in &migration.tables {
        match source.capture_state(binding).await? {
            CaptureState::Absent => return Ok(false),
            state => state.require_on(binding.name())?,
        }
    }
    Ok(true)
}
