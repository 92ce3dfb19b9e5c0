//! `rollback`: all tables a phase back.

use lockstep_core::Phase;

use super::direction::Direction;
use super::dry_run;
use super::step::{self, Asked};
use crate::exit::Exit;
use crate::{Context, help};

/// Takes all tables to the previous phase, in one atomic step
///
/// Possible at once as long as PostgreSQL is the truth, that is, up to HybridRead: nothing is copied back,
/// because nothing was missing there. Capture stays on, so going forward again later needs no new backfill; a
/// relay brings the target up to date.
///
/// From DynamoOnly it brings back everything that was written there: it waits until the reverse feed is
/// through, stops writes for at most steps.pause_ms_max, sees the feed through once more, compares what
/// changed, and moves the truth. If any of that is not as it must be, everything is as it was. Afterwards it
/// goes on feeding for target.request_lifetime_s.
///
/// Broken off and given again, it ends what it began, and takes no further step.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = help!(
    "  cargo xtask rollback                    one phase back\n  \
       cargo xtask rollback --to PostgresOnly  all the way\n  \
       cargo xtask rollback --dry-run          what the gates say, and nothing else"
))]
pub struct Args {
    /// Phase to go to [default: the previous one]
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
    /// After the way back from DynamoOnly, do not go on feeding: you keep `reverse-feed` and `relay` running
    /// yourself
    #[arg(long)]
    pub no_wait: bool,
}

/// Runs it.
///
/// # Errors
/// When a gate refuses, the barrier cannot be acquired, or a store fails.
pub async fn run(context: Context, args: Args) -> anyhow::Result<Exit> {
    if args.dry_run {
        return dry_run::run(context, Direction::Back, args.to).await;
    }
    let asked =
        Asked { to: args.to, force: args.force, post_check: !args.no_post_check, wait: !args.no_wait };
    step::run(context, Direction::Back, asked).await
}
