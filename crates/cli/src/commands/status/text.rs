//! A status for people.

use std::time::Duration;

use lockstep_coordinator::{Status, first_of};
use lockstep_core::{Epoch, InstanceState};
use lockstep_postgres::{VerdictWord, archive_schema};

use crate::commands::standing;
use crate::report::{key_values, table};
use crate::ui::{count, seconds};

pub(super) fn text(status: &Status) -> String {
    if let Some(other) = &status.other_under_way {
        return format!("Nothing of this migration is here: {other}");
    }
    if let Some(since) = status.target_record.and_then(|record| record.completed_at) {
        let journal = status.completed.as_ref().map_or_else(String::new, |done| {
            format!(" Its journal is in {}, and in {}.journal.", done.journal_file, archive_schema())
        });
        return format!(
            "Complete since {}: DynamoDB is the truth for good.{journal} `cargo xtask doctor` says whether \
             anything is left to do.",
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
        if !status.earlier.is_empty() {
            return format!(
                "This migration has not begun in this source: everything is as it was. `cargo xtask migrate` \
                 or `cargo xtask backfill` begins. Complete there before it: {}.",
                status.earlier.join("; ")
            );
        }
        return "Lockstep was never installed in this source: everything is as it was. `cargo xtask migrate` or \
                `cargo xtask backfill` begins."
            .to_owned();
    };
    let verdict = match (status.verdict, status.verdict_age_s) {
        (Some(said), Some(age_s)) => format!("{}, {} ago", word(said), seconds(age_s)),
        _ => "nothing has been validated yet".to_owned(),
    };
    let verdict = match (status.later_verdict, status.later_verdict_age_s) {
        // 1. A comparison finds something. 2. An incremental one, or one of some days, finds nothing. 3. Only
        // the first is shown, and looks as if the second had not been.
        (Some(said), Some(age_s)) => format!(
            "{verdict}; it stands, as the one after it ({}, {} ago) is not of everything",
            word(said),
            seconds(age_s)
        ),
        _ => verdict,
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
    text += &crate::commands::comparing::comparisons(status);
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
    for earlier in &status.earlier {
        text += &format!("\ncomplete in this database before: {earlier}");
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

fn word(verdict: VerdictWord) -> &'static str {
    match verdict {
        VerdictWord::Consistent => "consistent",
        VerdictWord::Inconsistent => "NOT consistent",
        VerdictWord::Incomplete => "incomplete: nothing was found, and not everything was compared",
    }
}

/// Returns from which phase to which an entry of the journal goes, where it is of a step.
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
    let mut text = format!("\n{}", table(&headers, rows));
    for worker in status.workers.iter().filter(|worker| worker.is_live()) {
        if let Some(why) = &worker.slowed_by {
            text += &format!("\n{} is held back by {why}", worker.name);
        }
    }
    text
}

/// Relays that share the pending keys, one a line; one alone has all of them, and is no news.
fn relays(status: &Status) -> String {
    if status.lacks_relay() {
        return "\nno relay is running: changes are captured, and stay in PostgreSQL until one delivers them. \
                Run `cargo xtask relay`, or `cargo xtask serve`, and keep it running"
            .to_owned();
    }
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
