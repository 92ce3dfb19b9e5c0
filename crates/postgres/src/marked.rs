//! Marks looked at once more, by their keys: after a put was refused, what is due now, and what else of the
//! same row waits.

use lockstep_core::{Doing, Result, SourceKey};
use sqlx::AssertSqlSafe;

use super::binding::digest_sql;
use super::{PendingBatch, Source, TableBinding};

impl Source {
    /// The marks of these keys that stand, each with the row it names, in one snapshot, as
    /// [`Source::read_pending`] reads them.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn read_marked(&self, binding: &TableBinding, keys: &[SourceKey]) -> Result<PendingBatch> {
        let keys: Vec<String> = keys.iter().map(SourceKey::to_json).collect();
        let which = format!(
            "{} IN (SELECT {} FROM pg_catalog.unnest($2::text[]) AS k)",
            digest_sql("key"),
            digest_sql("k::jsonb")
        );
        let sql = super::pending::page_sql(binding, &which, "ASC");
        let doing = format!("reading marks of {} again", binding.name());
        let found = sqlx::query(AssertSqlSafe(sql))
            .bind(binding.name())
            .bind(&keys)
            .bind(keys.len() as i64)
            .fetch_all(self.pool())
            .await
            .doing(&doing)?;
        PendingBatch::of(found, keys.len(), &doing)
    }

    /// Of these keys, those of whose row another key waits: it is pending, or a strict write of it is under
    /// way.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn waiting_beside(&self, binding: &TableBinding, keys: &[SourceKey]) -> Result<Vec<SourceKey>> {
        let texts: Vec<String> = keys.iter().map(SourceKey::to_json).collect();
        // By the parts of the primary key: which key the row had meanwhile, nothing tells.
        let same_row: Vec<String> = (0..binding.table.primary_key_columns())
            .map(|at| format!("w.key -> {at} = a.key -> {at}"))
            .collect();
        let sql = format!(
            "SELECT DISTINCT a.key::text
             FROM (SELECT k::jsonb AS key FROM pg_catalog.unnest($2::text[]) AS k) AS a
             JOIN (SELECT p.key FROM lockstep.pending p WHERE p.table_name = $1
                   UNION ALL SELECT i.key FROM lockstep.intents i WHERE i.table_name = $1) AS w
                 ON w.key <> a.key AND {}",
            same_row.join(" AND ")
        );
        let found: Vec<String> = sqlx::query_scalar(AssertSqlSafe(sql))
            .bind(binding.name())
            .bind(&texts)
            .fetch_all(self.pool())
            .await
            .doing("looking for other keys of a row")?;
        Ok(found.iter().filter_map(|key| SourceKey::parse(key).ok()).collect())
    }
}
