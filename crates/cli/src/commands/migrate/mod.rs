//! `migrate`: the whole run.
//!
//! In reading order: this file (flags, stores, report), `story` (what happens, in order), `relay` (what runs
//! beside it), `feed` (the same for the way back), `live` (who writes meanwhile).

mod feed;
pub(super) mod live;
mod relay;
mod story;

use std::time::Instant;

use lockstep_core::Phase;

use super::shared::RESUME;
use crate::config::Setting;
use crate::demo::Rows;
use crate::exit::{Exit, Failure, exit_of};
use crate::report::{exit_of_verdict, print, print_json};
use crate::stores::Stores;
use crate::{Context, help};

/// Writes a second on the embedded stores, unless set otherwise.
pub(crate) const LIVE_WRITES_PER_S: u32 = 100;

/// Moves all tables, live, as far as you say, and proves it
///
/// Without configured stores it starts a throw-away PostgreSQL and an embedded DynamoDB, seeds the sample,
/// and lets writers go on writing throughout. Then, on those or on configured stores: checks everything
/// (gates); switches capture on; creates the target tables; copies the initial load while changes made
/// meanwhile are delivered beside it; catches up; steps to DualWrite; compares every row; steps to
/// HybridRead; compares again; steps to DynamoOnly, where PostgreSQL follows through the reverse feed;
/// compares what changed since, or every row once more (on configured stores, with --round-trip); and ends
/// with one verdict, and with how to go back and how to complete. On configured stores it stops in DualWrite,
/// unless --to names another phase.
///
/// With --round-trip it goes there, back to PostgresOnly, and there again, under live writes, and compares
/// every row of both stores after each leg. It ends at the first leg that does not agree.
///
/// Everything is recorded in the source, so a run that is interrupted or killed is resumed by running the
/// same command again: what was finished is not done again. On stores that are further along it goes on from
/// where they are, and never back.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = help!(
    "  cargo xtask migrate                                   on stores of its own, through to DynamoOnly\n  \
       cargo xtask migrate --logs 1000000 --live-writes 500  more of everything\n  \
       cargo xtask migrate --keep                            and leave the stores running to look into\n  \
       cargo xtask migrate --config prod.toml --through PostgresOnly\n                                                        \
       copy and catch up, change no phase\n  \
       cargo xtask migrate --config prod.toml --to DynamoOnly    all the way\n  \
       cargo xtask migrate --round-trip                      there, back, and there again\n  \
       cargo xtask migrate --json | jq .verdict"
))]
pub struct Args {
    /// Rows to seed, on the embedded stores.
    #[command(flatten)]
    pub rows: Rows,
    /// Writes a second that are made meanwhile [default: 100 on the embedded stores, 0 on configured ones]
    #[arg(long, value_name = "N")]
    pub live_writes: Option<u32>,
    /// Load path of the initial load: auto, guarded or import; `backfill --help` says what each is
    #[arg(long, value_name = "PATH", value_parser = ["auto", "guarded", "cold", "import"])]
    pub load_path: Option<String>,
    /// Phase to stop in: PostgresOnly (copy and catch up only), DualWrite, HybridRead or DynamoOnly
    ///
    /// By default DynamoOnly on the embedded stores, and DualWrite on configured ones.
    #[arg(long, visible_alias = "to", value_name = "PHASE")]
    pub through: Option<Phase>,
    /// Go to DynamoOnly, back to PostgresOnly, and there again, and compare everything after each leg
    #[arg(long, conflicts_with = "through")]
    pub round_trip: bool,
    /// Reading of the last validation, after a step to HybridRead
    ///
    /// `incremental` looks at the keys that changed since the validation in DualWrite found nothing a moment
    /// ago, and reads everything where there is no such validation. A step changes no row and no item, so
    /// nothing else can have changed, except through a program that writes to DynamoDB directly. In
    /// DynamoOnly everything is read.
    #[arg(long, value_name = "WHAT", default_value = "incremental")]
    pub validate: FinalValidation,
    /// Leave the embedded stores running, and print how to reach and how to remove them
    #[arg(long)]
    pub keep: bool,
}

/// Reading of the last validation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum FinalValidation {
    /// Every row and every item.
    Full,
    /// Changes since the full one.
    Incremental,
}

impl Args {
    /// Returns the flags that set a key.
    pub fn settings(&self) -> Vec<Setting> {
        let through = self.through.map(|phase| phase.name().to_owned());
        let settings = [
            Setting::of("migrate.through", through),
            Setting::of("backfill.load_path", self.load_path.clone()),
            Setting::of("migrate.live_writes_per_s", self.live_writes),
        ];
        settings.into_iter().flatten().collect()
    }
}

/// Runs it.
///
/// # Errors
/// When a gate refuses, a store fails, or it is told to stop.
pub async fn run(context: Context, args: Args) -> anyhow::Result<Exit> {
    let begun = Instant::now();
    let stores = context.unless_cancelled(Stores::open(&context, args.keep, &context.ui)).await??;
    let embedded = stores.are_embedded();
    let result = story::tell(&context, &stores, &args, begun).await;
    // Kept also after a failure: that is when one wants to look.
    let kept = stores.close(args.keep).await;
    let mut report = match result {
        Ok(report) => report,
        Err(error) => {
            if let Ok(Some(kept)) = &kept {
                context.ui.warn(&kept.instructions());
            }
            return Err(match embedded && !args.keep {
                true if context.cancel.is_cancelled() => {
                    Failure::interrupted("interrupted; the throw-away stores are gone (--keep keeps them)")
                }
                true => of_stores_that_are_gone(error),
                false => error,
            });
        }
    };
    report.kept = kept?;
    report.duration_s = begun.elapsed().as_secs_f64();
    if context.json {
        print_json(&report);
    } else {
        print(&report.text());
    }
    if let Some(kept) = &report.kept {
        context.ui.warn(&format!("\n{}", kept.instructions()));
    } else if !embedded && report.phase == Phase::DynamoOnly {
        context.ui.say(
            "PostgreSQL follows only while a reverse feed runs: keep `cargo xtask reverse-feed` running.",
        );
    } else if !embedded {
        context.ui.say(
            "Changes made from now on wait until a relay delivers them: keep `cargo xtask relay` running.",
        );
    }
    Ok(exit_of_verdict(&report.verdict, report.cut_short))
}

/// Makes the error of a run that was told to stop.
fn interrupted() -> anyhow::Error {
    Failure::interrupted(RESUME)
}

/// Returns an error of a run whose stores went with it. 1. On a machine that other work takes, a gate refuses
/// for the lag. 2. It says to run `relay` beside the application. 3. There are no stores to run it on.
fn of_stores_that_are_gone(error: anyhow::Error) -> anyhow::Error {
    let is_refused = exit_of(&error) == Exit::Refused;
    let fewer = "; `--live-writes 10` makes fewer writes meanwhile, for a machine that other work takes";
    error.context(format!(
        "the throw-away stores of this run are gone, so that what is advised here cannot be run on them: \
         `cargo xtask migrate --keep` leaves them running{}",
        if is_refused { fewer } else { "" }
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_of_a_throw_away_run_says_that_its_stores_are_gone_and_keeps_its_code() {
        use lockstep_coordinator::CoordinatorError;
        let refused = CoordinatorError::BarrierBusy { to: Phase::DualWrite, tries: 3, lock_timeout_ms: 5 };
        let away = lockstep_core::Error::source(lockstep_core::Kind::Unavailable, "connecting", "x");
        for (error, exit, is_told_of_writes) in [
            (anyhow::Error::from(refused), Exit::Refused, true),
            (anyhow::Error::from(away), Exit::Infrastructure, false),
        ] {
            let told = of_stores_that_are_gone(error);
            let text = format!("{told:#}");
            assert_eq!(exit_of(&told), exit, "{text}");
            assert!(text.contains("are gone") && text.contains("--keep"), "{text}");
            assert_eq!(text.contains("--live-writes"), is_told_of_writes, "{text}");
        }
    }
}
