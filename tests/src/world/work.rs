//! Calls of a migration, with settings that suit tests.

use std::panic::Location;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use lockstep_coordinator::{
    BackfillOptions, BackfillSummary, Coordinator, GateResult, ImportOptions, MigrationContext, Observer,
    Options, Progress, RelayOptions, RelaySummary, RelayUntil, ReverseFeedOptions, StepOptions, StepOutcome,
    Watch, relay,
};
use lockstep_core::Phase;
use lockstep_dynamo::streams::FollowOptions;
use lockstep_validator::{CancellationToken, Report, ValidateOptions, ValidateSettings, validate};

use super::World;
use super::wait::{PATIENCE, eventually};

/// An observer that remembers.
#[derive(Debug, Default)]
pub struct Notes(Mutex<Vec<String>>);

impl Notes {
    /// Returns what was noted.
    pub fn all(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Observer for Notes {
    fn gate(&self, _gate: &GateResult) {}

    fn note(&self, text: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(text.to_owned());
    }
}

impl World {
    /// A migration of both tables, with short pauses and small pieces.
    pub fn migration(&self) -> MigrationContext {
        MigrationContext {
            source: self.source.clone(),
            target: self.target.clone(),
            tables: self.tables(),
            unread: Vec::new(),
            actor: "test".to_owned(),
            options: Options {
                backfill: BackfillOptions {
                    ranges_per_table: 8,
                    chunk_bytes: 16 * 1024,
                    ..BackfillOptions::default()
                },
                import: ImportOptions { poll: Duration::from_millis(10), ..ImportOptions::default() },
                relay: RelayOptions { idle_pause: Duration::from_millis(10), ..RelayOptions::default() },
                steps: StepOptions {
                    lock_pause: Duration::from_millis(50),
                    // Longer than a machine under load stands still: what misses a pause says so itself.
                    pause_max: Duration::from_secs(20),
                    phase_lease: Duration::from_millis(5),
                    index_settle: Duration::from_millis(1),
                    lease_max: Duration::from_secs(2),
                    ..StepOptions::default()
                },
                reverse_feed: quick_feed(),
                ..Options::default()
            },
            watch: Watch::default().looking_for_others(Duration::from_millis(100)),
        }
    }

    /// A coordinator on [`World::migration`].
    pub async fn coordinator(&self) -> Coordinator {
        self.coordinator_of(self.migration()).await
    }

    /// A coordinator on a migration of your own making. An earlier one of this process may still be going.
    pub async fn coordinator_of(&self, migration: MigrationContext) -> Coordinator {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
        loop {
            match Coordinator::open(migration.clone()).await {
                Err(lockstep_coordinator::CoordinatorError::Store(e))
                    if e.kind == lockstep_core::Kind::Busy && tokio::time::Instant::now() < deadline =>
                {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                opened => return opened.expect("a coordinator"),
            }
        }
    }

    /// A coordinator with capture on and target tables there.
    pub async fn prepared(&self) -> Coordinator {
        let coordinator = self.coordinator().await;
        coordinator.prepare(&()).await.expect("nothing refuses");
        coordinator
    }

    /// A coordinator that has moved history and stands in `phase`.
    pub async fn migrated_to(&self, phase: Phase) -> Coordinator {
        let coordinator = self.prepared().await;
        backfill(&coordinator).await;
        for to in Phase::ALL.into_iter().skip(1).take_while(|to| *to <= phase) {
            self.step_to(&coordinator, to).await;
        }
        coordinator
    }

    /// Takes one step, with everything that its gates ask for done before.
    pub async fn step_to(&self, coordinator: &Coordinator, to: Phase) -> StepOutcome {
        if to >= Phase::HybridRead && self.source.control().await.expect("a phase").phase < to {
            self.relay_until_empty().await;
            self.record_verdict().await;
        }
        coordinator.step(to, None, &()).await.expect("nothing refuses")
    }

    /// The same, by a coordinator that comes for it alone.
    pub async fn stepped_to(&self, to: Phase) {
        let coordinator = self.coordinator().await;
        self.step_to(&coordinator, to).await;
        coordinator.close().await;
    }

    /// Delivers everything that is pending.
    #[track_caller]
    pub fn relay_until_empty(&self) -> impl Future<Output = RelaySummary> + '_ {
        let caller = Location::caller();
        async move {
            let migration = self.migration();
            let progress = Progress::new(&migration.tables);
            let cancel = CancellationToken::new();
            let relayed = relay(&migration, RelayUntil::Empty, &progress, &cancel);
            let relayed = tokio::time::timeout(PATIENCE, relayed).await;
            let relayed = relayed.unwrap_or_else(|_| {
                panic!("the pending set did not empty within {PATIENCE:?} (at {caller})")
            });
            relayed.unwrap_or_else(|error| panic!("the relay failed: {error} (at {caller})"))
        }
    }

    /// Compares both stores, knowing that no application writes.
    pub async fn validate(&self) -> Report {
        let options = ValidateOptions {
            settings: ValidateSettings {
                settle_timeout: Duration::from_secs(5),
                ..ValidateSettings::default()
            },
            quiescent: true,
            wait_for_pending: false,
            ..ValidateOptions::default()
        };
        let tables = self.tables();
        let progress = lockstep_validator::ValidationProgress::new(&tables);
        validate(&self.source, &self.plain_target, &tables, &options, &progress, &CancellationToken::new())
            .await
    }

    /// Validates and records the verdict for the gates, as the command does.
    pub async fn record_verdict(&self) -> Report {
        let report = self.validate().await;
        let epoch = self.source.control().await.expect("a phase").epoch;
        let json = serde_json::to_value(&report).expect("a report is JSON");
        self.source.record_verdict(epoch, report.verdict.is_consistent(), &json).await.expect("recorded");
        report
    }

    /// Waits for what PostgreSQL still does for callers that are gone: one that was cut short may have sent
    /// its COMMIT.
    #[track_caller]
    pub fn until_nobody_writes(&self) -> impl Future<Output = ()> + '_ {
        let ended = "SELECT NOT EXISTS (SELECT 1 FROM pg_stat_activity WHERE datname = current_database()
                     AND application_name = 'lockstep under test' AND (state = 'active' OR state LIKE 'idle in transaction%'))";
        eventually("every transaction has ended", move || self.value::<bool>(ended))
    }

    /// I10: with faults gone, the pending set empties and both stores agree, by the validator and by the
    /// naive checker.
    ///
    /// # Panics
    /// When they do not, with what is wrong, at the caller's place.
    #[track_caller]
    pub fn assert_converged(&self) -> impl Future<Output = ()> + '_ {
        let caller = Location::caller();
        let (ended, relayed) = (self.until_nobody_writes(), self.relay_until_empty());
        async move {
            ended.await;
            relayed.await;
            let wrong = self.disagreements().await;
            assert!(wrong.is_empty(), "I10, by the naive checker (at {caller}):\n{}", wrong.join("\n"));
            let report = self.validate().await;
            assert!(report.verdict.is_consistent(), "I10, by the validator (at {caller}): {:#?}", report);
        }
    }
}

/// A reverse feed that looks often, in small pages.
pub(super) fn quick_feed() -> ReverseFeedOptions {
    let follow = FollowOptions {
        idle_pause: Duration::from_millis(10),
        page_every: Duration::ZERO,
        list_every: Duration::from_millis(50),
        pages_at_once: 2,
        page_records: 25,
    };
    ReverseFeedOptions { follow, again_every: Duration::from_millis(20) }
}

/// Moves history to its end.
///
/// # Panics
/// When it does not end well.
#[track_caller]
pub fn backfill(coordinator: &Coordinator) -> impl Future<Output = Vec<BackfillSummary>> + '_ {
    let caller = Location::caller();
    async move {
        let done = tokio::time::timeout(PATIENCE, coordinator.backfill(&CancellationToken::new())).await;
        let done = done.unwrap_or_else(|_| panic!("the backfill took more than {PATIENCE:?} (at {caller})"));
        done.unwrap_or_else(|error| panic!("the backfill failed: {error} (at {caller})"))
    }
}
