//! `cleanup --drop-source`: the source tables of a migration that is complete.

use std::process::Stdio;

use lockstep_coordinator::{Unprotected, drop_source};
use serde_json::json;
use tokio::process::Command;

use super::confirm::confirm;
use crate::exit::{Exit, Failure};
use crate::report::{print, print_json};
use crate::stores::Stores;
use crate::{Context, help};

/// Drops what a completed migration has left in PostgreSQL
///
/// Only after `complete`, and only when the command in cleanup.backup_check, which is run now, ends with 0:
/// it is to prove that there is a backup that can be restored. Its entries are kept in
/// lockstep_archive.journal. A table without the guard that `complete` left is not touched, and one that
/// something else depends on is not dropped: PostgreSQL says what depends on it.
///
/// DynamoDB has the only copy afterwards, so each table there, and the control table, must be protected from
/// being deleted by one call and have point-in-time recovery. With target.deletion_protection and
/// target.point_in_time_recovery both are switched on first.
///
/// Broken off at any point, the same command goes on.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = help!(
    "  LOCKSTEP_CLEANUP__BACKUP_CHECK='./check-backup.sh' cargo xtask cleanup --drop-source\n  \
       cargo xtask cleanup --drop-source --yes"
))]
pub struct Args {
    /// Drop the source tables
    #[arg(long, required = true)]
    pub drop_source: bool,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
    /// Drop them although the tables of DynamoDB are not protected, as those of an emulator cannot be
    #[arg(long)]
    pub i_know_that_the_target_is_unprotected: bool,
}

/// Most of what the check says that is kept.
const SAID_MAX: usize = 2_000;

/// Runs it.
///
/// # Errors
/// When the migration is not complete, the backup check does not pass, or a store fails.
pub async fn run(context: Context, args: Args) -> anyhow::Result<Exit> {
    let Some(check) = context.config.cleanup.backup_check.clone().filter(|check| !check.trim().is_empty())
    else {
        return Err(Failure::usage(
            "cleanup.backup_check is not set: name a command that ends with 0 only if there is a backup of the source tables that can be restored",
        ));
    };
    let stores = Stores::also_complete(&context.config, &context.ui).await?;
    let database = stores.source.database().await?;
    let tables: Vec<String> = context.tables()?.iter().map(|binding| binding.relation.to_string()).collect();
    confirm(args.yes, &database, &format!("drop {} for good", tables.join(" and ")))?;
    let migration = context.migration(&stores)?;
    let unprotected = match args.i_know_that_the_target_is_unprotected {
        true => Unprotected::Known,
        false => Unprotected::Refused,
    };
    let dropped = drop_source(&migration, async || passes(&check).await, unprotected, &context.ui).await?;
    if context.json {
        print_json(&json!(dropped));
    } else {
        print(&format!("Dropped: {}. Gone before: {}.", names(&dropped.dropped), names(&dropped.gone)));
    }
    stores.close(false).await?;
    Ok(Exit::Done)
}

fn names(of: &[String]) -> String {
    if of.is_empty() { "nothing".to_owned() } else { of.join(", ") }
}

/// Runs the check in a shell; what it says goes to stderr as well, for the operator who watches.
async fn passes(check: &str) -> Result<String, String> {
    let run = Command::new("sh").arg("-c").arg(check).stdin(Stdio::null()).kill_on_drop(true).output().await;
    let output = run.map_err(|error| format!("it could not be started: {error}"))?;
    let said: String = String::from_utf8_lossy(&output.stdout).chars().take(SAID_MAX).collect();
    let complained: String = String::from_utf8_lossy(&output.stderr).chars().take(SAID_MAX).collect();
    match output.status.success() {
        true => Ok(said.trim().to_owned()),
        false => {
            let ended = format!("it ended with {}", output.status);
            let words = [ended.as_str(), said.trim(), complained.trim()];
            Err(words.into_iter().filter(|words| !words.is_empty()).collect::<Vec<_>>().join(": "))
        }
    }
}
