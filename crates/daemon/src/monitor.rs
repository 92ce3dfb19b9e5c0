//! Watching: a sample of rows now and then, and telling of each alert once when it is raised, and once when
//! it is over.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::Utc;
use lockstep_coordinator::Observer;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::measure::measure;
use crate::operator::{Act, Compare};
use crate::part::{PartState, Role};
use crate::shared::Shared;
use crate::snapshot::Snapshot;
use crate::stores::StoresView;
use crate::told::Told;
use crate::webhook;

/// Longest wait for the journal.
const ASK_WITHIN: Duration = Duration::from_secs(4);
/// Alerts that every daemon tells of while PostgreSQL does not answer: then none leads, and none would.
const OF_STORES: [&str; 2] = ["postgresql_down", "dynamodb_down"];
/// Step of the journal that says what was told, for the daemon that tells next.
const TOLD: &str = "alerts told";

/// Tells of alerts until the daemon ends. The leader does; while PostgreSQL does not answer, each.
pub(crate) async fn run(shared: Arc<Shared>) {
    let (line, sending) = match shared.monitor.webhook.clone() {
        Some(webhook) => {
            let (line, work) = webhook::line(webhook, shared.stop.clone());
            (Some(line), Some(tokio::spawn(work)))
        }
        None => (None, None),
    };
    let has_line = line.is_some();
    let mut teller = Teller {
        told: Told::new(line, names_of(&shared)),
        shared: shared.clone(),
        is_named: false,
        recorded: has_line.then_some(None),
    };
    let mut snapshots = shared.snapshot.subscribe();
    loop {
        if shared.stop.run_until_cancelled(snapshots.changed()).await.is_none_or(|changed| changed.is_err()) {
            break;
        }
        let snapshot = snapshots.borrow_and_update().clone();
        if shared.stop.run_until_cancelled(teller.look(&snapshot)).await.is_none() {
            break;
        }
    }
    // What waits is sent for a few seconds more: a daemon that is told to end may have told last of why.
    if let Some(sending) = sending {
        let _ = sending.await;
    }
}

/// Returns what names a migration whose identity is not known, as PostgreSQL was never asked.
fn names_of(shared: &Shared) -> String {
    let tables: Vec<&str> = shared.migration.tables.iter().map(|table| table.name()).collect();
    format!("tables {}", tables.join(", "))
}

struct Teller {
    shared: Arc<Shared>,
    told: Told,
    /// Whether alerts are named by the identity of the migration.
    is_named: bool,
    /// List of what was told, by the journal, once this daemon leads and has read it; none is kept there
    /// where there is no webhook.
    recorded: Option<Option<Value>>,
}

impl Teller {
    async fn look(&mut self, snapshot: &Snapshot) {
        let role = self.shared.role.borrow().clone();
        let is_away = StoresView::is_down(snapshot.stores.postgresql.as_ref());
        if !is_away && !self.is_named {
            self.name().await;
        }
        match role {
            // 1. PostgreSQL stops. 2. Each daemon stands by, as the lock of the leader is gone. 3. Each
            // would leave it to the leader to say so.
            Role::Standby(why) => {
                self.shared.note("monitor", PartState::Standby, Some(why));
                let told: Vec<&str> = OF_STORES.into_iter().filter(|name| self.told.holds(name)).collect();
                let is_ours = |name: &str| OF_STORES.contains(&name) && (is_away || told.contains(&name));
                self.told.tell(&snapshot.alerts, is_ours);
                // The daemon that leads meanwhile tells of the others.
                self.recorded = self.recorded.take().map(|_| None);
            }
            Role::Leader => {
                self.shared.note("monitor", PartState::Running, None);
                if !is_away {
                    self.take_over().await;
                }
                self.told.tell(&snapshot.alerts, |_| true);
                if !is_away {
                    self.record().await;
                }
            }
        }
    }

    async fn name(&mut self) {
        if let Ok(Ok(Some(id))) = within(self.shared.migration.source.migration_id()).await {
            self.told.call(id);
            self.is_named = true;
        }
    }

    /// Reads what the daemon that led before has told of, once.
    async fn take_over(&mut self) {
        if self.recorded != Some(None) || !is_installed(&self.shared) {
            return;
        }
        let Ok(Ok(noted)) = within(self.shared.migration.source.newest_note(TOLD)).await else { return };
        let kept = noted.and_then(|entry| entry.detail.get("alerts").cloned());
        let kept = kept.unwrap_or_else(|| Value::Array(Vec::new()));
        self.told.take_over(&kept);
        self.recorded = Some(Some(kept));
    }

    /// Writes what is told into the journal, where it has changed.
    async fn record(&mut self) {
        let Some(Some(recorded)) = &mut self.recorded else { return };
        let kept = self.told.kept();
        if *recorded == kept {
            return;
        }
        let source = &self.shared.migration.source;
        let detail = json!({ "alerts": kept });
        match within(source.journal_note(crate::counting::BY_ITSELF, TOLD, &detail)).await {
            Ok(Ok(())) => *recorded = kept,
            // With the next reading.
            Ok(Err(error)) => tracing::debug!("what was told is not in the journal yet: {error}"),
            Err(_) => {}
        }
    }
}

/// A store that hangs keeps no alert from being told.
async fn within<T>(asked: impl Future<Output = T>) -> Result<T, tokio::time::error::Elapsed> {
    tokio::time::timeout(ASK_WITHIN, asked).await
}

fn is_installed(shared: &Shared) -> bool {
    shared.snapshot.borrow().status.as_ref().is_some_and(|status| status.installed)
}

/// Compares every key that changed since everything was compared, where there is such a comparison to go on
/// from: its verdict is recorded, and an alert of a difference is raised by it. A sample sees a row that
/// no application changes as often as one that went wrong a minute ago.
async fn compare_changed(shared: &Shared, stop: &CancellationToken) -> Result<(), String> {
    compare(shared, &Compare::Incremental, stop).await
}

/// Compares by itself, and has the daemon read the verdict.
pub(crate) async fn compare(shared: &Shared, what: &Compare, stop: &CancellationToken) -> Result<(), String> {
    let observer: Arc<dyn Observer> = Arc::new(());
    let act = Act { actor: "monitor via serve".to_owned(), observer, cancel: stop.clone() };
    match shared.operator.validate(what, &act).await {
        Ok(_) => shared.look.notify_one(),
        // There is nothing to go on from: nothing was compared as a whole yet, or it found something.
        Err(why) if why.refused => tracing::debug!("it is not compared: {}", why.message),
        Err(why) if why.cancelled => {}
        Err(why) => return Err(why.message),
    }
    Ok(())
}

/// Compares a sample now and then, and more rarely what changed.
pub(crate) async fn sample(shared: Arc<Shared>, stop: CancellationToken) -> Result<(), String> {
    let Some(every) = shared.monitor.serve.sample_every() else { return Ok(()) };
    let mut changed_at = Instant::now();
    loop {
        // A comparison that an operator asked for says more, and both would take from the stores.
        if shared.operations.running().is_none() {
            let observer: Arc<dyn Observer> = Arc::new(());
            let act = Act { actor: "monitor via serve".to_owned(), observer, cancel: stop.clone() };
            let sample = Compare::Sample(shared.monitor.serve.sample_rows);
            let compared = shared.operator.validate(&sample, &act).await;
            if stop.is_cancelled() {
                return Ok(());
            }
            let report: Value = compared.map_err(|why| why.message)?;
            if let Some(measured) = measure(&report, Utc::now()) {
                let found: Vec<(&str, &str, u64)> = measured
                    .tables
                    .iter()
                    .map(|table| (table.name.as_str(), "sample.differ", table.differ))
                    .collect();
                let counted = shared.migration.source.count_up(&found).await;
                counted.map_err(|error| error.to_string())?;
                shared.measured.send_replace(Some(measured));
                shared.look.notify_one();
            }
        }
        let is_due = shared.monitor.serve.incremental_every().is_some_and(|due| changed_at.elapsed() >= due);
        if is_due && shared.operations.running().is_none() {
            changed_at = Instant::now();
            compare_changed(&shared, &stop).await?;
            if stop.is_cancelled() {
                return Ok(());
            }
        }
        let next = async {
            tokio::select! {
                () = tokio::time::sleep(every) => {}
                () = shared.sample_now.notified() => {}
            }
        };
        if stop.run_until_cancelled(next).await.is_none() {
            return Ok(());
        }
    }
}
