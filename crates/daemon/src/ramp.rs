//! Ramps: a share that rises by itself, one step after the other, each after its time and a gate (R49).

use std::sync::Arc;
use std::time::Duration;

use lockstep_core::Phase;
use lockstep_core::settings::{CANARY_PERCENT, RAMP, Ramp};
use lockstep_postgres::{SettingRow, Turn};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::alerts::Severity;
use crate::counted::differences;
use crate::part::PartState;
use crate::shared::Shared;

const EVERY: Duration = Duration::from_secs(1);

/// The name of the part.
pub(crate) const PART: &str = "ramp";

/// Returns the ramps among the settings, by the setting that each leads.
pub(crate) fn ramps(settings: &[SettingRow]) -> impl Iterator<Item = (&str, &SettingRow, Ramp)> {
    settings.iter().filter_map(|row| Some((row.name.strip_prefix(RAMP)?, row, Ramp::of(&row.value)?)))
}

/// Leads each ramp up until it is told to stop.
pub(crate) async fn run(shared: Arc<Shared>, stop: CancellationToken) -> Result<(), String> {
    loop {
        let settings = shared.migration.source.settings().await.map_err(|error| error.to_string())?;
        let now = shared.migration.source.clock().await.map_err(|error| error.to_string())?;
        let now_s = now.timestamp_millis() as f64 / 1_000.0;
        let mut said = Vec::new();
        for (name, row, ramp) in ramps(&settings) {
            said.push(lead(&shared, &settings, name, row, &ramp, now_s).await?);
        }
        let said = if said.is_empty() { "no ramp is under way".to_owned() } else { said.join("; ") };
        shared.note(PART, PartState::Running, Some(said));
        if stop.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_none() {
            return Ok(());
        }
    }
}

/// Takes the next step if it is time and nothing speaks against it; says where the ramp is.
///
/// An operator may turn the share, or begin another ramp, while the gate is asked. Then nothing is turned
/// here, and the next look goes by what was set.
async fn lead(
    shared: &Shared,
    settings: &[SettingRow],
    name: &str,
    row: &SettingRow,
    ramp: &Ramp,
    now_s: f64,
) -> Result<String, String> {
    let source = &shared.migration.source;
    let at = |percent: f64| format!("{name} is at {percent} %");
    let led = settings.iter().find(|row| row.name == name);
    let in_force = led.and_then(|row| row.value.as_f64());
    let ends = Turn { name: &row.name, expect: Some(Some(row)), ..Turn::default() };
    let meanwhile = || format!("{name} was turned a moment ago, and its ramp is looked at again");
    if in_force != Some(ramp.percent()) {
        // It is turned with its ramp in one transaction, so an operator has turned it since.
        let reason = format!("{name} was turned by hand, so its ramp ends");
        let turned = source.turn(&[ends], &row.actor, Some(&reason), &json!({})).await;
        let turned = turned.map_err(|error| error.to_string())?;
        return Ok(if turned { reason } else { meanwhile() });
    }
    if !ramp.goes_on() {
        let reason = format!("{}: the ramp is at its end", at(ramp.percent()));
        let turned = source.turn(&[ends], &row.actor, Some(&reason), &json!({})).await;
        let turned = turned.map_err(|error| error.to_string())?;
        return Ok(if turned { reason } else { meanwhile() });
    }
    let Some(next) = ramp.due(now_s) else {
        let left_s = (ramp.since_s + ramp.hold_s as f64 - now_s).max(0.0);
        let step = ramp.steps.get(ramp.at + 1).copied().unwrap_or(100.0);
        return Ok(format!("{}; {step} % is asked for in {left_s:.0} s", at(ramp.percent())));
    };
    if let Some(why) = held_by(shared, name, ramp).await? {
        return Ok(format!("{}; {} % waits: {why}", at(ramp.percent()), next.percent()));
    }
    let (percent, kept) = (Value::from(next.percent()), json!(next));
    let turns = [
        Turn { name, value: Some(&percent), expect: Some(led), ..Turn::default() },
        Turn { name: &row.name, value: Some(&kept), expect: Some(Some(row)), ..Turn::default() },
    ];
    let reason = row.reason.as_deref().unwrap_or("the next step of its ramp");
    let turned = source.turn(&turns, &row.actor, Some(reason), &json!({ "mode": "ramp" })).await;
    if !turned.map_err(|error| error.to_string())? {
        return Ok(meanwhile());
    }
    tracing::info!("{}, by its ramp", at(next.percent()));
    shared.look.notify_one();
    Ok(at(next.percent()))
}

/// Returns the gate between two steps: what keeps the next one waiting, if anything does.
async fn held_by(shared: &Shared, name: &str, ramp: &Ramp) -> Result<Option<String>, String> {
    let snapshot = shared.snapshot.borrow().clone();
    let Some(status) = &snapshot.status else {
        return Ok(Some("the migration has not been read yet".to_owned()));
    };
    if name == CANARY_PERCENT && status.phase != Some(Phase::HybridRead) {
        return Ok(Some("DynamoDB answers reads in HybridRead only".to_owned()));
    }
    if let Some(alert) = snapshot.alerts.iter().find(|alert| alert.severity >= Severity::Warning) {
        return Ok(Some(alert.message.clone()));
    }
    let (Some(epoch), Some(since)) =
        (status.epoch, chrono::DateTime::from_timestamp_millis((ramp.since_s * 1_000.0) as i64))
    else {
        return Ok(Some("it is not known since when this step holds".to_owned()));
    };
    // A read that a comparison later found to be the same counts no more.
    // Both are times of the source's clock, and so are those of what was counted.
    let is_consistent = status.verdict_consistent == Some(true);
    let is_of_now = status.verdict_age_s.is_some_and(f64::is_finite);
    let compared = status.verdict_as_of.filter(|_| is_consistent && is_of_now);
    let since = compared.map_or(since, |compared| compared.max(since));
    let counted =
        shared.migration.source.counted_in(epoch, since).await.map_err(|error| error.to_string())?;
    let found = differences(&counted);
    Ok((found > 0)
        .then(|| format!("{found} differences were found since this step; run `validate`, then `repair`")))
}
