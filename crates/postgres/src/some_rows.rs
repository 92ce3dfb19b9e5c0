//! A few rows of a table, from its beginning, its end and between, for reads beside the work: canary reads,
//! timing.

use lockstep_core::Result;

use super::binding::{list, quote_identifier};
use super::{CopyChunk, Source, TableBinding};

impl Source {
    /// Up to `rows` rows from each of: the beginning of a table in the order of its primary key, its end, and
    /// anywhere between.
    ///
    /// Nothing is computed of keys, so keys of any type and sign will do; and rows come as bytes, so one that
    /// cannot be held stops nothing: that is the caller's to see. A row between them is found by a sample of
    /// pages, which costs the same whatever the size of the table, and may be empty.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Cancel safety
    /// Reading has no effect.
    #[crate::boxed]
    pub async fn some_rows(&self, binding: &TableBinding, rows: usize) -> Result<[CopyChunk; 3]> {
        let doing = format!("choosing rows of {}", binding.relation);
        let (columns, relation) = (binding.columns_sql("s"), binding.relation.sql());
        let ordered = |way: &str| {
            let order = binding.primary_key().map(|name| format!("s.{} {way}", quote_identifier(name)));
            format!("SELECT {columns} FROM {relation} AS s ORDER BY {} LIMIT {rows}", list(order))
        };
        let estimate = self.describe(binding).await?.rows_likely();
        // Ten times what is wanted: pages are taken whole, and some are empty. A small table is read as it
        // is.
        let percent = (1_000.0 * rows as f64 / estimate.max(1) as f64).clamp(0.001, 100.0);
        let between =
            format!("SELECT {columns} FROM {relation} AS s TABLESAMPLE SYSTEM ({percent}) LIMIT {rows}");
        Ok([
            self.copy_out(&ordered("ASC"), &doing, 0).await?,
            self.copy_out(&between, &doing, 0).await?,
            self.copy_out(&ordered("DESC"), &doing, 0).await?,
        ])
    }
}
