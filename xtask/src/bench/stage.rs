//! Both stores with the sample in them and an application on them, in whatever phase is wanted.

use anyhow::Context;
use lockstep::migration::{Migration, Tables};
use lockstep::store::{Store, WriteOptions};
use lockstep::sweeper::SweeperOptions;
use lockstep_cli::config::TableSections;
use lockstep_cli::sample::registry;
use lockstep_coordinator::{Coordinator, MigrationContext as Moved, Options, RelayUntil, Watch};
use lockstep_core::{Epoch, MigratableTable, Phase};
use lockstep_integration_logs::{IntegrationLog, IntegrationLogs};
use lockstep_payments::{Payment, Payments};
use lockstep_sample::generate::History;
use lockstep_sample::load;
use lockstep_validator::{ValidateOptions, ValidationProgress, validate};
use tokio_util::sync::CancellationToken;

use super::bare::Bare;
use super::worker;

/// The coordinator, the application, and a row of each kind.
pub(super) struct Stage {
    pub(super) coordinator: Coordinator,
    pub(super) migration: Migration,
    pub(super) logs: Store<IntegrationLogs>,
    pub(super) payments: Store<Payments>,
    pub(super) log: IntegrationLog,
    pub(super) payment: Payment,
    pub(super) url: String,
    pub(super) endpoint_url: String,
}

impl Stage {
    pub(super) async fn prepare(url: &str, endpoint_url: &str) -> anyhow::Result<Self> {
        let history =
            History { seed: 1, base_day: chrono::Utc::now().date_naive(), logs: 1_000, payments: 200 };
        load::load(&url.parse()?, &history, std::num::NonZeroUsize::MIN, |_| ()).await?;
        let (source, target) = (worker::connect(url).await?, worker::target(endpoint_url).await);
        let tables = TableSections::of(&registry()).bindings("")?;
        let actor = "bench".to_owned();
        let moved = Moved {
            source: source.clone(),
            target: target.clone(),
            tables,
            unread: Vec::new(),
            actor,
            options: Options::default(),
            watch: Watch::default(),
        };
        let coordinator = Coordinator::open(moved).await?;
        let cancel = CancellationToken::new();
        coordinator.prepare(&()).await?;
        coordinator.backfill(&cancel).await?;
        let tables = Tables::default()
            .add(IntegrationLogs::default(), IntegrationLogs::NAME, IntegrationLogs::NAME)?
            .add(Payments::default(), Payments::NAME, Payments::NAME)?;
        let migration =
            Migration::start(source, target, tables, WriteOptions::default(), SweeperOptions::default());
        let (logs, payments) = (migration.store(), migration.store());
        let log = history.chunk_of_logs(0).next().context("a log")?;
        let payment = history.chunk_of_payments(0).next().context("a payment")?;
        let (url, endpoint_url) = (url.to_owned(), endpoint_url.to_owned());
        Ok(Self { coordinator, migration, logs, payments, log, payment, url, endpoint_url })
    }

    pub(super) async fn step(&self, to: Phase) -> anyhow::Result<()> {
        self.deliver().await?;
        if to == Phase::DynamoOnly {
            // The one gate that no reason opens.
            self.validate().await?;
        }
        // The other gates are measured elsewhere; here only the phase is wanted.
        self.coordinator.step(to, Some("bench"), &()).await?;
        Ok(())
    }

    /// Compares both stores in full, and notes the verdict.
    async fn validate(&self) -> anyhow::Result<()> {
        let migration = self.coordinator.migration();
        let (source, target, tables) = (&migration.source, &migration.target, &migration.tables);
        let pass = lockstep_validator::begin(source).await?;
        let options = ValidateOptions { pass, ..ValidateOptions::default() };
        let (progress, cancel) = (ValidationProgress::new(tables), CancellationToken::new());
        let report = validate(source, target, tables, &options, &progress, &cancel).await;
        lockstep_validator::record(source, target, tables, &report).await?;
        anyhow::ensure!(
            report.verdict.is_consistent(),
            "the stores differ: {}",
            report.verdict.reasons().join("; ")
        );
        let epoch = Epoch(report.epoch.context("a comparison has an epoch")?);
        source.record_verdict(epoch, true, &serde_json::to_value(report.without_values())?).await?;
        Ok(())
    }

    pub(super) async fn deliver(&self) -> anyhow::Result<()> {
        self.coordinator.relay(RelayUntil::Empty, &CancellationToken::new()).await?;
        Ok(())
    }

    pub(super) async fn bare(&self) -> anyhow::Result<Bare> {
        Bare::connect(&self.url, &self.endpoint_url).await
    }
}
