//! Plain reads of what is in the stores: SQL as a stranger, and the SDK past every proxy.

use std::collections::BTreeMap;

use lockstep_core::{Attributes, SourceKey, Version, is_tombstone, version_of};
use lockstep_dynamo::is_mark;
use lockstep_postgres::{Source, TableBinding};
use sqlx::AssertSqlSafe;

use super::World;

/// Accepts the open dead letters of a table as an operator does who lists them first, and again where others
/// have come meanwhile; returns how many.
///
/// # Errors
/// The driver's.
pub async fn acknowledge(source: &Source, table: &str, actor: &str) -> lockstep_core::Result<u64> {
    loop {
        let open = source.open_letters(&[table]).await?;
        if let Some(accepted) = source.acknowledge_listed(&[table], actor, &open.mark).await? {
            return Ok(accepted.unsigned_abs());
        }
    }
}

impl World {
    /// The one value that a query returns.
    ///
    /// # Panics
    /// When it returns none.
    pub async fn value<T>(&self, sql: &str) -> T
    where
        T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres> + Send + Unpin,
    {
        let found = sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(self.strangers()).await;
        found.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// Whether a session waits for a lock that another transaction holds.
    pub async fn is_held_up(&self) -> bool {
        self.value("SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')")
            .await
    }

    /// Whether something is so; an error where it cannot be asked, as when a table is not there yet.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub async fn try_value(&self, sql: &str) -> Result<bool, sqlx::Error> {
        let found: Option<bool> =
            sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(self.strangers()).await?;
        Ok(found.unwrap_or(false))
    }

    /// Pending keys of a table, as PostgreSQL prints them, and their versions.
    pub async fn pending(&self, table: &str) -> BTreeMap<String, Version> {
        let rows: Vec<(String, i64)> =
            sqlx::query_as("SELECT key::text, version FROM lockstep.pending WHERE table_name = $1")
                .bind(table)
                .fetch_all(self.strangers())
                .await
                .expect("the pending set is there");
        rows.into_iter().map(|(key, version)| (key, Version(version))).collect()
    }

    /// Counts the rows of a table.
    pub async fn count(&self, table: &str) -> i64 {
        self.value(&format!("SELECT count(*) FROM {table}")).await
    }

    /// Everything in a target table, tombstones included, marks of history not.
    pub async fn items(&self, table: &str) -> Vec<Attributes> {
        self.everything(table).await.into_iter().filter(|item| !is_mark(item)).collect()
    }

    /// Everything in a target table.
    pub(super) async fn everything(&self, table: &str) -> Vec<Attributes> {
        let mut items = Vec::new();
        let mut start = None;
        loop {
            let scan = self.plain_target.client().scan().table_name(table).consistent_read(true);
            let page = scan.set_exclusive_start_key(start).send().await.expect("the emulator scans");
            items.extend(page.items.unwrap_or_default());
            start = page.last_evaluated_key.filter(|key| !key.is_empty());
            if start.is_none() {
                return items;
            }
        }
    }

    /// Items of a target table that are not tombstones.
    pub async fn live_items(&self, table: &str) -> usize {
        self.items(table).await.iter().filter(|item| !is_tombstone(item)).count()
    }

    /// The item of a source key, tombstone or not.
    pub async fn item(&self, binding: &TableBinding, key: &str) -> Option<Attributes> {
        let key = SourceKey::parse(key).expect("a source key");
        let place = binding.table.target_key(&key).expect("a key that the target can hold");
        self.plain_target.get(&binding.target_name, &place).await.expect("the emulator reads")
    }

    /// The version of the tombstone at a source key.
    ///
    /// # Panics
    /// When there is none.
    pub async fn tombstone_at(&self, binding: &TableBinding, key: &str) -> Version {
        let item = self.item(binding, key).await.unwrap_or_else(|| panic!("nothing at {key}"));
        assert!(is_tombstone(&item), "there is a live item at {key}");
        version_of(&item).expect("a tombstone has a version")
    }

    /// The live item at a source key.
    ///
    /// # Panics
    /// When there is none, or a tombstone.
    pub async fn live_at(&self, binding: &TableBinding, key: &str) -> Attributes {
        let item = self.item(binding, key).await.unwrap_or_else(|| panic!("nothing at {key}"));
        assert!(!is_tombstone(&item), "there is a tombstone at {key}");
        item
    }
}
