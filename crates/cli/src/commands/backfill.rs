//! `backfill`: capture on, target tables, and the initial load of every table.

use lockstep_coordinator::{BackfillSummary, Coordinator, Outage, load_took};
use serde_json::json;

use super::shared::board;
use super::took;
use crate::config::{Moment, Setting};
use crate::exit::Exit;
use crate::report::{print, print_json, table};
use crate::stores::Stores;
use crate::ui::{count, seconds};
use crate::{Context, help};

/// Copies the initial load of every table; resumes where an earlier run stopped
///
/// Checks that everything is as it must be, switches capture on so that every later change is known, creates
/// the target tables, and copies what is there: all tables in parallel, ranges of each in parallel and in
/// random order, in bounded memory. Progress is kept in the source, so a run that was killed is resumed by
/// running it again, and finished ranges are not read again. Changes made meanwhile are delivered by `relay`,
/// which may run beside this.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = help!(
    "  cargo xtask backfill\n  \
       cargo xtask backfill --write-units-per-s-max 1000     spend at most 1,000 write units a second\n  \
       cargo xtask backfill --load-path import               from S3, without write units\n  \
       cargo xtask backfill --uploaded                       go on with it: the files are in S3\n  \
       cargo xtask backfill --window-start 2026-01-01        only rows of this year\n  \
       cargo xtask backfill --restart                        make a new plan and read everything again"
))]
pub struct Args {
    /// Load path of the initial load: guarded, by writes that yield to anything newer, which auto is too;
    /// import, by files in S3 from which DynamoDB makes the table. cold, of earlier versions, is taken for
    /// guarded
    ///
    /// An import needs a table that is not there yet, `[import]` in the configuration, and no write units; it
    /// makes the indexes too. Rows are written as files; import.upload, or you, copy them; DynamoDB's job
    /// makes the table; changes made meanwhile wait, and the relay brings them. The rows that the job leaves
    /// out are found and put. One that was begun goes on at the next run, whatever PATH says then; `guarded`
    /// gives it up, if DynamoDB has not been asked yet. `plan` says what either costs.
    #[arg(long, value_name = "PATH", value_parser = ["auto", "guarded", "cold", "import"])]
    pub load_path: Option<String>,
    /// With an import: its files are in S3, where the run before said
    #[arg(long)]
    pub uploaded: bool,
    /// Most write units a second over all tables; 0 takes what the target gives
    #[arg(long, value_name = "N")]
    pub write_units_per_s_max: Option<u64>,
    /// Only rows from this day or moment on
    #[arg(long, value_name = "DAY")]
    pub window_start: Option<Moment>,
    /// Only rows before this day or moment
    #[arg(long, value_name = "DAY")]
    pub window_end: Option<Moment>,
    /// Forget the plan and the progress of earlier runs; rows that are in the target already are met as
    /// present
    #[arg(long)]
    pub restart: bool,
}

impl Args {
    /// Returns the flags that set a key.
    pub fn settings(&self) -> Vec<Setting> {
        let moment = |moment: &Option<Moment>| moment.map(|moment| moment.to_string());
        [
            Setting::of("backfill.load_path", self.load_path.clone()),
            Setting::of("import.uploaded", self.uploaded.then_some(true)),
            Setting::of("backfill.write_units_per_s_max", self.write_units_per_s_max),
            Setting::of("backfill.window_start", moment(&self.window_start)),
            Setting::of("backfill.window_end", moment(&self.window_end)),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

/// Runs it.
///
/// # Errors
/// When a gate refuses, a store fails, or it is told to stop.
pub async fn run(context: Context, args: Args) -> anyhow::Result<Exit> {
    let stores = Stores::configured(&context.config, &context.ui).await?;
    let summaries = until_moved(&context, &stores, args.restart).await?;
    let histories = load_took(&stores.source, &context.config.plan).await.unwrap_or_default();
    if context.json {
        print_json(&json!({ "tables": summaries, "history": histories }));
    } else {
        print(&(text(&summaries) + &took::text(&histories)));
    }
    stores.close(false).await?;
    Ok(Exit::Done)
}

/// Copies the initial load, however often a store goes away meanwhile: the next try goes on where this one
/// stopped. An error before the initial load is on its way ends it at once.
async fn until_moved(
    context: &Context,
    stores: &Stores,
    restart: bool,
) -> anyhow::Result<Vec<BackfillSummary>> {
    let (mut outage, mut began_well) = (Outage::new("the backfill"), false);
    loop {
        let moved = async {
            let coordinator = context.coordinator(stores).await?;
            let moved =
                move_initial_load(context, &coordinator, restart && !began_well, &mut began_well).await;
            coordinator.close().await;
            moved
        };
        let error = match moved.await {
            Ok(summaries) => return Ok(summaries),
            Err(error) if !began_well || context.cancel.is_cancelled() => return Err(error),
            Err(error) => error,
        };
        let error = match error.downcast::<lockstep_coordinator::CoordinatorError>() {
            // Its lock was lost, with the session that held it.
            Ok(lockstep_coordinator::CoordinatorError::Interrupted) => lockstep_core::Error::source(
                lockstep_core::Kind::Unavailable,
                "holding the coordinator's lock",
                "it was lost",
            ),
            Ok(error) => Outage::passing(error, began_well)?,
            Err(error) => return Err(error),
        };
        if !outage.wait(&error, &context.cancel).await {
            context.check_cancelled()?;
        }
    }
}

async fn move_initial_load(
    context: &Context,
    coordinator: &Coordinator,
    restart: bool,
    began_well: &mut bool,
) -> anyhow::Result<Vec<BackfillSummary>> {
    context.unless_cancelled(coordinator.prepare(&context.ui)).await??;
    if restart {
        coordinator.restart_backfill().await?;
    }
    *began_well = true;
    let board = board(&context.ui, "backfill", coordinator.progress(), false);
    let result = coordinator.backfill(&context.cancel).await;
    board.close().await;
    Ok(result?)
}

fn text(summaries: &[BackfillSummary]) -> String {
    let headers = ["table", "written", "present", "resumed", "dead letters", "ranges", "time", "load path"];
    table(
        &headers,
        summaries.iter().map(|s| {
            vec![
                s.table.clone(),
                count(s.rows_written),
                count(s.rows_present),
                count(s.rows_resumed),
                count(s.dead_letters),
                format!("{} ({} resumed)", s.ranges, s.ranges_resumed),
                seconds(s.duration_s),
                s.load_path.to_string(),
            ]
        }),
    )
}
