//! `advance`: all tables a phase forward.

use lockstep_core::Phase;

use super::direction::Direction;
use super::dry_run;
use super::step::{self, Asked};
use crate::exit::Exit;
use crate::{Context, help};

/// Takes all tables to the next phase, in one atomic step
///
/// Gates are checked first, for every table, and reported one by one; one refusal leaves everything as it
/// was. Then the step waits until no write transaction is open, for at most source.lock_timeout_ms at a time,
/// and flips the phase. A relay should be running. The steps to HybridRead and DynamoOnly need a fresh clean
/// verdict: run `validate` before each.
///
/// The step to DynamoOnly begins the reverse feed, and stops writes for at most steps.pause_ms_max; when that
/// is not enough, everything is as it was. Keep `reverse-feed` running after it.
///
/// After the last step it compares every key that changed since the newest full validation, if that found
/// nothing; the exit code is that of what it finds. The step stands either way.
///
/// Broken off and given again, it ends what it began, and takes no further step.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = help!(
    "  cargo xtask advance                  one phase forward\n  \
       cargo xtask advance --to DynamoOnly  as many as it takes\n  \
       cargo xtask advance --dry-run        what the gates of the next one say, and nothing else\n  \
       cargo xtask advance --force 'dead letters are known, ticket 4711'"
))]
pub struct Args {
    /// Phase to go to [default: the next one]
    #[arg(long, value_name = "PHASE")]
    pub to: Option<Phase>,
    /// Ask the gates of the next step, say what they say, and take no step
    #[arg(long, conflicts_with = "force")]
    pub dry_run: bool,
    /// Go although gates refuse, for this reason, which the journal keeps
    #[arg(long, value_name = "REASON")]
    pub force: Option<String>,
    /// Do not look afterwards at what was written since the newest full validation
    #[arg(long)]
    pub no_post_check: bool,
}

/// Runs it.
///
/// # Errors
/// When a gate refuses, the barrier cannot be acquired, or a store fails.
pub async fn run(context: Context, args: Args) -> anyhow::Result<Exit> {
    if args.dry_run {
        return dry_run::run(context, Direction::Forward, args.to).await;
    }
    let asked = Asked { to: args.to, force: args.force, post_check: !args.no_post_check, wait: false };
    step::run(context, Direction::Forward, asked).await
}
