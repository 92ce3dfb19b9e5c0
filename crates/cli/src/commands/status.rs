//! `status`: where the migration stands. Reads only.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use chrono::Utc;
use lockstep_coordinator::{Status, first_of, load_took};
use lockstep_core::{Epoch, InstanceState};
use lockstep_daemon::{HealthState, health_of};
use lockstep_postgres::VerdictWord;
use serde_json::json;

use super::{standing, took};
use crate::durations::duration;
use crate::exit::{Exit, exit_of};
use crate::report::{key_values, print, print_json, sentence, table};
use crate::stores::Stores;
use crate::ui::{count, seconds};
use crate::{Context, help};

/// Shows where the migration stands
///
/// Phase and epoch, and for each table: whether its changes are captured, how far its history has come, how
/// many changes wait for delivery and for how long, its dead letters, and how far behind its reverse feed is;
/// the instances of applications, each with the epoch it has acknowledged and what is left of its lease;
/// the workers, each with the ranges that it holds, and the slowest. Also what a crash left open, the newest
/// verdict, and the last entries of the journal. It only reads, and may run beside anything.
///
/// It ends with 0 when all is well, with 6 when somebody should look (degraded), and with 1 when somebody
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
    let stores = match args.watch {
        // What does not answer now is shown, and may answer at the next look.
        true => Stores::configured_lazily(&context.config, &context.ui).await?,
        false => Stores::configured(&context.config, &context.ui).await?,
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
    let tables = context.tables()?;
    let status = lockstep_coordinator::status(&stores.source, &stores.target, &tables);
    let status = context.unless_cancelled(status).await??;
    let settings =
        if status.installed { stores.source.settings().await.unwrap_or_default() } else { Vec::new() };
    let histories = match status.installed {
        true => load_took(&stores.source, &context.config.plan).await.unwrap_or_default(),
        false => Vec::new(),
    };
    let (state, reasons) = health_of(&status);
    let exit = match state {
        HealthState::Healthy => Exit::Consistent,
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
    let mut exit = Exit::Consistent;
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

fn text(status: &Status) -> String {
    if let Some(since) = status.target_record.and_then(|record| record.completed_at) {
        return format!(
            "Complete since {}: DynamoDB is the truth for good. `cargo xtask doctor` says whether anything is left to do.",
            since.format("%Y-%m-%d %H:%M:%S UTC")
        );
    }
    let (Some(phase), Some(epoch), Some(since)) = (status.phase, status.epoch, status.since) else {
        if let Some(error) = &status.target_error {
            return format!(
                "Lockstep was never installed in this source, or the migration is complete. DynamoDB knows \
                 which, and could not be read: {error}"
            );
        }
        return "Lockstep was never installed in this source: everything is as it was. `cargo xtask migrate` or \
                `cargo xtask backfill` begins."
            .to_owned();
    };
    let verdict = match (status.verdict, status.verdict_age_s) {
        (Some(said), Some(age_s)) => {
            let said = match said {
                VerdictWord::Consistent => "consistent",
                VerdictWord::Inconsistent => "NOT consistent",
                VerdictWord::Incomplete => "incomplete: nothing was found, and not everything was compared",
            };
            format!("{said}, {} ago", seconds(age_s))
        }
        _ => "nothing has been validated yet".to_owned(),
    };
    let mut text = key_values(&[
        ("phase", format!("{phase} (epoch {epoch}) since {}", since.format("%Y-%m-%d %H:%M:%S UTC"))),
        ("verdict", verdict),
    ]);
    if let Some(record) = &status.target_record {
        let writes = if record.control().writes_paused {
            "wait: a step is under way, or was broken off"
        } else {
            "go on"
        };
        text += &format!(
            "\nthe truth is in DynamoDB: its record says {} in epoch {}; writes {writes}",
            record.phase, record.epoch
        );
    }
    if let Some(until) = status.late_until {
        text += &format!(
            "\na write of DynamoOnly that was given up may still land until {}: keep `reverse-feed` and `relay` running",
            until.format("%H:%M:%S UTC")
        );
    }
    text += &standing::tables(status);
    text += &standing::reverse_feed(status);
    text += &instances(status, epoch);
    text += &workers(status);
    text += &super::comparing::comparisons(status);
    text += &relays(status);
    for lost in &status.lost {
        text += &format!("\nHISTORY LOST: {lost}; nothing is moved: run `doctor`");
    }
    for intent in &status.open_intents {
        text += &format!(
            "\nleft open by a crash: `{}` by {} at {}; the next command settles it",
            intent.step, intent.actor, intent.at
        );
    }
    if !status.journal.is_empty() {
        text += "\njournal, newest first:";
    }
    for entry in &status.journal {
        text += &format!(
            "\n  {} {:8} {}{} — {}",
            entry.at.format("%Y-%m-%d %H:%M:%S"),
            entry.kind,
            entry.step,
            way(&entry.detail),
            entry.actor
        );
    }
    text
}

/// From which phase to which an entry of the journal goes, where it is of a step.
fn way(detail: &serde_json::Value) -> String {
    let phase = |name: &str| detail.get(name).and_then(serde_json::Value::as_str);
    match (phase("from"), phase("to")) {
        (Some(from), Some(to)) => format!(" {from} → {to}"),
        _ => String::new(),
    }
}

/// Instances, one a line; a step waits for those that are not in this epoch yet.
fn instances(status: &Status, epoch: Epoch) -> String {
    if status.instances.is_empty() {
        return String::new();
    }
    let headers = ["instance", "host", "pid", "epoch", "lease left", "state"];
    let rows = status.instances.iter().map(|i| {
        let lease_left = match i.lease_left_ms {
            left if left > 0 => seconds(Duration::from_millis(left.unsigned_abs()).as_secs_f64()),
            over => format!("over for {}", seconds(Duration::from_millis(over.unsigned_abs()).as_secs_f64())),
        };
        let state = match i.state {
            InstanceState::Expired => "given up; serves nothing until it registers again",
            InstanceState::Live if i.has_acknowledged(epoch) => "serves",
            InstanceState::Live => "behind; a step waits for it",
        };
        let acknowledged = i.epoch.map_or_else(|| "none yet".to_owned(), |epoch| epoch.to_string());
        vec![i.name.clone(), i.host.clone(), i.pid.to_string(), acknowledged, lease_left, state.to_owned()]
    });
    format!("\n{}", table(&headers, rows))
}

/// Ranges of a worker that are shown; JSON has all of them.
const RANGES_SHOWN: usize = 4;

/// Workers, one a line.
fn workers(status: &Status) -> String {
    if status.workers.is_empty() {
        return String::new();
    }
    let headers = ["worker", "host", "pid", "lease left", "rows", "rows/s", "holds", "longest", "state"];
    let rows = status.workers.iter().map(|w| {
        let left = Duration::from_millis(w.lease_left_ms.unsigned_abs()).as_secs_f64();
        let lease_left = if w.is_live() { seconds(left) } else { format!("over for {}", seconds(left)) };
        let state = match w {
            w if !w.is_live() => "gone, or cut off; others take its ranges",
            w if status.slowest_worker.as_ref() == Some(&w.name) => "the slowest",
            w if w.idle => "waits for a range",
            _ => "at work",
        };
        vec![
            w.name.clone(),
            w.host.clone(),
            w.pid.to_string(),
            lease_left,
            count(w.rows.unsigned_abs()),
            count(w.rows_per_s.max(0.0) as u64),
            first_of(&w.ranges, RANGES_SHOWN),
            w.longest_s.map(seconds).unwrap_or_default(),
            state.to_owned(),
        ]
    });
    format!("\n{}", table(&headers, rows))
}

/// Relays that share the pending keys, one a line; one alone has all of them, and is no news.
fn relays(status: &Status) -> String {
    if status.relays.len() < 2 {
        return String::new();
    }
    let headers = ["relay", "host", "pid", "lease left", "share of the keys", "state"];
    let rows = status.relays.iter().map(|relay| {
        let left = Duration::from_millis(relay.lease_left_ms.unsigned_abs()).as_secs_f64();
        let (lease_left, state) = match relay.is_live() {
            true => (seconds(left), "at work"),
            false => (format!("over for {}", seconds(left)), "gone, or cut off; the others take its share"),
        };
        let share = format!("{:.0} %", relay.share_percent);
        vec![
            relay.name.clone(),
            relay.host.clone(),
            relay.pid.to_string(),
            lease_left,
            share,
            state.to_owned(),
        ]
    });
    format!("\n{}", table(&headers, rows))
}
