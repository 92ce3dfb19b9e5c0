//! The truth, moved by the functions that the steps use, past every gate and without a reverse feed.

use std::time::Duration;

use lockstep::instance::InstanceOptions;
use lockstep::migration::{Migration, MigrationOptions};
use lockstep_coordinator::truth::{copy_to_target, flip_to_source, flip_to_target, seed_identities};
use lockstep_core::{Epoch, Phase};
use lockstep_dynamo::TargetControl;
use lockstep_integration_logs::IntegrationLogs;
use lockstep_payments::Payments;
use lockstep_postgres::{SourceOptions, take_exclusive};

use super::{LOGS, PAYMENTS, World, sweeping_never};

/// Longest wait for the barrier.
pub const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

impl World {
    /// The control record of the target, past every proxy.
    pub fn control(&self) -> TargetControl {
        self.plain_target.control()
    }

    /// Decides that the truth moves to the target, and no more.
    pub async fn decide_target(&self) -> Epoch {
        let mut transaction = self.source.begin("testing").await.expect("begins");
        take_exclusive(&mut transaction, LOCK_TIMEOUT).await.expect("no application writes");
        let epoch = flip_to_target(&mut transaction, &self.control()).await.expect("from HybridRead");
        transaction.commit().await.expect("commits");
        epoch
    }

    /// Moves the truth to the target; writes are open. The epoch.
    pub async fn truth_in_target(&self) -> Epoch {
        // As each coordinator does that moves the truth.
        if let Some(id) = self.source.migration_id().await.expect("read") {
            self.plain_target.belongs_to(&id).expect("the same as before");
        }
        self.control().create().await.expect("a control table");
        let epoch = self.decide_target().await;
        assert_eq!(copy_to_target(&self.source, &self.control()).await.expect("copied"), epoch);
        let mut connection = self.source.pool().acquire().await.expect("a connection");
        seed_identities(&mut connection, &self.control(), &self.tables()).await.expect("seeded");
        self.control().open_writes(epoch).await.expect("opened");
        epoch
    }

    /// Moves it back, without waiting for an instance. The epoch.
    pub async fn truth_in_source(&self) -> Epoch {
        let record = self.control().record().await.expect("read").expect("a record");
        let paused = self.control().pause_writes(record.epoch).await.expect("paused");
        let tables = self.tables();
        flip_to_source(&self.source, &self.control(), &tables, paused, LOCK_TIMEOUT)
            .await
            .expect("moved back")
    }

    /// A world in DynamoOnly, with capture on and history moved.
    pub async fn dynamo_only(self, sql: &str) -> Self {
        let coordinator = self.prepared().await;
        self.sql(sql).await;
        super::backfill(&coordinator).await;
        for to in [Phase::DualWrite, Phase::HybridRead] {
            self.step_to(&coordinator, to).await;
        }
        coordinator.close().await;
        self.truth_in_target().await;
        self
    }

    /// Settings of an application as in production, with a lease of its own. `source_url` may lead nowhere.
    pub fn production(&self, source_url: &str, lease: Duration) -> MigrationOptions {
        let source = SourceOptions {
            url: source_url.to_owned(),
            password: lockstep_postgres::Password::InUrl,
            connections_max: 6,
            connect_timeout: Duration::from_secs(2),
            application_name: "an application under test".to_owned(),
            control_schema: lockstep_postgres::CONTROL_SCHEMA.to_owned(),
        };
        MigrationOptions::new(source, self.target_options())
            .table(IntegrationLogs::default(), LOGS, LOGS)
            .and_then(|options| options.table(Payments::default(), PAYMENTS, PAYMENTS))
            .expect("plain names")
            .instance(InstanceOptions { name: "in production".to_owned(), lease })
            .sweeper(sweeping_never())
    }

    /// An application that PostgreSQL is down for.
    pub async fn app_without_source(&self, lease: Duration) -> Migration {
        Migration::connect(self.production(&nowhere(), lease))
            .await
            .expect("DynamoDB says that the truth is there")
    }
}

/// A PostgreSQL that is down: nothing listens there, and nothing can, for the port is reserved.
pub fn nowhere() -> String {
    "postgres://absent:nothing@127.0.0.1:1/none".to_owned()
}
