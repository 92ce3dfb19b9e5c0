//! Reading the migration: once for all clients, often while one listens, rarely while none does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::Utc;
use lockstep_coordinator::{CoordinatorError, Status, TableProgress, each_once, status, status_of_source};
use lockstep_core::settings::{LATENCY_MS_MAX, PAUSE, PENDING_DEAD_MAX, SPEND_CAP_USD};
use lockstep_core::{Kind, Phase, Side};
use lockstep_postgres::{Glance, SettingRow};
use serde_json::Value;

use crate::alerts::{self, Seen, Thresholds};
use crate::counted::Counted;
use crate::counting::read_step_back;
use crate::eta::Copying;
use crate::gauges;
use crate::latencies::{Latencies, Slow};
use crate::part::{PartState, Pause};
use crate::shared::{LOOK_IDLE, LOOK_WATCHED, Shared};
use crate::snapshot::Snapshot;
use crate::spend::Spend;
use crate::stores::{RateView, StoreView, StoresView};
use crate::supervise::caught;
use crate::view::render;

/// Longest wait for an answer of one store; after that it is said not to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(4);
/// Longest time of one reading. Each question has a bound of its own, or should: where one waits without any,
/// for a server that says nothing, what was so before would be shown for ever.
pub(crate) const READ_WITHIN: Duration = Duration::from_secs(20);
/// Longest wait for a server to say why it does not answer.
const WHY_WITHIN: Duration = Duration::from_secs(1);
/// Interval at which DynamoDB is asked whether it answers. PostgreSQL is asked with every reading.
const PROBE_EVERY: Duration = Duration::from_secs(5);
/// Readings are no closer together than this, whatever happens meanwhile.
const APART: Duration = Duration::from_millis(200);
/// Age of the stores' answers up to which a change in this process alone is shown without asking them again.
const FRESH: Duration = Duration::from_millis(800);
/// Interval at which everything is read again where a glance says that nothing has happened: what no glance
/// shows is noticed then.
const ALL_EVERY: Duration = Duration::from_secs(60);
/// Interval at which what was counted and spent is read.
const COUNTS_EVERY: Duration = Duration::from_secs(10);

/// Reads until the daemon ends.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut reader = Reader {
        shared: shared.clone(),
        probed_at: None,
        counted_at: None,
        glanced: None,
        last: None,
        copying: BTreeMap::new(),
        latencies: Latencies::default(),
        limits: Thresholds::default(),
    };
    let (mut operations, mut clients, mut role) =
        (shared.operations.changes(), shared.clients.subscribe(), shared.role.subscribe());
    let mut asked = false;
    loop {
        reader.read(std::mem::take(&mut asked)).await;
        // A store that is away is looked for each second: what waits for it is told by this.
        let is_away = StoresView::any_is_down(&shared.snapshot.borrow().stores);
        let every = if is_away || *shared.clients.borrow() > 0 { LOOK_WATCHED } else { LOOK_IDLE };
        tokio::select! {
            () = shared.stop.cancelled() => return,
            () = shared.look.notified() => asked = true,
            // The senders live in `shared`.
            _ = operations.changed() => {}
            _ = clients.changed() => {}
            _ = role.changed() => {}
            () = tokio::time::sleep(every) => {}
        }
        if shared.stop.run_until_cancelled(tokio::time::sleep(APART)).await.is_none() {
            return;
        }
    }
}

struct Reader {
    shared: Arc<Shared>,
    probed_at: Option<Instant>,
    counted_at: Option<Instant>,
    /// Glance that was made just before everything was read last, and when.
    glanced: Option<(Instant, Glance)>,
    /// Time at which the source was read, and the counts then.
    last: Option<(Instant, Vec<(i64, u64)>)>,
    /// Readings of each table whose initial load is copied.
    copying: BTreeMap<String, Copying>,
    latencies: Latencies,
    limits: Thresholds,
}

/// Everything, read once.
struct Read {
    status: Status,
    settings: Option<Vec<SettingRow>>,
    /// Whether the target was asked as well.
    is_whole: bool,
}

impl Reader {
    /// Reads and shows. A panic is a reading that failed, and the next one is tried: 1. A row holds what this
    /// program cannot. 2. The reading panics, and the daemon ends. 3. So it does at each start, and no page
    /// says why.
    async fn read(&mut self, is_asked: bool) {
        let Err(why) = caught(self.read_once(is_asked)).await else { return };
        tracing::error!("the migration could not be read: {why}");
        (self.glanced, self.counted_at) = (None, None);
        let before = self.shared.snapshot.borrow().clone();
        let mut next = Snapshot {
            number: before.number + 1,
            status: before.status.clone(),
            read_at: before.read_at,
            stores: before.stores.clone(),
            ..Snapshot::default()
        };
        let why = format!("the migration could not be read: {why}");
        next.stores.postgresql = Some(store(next.stores.postgresql.take(), Err(why), Duration::ZERO));
        self.rests(false);
        // What was so before was shown before. Where not even that can be, the page stays as it is.
        let _ = caught(async { self.show(next, &before) }).await;
    }

    async fn read_once(&mut self, is_asked: bool) {
        let before = self.shared.snapshot.borrow().clone();
        let is_fresh = !is_asked && before.read_at.is_some_and(|(at, _)| at.elapsed() < FRESH);
        let mut next = Snapshot {
            number: before.number + 1,
            status: before.status.clone(),
            read_at: before.read_at,
            stores: before.stores.clone(),
            rates: before.rates.clone(),
            ..Snapshot::default()
        };
        if !is_fresh && tokio::time::timeout(READ_WITHIN, self.ask(&mut next)).await.is_err() {
            // Of the half that was read nothing is shown.
            (next.status, next.read_at, next.rates) =
                (before.status.clone(), before.read_at, before.rates.clone());
            (next.stores, self.glanced) = (before.stores.clone(), None);
            let why = format!("the migration could not be read within {} s", READ_WITHIN.as_secs());
            next.stores.postgresql = Some(store(next.stores.postgresql.take(), Err(why), READ_WITHIN));
            self.rests(false);
        }
        self.show(next, &before);
    }

    /// Judges what was read, and shows it.
    fn show(&self, mut next: Snapshot, before: &Snapshot) {
        self.forget_measured(next.phase());
        let parts = self.shared.parts();
        let measured = self.shared.measured.borrow().clone();
        let (counted, spend, stepped_back) = (
            self.shared.counted.borrow().clone(),
            self.shared.spend.borrow().clone(),
            self.shared.stepped_back.borrow().clone(),
        );
        let held_back = self.shared.held_back.borrow().clone();
        let slow = self.over_budget();
        let seen = Seen {
            held_back: held_back.as_ref(),
            slow: &slow,
            status: next.status.as_ref(),
            measured: measured.as_ref(),
            counted: counted.as_ref(),
            spend: spend.as_ref(),
            stepped_back: stepped_back.as_ref(),
            stores: &next.stores,
            parts: &parts,
        };
        let limits = self.limits();
        next.alerts = alerts::judge(&seen, &limits, &before.alerts, Utc::now());
        next.health = alerts::health(&next.alerts, next.read_at.is_some());
        render(&mut next, &self.shared);
        gauges::fill(&self.shared, &next, &parts);
        self.shared.snapshot.send_replace(Arc::new(next));
    }

    /// Returns the bounds, as operators have turned them.
    fn limits(&self) -> Thresholds {
        let pending_dead = self.set(PENDING_DEAD_MAX).map(|most| most as i64);
        Thresholds { pending_dead: pending_dead.unwrap_or(self.limits.pending_dead), ..self.limits.clone() }
    }

    fn set(&self, name: &str) -> Option<f64> {
        number(&self.shared.settings.borrow(), name)
    }

    /// Returns the stores that answer more slowly than operators have set.
    fn over_budget(&self) -> Vec<Slow> {
        self.set(LATENCY_MS_MAX).map_or_else(Vec::new, |ms_max| self.latencies.over(Instant::now(), ms_max))
    }

    /// Forgets what a sample measured where nothing measures any more: 1. A sample finds differences. 2. The
    /// phase changes, or another daemon leads. 3. No sample is made here that could find them gone, and the
    /// alert would stay for ever.
    fn forget_measured(&self, phase: Option<Phase>) {
        let is_needed =
            self.shared.leads() && matches!(phase, None | Some(Phase::DualWrite | Phase::HybridRead));
        let every = self.shared.monitor.serve.sample_every();
        self.shared.measured.send_if_modified(|known| {
            known.take_if(|known| !is_needed || known.is_old(Utc::now(), every)).is_some()
        });
    }

    async fn ask(&mut self, next: &mut Snapshot) {
        let migration = self.shared.migration.clone();
        let probe = self.probed_at.is_none_or(|at| {
            at.elapsed() >= PROBE_EVERY || StoresView::is_down(next.stores.dynamodb.as_ref())
        });
        // A store that does not answer holds up no question to the other one.
        let (target_is_away, source_was_down) = (
            StoresView::is_down(next.stores.dynamodb.as_ref()),
            StoresView::is_down(next.stores.postgresql.as_ref()),
        );
        // An error with which a part ends over and over may be a loss that only the whole reading names.
        let parts_run = self.shared.parts().iter().all(|part| part.state != PartState::Restarting);
        let may_rest =
            parts_run && !target_is_away && !source_was_down && next.status.as_ref().is_some_and(is_well);
        let probing = async {
            if !probe {
                return None;
            }
            let begun = Instant::now();
            let answer = tokio::time::timeout(ANSWER_WITHIN, migration.target.control().record()).await;
            Some((begun.elapsed(), answer))
        };
        let reading = async {
            let begun = Instant::now();
            let glance = tokio::time::timeout(ANSWER_WITHIN, migration.source.glance()).await;
            let latency = begun.elapsed();
            let read = match glance {
                // A pool tries again until its time-out, and does not say why.
                Err(_) => Err(match migration.source.why_away(WHY_WITHIN).await {
                    Some(error) => error.to_string(),
                    None => "no answer within 4 s".to_owned(),
                }),
                Ok(Err(error)) => Err(error.to_string()),
                Ok(Ok(glance)) if may_rest && self.is_as_it_was(glance.as_ref()) => Ok(None),
                Ok(Ok(glance)) => self.of_source(target_is_away).await.map(|read| Some((read, glance))),
            };
            (latency, read)
        };
        let begun = Instant::now();
        let (probed, (latency, read)) = tokio::join!(probing, reading);
        if let Some((took, answer)) = probed {
            self.probed_at = Some(Instant::now());
            let answer = of_probe(answer);
            if answer.is_ok() {
                gauges::latency("dynamodb", took);
                self.latencies.note("DynamoDB", Instant::now(), took);
            }
            next.stores.dynamodb = Some(store(next.stores.dynamodb.take(), answer, took));
        }
        let answer = match &read {
            Ok(_) => Ok(()),
            Err(why) => Err(why.clone()),
        };
        if answer.is_ok() {
            gauges::latency("postgresql", latency);
            self.latencies.note("PostgreSQL", Instant::now(), latency);
        }
        if source_was_down && answer.is_ok() {
            tracing::warn!("PostgreSQL answers again");
        }
        next.stores.postgresql = Some(store(next.stores.postgresql.take(), answer, latency));
        let now = Instant::now();
        let (status, settings) = match read {
            Err(_) => return self.rests(false),
            Ok(None) => {
                let passed_s = next.read_at.map_or(0.0, |(at, _)| (now - at).as_secs_f64());
                next.read_at = Some((now, Utc::now()));
                if let Some(status) = &mut next.status {
                    status.verdict_age_s = status.verdict_age_s.map(|age_s| age_s + passed_s);
                    next.rates = self.rates(now, status);
                }
                return self.rests(true);
            }
            Ok(Some((read, glance))) => {
                self.glanced = glance.filter(|_| read.is_whole).map(|glance| (begun, glance));
                (read.status, read.settings)
            }
        };
        self.rests(false);
        next.read_at = Some((now, Utc::now()));
        if let Some(settings) = settings {
            self.follow(&status, settings).await;
        }
        next.rates = self.rates(now, &status);
        next.status = Some(status);
    }

    /// Tells the parts the settings that were read, and counts when it is time to.
    async fn follow(&mut self, status: &Status, settings: Vec<SettingRow>) {
        if self.counted_at.is_none_or(|at| at.elapsed() >= COUNTS_EVERY) {
            self.counted_at = Some(Instant::now());
            self.count(status, &settings).await;
        }
        self.shared.settings.send_if_modified(|known| {
            let differs = *known != settings;
            known.clone_from(&settings);
            differs
        });
        self.shared.pauses.send_if_modified(|known| {
            let new = pauses_of(settings);
            let differs = *known != new;
            *known = new;
            differs
        });
    }

    /// Tells whether everything is as it was when it was read last, with what was counted by then.
    fn is_as_it_was(&self, seen: Option<&Glance>) -> bool {
        self.glanced.as_ref().is_some_and(|(at, known)| {
            at.elapsed() < ALL_EVERY
                && self.counted_at.is_some_and(|counted_at| counted_at >= *at)
                && !known.waits
                && seen == Some(known)
        })
    }

    /// Tells the parts whether there may be something for them.
    fn rests(&self, quiet: bool) {
        self.shared.quiet.send_if_modified(|known| std::mem::replace(known, quiet) != quiet);
    }

    /// Reads what was counted and spent; what does not work out is read next time.
    async fn count(&self, status: &Status, settings: &[SettingRow]) {
        let source = &self.shared.migration.source;
        read_step_back(&self.shared).await;
        let monitor = &self.shared.monitor;
        if let Ok(held_back) = source.held_back().await {
            self.shared.held_back.send_replace(held_back);
        }
        if let Ok(rows) = source.counted(Duration::from_secs(3_600)).await {
            self.shared.counted.send_replace(Some(Counted::of(&rows)));
        }
        let set = number(settings, SPEND_CAP_USD);
        if let Ok(rows) = source.spent().await {
            let cap = set.or(monitor.serve.spend_cap());
            let spend = Spend::of(&rows, Some(status), &monitor.prices, cap);
            self.shared.spend.send_replace(Some(spend));
        }
    }

    async fn of_source(&self, target_is_away: bool) -> Result<Read, String> {
        let migration = &self.shared.migration;
        let (source, tables) = (&migration.source, &migration.tables);
        let both = async {
            if target_is_away {
                status_of_source(source, tables).await
            } else {
                status(source, &migration.target, tables).await
            }
        };
        let mut is_whole = !target_is_away;
        let status = match tokio::time::timeout(ANSWER_WITHIN, both).await {
            Ok(Ok(read)) => read,
            // PostgreSQL had answered a moment ago, so this is the target's, or a source that is slow.
            Ok(Err(CoordinatorError::Store(error))) if error.side == Side::Source => {
                return Err(error.to_string());
            }
            _ => {
                is_whole = false;
                match tokio::time::timeout(ANSWER_WITHIN, status_of_source(source, tables)).await {
                    Ok(Ok(read)) => read,
                    Ok(Err(error)) => return Err(error.to_string()),
                    Err(_) => return Err("no answer within 4 s".to_owned()),
                }
            }
        };
        // Before the schema is of this version there are none, and nothing is paused.
        let settings = match status.installed {
            true => tokio::time::timeout(ANSWER_WITHIN, source.settings()).await.ok().and_then(Result::ok),
            false => None,
        };
        Ok(Read { status, settings, is_whole })
    }

    fn rates(&mut self, now: Instant, status: &Status) -> Vec<RateView> {
        let counts: Vec<(i64, u64)> =
            status.tables.iter().map(|table| (table.relayed, table.rows_backfilled)).collect();
        let before = self.last.replace((now, counts.clone()));
        let mut rates = Vec::with_capacity(counts.len());
        for (n, table) in status.tables.iter().enumerate() {
            let (mut relayed_per_s, mut rows_per_s) = (0.0, 0.0);
            if let Some((at, known)) = &before
                && let Some((relayed, rows)) = known.get(n)
            {
                let passed_s = (now - *at).as_secs_f64().max(0.001);
                relayed_per_s = (table.relayed - relayed).max(0) as f64 / passed_s;
                rows_per_s = table.rows_backfilled.saturating_sub(*rows) as f64 / passed_s;
            }
            let progress = self.shared.progress.tables.iter().find(|progress| progress.name == table.name);
            let eta = self.copying.entry(table.name.clone()).or_default().note(now, table);
            // Of this process, which delivers, and of those that copy.
            let own = progress.and_then(TableProgress::held_back_by);
            rates.push(RateView {
                table: table.name.clone(),
                relayed_per_s,
                rows_per_s,
                eta_s: eta.map(|eta| eta.likely_s),
                eta_least_s: eta.map(|eta| eta.least_s),
                eta_most_s: eta.and_then(|eta| eta.most_s),
                throttles: progress.map_or(0, |progress| progress.throttles()),
                slowed_by: slowed_by(own, status, &table.name),
            });
        }
        rates
    }
}

/// Returns the number that operators have set under this name.
fn number(settings: &[SettingRow], name: &str) -> Option<f64> {
    settings.iter().find(|row| row.name == name)?.value.as_f64()
}

/// Returns why a table moves no faster: what each process says that delivers or copies it, once.
fn slowed_by(own: Option<String>, status: &Status, table: &str) -> Option<String> {
    let copy = status.workers.iter().filter(|worker| worker.is_live() && worker.moves(table));
    each_once(own.into_iter().chain(copy.filter_map(|worker| worker.slowed_by.clone())))
}

/// Tells whether a glance at PostgreSQL says enough. In DynamoOnly things happen that PostgreSQL knows
/// nothing of, and what is wrong may be repaired in DynamoDB.
fn is_well(status: &Status) -> bool {
    status.installed
        && status.phase != Some(Phase::DynamoOnly)
        && status.late_until.is_none()
        && status.lost.is_empty()
        && status.open_intents.is_empty()
        && status.tables.iter().all(|table| table.capture == "on" && table.target.ends_with("(ACTIVE)"))
}

fn pauses_of(settings: Vec<SettingRow>) -> Vec<Pause> {
    let paused = settings.into_iter().filter(|row| row.value == Value::Bool(true));
    paused
        .filter_map(|row| {
            let part = row.name.strip_prefix(PAUSE)?.to_owned();
            Some(Pause { part, actor: row.actor, reason: row.reason, until: row.until })
        })
        .collect()
}

/// Whether the target answered a probe, or why not.
fn of_probe<T, E>(answer: Result<Result<T, lockstep_core::Error>, E>) -> Result<(), String> {
    match answer {
        Err(_) => Err("no answer within 4 s".to_owned()),
        // It answered; what is wrong with what it said, other parts say.
        Ok(Err(error)) if !matches!(error.kind, Kind::Unavailable | Kind::Unknown | Kind::Denied) => Ok(()),
        Ok(answer) => answer.map(drop).map_err(|error| error.to_string()),
    }
}

fn store(before: Option<StoreView>, answer: Result<(), String>, took: Duration) -> StoreView {
    let up = answer.is_ok();
    let since = before.filter(|before| before.up == up).map_or_else(Utc::now, |before| before.since);
    StoreView { up, since, why: answer.err(), latency_ms: up.then_some(took.as_secs_f64() * 1000.0) }
}
