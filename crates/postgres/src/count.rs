//! Counting a whole table.

use lockstep_core::{Doing, Result};
use sqlx::AssertSqlSafe;

use super::{Source, TableBinding};
use crate::sql;

impl Source {
    /// Counts the rows that a table has now.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn count_rows(&self, binding: &TableBinding) -> Result<u64> {
        let sql = format!("SELECT pg_catalog.count(*) FROM {}", binding.relation.sql());
        let counted: i64 = sql::query_scalar(AssertSqlSafe(sql))
            .fetch_one(self.pool())
            .await
            .doing(&format!("counting {}", binding.name()))?;
        Ok(u64::try_from(counted).unwrap_or_default())
    }
}
