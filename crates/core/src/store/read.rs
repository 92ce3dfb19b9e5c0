//! Reading one row by its primary key, from the store that the phase says.

use sqlx::AssertSqlSafe;
use sqlx::postgres::PgArguments;

use super::Store;
use super::write::PrimaryKey;
use crate::error::{Doing, Result};
use crate::item::is_tombstone;
use crate::row::Row;
use crate::source::Control;
use crate::table::MigratableTable;

impl<T: MigratableTable> Store<T> {
    /// Reads the row of a whole key: from PostgreSQL, or in HybridRead from DynamoDB, falling back to PostgreSQL on a miss
    /// or an error. PostgreSQL is the truth of every phase up to HybridRead, so falling back is always right.
    ///
    /// # Errors
    /// The source's, when the source had to be asked; [`Kind::Fenced`](crate::Kind::Fenced) when the instance's lease is over.
    ///
    /// # Cancel safety
    /// Reading has no effect.
    pub async fn get(&self, key: &T::Key) -> Result<Option<T::Row>> {
        let read = |control: Control| async move {
            if control.phase.reads_target()
                && let Some(row) = self.get_from_target(key).await
            {
                return Ok(Some(row));
            }
            self.get_from_source(key).await
        };
        self.shared.phase.serve(read).await
    }

    /// `None` on a miss, a tombstone, an item that does not decode, and on an error: all of them go to the source.
    async fn get_from_target(&self, key: &T::Key) -> Option<T::Row> {
        let target_key = self.shared.table.target_key(key).ok()?;
        match self.shared.target.get(&self.shared.binding.target_name, &target_key).await {
            Ok(Some(attributes)) if !is_tombstone(&attributes) => T::decode(&attributes).ok(),
            Ok(_) => None,
            Err(error) => {
                tracing::debug!(table = T::NAME, kind = ?error.kind, "reading from PostgreSQL instead: {error}");
                None
            }
        }
    }

    async fn get_from_source(&self, key: &T::Key) -> Result<Option<T::Row>> {
        let mut arguments = PgArguments::default();
        key.bind(&mut arguments);
        let sql = self.shared.sql.select_by_key.clone();
        let found = sqlx::query_with(AssertSqlSafe(sql), arguments)
            .fetch_optional(self.shared.source.pool())
            .await
            .doing(&format!("reading {}", T::NAME))?;
        found.map(|row| self.read_row(&row).map(|(_, row)| row)).transpose()
    }
}

impl<T: MigratableTable> Store<T> {
    /// Reads the row of a primary key from PostgreSQL, whatever the phase.
    ///
    /// # Errors
    /// The source's.
    pub async fn get_source(&self, key: impl PrimaryKey) -> Result<Option<T::Row>> {
        let mut arguments = PgArguments::default();
        key.bind(&mut arguments);
        let found = sqlx::query_with(AssertSqlSafe(self.shared.sql.select.clone()), arguments)
            .fetch_optional(self.shared.source.pool())
            .await
            .doing(&format!("reading {}", T::NAME))?;
        found.map(|row| self.read_row(&row).map(|(_, row)| row)).transpose()
    }
}
