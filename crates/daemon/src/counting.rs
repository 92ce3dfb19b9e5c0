//! Acts of the leader by itself on what was counted: it notes what the relay has spent, stops what can be
//! stopped at the cap, and steps reads back to PostgreSQL when too much differs in HybridRead (R48, R50).

use std::sync::Arc;
use std::time::{Duration, Instant};

use lockstep_core::settings::{CANARY_PERCENT, MISMATCHES_MAX, RAMP};
use lockstep_core::{Epoch, Phase};
use lockstep_postgres::Turn;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::counted::{SteppedBack, differences};
use crate::http::begin_by_itself;
use crate::operator::Walk;
use crate::shared::Shared;

/// Interval at which it looks.
const EVERY: Duration = Duration::from_secs(5);
/// Within how long differences are added up.
const WITHIN: chrono::TimeDelta = chrono::TimeDelta::minutes(10);
/// Interval at which counts that nothing asks for any more are forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(3_600);
/// Time after a step back at which another one is tried, if it did not work out.
const AGAIN_AFTER: Duration = Duration::from_secs(30);
/// Step of the journal that says that reads go back by themselves.
const STEP_BACK: &str = "step reads back";
/// Name of the actor where no person acts.
pub(crate) const BY_ITSELF: &str = "monitor via serve";

/// Looks until it is told to stop.
pub(crate) async fn run(shared: Arc<Shared>, stop: CancellationToken) -> Result<(), String> {
    let (mut forgot_at, mut stepped_at) = (None::<Instant>, None::<Instant>);
    loop {
        let source = &shared.migration.source;
        note_spent(&shared).await;
        if forgot_at.is_none_or(|at| at.elapsed() >= FORGET_EVERY) {
            forgot_at = Some(Instant::now());
            source.forget_counts().await.map_err(|error| error.to_string())?;
        }
        // Wrong answers go before spending: that the one could not be done keeps from the other no more.
        let capped = keep_to_cap(&shared).await;
        keep_to_mismatches(&shared, &mut stepped_at).await?;
        capped?;
        if stop.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_none() {
            note_spent(&shared).await;
            return Ok(());
        }
    }
}

/// Notes what the relay has spent, and how often it and the feed were asked to slow down.
async fn note_spent(shared: &Shared) {
    let source = &shared.migration.source;
    let mut spent = shared.spent.lock().await;
    spent.note(source, &shared.progress).await;
    spent.note_feed(source, shared.feed_progress.throttles()).await;
}

/// Pauses that the cap sets. Changes go on being delivered: what waits costs as much later, and readers more.
const STOPPED_AT_CAP: [&str; 2] = ["pause.backfill", "pause.sampling"];
/// Name of the actor of these pauses, so that they end when the cap is raised and not when a person paused.
const CAP: &str = "spend cap via serve";

async fn keep_to_cap(shared: &Shared) -> Result<(), String> {
    let Some(spend) = shared.spend.borrow().clone() else { return Ok(()) };
    let kept = shared.settings.borrow().clone();
    let on = Value::Bool(true);
    // The settings that were read are seconds old. 1. A person pauses, or takes a pause over, meanwhile. 2.
    // It would become the cap's, which ends it when more may be spent. So the call names the value that was
    // read, and a change of it is looked at again.
    let turn_of = |name: &'static str| {
        let row = kept.iter().find(|row| row.name == name);
        let value = match row {
            None if spend.is_over() => Some(&on),
            Some(row) if row.actor == CAP && !spend.is_over() => None,
            _ => return None,
        };
        Some(Turn { name, value, expect: Some(row), ..Turn::default() })
    };
    let turns: Vec<Turn<'_>> = STOPPED_AT_CAP.into_iter().filter_map(turn_of).collect();
    if turns.is_empty() {
        return Ok(());
    }
    let reason = match spend.cap_usd {
        Some(cap) if spend.is_over() => {
            format!("{:.2} dollars are spent, and spend_cap_usd is {cap:.2}", spend.usd)
        }
        _ => "less is spent than spend_cap_usd allows".to_owned(),
    };
    let turned = shared.migration.source.turn(&turns, CAP, Some(&reason), &json!({})).await;
    shared.look.notify_one();
    if turned.map_err(|error| error.to_string())? {
        tracing::warn!("copying and comparing {}: {reason}", if spend.is_over() { "stop" } else { "go on" });
    }
    Ok(())
}

/// 1. Something writes DynamoDB past Lockstep, or a rule reads a row differently there.
/// 2. Readers in HybridRead are given it, and a person looks at the page in an hour.
///
/// So reads go back at once: first by the canary share, which applications follow within a second, then by
/// the step, which holds for those that follow no setting.
async fn keep_to_mismatches(shared: &Arc<Shared>, stepped_at: &mut Option<Instant>) -> Result<(), String> {
    let (phase, epoch) = {
        let snapshot = shared.snapshot.borrow();
        let status = snapshot.status.as_ref();
        (status.and_then(|status| status.phase), status.and_then(|status| status.epoch))
    };
    let (Some(Phase::HybridRead), Some(epoch)) = (phase, epoch) else {
        return end_of_step_back(shared, phase).await;
    };
    let source = &shared.migration.source;
    let most = number(shared, MISMATCHES_MAX).map_or(shared.monitor.serve.mismatches_max, |most| most as u64);
    // By the clock of those who counted: this machine's may be minutes ahead.
    let since = source.clock().await.map_err(|error| error.to_string())? - WITHIN;
    let counted = source.counted_in(epoch, since).await.map_err(|error| error.to_string())?;
    let found = u64::try_from(differences(&counted)).unwrap_or(0);
    if found <= most {
        return Ok(());
    }
    let reporters = source.reporters_of_differences(epoch, since).await.map_err(|error| error.to_string())?;
    let by: Vec<String> = reporters.iter().map(|(role, count)| format!("{role} ({count})")).collect();
    let by = if by.is_empty() { String::new() } else { format!(", reported by role {}", by.join(", ")) };
    let why = format!(
        "{found} differences were found in ten minutes of HybridRead{by}, and {most} are allowed; reads \
         go back to PostgreSQL"
    );
    let none = Value::from(0.0);
    let is_back = shared.settings.borrow().iter().any(|row| row.name == CANARY_PERCENT && row.value == none);
    if !is_back {
        tracing::error!("{why}");
        let ramp = format!("{RAMP}{CANARY_PERCENT}");
        // The value that the share has by now does not matter: wrong answers go before it. It counts again
        // when the step is taken.
        let turns = [
            Turn { name: CANARY_PERCENT, value: Some(&none), lays_over: true, ..Turn::default() },
            Turn { name: &ramp, ..Turn::default() },
        ];
        // The step takes reads back as well, and where the one write is refused the other may not be.
        if let Err(error) = source.turn(&turns, BY_ITSELF, Some(&why), &json!({})).await {
            tracing::error!(
                "the share of reads was not taken back, and the step is taken all the same: {error}"
            );
        }
    }
    note_step_back(shared, epoch, &why).await;
    // Another operation may be under way; a comparison ends for this, and else the next look steps back. One
    // that does not work out is tried again, and does not fill the journal meanwhile.
    let decided_in = Some((Phase::HybridRead, epoch));
    let walk = Walk { forward: false, to: Some(Phase::DualWrite), force: None, decided_in };
    if stepped_at.is_none_or(|at| at.elapsed() >= AGAIN_AFTER)
        && begin_by_itself(shared, BY_ITSELF, &why, walk).await
    {
        *stepped_at = Some(Instant::now());
    }
    shared.look.notify_one();
    Ok(())
}

/// Notes a step back in the journal, once in an epoch, for the daemon that leads after this one: it tells of
/// it as well until a comparison has found nothing.
async fn note_step_back(shared: &Shared, epoch: Epoch, why: &str) {
    if shared.stepped_back.borrow().as_ref().is_some_and(|back| back.epoch == epoch) {
        return;
    }
    let source = &shared.migration.source;
    let detail = json!({ "reason": why, "epoch": epoch });
    if let Err(error) = source.journal_note(BY_ITSELF, STEP_BACK, &detail).await {
        tracing::error!("the step back is not in the journal: {error}");
    }
    read_step_back(shared).await;
}

/// Reads the newest step back that a daemon has taken by itself. What does not work out is read next time.
pub(crate) async fn read_step_back(shared: &Shared) {
    let Ok(noted) = shared.migration.source.newest_note(STEP_BACK).await else { return };
    let back = noted.as_ref().and_then(SteppedBack::of);
    shared.stepped_back.send_if_modified(|known| {
        let differs = *known != back;
        *known = back;
        differs
    });
}

/// Takes the share back in DualWrite, where PostgreSQL answers whatever it is, so that a later step to
/// HybridRead, whose gates ask for a new verdict, moves the reads that it moved before. 1. Five percent are
/// read from DynamoDB, and something differs. 2. Reads go back. 3. If nothing were set after that, the next
/// step would move all of them.
async fn end_of_step_back(shared: &Shared, phase: Option<Phase>) -> Result<(), String> {
    if !matches!(phase, Some(Phase::DualWrite | Phase::PostgresOnly)) {
        return Ok(());
    }
    let ours = shared
        .settings
        .borrow()
        .iter()
        .find(|row| row.name == CANARY_PERCENT && row.actor == BY_ITSELF && row.value == 0.0)
        .cloned();
    let Some(ours) = ours else { return Ok(()) };
    // A share that a person has set since is theirs.
    let expect = Some(Some(&ours));
    let turns = [Turn { name: CANARY_PERCENT, lays_over: true, expect, ..Turn::default() }];
    let reason = "the step back is taken; the gates of HybridRead ask for a new verdict";
    let turned = shared.migration.source.turn(&turns, BY_ITSELF, Some(reason), &json!({})).await;
    shared.look.notify_one();
    turned.map(drop).map_err(|error| error.to_string())
}

fn number(shared: &Shared, name: &str) -> Option<f64> {
    shared.settings.borrow().iter().find(|row| row.name == name)?.value.as_f64()
}
