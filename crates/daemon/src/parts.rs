//! The parts of the daemon, and when each of them is needed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::Utc;
use lockstep_coordinator::{
    MigrationContext, RelayUntil, keep_continuity, keep_feeding, refuse_a_second, relay, require_current,
};
use lockstep_core::Phase;
use lockstep_postgres::TableBinding;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::part::{PartState, Role};
use crate::shared::Shared;
use crate::supervise::{Need, begin, keep};

/// Interval at which what others also do is done here, in case they do not: the relay sweeps and makes marks
/// itself while it runs.
const BESIDE_EVERY: Duration = Duration::from_secs(5);
/// The same while nothing happens: then there is no intent to sweep, and no version that a mark would have to
/// remember, whether a relay runs or not.
const QUIET_EVERY: Duration = Duration::from_secs(300);

/// Starts all of them.
pub(crate) fn start(shared: &Arc<Shared>, tasks: &mut JoinSet<&'static str>) {
    begin(tasks, "relay", keep(shared.clone(), "relay", needs_relay, deliver));
    begin(tasks, "reverse-feed", keep(shared.clone(), "reverse-feed", needs_feed, feed));
    begin(tasks, "sweeper", keep(shared.clone(), "sweeper", needs_sweeper, sweep));
    begin(tasks, "history-marks", keep(shared.clone(), "history-marks", needs_sweeper, mark));
    begin(tasks, "counting", keep(shared.clone(), "counting", needs_sweeper, crate::counting::run));
    let (ramp, lead_up) = (crate::ramp::PART, crate::ramp::run);
    begin(tasks, ramp, keep(shared.clone(), ramp, needs_ramp, lead_up));
    begin(tasks, "monitor", crate::monitor::run(shared.clone()));
    if shared.monitor.serve.sample_every().is_some() {
        begin(tasks, "sampling", keep(shared.clone(), "sampling", needs_sampling, crate::monitor::sample));
    }
    if shared.monitor.serve.full_every().is_some() {
        let (whole, compare) = (crate::whole::PART, crate::whole::run);
        begin(tasks, whole, keep(shared.clone(), whole, needs_sampling, compare));
    }
}

/// Returns what keeps every part from running, if anything does.
fn held_up(shared: &Shared, part: &str) -> Option<Need> {
    let role = shared.role.borrow();
    if let Role::Standby(why) = &*role {
        return Some(Need::Not(PartState::Standby, Some(why.clone())));
    }
    let pauses = shared.pauses.borrow();
    let pause = pauses.iter().find(|pause| pause.part == part)?;
    if pause.until.is_some_and(|until| until <= Utc::now()) {
        return None;
    }
    let reason = pause.reason.as_deref().unwrap_or("no reason given");
    Some(Need::Not(PartState::Paused, Some(format!("paused by {}: {reason}", pause.actor))))
}

fn needs_relay(shared: &Shared) -> Need {
    if let Some(held_up) = held_up(shared, "relay") {
        return held_up;
    }
    let snapshot = shared.snapshot.borrow();
    let waiting = |why: &str| Need::Not(PartState::Waiting, Some(why.to_owned()));
    let Some(status) = &snapshot.status else { return waiting("PostgreSQL has not been read yet") };
    if status.target_record.is_some_and(|record| record.completed_at.is_some()) {
        return Need::Not(PartState::NotNeeded, Some("the migration is complete".to_owned()));
    }
    if !status.installed
        || status.tables.is_empty()
        || status.tables.iter().any(|table| table.capture == "absent")
    {
        return waiting("nothing is captured yet: run `backfill`, or `migrate`");
    }
    Need::Run
}

fn needs_feed(shared: &Shared) -> Need {
    if let Some(held_up) = held_up(shared, "reverse-feed") {
        return held_up;
    }
    let snapshot = shared.snapshot.borrow();
    let Some(status) = &snapshot.status else {
        return Need::Not(PartState::Waiting, Some("PostgreSQL has not been read yet".to_owned()));
    };
    // It is not there once it is over, by PostgreSQL's clock; ours may be ahead.
    if status.phase == Some(Phase::DynamoOnly) || status.late_until.is_some() {
        return Need::Run;
    }
    Need::Not(
        PartState::NotNeeded,
        Some("PostgreSQL is the truth; a step to DynamoOnly begins it".to_owned()),
    )
}

fn needs_sweeper(shared: &Shared) -> Need {
    match held_up(shared, "sweeper") {
        Some(held_up) => held_up,
        None => match &shared.snapshot.borrow().status {
            Some(status) if status.installed => Need::Run,
            _ => {
                Need::Not(PartState::Waiting, Some("Lockstep is not installed in this source yet".to_owned()))
            }
        },
    }
}

/// While a share is led up by a ramp.
fn needs_ramp(shared: &Shared) -> Need {
    if let Some(held_up) = held_up(shared, crate::ramp::PART) {
        return held_up;
    }
    match crate::ramp::ramps(&shared.settings.borrow()).next() {
        Some(_) => Need::Run,
        None => Need::Not(PartState::NotNeeded, Some("no ramp is under way".to_owned())),
    }
}

/// Tells whether sampling is needed: where both stores are written, each row has an item.
fn needs_sampling(shared: &Shared) -> Need {
    if let Some(held_up) = held_up(shared, "sampling") {
        return held_up;
    }
    match shared.snapshot.borrow().phase() {
        Some(Phase::DualWrite | Phase::HybridRead) => Need::Run,
        _ => Need::Not(
            PartState::NotNeeded,
            Some("both stores are written in DualWrite and HybridRead only".to_owned()),
        ),
    }
}

async fn deliver(shared: Arc<Shared>, stop: CancellationToken) -> Result<(), String> {
    let (migration, progress) = (shared.migration.clone(), shared.progress.clone());
    let ready = async {
        claim(&migration).await?;
        // An older version of Lockstep may have made it.
        migration.source.migrate_schema().await?;
        for binding in &migration.tables {
            migration.source.capture_state(binding).await?.require_on(binding.name())?;
        }
        Ok::<_, lockstep_core::Error>(())
    };
    ready.await.map_err(|error| error.to_string())?;
    let ended = relay(&migration, RelayUntil::Cancelled, &progress, &stop).await;
    ended.map(drop).map_err(|error| error.to_string())
}

/// Tells the target whose it is: when the daemon was started, the source may have been away.
async fn claim(migration: &MigrationContext) -> lockstep_core::Result<()> {
    lockstep_coordinator::claim(&migration.source, &migration.target).await?;
    require_current(&migration.source, &migration.target)?;
    let tables: Vec<&str> = migration.tables.iter().map(TableBinding::name).collect();
    refuse_a_second(&migration.source, &tables).await
}

async fn feed(shared: Arc<Shared>, stop: CancellationToken) -> Result<(), String> {
    let (migration, progress) = (shared.migration.clone(), shared.feed_progress.clone());
    claim(&migration).await.map_err(|error| error.to_string())?;
    let ended = keep_feeding(&migration, &migration.options.reverse_feed, &progress, &stop).await;
    ended.map_err(|error| error.to_string())
}

async fn sweep(shared: Arc<Shared>, stop: CancellationToken) -> Result<(), String> {
    claim(&shared.migration).await.map_err(|error| error.to_string())?;
    loop {
        shared.migration.source.sweep_intents(Duration::ZERO).await.map_err(|error| error.to_string())?;
        if !rested(&shared, &stop).await {
            return Ok(());
        }
    }
}

/// Waits until it is time again; `false` when the part is to end.
async fn rested(shared: &Shared, stop: &CancellationToken) -> bool {
    let since = Instant::now();
    loop {
        if stop.run_until_cancelled(tokio::time::sleep(BESIDE_EVERY)).await.is_none() {
            return false;
        }
        if !*shared.quiet.borrow() || since.elapsed() >= QUIET_EVERY {
            return true;
        }
    }
}

async fn mark(shared: Arc<Shared>, stop: CancellationToken) -> Result<(), String> {
    loop {
        keep_continuity(&shared.migration).await.map_err(|error| error.to_string())?;
        if !rested(&shared, &stop).await {
            return Ok(());
        }
    }
}
