//! Versions of items that rows are the state of.

use std::collections::HashMap;

use lockstep_core::{Doing, Result, Version};
use sqlx::AssertSqlSafe;

use super::table::among;
use crate::sql;
use crate::{Source, TableBinding};

impl Source {
    /// The versions of items that the feed has taken, by their places, as [`place`](lockstep_core::place)
    /// prints them. An item that it never took, or that was forgotten, is not among them.
    ///
    /// The feed notes a version in the transaction in which it changes the row, and versions of a place only
    /// grow. So a row that was read between two equal answers is what became of that version.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Cancel safety
    /// Asking has no effect.
    pub async fn reverse_versions(
        &self,
        binding: &TableBinding,
        places: &[String],
    ) -> Result<HashMap<String, Version>> {
        let sql = format!("SELECT place, version FROM lockstep.reverse_places WHERE {}", among());
        self.versions_by(sql, binding, places).await.doing("asking which versions of items came back")
    }

    /// Reads places and their versions by a statement about table `$1` and the places `$2`.
    pub(super) async fn versions_by(
        &self,
        sql: String,
        binding: &TableBinding,
        places: &[String],
    ) -> sqlx::Result<HashMap<String, Version>> {
        let found: Vec<(String, i64)> = sql::query_as(AssertSqlSafe(sql))
            .bind(binding.name())
            .bind(places)
            .fetch_all(self.pool())
            .await?;
        Ok(found.into_iter().map(|(place, version)| (place, Version(version))).collect())
    }
}
