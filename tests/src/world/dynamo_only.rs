//! DynamoOnly as an application makes it: the phase set past every gate, and items written under versions of
//! its epoch.

use std::sync::Arc;

use lockstep_coordinator::{FeedProgress, FeedSummary, FeedUntil, reverse_feed};
use lockstep_core::{Epoch, MigratableTable, Phase, Version, tombstone, version_of};
use lockstep_postgres::{flip_phase, take_exclusive};
use lockstep_validator::CancellationToken;
use std::time::Duration;

use super::World;
use super::wait::PATIENCE;

impl World {
    /// Changes the phase as a step does, past every gate.
    pub async fn flip(&self, to: Phase) -> Epoch {
        let mut transaction = self.source.begin("flipping").await.expect("begins");
        take_exclusive(&mut transaction, Duration::from_secs(10)).await.expect("the barrier");
        let epoch = flip_phase(&mut transaction, to).await.expect("flips");
        transaction.commit().await.expect("commits");
        self.source.tell_of_change().await;
        epoch
    }

    /// Writes a row to the target as an application does in DynamoOnly; returns its version.
    pub async fn put_item<T: MigratableTable>(&self, table: &T, row: &T::Row, epoch: Epoch) -> Version {
        let item = table.encode(row).expect("an item holds it");
        let key = table.target_key(&T::key(row)).expect("a key");
        let version = self.next_version(T::NAME, &key, epoch).await;
        self.plain_target.put_guarded(T::NAME, item.at(version), version).await.expect("the emulator writes");
        version
    }

    /// Deletes a row from the target as an application does in DynamoOnly.
    pub async fn delete_item<T: MigratableTable>(&self, table: &T, key: &T::Key, epoch: Epoch) -> Version {
        let key = table.target_key(key).expect("a key");
        let version = self.next_version(T::NAME, &key, epoch).await;
        self.plain_target
            .put_guarded(T::NAME, tombstone(key, version), version)
            .await
            .expect("the emulator writes");
        version
    }

    async fn next_version(&self, table: &str, key: &lockstep_core::TargetKey, epoch: Epoch) -> Version {
        let there = self.plain_target.get(table, key).await.expect("the emulator reads");
        let current = there.and_then(|item| version_of(&item)).map_or(0, |version| version.0);
        Version(epoch.floor().max(current) + 1)
    }

    /// Runs the reverse feed of both tables.
    pub async fn feed(
        &self,
        until: FeedUntil,
        cancel: &CancellationToken,
    ) -> lockstep_coordinator::Result<FeedSummary> {
        let migration = self.migration();
        let progress = Arc::new(FeedProgress::new(&migration.tables));
        reverse_feed(&migration, &migration.options.reverse_feed, until, &progress, cancel).await
    }

    /// Runs the reverse feed until everything written so far has come through.
    ///
    /// # Panics
    /// When it does not end well.
    pub async fn feed_until_drained(&self) -> FeedSummary {
        let cancel = CancellationToken::new();
        let fed = tokio::time::timeout(PATIENCE, self.feed(FeedUntil::Drained, &cancel)).await;
        fed.expect("the feed drains in time").expect("the feed ends well")
    }

    /// I7 on the way back: PostgreSQL holds what DynamoDB holds, and capture has marked nothing of it.
    ///
    /// # Panics
    /// When it does not.
    pub async fn assert_fed(&self) {
        let wrong = self.disagreements().await;
        assert!(wrong.is_empty(), "I7:\n{}", wrong.join("\n"));
        let marked: i64 = self.value("SELECT count(*) FROM lockstep.pending").await;
        assert_eq!(marked, 0, "the feed's rows are marked as pending");
        let writers: i64 = self.value("SELECT count(*) FROM lockstep.reverse_writers").await;
        assert_eq!(writers, 0, "a right to write was left behind");
    }
}
