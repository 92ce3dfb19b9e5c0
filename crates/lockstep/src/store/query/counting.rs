//! Counting what a query answers, without moving the rows where that can be helped.

use futures::{StreamExt, TryStreamExt, stream};
use lockstep_core::{AnyTable, KeyAttribute, MigratableTable, PK, Phase, Projected, Result, SK};
use lockstep_dynamo::{Backoff, PartitionRange};

use super::selection::Selection;
use super::{TimeRange, text_of};
use crate::store::reads::{Answer, Asked, ReadFrom, ReadRoute, SourceCause};

/// Partitions counted at once.
const AT_ONCE: usize = 8;

impl<T: MigratableTable> Selection<T> {
    /// The number of rows. Zero in the target is asked for again in the source, in HybridRead.
    ///
    /// A query with a [`Query::keeping`](super::Query::keeping) reads its rows to count them. Rows past their
    /// expiry are left out if the query's range leaves them out, as those of the table crates do.
    ///
    /// ```no_run
    /// # use lockstep::{MigratableTable, Result, Selection};
    /// # async fn example<Payments: MigratableTable>(selection: Selection<Payments>) -> Result<()> {
    /// println!("{} rows of {}", selection.count().await?, Payments::NAME);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As for [`Selection::stream`].
    ///
    /// # Cancel safety
    /// Reading has no effect.
    pub async fn count(&self) -> Result<u64> {
        Ok(self.count_marked().await?.value)
    }

    /// As [`Selection::count`], and says who answered.
    ///
    /// ```no_run
    /// # use lockstep::{MigratableTable, Result, Selection};
    /// # async fn example<Payments: MigratableTable>(selection: Selection<Payments>) -> Result<()> {
    /// let counted = selection.count_marked().await?;
    /// println!("{} rows, counted by {:?}", counted.value, counted.from);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As for [`Selection::stream`].
    ///
    /// # Cancel safety
    /// Reading has no effect.
    pub async fn count_marked(&self) -> Result<Answer<u64>> {
        // An index without a sort key holds no range by which DynamoDB could count.
        let is_unordered = self.query.index.is_some_and(|index| index.sort.is_none());
        // Of an index that is made of columns which are the table's key a tombstone is a part, and it may not
        // carry by what it is known.
        let naming = AnyTable::naming(self.store.table());
        let is_key = |key: &KeyAttribute| [PK, SK].contains(&key.name) || naming.is_column_in_key(key.name);
        let has_tombstones = self.query.index.is_some_and(|index| {
            !matches!(index.projection, Projected::All)
                && is_key(&index.partition)
                && index.sort.iter().all(is_key)
        });
        let is_bounded = is_unordered && self.query.range != TimeRange::ALL;
        if self.query.keep.is_some() || is_bounded || has_tombstones {
            let none = Answer { value: 0, from: ReadFrom::Target };
            let add = |sum: Answer<u64>, row: Answer<T::Row>| async move { Ok(row.map(|_| sum.value + 1)) };
            return self.stream_marked().try_fold(none, add).await;
        }
        let (value, from) = self.store.shared.phase.serve(|control| self.count_in(control.phase)).await?;
        self.store.shared.reads.count(from);
        Ok(Answer { value, from })
    }

    async fn count_in(&self, phase: Phase) -> Result<(u64, ReadFrom)> {
        let (store, query) = (&self.store, &self.query);
        Ok(match store.shared.reads.route(phase, Asked::Query(query.hash())).await {
            ReadRoute::Source(cause) => (query.source_count(store).await?, ReadFrom::Source(cause)),
            ReadRoute::TargetOnly => {
                (Backoff::brief().retry(|| self.target_count()).await?, ReadFrom::Target)
            }
            ReadRoute::TargetThenSource(from) => match self.target_count().await {
                Ok(0) => (query.source_count(store).await?, ReadFrom::Source(SourceCause::Miss)),
                Ok(counted) => (counted, from),
                Err(error) => {
                    tracing::debug!(table = T::NAME, query = query.name, kind = ?error.kind, "counting in PostgreSQL: {error}");
                    (query.source_count(store).await?, ReadFrom::Source(SourceCause::Error))
                }
            },
        })
    }

    async fn target_count(&self) -> Result<u64> {
        let (query, shared) = (&self.query, &self.store.shared);
        let (from, to) = query.range.sort_bounds();
        let partitions =
            (0..query.partitions.len()).flat_map(|nth| query.partitions.group(nth, query.ascending));
        let ranges = partitions.map(|partition| PartitionRange {
            index: query.index,
            partition,
            from: from.clone(),
            to: to.clone(),
        });
        let counts = stream::iter(ranges.map(|range| async move {
            debug_assert!(!text_of(&range.partition).is_empty(), "a partition key is never empty");
            shared.target.count_partition(&shared.binding.target_name, &range).await
        }));
        counts.buffer_unordered(AT_ONCE).try_fold(0, |sum, count| async move { Ok(sum + count) }).await
    }
}
