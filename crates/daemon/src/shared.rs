//! State that all parts of the daemon have in common.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use chrono::{DateTime, Utc};
use lockstep_coordinator::{Assumptions, FeedProgress, GateReport, MigrationContext, Progress, Spent};
use lockstep_core::Phase;
use lockstep_postgres::{HeldBack, SettingRow};
use serde_json::Value;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::counted::{Counted, SteppedBack};
use crate::measure::Measured;
use crate::monitor_options::MonitorOptions;
use crate::operations::Operations;
use crate::operator::Operator;
use crate::part::{PartState, PartView, Pause, Role};
use crate::snapshot::Snapshot;
use crate::spend::Spend;

/// State that everything here works with.
pub(crate) struct Shared {
    pub(crate) migration: Arc<MigrationContext>,
    pub(crate) operator: Arc<dyn Operator>,
    pub(crate) demo: bool,
    pub(crate) started_at: DateTime<Utc>,
    pub(crate) role: watch::Sender<Role>,
    pub(crate) snapshot: watch::Sender<Arc<Snapshot>>,
    /// Measures of the newest sample.
    pub(crate) measured: watch::Sender<Option<Measured>>,
    pub(crate) monitor: MonitorOptions,
    pub(crate) pauses: watch::Sender<Vec<Pause>>,
    /// The settings in force.
    pub(crate) settings: watch::Sender<Vec<SettingRow>>,
    /// Counts of the applications within the last hour.
    pub(crate) counted: watch::Sender<Option<Counted>>,
    /// Marks that are gone and that PostgreSQL keeps in the pending set.
    pub(crate) held_back: watch::Sender<Option<HeldBack>>,
    /// Cost of the migration so far.
    pub(crate) spend: watch::Sender<Option<Spend>>,
    /// Units of `progress` that are noted as spent. One for the life of the process, as `progress` is: 1. A
    /// daemon has delivered for a week. 2. It leads no more, and leads again. 3. One that begins with nothing
    /// notes all of that week once more, until a cap is met that was not.
    pub(crate) spent: tokio::sync::Mutex<Spent>,
    /// The newest step back that a daemon has taken by itself, by the journal.
    pub(crate) stepped_back: watch::Sender<Option<SteppedBack>>,
    /// The gates that were asked last, of which step, when, and after how many changes of operations: asking
    /// costs requests to both stores, so one asks for all.
    pub(crate) gates: tokio::sync::Mutex<Option<(Instant, u64, Phase, GateReport)>>,
    /// The plan that was reckoned last, when, and on which assumptions. One asks for all.
    pub(crate) plan: tokio::sync::Mutex<Option<(Instant, Assumptions, Value)>>,
    /// The metrics that were rendered last, and when. One renders for all.
    pub(crate) rendered: tokio::sync::Mutex<Option<(Instant, Bytes)>>,
    /// Held while settings are turned by a request.
    pub(crate) turning: tokio::sync::Mutex<()>,
    /// Has a sample compared at once.
    pub(crate) sample_now: Notify,
    parts: Mutex<BTreeMap<&'static str, PartView>>,
    pub(crate) operations: Arc<Operations>,
    pub(crate) progress: Arc<Progress>,
    pub(crate) feed_progress: Arc<FeedProgress>,
    /// Whether nothing has happened since everything was read.
    pub(crate) quiet: watch::Sender<bool>,
    /// Has the status read at once.
    pub(crate) look: Notify,
    /// Clients of the event stream; while there are none, the status is read less often.
    pub(crate) clients: watch::Sender<usize>,
    /// Cancelled when the daemon is to end.
    pub(crate) stop: CancellationToken,
}

/// Interval at which the status is read while it is watched, and while it is not.
pub(crate) const LOOK_WATCHED: Duration = Duration::from_secs(1);
pub(crate) const LOOK_IDLE: Duration = Duration::from_secs(5);

impl Shared {
    pub(crate) fn new(
        migration: MigrationContext,
        operator: Arc<dyn Operator>,
        monitor: MonitorOptions,
        demo: bool,
        stop: CancellationToken,
    ) -> Self {
        let progress = Arc::new(Progress::new(&migration.tables));
        let feed_progress = Arc::new(FeedProgress::new(&migration.tables));
        Self {
            migration: Arc::new(migration),
            operator,
            demo,
            started_at: Utc::now(),
            role: watch::Sender::new(Role::Standby("it has just started".to_owned())),
            snapshot: watch::Sender::new(Arc::default()),
            measured: watch::Sender::new(None),
            monitor,
            pauses: watch::Sender::new(Vec::new()),
            settings: watch::Sender::new(Vec::new()),
            counted: watch::Sender::new(None),
            held_back: watch::Sender::new(None),
            spend: watch::Sender::new(None),
            spent: tokio::sync::Mutex::default(),
            stepped_back: watch::Sender::new(None),
            gates: tokio::sync::Mutex::default(),
            plan: tokio::sync::Mutex::default(),
            rendered: tokio::sync::Mutex::default(),
            turning: tokio::sync::Mutex::default(),
            sample_now: Notify::new(),
            parts: Mutex::default(),
            operations: Arc::new(Operations::new()),
            progress,
            feed_progress,
            quiet: watch::Sender::new(false),
            look: Notify::new(),
            clients: watch::Sender::new(0),
            stop,
        }
    }

    fn parts_now(&self) -> MutexGuard<'_, BTreeMap<&'static str, PartView>> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what a part is doing.
    pub(crate) fn note(&self, name: &'static str, state: PartState, why: Option<String>) {
        {
            let mut parts = self.parts_now();
            let part = parts.entry(name).or_insert_with(|| PartView {
                name,
                state,
                since: Utc::now(),
                restarts: 0,
                why: None,
            });
            if part.state == state && part.why == why {
                return;
            }
            if part.state != state {
                part.since = Utc::now();
            }
            if state == PartState::Restarting {
                part.restarts += 1;
            }
            (part.state, part.why) = (state, why);
        }
        self.look.notify_one();
    }

    /// Returns all parts, by name.
    pub(crate) fn parts(&self) -> Vec<PartView> {
        self.parts_now().values().cloned().collect()
    }

    /// Tells whether this daemon leads.
    pub(crate) fn leads(&self) -> bool {
        *self.role.borrow() == Role::Leader
    }
}
