//! `rollback`: all tables a phase back.

use lockstep_core::Phase;

use super::step::{self, Asked, Direction};
use crate::exit::Exit;
use crate::{Context, help};

/// Takes all tables to the previous phase, in one atomic step
///
/// Possible at once as long as PostgreSQL is the truth, that is, up to HybridRead: nothing is copied back, because nothing
/// was missing there. Capture stays on, so going forward again later needs no new backfill; a relay brings the target up to
/// date.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = help!(
    "  cargo xtask rollback                    one phase back\n  \
       cargo xtask rollback --to PostgresOnly  all the way"
))]
pub struct Args {
    /// Phase to go to [default: the previous one]
    #[arg(long, value_name = "PHASE")]
    pub to: Option<Phase>,
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
/// When a gate refuses, the barrier is not to be had, or a store fails.
pub async fn run(context: Context, args: Args) -> anyhow::Result<Exit> {
    let asked = Asked { to: args.to, force: args.force, post_check: !args.no_post_check };
    step::run(context, Direction::Back, asked).await
}
