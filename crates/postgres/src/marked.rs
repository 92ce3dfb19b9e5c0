//! Marks looked at once more, by their keys: after a put was refused, what is due now where nothing else of
//! the same row waits.

use lockstep_core::{Doing, Result};
use sqlx::AssertSqlSafe;

use super::binding::digest_sql;
use super::{PendingBatch, RefusedPut, Source, TableBinding};
use crate::sql;

impl Source {
    /// Reads, for refused puts, the marks that stand as they were read and whose row has no other writer that
    /// may have put the item: no strict write of any of its keys is under way, and no other key of it is
    /// pending at that version or a higher one. Each comes with the row, as [`Source::read_pending`] reads
    /// it.
    ///
    /// A lower mark has not put it. 1. History was lost, and a state of then is at 20. 2. The row is moved: A
    /// is marked at 12, B at 13, and both are refused. 3. If each of them waited for the other, neither would
    /// say so.
    ///
    /// All in one snapshot. 1. The row is read. 2. A strict write of it commits, whose put was there before.
    /// 3. If pending marks were read later, none would be found, and the put would look like lost history.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn read_standing(
        &self,
        binding: &TableBinding,
        refused: &[RefusedPut],
    ) -> Result<PendingBatch> {
        let keys: Vec<String> = refused.iter().map(|put| put.key.to_json()).collect();
        let versions: Vec<i64> = refused.iter().map(|put| put.version.0).collect();
        let seen: Vec<i64> = refused.iter().map(|put| put.seen.0).collect();
        // By the parts of the primary key: which key the row had meanwhile, nothing tells.
        let same_row: Vec<String> = (0..binding.table.primary_key_columns())
            .map(|at| format!("w.key -> {at} = pending.key -> {at}"))
            .collect();
        let which = format!(
            "({of_mark}, version) IN (
                 SELECT {of_refused}, a.v
                 FROM ROWS FROM (pg_catalog.unnest($2::text[]), pg_catalog.unnest($4::bigint[])) AS a (k, v))
             AND NOT EXISTS (SELECT FROM lockstep.pending w
                             WHERE w.table_name = $1 AND w.key <> pending.key AND {same_row}
                                 AND w.version >= (SELECT pg_catalog.min(a.s)
                                     FROM ROWS FROM (pg_catalog.unnest($4::bigint[]),
                                         pg_catalog.unnest($5::bigint[])) AS a (v, s)
                                     WHERE a.v = pending.version))
             AND NOT EXISTS (SELECT FROM lockstep.intents w WHERE w.table_name = $1 AND {same_row})",
            of_mark = digest_sql("key"),
            of_refused = digest_sql("a.k::jsonb"),
            same_row = same_row.join(" AND "),
        );
        let sql = super::page::page_sql(binding, &which, "ASC");
        let doing = format!("reading marks of {} again", binding.name());
        let found = sql::query(AssertSqlSafe(sql))
            .bind(binding.name())
            .bind(&keys)
            .bind(keys.len() as i64)
            .bind(&versions)
            .bind(&seen)
            .fetch_all(self.pool())
            .await
            .doing(&doing)?;
        Ok(PendingBatch::of(found, keys.len()))
    }
}
