//! `settings`: what operators have turned, and what there is to turn.

use lockstep_core::settings::{KNOBS, RAMP, Ramp, known};
use lockstep_postgres::{SettingRow, Source};
use serde_json::{Map, Value, json};

use crate::exit::Exit;
use crate::report::{print, print_json, table};
use crate::stores::Stores;
use crate::{Context, help};

/// Shows what operators have turned, and what there is to turn
///
/// What is set counts for every process of the migration, before what each was configured with, until it is
/// taken back or its time is over. `set` turns one.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = help!("  cargo xtask settings\n  cargo xtask settings --json | jq .settings"))]
pub struct Args {}

/// Runs it.
///
/// # Errors
/// When PostgreSQL does not answer.
pub async fn run(context: Context, _args: Args) -> anyhow::Result<Exit> {
    let stores = Stores::configured_lazily(&context.config, &context.ui).await?;
    show(&context, &stores.source).await?;
    stores.close(false).await?;
    Ok(Exit::Done)
}

/// Shows them.
pub(super) async fn show(context: &Context, source: &Source) -> anyhow::Result<()> {
    let rows = source.settings().await?;
    if context.json {
        // `settings` is a list, as it was from the beginning; `by_name` is what the API calls `settings`.
        let by_name: Map<String, Value> = rows.iter().map(|row| (row.name.clone(), json!(row))).collect();
        print_json(&json!({ "settings": rows, "by_name": by_name, "known": known() }));
    } else {
        print(&text(&rows));
    }
    Ok(())
}

fn text(rows: &[SettingRow]) -> String {
    let of = |name: &str| rows.iter().find(|row| row.name == name);
    let lines = KNOBS.iter().map(|knob| match of(knob.name) {
        None => vec![knob.name.to_owned(), "as configured".to_owned(), String::new(), knob.about.to_owned()],
        Some(row) => vec![
            knob.name.to_owned(),
            row.value.to_string().trim_matches('"').to_owned(),
            who(row),
            knob.about.to_owned(),
        ],
    });
    let mut text = table(&["setting", "value", "by", "followed by"], lines);
    for row in rows {
        if let (Some(name), Some(ramp)) = (row.name.strip_prefix(RAMP), Ramp::of(&row.value)) {
            let steps: Vec<String> = ramp.steps.iter().map(|step| format!("{step} %")).collect();
            text += &format!(
                "\n{name} is led: {}; it is at {} %, each step holds for {} s, and a running `serve` takes the next ({})",
                steps.join(" → "),
                ramp.percent(),
                ramp.hold_s,
                who(row)
            );
        }
    }
    text
}

fn who(row: &SettingRow) -> String {
    let mut text = row.actor.clone();
    if let Some(reason) = &row.reason {
        text += &format!(": {reason}");
    }
    if let Some(until) = row.until {
        text += &format!(" (until {})", until.format("%Y-%m-%d %H:%M:%S UTC"));
    }
    text
}
