//! Many rows in few transactions.

use std::sync::Arc;

use lockstep_core::{Error, MigratableTable, Result};

use super::{Begun, Store, WriteOutcome, WriteTransaction};

impl<T: MigratableTable> Store<T> {
    /// Writes rows as [`Store::put`] does, up to `batch_rows_max` of them in one transaction. The outcomes
    /// are in the order of `rows`; those of one transaction that failed share its error, and the transactions
    /// after it are still tried.
    ///
    /// In a batch where both stores are written, the puts of one transaction are under way at once, up to
    /// `puts_in_flight_max`; each row is delivered or deferred by itself. In DynamoOnly each row is a write
    /// of its own.
    ///
    /// # Cancel safety
    /// Transactions that had committed stay; the rest as for [`Store::put`].
    pub async fn put_batch(&self, rows: &[T::Row]) -> Vec<Result<WriteOutcome<T::Row>, Arc<Error>>> {
        let mut outcomes = Vec::with_capacity(rows.len());
        for chunk in rows.chunks(self.shared.writer.options().batch_rows_max.max(1)) {
            let written = match self.shared.writer.begin_where_the_truth_is().await {
                Ok(Begun::Target(permit)) => {
                    // Each takes its own, and a pause waits for no more than is under way.
                    drop(permit);
                    outcomes.extend(self.put_each(chunk).await);
                    continue;
                }
                Ok(Begun::Source(write)) => self.put_chunk(write, chunk).await,
                Err(error) => Err(error),
            };
            match written {
                Ok(written) => outcomes.extend(written.into_iter().map(Ok)),
                Err(error) => {
                    let error = Arc::new(error);
                    outcomes.extend(chunk.iter().map(|_| Err(error.clone())));
                }
            }
        }
        outcomes
    }

    async fn put_chunk(
        &self,
        mut write: WriteTransaction,
        rows: &[T::Row],
    ) -> Result<Vec<WriteOutcome<T::Row>>> {
        let writer = &self.shared.writer;
        let mut touched = Vec::with_capacity(rows.len());
        for row in rows {
            touched.push(self.put_in(&mut write, row).await?);
        }
        let written = writer.finish(write).await?;
        Ok(touched.into_iter().map(|touched| touched.outcome(&written)).collect())
    }
}
