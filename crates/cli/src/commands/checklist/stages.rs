//! The items of each stage, and what proves them.

use chrono::DateTime;
use lockstep_coordinator::Status;
use lockstep_core::{InstanceState, Phase};
use lockstep_postgres::VerdictWord;

use super::{Item, Stage, State, day, item};
use crate::Context;
use crate::stores::Stores;

/// Returns the names of the tables of which something does not hold.
fn but(status: &Status, holds: impl Fn(&lockstep_coordinator::TableStatus) -> bool) -> Vec<&str> {
    status.tables.iter().filter(|table| !holds(table)).map(|table| table.name.as_str()).collect()
}

fn all_but(names: &[&str], well: &str, ill: &str) -> String {
    if names.is_empty() { well.to_owned() } else { format!("{}: {ill}", names.join(", ")) }
}

pub(super) fn before(status: &Status) -> Vec<Item> {
    let stage = Stage::PreDeployment;
    let not_captured = but(status, |table| table.capture == "on");
    let not_copied = but(status, |table| table.ranges > 0 && table.ranges_done == table.ranges);
    let letters = but(status, |table| table.dead_letters_unacknowledged == 0);
    let behind = but(status, |table| table.oldest_s <= 60.0);
    let truth_is_there = status.phase == Some(Phase::DynamoOnly);
    vec![
        item(
            stage,
            "history-kept",
            "no store has lost history",
            status.lost.is_empty(),
            status.lost.join("; "),
        ),
        item(
            stage,
            "captured",
            "every change is captured",
            not_captured.is_empty(),
            all_but(&not_captured, "triggers are on every table", "run `doctor`"),
        ),
        item(
            stage,
            "copied",
            "the initial load is copied",
            not_copied.is_empty() && !status.tables.is_empty(),
            all_but(&not_copied, "every range is done", "run `backfill`"),
        ),
        item(
            stage,
            "dead-letters",
            "every row that was set aside is acknowledged",
            letters.is_empty(),
            all_but(&letters, "none is open", "run `dead-letters`"),
        ),
        item(
            stage,
            "delivered",
            "changes are delivered within a minute",
            truth_is_there || behind.is_empty(),
            all_but(&behind, "none waits for longer", "let the relay run"),
        ),
    ]
}

pub(super) async fn protection(context: &Context, stores: &Stores) -> anyhow::Result<Item> {
    let (stage, id, what) =
        (Stage::PreDeployment, "tables-protected", "DynamoDB's tables are protected and backed up");
    if stores.target.is_emulator() {
        return Ok(item(stage, id, what, true, "an emulator: there is nothing to protect"));
    }
    let mut missing = Vec::new();
    for binding in context.tables()? {
        if let Some(lack) = stores.target.protection(&binding.target_name).await?.missing() {
            missing.push(format!("{}: {lack}", binding.target_name));
        }
    }
    let control = stores.target.control();
    match stores.target.protection(control.table()).await {
        // The step to DynamoOnly makes it.
        Err(error) if error.kind == lockstep_core::Kind::Misconfigured => {}
        asked => missing.extend(asked?.missing().map(|lack| format!("{}: {lack}", control.table()))),
    }
    Ok(item(stage, id, what, missing.is_empty(), missing.join("; ")))
}

/// An item that a phase decides: reached, or not yet.
fn reached(status: &Status, id: &'static str, what: &'static str, phase: Phase) -> Item {
    let (at, completed) =
        (status.phase, status.target_record.is_some_and(|record| record.completed_at.is_some()));
    let is_there = completed || at.is_some_and(|at| at >= phase);
    let detail = at.map_or_else(String::new, |at| format!("the phase is {at}"));
    let state = if is_there { State::Proven } else { State::NotReached };
    Item { id, stage: Stage::Deployment, what, state, detail }
}

pub(super) fn at(status: &Status) -> Vec<Item> {
    let stage = Stage::Deployment;
    let epoch = status.epoch;
    let behind = status
        .instances
        .iter()
        .filter(|one| {
            one.state == InstanceState::Live && !epoch.is_some_and(|epoch| one.has_acknowledged(epoch))
        })
        .count();
    let applications = match status.instances.len() {
        0 => "no application is registered, so steps cannot tell which are behind: embed Migration, or stop \
              them at each step"
            .to_owned(),
        all => format!("{behind} of {all} are behind"),
    };
    vec![
        item(
            stage,
            "no-step-open",
            "no step was broken off",
            status.open_intents.is_empty(),
            if status.open_intents.is_empty() { "none is open" } else { "the next command settles one" },
        ),
        item(
            stage,
            "applications-follow",
            "applications are registered, and none is behind",
            behind == 0 && !status.instances.is_empty(),
            applications,
        ),
        reached(status, "dual-write", "both stores are written", Phase::DualWrite),
        reached(status, "hybrid-read", "DynamoDB answers reads", Phase::HybridRead),
        reached(status, "dynamo-only", "DynamoDB is the truth", Phase::DynamoOnly),
    ]
}

pub(super) async fn shadow_reads(stores: &Stores, status: &Status) -> anyhow::Result<Item> {
    let (stage, id, what) = (Stage::Deployment, "shadow-reads", "reads that are made on both stores agree");
    let Some(epoch) =
        status.epoch.filter(|_| matches!(status.phase, Some(Phase::DualWrite | Phase::HybridRead)))
    else {
        return Ok(Item {
            id,
            stage,
            what,
            state: State::NotReached,
            detail: "both stores are written in DualWrite and HybridRead".to_owned(),
        });
    };
    let counted = stores.source.counted_in(epoch, DateTime::UNIX_EPOCH).await?;
    let sum = |name: &str| counted.iter().filter(|row| row.name == name).map(|row| row.count).sum::<i64>();
    let (agree, differ) = (sum("shadow.agree"), sum("shadow.differ"));
    // A check that saw nothing has proven nothing.
    let state = match (agree, differ) {
        (_, 1..) => State::Failed,
        (0, _) => State::NotReached,
        _ => State::Proven,
    };
    let detail = format!("{agree} agree and {differ} differ in this phase, within a day");
    Ok(Item { id, stage, what, state, detail })
}

/// Checks whether a step back was taken at some time: a way back that was never taken is a hope.
pub(super) async fn way_back(stores: &Stores) -> anyhow::Result<Item> {
    const LOOKED_BACK: i64 = 500;
    let journal = stores.source.journal(LOOKED_BACK).await?;
    let phase_of = |entry: &lockstep_postgres::Entry, name: &str| {
        entry.detail.get(name)?.as_str()?.parse::<Phase>().ok()
    };
    let back = journal.iter().find(|entry| {
        let (from, to) = (phase_of(entry, "from"), phase_of(entry, "to"));
        entry.kind == "done" && matches!((from, to), (Some(from), Some(to)) if to < from)
    });
    let (stage, id, what) = (Stage::PreDeployment, "way-back-taken", "the way back was taken once");
    Ok(match back {
        Some(entry) => item(stage, id, what, true, format!("{} by {}", day(entry.at), entry.actor)),
        None => item(stage, id, what, false, "take `rollback` once, in DualWrite, where it costs nothing"),
    })
}

pub(super) fn after(status: &Status) -> Vec<Item> {
    let stage = Stage::PostDeployment;
    let verdict = match (status.verdict_consistent, status.verdict_age_s) {
        (Some(true), Some(age_s)) => format!("consistent, {:.1} h ago", age_s / 3_600.0),
        _ if status.verdict == Some(VerdictWord::Incomplete) => {
            "the newest verdict is incomplete: run `validate` again, with a `relay` running".to_owned()
        }
        (Some(false), _) => "the newest verdict is not consistent: `report` shows it".to_owned(),
        _ => "nothing was compared yet: run `validate`".to_owned(),
    };
    let day_s = 24.0 * 3_600.0;
    let fresh = status.verdict_age_s.is_some_and(|age_s| age_s <= day_s);
    let alarms = but(status, |table| table.reverse_alarm.is_none());
    vec![
        item(
            stage,
            "compared",
            "both stores were compared within a day, and are the same",
            status.verdict_consistent == Some(true) && fresh,
            verdict,
        ),
        item(
            stage,
            "reverse-feed",
            "PostgreSQL follows, so that there is a way back",
            alarms.is_empty(),
            all_but(&alarms, "no alarm", "see `status`"),
        ),
    ]
}
