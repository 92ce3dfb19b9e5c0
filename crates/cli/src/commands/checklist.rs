//! `checklist`: what has to be so before, at and after the deployment, each proven, failed or signed. In
//! `stages` is what proves each.

mod stages;

use chrono::{DateTime, Utc};
use lockstep_coordinator::status;
use lockstep_core::settings::{REASON_CHARS_MAX, is_reason};
use serde::Serialize;
use serde_json::json;

use crate::config::actor;
use crate::exit::{Exit, Failure};
use crate::report::{print, print_json, table};
use crate::stores::Stores;
use crate::{Context, help};
use stages::{after, at, before, protection, shadow_reads, way_back};

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
    /// Name of the person who has looked at it, and when; for the journal
    #[arg(long, value_name = "WORDS", requires = "sign")]
    pub reason: Option<String>,
}

/// Stage of the checklist.
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

/// State of an item.
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

/// Items that a person signs, because no program can see them.
const TO_SIGN: [(&str, Stage, &str); 6] = [
    ("plan-approved", Stage::PreDeployment, "hours and dollars of `plan` are approved"),
    ("rights-least", Stage::PreDeployment, "roles have the rights of `iam-policy` and `grants`, and no more"),
    ("backup-restored", Stage::PreDeployment, "a backup of the source was restored and looked at"),
    ("alerts-heard", Stage::PreDeployment, "an alert has reached the people on call"),
    ("users-told", Stage::Deployment, "users and teams that have to know were told of the steps"),
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
