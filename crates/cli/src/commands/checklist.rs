//! `checklist`: what has to be so before, at and after the deployment, each proven, failed or signed.

use chrono::{DateTime, Utc};
use lockstep_coordinator::{Status, status};
use lockstep_core::settings::{REASON_CHARS_MAX, is_reason};
use lockstep_core::{InstanceState, Phase};
use lockstep_postgres::VerdictWord;
use serde::Serialize;
use serde_json::json;

use crate::config::actor;
use crate::exit::{Exit, Failure};
use crate::report::{print, print_json, table};
use crate::stores::Stores;
use crate::{Context, help};

/// Fills in the checklist of the deployment
///
/// Before, at and after it: each item is proven by what both stores and the journal say, failed, not reached
/// yet, or to be signed by a person. --sign keeps in the journal who signed and why. It ends with 0 when
/// every item that is shown is proven or signed, and with 1 otherwise.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = help!(
    "  cargo xtask checklist\n  \
       cargo xtask checklist --stage pre-deployment        only what has to be so before\n  \
       cargo xtask checklist --sign plan-approved --reason 'ann and bob, 2026-11-28'"
))]
pub struct Args {
    /// Only one of its three parts
    #[arg(long, value_enum)]
    pub stage: Option<Stage>,
    /// Sign an item that no program can prove
    #[arg(long, value_name = "ITEM", requires = "reason")]
    pub sign: Option<String>,
    /// Who has looked at it, and when; for the journal
    #[arg(long, value_name = "WORDS", requires = "sign")]
    pub reason: Option<String>,
}

/// Its three parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Before anything is switched.
    PreDeployment,
    /// While phases change.
    Deployment,
    /// Afterwards.
    PostDeployment,
}

/// How an item stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Proven,
    Failed,
    /// A later phase decides.
    NotReached,
    Signed,
    ToSign,
}

/// One item.
#[derive(Clone, Debug, Serialize)]
struct Item {
    id: &'static str,
    stage: Stage,
    what: &'static str,
    state: State,
    detail: String,
}

/// What a person signs, because no program can see it.
const TO_SIGN: [(&str, Stage, &str); 6] = [
    ("plan-approved", Stage::PreDeployment, "hours and dollars of `plan` are approved"),
    ("rights-least", Stage::PreDeployment, "roles have the rights of `iam-policy` and `grants`, and no more"),
    ("backup-restored", Stage::PreDeployment, "a backup of the source was restored and looked at"),
    ("alerts-heard", Stage::PreDeployment, "an alert has reached the people on call"),
    ("users-told", Stage::Deployment, "everybody who has to know was told of the steps"),
    ("runbook-known", Stage::PostDeployment, "the people on call have taken the way back once"),
];

/// The note by which an item is signed.
const SIGNED: &str = "sign ";

/// Runs it.
///
/// # Errors
/// When a store does not answer, or Lockstep was never installed there.
pub async fn run(context: Context, args: Args) -> anyhow::Result<Exit> {
    let stores = Stores::configured(&context.config, &context.ui).await?;
    if !stores.source.has_schema().await? {
        return Err(Failure::usage(
            "Lockstep was never installed in this source, so there is nothing to check; `migrate` or `backfill` begins",
        ));
    }
    if let Some(id) = &args.sign {
        sign(&stores, id, args.reason.as_deref().unwrap_or_default()).await?;
    }
    let mut items = context.unless_cancelled(items(&context, &stores)).await??;
    items.retain(|item| args.stage.is_none_or(|stage| stage == item.stage));
    let open = items.iter().filter(|item| !matches!(item.state, State::Proven | State::Signed)).count();
    if context.json {
        print_json(&json!({ "items": items, "open": open }));
    } else {
        print(&text(&items, open));
    }
    stores.close(false).await?;
    Ok(if open == 0 { Exit::Done } else { Exit::NotConsistent })
}

async fn sign(stores: &Stores, id: &str, reason: &str) -> anyhow::Result<()> {
    if !TO_SIGN.iter().any(|(known, ..)| *known == id) {
        let known: Vec<&str> = TO_SIGN.iter().map(|(id, ..)| *id).collect();
        return Err(Failure::usage(format!(
            "`{id}` is proven and not signed, or there is no such item; to be signed are: {}",
            known.join(", ")
        )));
    }
    let reason = reason.trim();
    if reason.is_empty() || !is_reason(reason) {
        return Err(Failure::usage(format!(
            "--reason has 1 to {REASON_CHARS_MAX} characters, none of them a control character"
        )));
    }
    let step = format!("{SIGNED}{id}");
    Ok(stores.source.journal_note(&actor(), &step, &json!({ "reason": reason })).await?)
}

async fn items(context: &Context, stores: &Stores) -> anyhow::Result<Vec<Item>> {
    let status = status(&stores.source, &stores.target, &context.tables()?).await?;
    let mut items = before(&status);
    items.push(protection(context, stores).await?);
    items.extend(at(&status));
    items.push(shadow_reads(stores, &status).await?);
    items.push(way_back(stores).await?);
    items.extend(after(&status));
    for (id, stage, what) in TO_SIGN {
        let signed = stores.source.newest_note(&format!("{SIGNED}{id}")).await?;
        let (state, detail) = match signed {
            Some(entry) => {
                let reason =
                    entry.detail.get("reason").and_then(|reason| reason.as_str()).unwrap_or_default();
                (State::Signed, format!("{} by {}: {reason}", day(entry.at), entry.actor))
            }
            None => (State::ToSign, format!("`checklist --sign {id} --reason …`")),
        };
        items.push(Item { id, stage, what, state, detail });
    }
    items.sort_by_key(|item| item.stage as u8);
    Ok(items)
}

fn day(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M UTC").to_string()
}

fn item(stage: Stage, id: &'static str, what: &'static str, holds: bool, detail: impl Into<String>) -> Item {
    let state = if holds { State::Proven } else { State::Failed };
    Item { id, stage, what, state, detail: detail.into() }
}

/// The names of the tables of which something does not hold.
fn but(status: &Status, holds: impl Fn(&lockstep_coordinator::TableStatus) -> bool) -> Vec<&str> {
    status.tables.iter().filter(|table| !holds(table)).map(|table| table.name.as_str()).collect()
}

fn all_but(names: &[&str], well: &str, ill: &str) -> String {
    if names.is_empty() { well.to_owned() } else { format!("{}: {ill}", names.join(", ")) }
}

fn before(status: &Status) -> Vec<Item> {
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
            "history is copied",
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

async fn protection(context: &Context, stores: &Stores) -> anyhow::Result<Item> {
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

fn at(status: &Status) -> Vec<Item> {
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

async fn shadow_reads(stores: &Stores, status: &Status) -> anyhow::Result<Item> {
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
    // What saw nothing has proven nothing.
    let state = match (agree, differ) {
        (_, 1..) => State::Failed,
        (0, _) => State::NotReached,
        _ => State::Proven,
    };
    let detail = format!("{agree} agree and {differ} differ in this phase, within a day");
    Ok(Item { id, stage, what, state, detail })
}

/// Whether a step back was taken at some time: a way back that was never taken is a hope.
async fn way_back(stores: &Stores) -> anyhow::Result<Item> {
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

fn after(status: &Status) -> Vec<Item> {
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

fn text(items: &[Item], open: usize) -> String {
    let mut text = String::new();
    for (stage, title) in [
        (Stage::PreDeployment, "Before"),
        (Stage::Deployment, "At the deployment"),
        (Stage::PostDeployment, "After"),
    ] {
        let of_stage: Vec<&Item> = items.iter().filter(|item| item.stage == stage).collect();
        if of_stage.is_empty() {
            continue;
        }
        let rows = of_stage.into_iter().map(|item| {
            let word = match item.state {
                State::Proven => "proven",
                State::Failed => "FAILED",
                State::NotReached => "not yet",
                State::Signed => "signed",
                State::ToSign => "to be signed",
            };
            vec![item.id.to_owned(), item.what.to_owned(), word.to_owned(), item.detail.clone()]
        });
        text += &format!("{title}\n{}\n", table(&["item", "what", "state", "because"], rows));
    }
    text + &match open {
        0 => "Every item is proven or signed.".to_owned(),
        open => format!("{open} items are open."),
    }
}
