//! `status`: where the migration stands. Reads only. The text for people is in `text`.

mod text;

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use chrono::Utc;
use lockstep_coordinator::load_took;
use lockstep_daemon::{HealthState, health_of};
use serde_json::json;

use super::took;
use crate::durations::duration;
use crate::exit::{Exit, Failure, exit_of};
use crate::report::{print, print_json, sentence};
use crate::stores::Stores;
use crate::{Context, help};
use text::text;

/// Shows where the migration stands
///
/// Phase and epoch, and for each table: whether its changes are captured, how far its initial load has come,
/// how many changes wait for delivery and for how long, its dead letters, and how far behind its reverse feed
/// is; the instances of applications, each with the epoch it has acknowledged and what is left of its lease;
/// the workers, each with the ranges that it holds, and the slowest. Also what a crash left open, the newest
/// verdict, and the last entries of the journal. It only reads, and may run beside anything.
///
/// It ends with 0 when all is well, with 6 when an operator should look (degraded), and with 1 when one
/// must act (broken), and says why.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = help!("  cargo xtask status\n  cargo xtask status --watch\n  cargo xtask status --json | jq '.tables[] | {name, pending}'"))]
pub struct Args {
    /// Show it again and again until Ctrl-C
    #[arg(long)]
    pub watch: bool,
    /// With --watch: how often, as 2s or 1m
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "2s", requires = "watch")]
    pub every: Duration,
}

/// Runs it.
///
/// # Errors
/// When PostgreSQL does not answer. That DynamoDB does not is part of what is shown.
pub async fn run(context: Context, args: Args) -> anyhow::Result<Exit> {
    context.config.declared.do_without();
    let stores = match args.watch {
        // A store that does not answer now is shown, and may answer at the next look.
        true => Stores::also_complete_lazily(&context.config, &context.ui).await?,
        false => Stores::also_complete(&context.config, &context.ui).await?,
    };
    let exit =
        if args.watch { watch(&context, &stores, args.every).await } else { once(&context, &stores).await };
    stores.close(false).await?;
    exit
}

async fn once(context: &Context, stores: &Stores) -> anyhow::Result<Exit> {
    let (shown, exit) = look(context, stores).await?;
    match shown {
        Shown::Json(status) => print_json(&status),
        Shown::Text(text) => print(&text),
    }
    Ok(exit)
}

/// A status for programs or for people.
enum Shown {
    Json(serde_json::Value),
    Text(String),
}

async fn look(context: &Context, stores: &Stores) -> anyhow::Result<(Shown, Exit)> {
    // With --watch PostgreSQL may answer now, and may not have at the look before.
    context.config.declared.bind(&stores.source, &context.config.target.table_prefix).await?;
    context.config.name_attributes(&stores.target);
    let tables = context.tables()?;
    let status = lockstep_coordinator::status(&stores.source, &stores.target, &tables);
    let status = context.unless_cancelled(status).await??;
    let settings =
        if status.installed { stores.source.settings().await.unwrap_or_default() } else { Vec::new() };
    let histories = match status.installed {
        true => load_took(&stores.source, &context.config.plan).await.unwrap_or_default(),
        false => Vec::new(),
    };
    let (mut state, mut reasons) = health_of(&status);
    let left_out = context.config.declared.left_out();
    if !status.installed && !left_out.is_empty() {
        // Nothing is moved yet that could be shown beside it.
        let whys: Vec<&str> = left_out.iter().map(|table| table.why.as_str()).collect();
        return Err(Failure::usage(whys.join("; ")));
    }
    for table in left_out {
        state = HealthState::Broken;
        reasons.insert(0, table.why);
    }
    let exit = match state {
        HealthState::Healthy => Exit::Done,
        HealthState::Degraded => Exit::Degraded,
        HealthState::Broken => Exit::NotConsistent,
    };
    if context.json {
        let mut shown = serde_json::to_value(&status)?;
        shown["health"] = json!({ "state": state, "reasons": reasons });
        shown["settings"] = json!(settings);
        shown["history"] = json!(histories);
        return Ok((Shown::Json(shown), exit));
    }
    let mut shown = text(&status);
    shown += &took::text(&histories);
    for row in &settings {
        let until =
            row.until.map(|until| format!(", until {}", until.format("%H:%M:%S UTC"))).unwrap_or_default();
        let reason = row.reason.as_deref().unwrap_or("no reason given");
        shown += &format!("\nset: {} = {} by {} ({reason}{until})", row.name, row.value, row.actor);
    }
    if status.installed && status.target_record.is_none_or(|record| record.completed_at.is_none()) {
        let word = match state {
            HealthState::Healthy => "healthy",
            HealthState::Degraded => "DEGRADED",
            HealthState::Broken => "BROKEN",
        };
        shown += &format!("\nhealth: {word}");
        for reason in reasons {
            shown += &format!("\n  - {reason}");
        }
    }
    Ok((Shown::Text(shown), exit))
}

/// Shows it until it is told to stop; ends as the last look did.
async fn watch(context: &Context, stores: &Stores, every: Duration) -> anyhow::Result<Exit> {
    let on_screen = !context.json && std::io::stdout().is_terminal();
    let mut exit = Exit::Done;
    while !context.cancel.is_cancelled() {
        match look(context, stores).await {
            Ok((shown, now)) => {
                if on_screen {
                    clear_screen();
                }
                match shown {
                    // One line each, for programs that read on.
                    Shown::Json(status) => print(&status.to_string()),
                    Shown::Text(text) => {
                        print(&format!("{}\n{text}\n", Utc::now().format("%Y-%m-%d %H:%M:%S UTC")))
                    }
                }
                exit = now;
            }
            Err(_) if context.cancel.is_cancelled() => break,
            Err(error) => {
                if on_screen {
                    clear_screen();
                }
                print(&format!("{} {}", Utc::now().format("%Y-%m-%d %H:%M:%S UTC"), sentence(&error)));
                exit = exit_of(&error);
            }
        }
        let _ = context.cancel.run_until_cancelled(tokio::time::sleep(every)).await;
    }
    Ok(exit)
}

/// The only thing that this program ever has a terminal do.
fn clear_screen() {
    let mut out = std::io::stdout();
    // A reader who went away is no reason to fail.
    let _ = out.write_all(b"\x1b[H\x1b[2J").and_then(|()| out.flush());
}
