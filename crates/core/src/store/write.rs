//! Writing, `best_effort`: commit in PostgreSQL, then put inline, then acknowledge.
//!
//! A crash anywhere after the commit changes nothing: the key is pending, and a relay delivers it (I1, I7).

use std::time::{Duration, Instant};

use chrono::DateTime;
use sqlx::postgres::{PgArguments, PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Row as _};

use super::{Delivery, Shared, Store, WriteOutcome};
use crate::column::{Column, Unholdable};
use crate::error::{Doing, Error, Kind, Result};
use crate::item::Item;
use crate::key::SourceKey;
use crate::row::{Fields, Row};
use crate::source::{BARRIER, Control, Delivered, versions_of};
use crate::table::{MigratableTable, tombstone};

/// Longest that a write waits for the target before it is left to the relay.
const INLINE_TIMEOUT: Duration = Duration::from_secs(2);

/// A primary key, one value a column, for statements.
pub trait PrimaryKey {
    /// Binds the values in order.
    fn bind(&self, arguments: &mut PgArguments);
}

impl<C: Column> PrimaryKey for C {
    fn bind(&self, arguments: &mut PgArguments) {
        Column::bind(self, arguments);
    }
}

/// What one transaction left behind: the marks it made, and the row of the one key that still has a row.
struct Committed<R> {
    row: Option<(SourceKey, R)>,
    control: Control,
    versions: Vec<Delivered>,
}

impl<T: MigratableTable> Store<T> {
    /// Writes a row: inserts it, or replaces the row with the same primary key.
    ///
    /// # Errors
    /// The source's; nothing was written then, except for [`Kind::Unavailable`] at the commit, whose outcome is unknown.
    ///
    /// # Cancel safety
    /// Before the commit nothing is written; after it the key is pending and will be delivered.
    pub async fn put(&self, row: &T::Row) -> Result<WriteOutcome<T::Row>> {
        let mut arguments = PgArguments::default();
        row.bind(&mut arguments);
        let mut transaction = self.begin().await?;
        let control = Control::read(&mut transaction).await?;
        let doing = format!("writing {}", T::NAME);
        let sql = AssertSqlSafe(self.shared.sql.upsert.clone());
        let returned = sqlx::query_with(sql, arguments).fetch_one(&mut *transaction).await.doing(&doing)?;
        let written = self.read_row(&returned)?;
        let old_key: Option<String> = returned.try_get(self.shared.sql.key_at + 1).doing(&doing)?;
        let old_key = old_key.map(|text| SourceKey::parse(&text)).transpose();
        let old_key = old_key.map_err(|e| Error::source(Kind::Invalid, doing, e.to_string()))?;
        let gone = old_key.into_iter().filter(|old| *old != written.0).collect();
        self.commit(transaction, control, Some(written), gone).await
    }

    /// Changes the present state of a row. `change` sees the row locked; where there is none it is not called, and the
    /// outcome says so.
    ///
    /// # Errors
    /// As for [`Store::put`].
    ///
    /// # Cancel safety
    /// As for [`Store::put`].
    pub async fn update(&self, key: impl PrimaryKey, change: impl FnOnce(&mut T::Row)) -> Result<WriteOutcome<T::Row>> {
        let mut arguments = PgArguments::default();
        key.bind(&mut arguments);
        let mut transaction = self.begin().await?;
        let control = Control::read(&mut transaction).await?;
        let Some((old_key, mut row)) = self.fetch(&mut transaction, &self.shared.sql.select_for_update, arguments).await? else {
            return self.commit(transaction, control, None, Vec::new()).await;
        };
        change(&mut row);
        let mut arguments = PgArguments::default();
        row.bind(&mut arguments);
        let written = self.fetch(&mut transaction, &self.shared.sql.update, arguments).await?;
        // If the change moved the row to another target key, its old key is gone.
        let moved = written.as_ref().is_some_and(|(new_key, _)| *new_key != old_key);
        self.commit(transaction, control, written, if moved { vec![old_key] } else { Vec::new() }).await
    }

    /// Deletes a row.
    ///
    /// # Errors
    /// As for [`Store::put`].
    ///
    /// # Cancel safety
    /// As for [`Store::put`].
    pub async fn delete(&self, key: impl PrimaryKey) -> Result<WriteOutcome<T::Row>> {
        let mut arguments = PgArguments::default();
        key.bind(&mut arguments);
        let mut transaction = self.begin().await?;
        let control = Control::read(&mut transaction).await?;
        let deleted = self.fetch(&mut transaction, &self.shared.sql.delete, arguments).await?;
        let gone = deleted.into_iter().map(|(key, _)| key).collect();
        self.commit(transaction, control, None, gone).await
    }

    /// Begins a transaction and enters the barrier, in one round trip. READ COMMITTED whatever the role's default: the
    /// phase must be read by a statement that starts after the barrier was had.
    async fn begin(&self) -> Result<sqlx::Transaction<'static, sqlx::Postgres>> {
        let (class, object) = BARRIER;
        let sql = format!("BEGIN ISOLATION LEVEL READ COMMITTED; SELECT pg_advisory_xact_lock_shared({class}, {object})");
        self.shared.source.pool().begin_with(AssertSqlSafe(sql)).await.doing("beginning a write")
    }

    /// Runs a statement of one row at most; returns its source key and the row as PostgreSQL holds it.
    async fn fetch(
        &self,
        transaction: &mut PgConnection,
        sql: &str,
        arguments: PgArguments,
    ) -> Result<Option<(SourceKey, T::Row)>> {
        let found = sqlx::query_with(AssertSqlSafe(sql.to_owned()), arguments).fetch_optional(transaction).await;
        found.doing(&format!("writing {}", T::NAME))?.map(|row| self.read_row(&row)).transpose()
    }

    pub(super) fn read_row(&self, row: &PgRow) -> Result<(SourceKey, T::Row)> {
        let bad = |e: String| Error::source(Kind::Invalid, format!("reading a row of {}", T::NAME), e);
        let key: String = row.try_get(self.shared.sql.key_at).map_err(|e| bad(e.to_string()))?;
        let key = SourceKey::parse(&key).map_err(|e| bad(e.to_string()))?;
        let row = Fields::of_query(row, 0, T::Row::from_fields).map_err(|e| bad(e.to_string()))?;
        Ok((key, row))
    }

    async fn commit(
        &self,
        mut transaction: sqlx::Transaction<'static, sqlx::Postgres>,
        control: Control,
        row: Option<(SourceKey, T::Row)>,
        gone: Vec<SourceKey>,
    ) -> Result<WriteOutcome<T::Row>> {
        let asked_at = Instant::now();
        let keys: Vec<String> = row.iter().map(|(key, _)| key).chain(&gone).map(SourceKey::to_json).collect();
        // After the last statement, never after the first: a later one may have marked a key again.
        let versions = if control.phase.writes_both() && !keys.is_empty() {
            versions_of(&mut transaction, T::NAME, &keys).await?
        } else {
            Vec::new()
        };
        // From here on, unless the target gets it inline, this instance reads these keys from the source.
        let owed = self.shared.all_reads.owe(versions.iter().map(|mark| (T::NAME, mark.key.clone())));
        transaction.commit().await.doing("committing a write")?;
        self.shared.phase.learn(control, asked_at);
        let found = !keys.is_empty();
        let committed = Committed { row, control, versions };
        let target = self.deliver_inline(&committed).await;
        owed.paid_but(|_| matches!(target, Delivery::Deferred(_)));
        Ok(WriteOutcome { row: committed.row.map(|(_, row)| row), found, control, target })
    }

    /// Puts what was committed into the target, if this phase writes it.
    async fn deliver_inline(&self, committed: &Committed<T::Row>) -> Delivery {
        if !committed.control.phase.writes_both() || committed.versions.is_empty() {
            return Delivery::NotDue;
        }
        let late = || Error::target(Kind::Unknown, format!("writing {}", T::NAME), "no answer within the inline time-out");
        // Given up on is not undone: the put may still arrive, late, which the guard makes harmless (I2).
        match tokio::time::timeout(INLINE_TIMEOUT, self.try_deliver(committed)).await.unwrap_or_else(|_| Err(late())) {
            Ok(()) => Delivery::Applied,
            Err(error) => {
                tracing::debug!(table = T::NAME, kind = ?error.kind, "deferred to the relay: {error}");
                Delivery::Deferred(error)
            }
        }
    }

    async fn try_deliver(&self, committed: &Committed<T::Row>) -> Result<()> {
        let Shared { target, binding, source, .. } = &*self.shared;
        for mark in &committed.versions {
            // A key that cannot be held is the relay's: it knows what to do about dead letters.
            let item = self.item_of(mark, committed).map_err(|reason| Error::unholdable(T::NAME, &reason))?;
            target.put_guarded(&binding.target_name, item, mark.version).await?;
        }
        // Not having acknowledged is harmless: the relay delivers again and finds the state there.
        // A mark made meanwhile keeps its age: our clock is not the source's.
        source.acknowledge(T::NAME, &committed.versions, DateTime::UNIX_EPOCH).await.map(drop)
    }

    fn item_of(&self, mark: &Delivered, committed: &Committed<T::Row>) -> Result<Item, Unholdable> {
        match &committed.row {
            Some((key, row)) if *key == mark.key => Ok(self.shared.table.encode(row)?.at(mark.version)),
            _ => Ok(tombstone(self.shared.binding.table.target_key(&mark.key)?, mark.version)),
        }
    }
}
