//! A world whose tables may be sharded, put into any phase at once: for tests of reading, which no step needs
//! to precede.

use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use lockstep::store::{Store, WriteMode, WriteOptions, Writer};
use lockstep_coordinator::{Coordinator, MigrationContext, Progress, RelayUntil, relay};
use lockstep_core::{Epoch, Phase};
use lockstep_integration_logs::{IntegrationLogs, IntegrationLogsOptions};
use lockstep_payments::Payments;
use lockstep_postgres::TableBinding;
use lockstep_tests::World;
use lockstep_validator::CancellationToken;

/// A world with capture on.
pub(crate) struct Stage {
    pub(crate) world: World,
    coordinator: Coordinator,
    migration: MigrationContext,
    table: IntegrationLogs,
}

impl Stage {
    pub(crate) async fn start(world: World, write_shards: u32) -> Self {
        let write_shards = NonZeroU32::new(write_shards).expect("not zero");
        let table = IntegrationLogs {
            options: IntegrationLogsOptions { write_shards, ..IntegrationLogsOptions::default() },
        };
        let logs = TableBinding { table: Arc::new(table), ..world.logs_table() };
        let migration = MigrationContext { tables: vec![logs, world.payments_table()], ..world.migration() };
        let coordinator = world.coordinator_of(migration.clone()).await;
        coordinator.prepare(&()).await.expect("nothing refuses");
        Self { world, coordinator, migration, table }
    }

    /// A new handle: it asks for the phase afresh. It writes best effort, so that a put that fails is
    /// deferred.
    pub(crate) fn logs(&self) -> Store<IntegrationLogs> {
        self.logs_written(WriteMode::BestEffort)
    }

    /// A new handle that writes in this mode in HybridRead.
    pub(crate) fn logs_written(&self, hybrid_read: WriteMode) -> Store<IntegrationLogs> {
        let options = WriteOptions { hybrid_read, ..WriteOptions::default() };
        let writer = Writer::new(self.world.source.clone(), self.world.target.clone(), options);
        Store::with_writer(writer, Arc::new(self.table), self.migration.tables[0].clone())
    }

    pub(crate) fn payments(&self) -> Store<Payments> {
        self.world.payment_store()
    }

    pub(crate) async fn backfill(&self) {
        lockstep_tests::world::backfill(&self.coordinator).await;
    }

    /// Delivers everything that is pending.
    pub(crate) async fn relay(&self) {
        let progress = Progress::new(&self.migration.tables);
        let cancel = CancellationToken::new();
        let relayed = relay(&self.migration, RelayUntil::Empty, &progress, &cancel);
        relayed.await.expect("the relay delivers");
    }

    /// Puts the control record into a phase, past every gate.
    pub(crate) async fn stand_in(&self, phase: Phase) {
        let Epoch(epoch) = self.world.source.control().await.expect("a phase").epoch;
        self.world
            .sql(&format!("UPDATE lockstep.control SET phase = '{phase}', epoch = {}", epoch + 1))
            .await;
    }
}

pub(crate) fn at(text: &str) -> DateTime<Utc> {
    lockstep_core::parse_fixed_width(text).expect("a time")
}

pub(crate) fn some(limit: usize) -> NonZeroUsize {
    NonZeroUsize::new(limit).expect("not zero")
}
